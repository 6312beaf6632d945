"""Spherical k-means over embeddings: fitted on a share of the rows that a hash draws, assigned in a stream.

Vectors are brought to unit length and then to a grid, whole multiples of 2^-20. A product of two coordinates is then a
multiple of 2^-40 and a dot product of unit vectors needs 42 bits of the 53 that a float64 has: every sum of them is
exact. So the results are the same bits whatever the size of blocks, the order of rows, the number of BLAS threads and
the make of the processor. What the grid costs is an error of some 1e-6 in a cosine.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.hashing import draw
from curation.stage import Stage, fail

GRID = 2.0**20
"""Steps in 1; a dot product needs twice its 20 bits, and 2 for the integer part."""

BLOCK_CELLS = 1 << 21
"""Numbers that a block of rows or of similarities may hold (16 MiB); no result depends on it."""

Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Assignment:
    """Which centroid each row is nearest to, int32 [rows], and the cosine between them, float64 [rows]."""

    cluster: NDArray[np.int32]
    cosine: NDArray[np.float64]


def unit_vectors(vectors: Vectors) -> NDArray[np.float64]:
    """Vectors [n, d] of any float type at unit length, rounded to the grid.

    Raises:
        ValueError: a vector is zero or not finite; the message has its position.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"embeddings are a matrix [rows, dimensions], not of shape {vectors.shape}")
    wide = np.asarray(vectors, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        # A running sum adds in order; numpy's own sum splits a row as the processor likes.
        norms = np.sqrt(np.add.accumulate(wide * wide, axis=1)[:, -1])
    unusable = ~(np.isfinite(norms) & (norms > 0))
    if unusable.any():
        raise ValueError(f"the embedding of row {int(np.argmax(unusable))} is zero or not finite")
    return np.rint(wide / norms[:, None] * GRID) / GRID


def fit_centroids(
    vectors: Vectors,
    row_ids: Sequence[str],
    *,
    clusters: int,
    share: float = 0.1,
    iterations: int = 10,
    seed: int = 0,
    rows_per_cluster: int = 50,
    seeding_rows_per_cluster: int = 20,
) -> NDArray[np.float64]:
    """Centroids [at most `clusters`, d] at unit length: greedy k-means++, then Lloyd's steps.

    The first ones are chosen after Arthur and Vassilvitskii 2007; the result is a local optimum, as ever. There are
    fewer than `clusters` only where the rows that the first ones are chosen from have fewer different vectors. A
    cluster that loses all members is given the row that is furthest from its own centroid.

    Args:
        vectors: [n, d]; a memory map will do.
        share: of the rows, drawn by their ids, that centroids are fitted on.
        rows_per_cluster: a small corpus gives more than its share, so that this many come to a cluster.
        seeding_rows_per_cluster: rows that the first centroids are chosen from, which takes one pass a centroid.
    """
    if clusters < 1 or not 0 < share <= 1:
        raise ValueError(f"clusters must be at least 1 and share in (0, 1], not {clusters} and {share}")
    if len(vectors) != len(row_ids):
        raise ValueError(f"{len(vectors)} embeddings for {len(row_ids)} row ids")
    if not len(row_ids):
        raise ValueError("there are no rows to fit centroids on")
    chance = draws(row_ids, seed, "clusters.sample")
    # In order of their draws, with ties by id: a sample that is a prefix for any share, in an order that is no one's.
    order = np.lexsort((id_ranks(row_ids), chance))
    wanted = max(int(np.count_nonzero(chance < share)), min(len(order), rows_per_cluster * clusters))
    sample = vectors[order[:wanted]]
    centroids = _first_centroids(unit_vectors(sample[: seeding_rows_per_cluster * clusters]), clusters, seed)
    for _ in range(iterations):
        moved = _moved(sample, centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def assign(vectors: Vectors, centroids: NDArray[np.float64]) -> Assignment:
    """The nearest centroid of each of `vectors` [n, d]; equally near ones give way to the first. Streams in blocks."""
    found = Assignment(np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float64))
    for block in blocks(len(vectors), max(centroids.shape)):
        cosines = unit_vectors(vectors[block]) @ centroids.T
        nearest = np.argmax(cosines, axis=1)
        found.cluster[block] = nearest
        found.cosine[block] = np.clip(cosines[np.arange(len(nearest)), nearest], -1, 1)
    return found


def inter_distances(centroids: NDArray[np.float64], nearest: int = 20) -> NDArray[np.float64]:
    """d_inter of each cluster: mean(1 − cos) of its centroid to the `nearest` other ones (Abbas et al. 2024).

    0 for a centroid that is alone.
    """
    others = min(nearest, len(centroids) - 1)
    distances = np.zeros(len(centroids))
    if others < 1:
        return distances
    for block in blocks(len(centroids), len(centroids)):
        cosines = centroids[block] @ centroids.T
        cosines[np.arange(len(cosines)), np.arange(block.start, block.start + len(cosines))] = -np.inf
        closest = np.partition(cosines, -others, axis=1)[:, -others:]
        distances[block] = np.maximum(others - closest.sum(axis=1), 0) / others
    return distances


def ranks_in_clusters(assignment: Assignment, row_ids: Sequence[str]) -> NDArray[np.int64]:
    """The place of each row in its cluster, from 0 at the centroid outwards; ties by row id."""
    order = np.lexsort((id_ranks(row_ids), -assignment.cosine, assignment.cluster))
    return places_in_runs(order, assignment.cluster)


def places_in_runs(order: NDArray[np.int64], groups: NDArray[Any]) -> NDArray[np.int64]:
    """Per row, its place among the rows of its group, where `order` sorts rows by group first."""
    count = len(order)
    sorted_groups = groups[order]
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]][:count])
    places = np.empty(count, np.int64)
    places[order] = np.arange(count) - np.repeat(starts, np.diff(np.r_[starts, count]))
    return places


def id_ranks(row_ids: Sequence[str]) -> NDArray[np.int64]:
    """The place of each id among all, in the order of their UTF-8 bytes."""
    ranks = np.empty(len(row_ids), np.int64)
    ranks[pc.sort_indices(pa.array(row_ids, pa.string())).to_numpy()] = np.arange(len(row_ids))
    return ranks


def draws(row_ids: Sequence[str], seed: int, purpose: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each row (see `curation.hashing.draw`)."""
    return np.fromiter((draw(seed, row_id, purpose) for row_id in row_ids), np.float64, len(row_ids))


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows that are `width` numbers wide and together fill no more than a block."""
    step = max(1, BLOCK_CELLS // max(width, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def embedding_matrix(column: pa.Array | pa.ChunkedArray) -> Vectors:
    """A column of lists of floats as a matrix [rows, dimensions], without a copy where it is in one piece.

    Raises:
        ValueError: there is a null, or lists differ in length.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # too large for 32-bit offsets, or without any chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    lengths = pc.unique(pc.list_value_length(array)).to_pylist()
    values = array.flatten()
    if array.null_count or values.null_count or len(lengths) > 1:
        raise ValueError("embeddings must be there for every row, without nulls and all of one length")
    matrix: Vectors = values.to_numpy(zero_copy_only=False).reshape(len(array), lengths[0] if lengths else 0)
    return matrix


@dataclass(frozen=True)
class CheckEmbedding(Stage):
    """Fail rows whose embedding is missing, zero or not finite: nothing can be near it."""

    embedding: str = "embedding"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.embedding,)

    def __call__(self, rows: pa.Table) -> pa.Table:
        errors = [_embedding_error(vector) for vector in rows[self.embedding].to_pylist()]
        return fail(rows, errors) if any(errors) else rows


@dataclass(frozen=True)
class Clusters(Stage):
    """Cluster rows by meaning; a reduce, whose table is joined by row id.

    Per row its `cluster`, the cosine to its centroid, its rank from there outwards, and its cluster's d_inter.
    """

    clusters: int = 1000
    share: float = 0.1
    iterations: int = 10
    nearest: int = 20
    seed: int = 0
    embedding: str = "embedding"

    writes = ("row_id", "cluster", "centroid_cosine", "cluster_rank", "d_inter")
    packages = ("numpy",)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.embedding,)

    def __call__(self, rows: pa.Table) -> pa.Table:
        row_ids = rows["row_id"].to_pylist()
        vectors = embedding_matrix(rows[self.embedding])
        centroids = fit_centroids(
            vectors, row_ids, clusters=self.clusters, share=self.share, iterations=self.iterations, seed=self.seed
        )
        found = assign(vectors, centroids)
        return pa.table(
            {
                "row_id": pa.array(row_ids, pa.string()),
                "cluster": found.cluster,
                "centroid_cosine": found.cosine,
                "cluster_rank": ranks_in_clusters(found, row_ids),
                "d_inter": inter_distances(centroids, self.nearest)[found.cluster],
            }
        )


@dataclass(frozen=True)
class Centroids(Stage):
    """The centroids that `Clusters` of the same fields finds, one row a cluster; a reduce, to keep and to look at."""

    clusters: int = 1000
    share: float = 0.1
    iterations: int = 10
    seed: int = 0
    embedding: str = "embedding"

    writes = ("cluster", "centroid")
    packages = ("numpy",)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.embedding,)

    def __call__(self, rows: pa.Table) -> pa.Table:
        centroids = fit_centroids(
            embedding_matrix(rows[self.embedding]),
            rows["row_id"].to_pylist(),
            clusters=self.clusters,
            share=self.share,
            iterations=self.iterations,
            seed=self.seed,
        )
        flat = pa.array(centroids.ravel())
        return pa.table(
            {
                "cluster": np.arange(len(centroids), dtype=np.int32),
                "centroid": pa.FixedSizeListArray.from_arrays(flat, centroids.shape[1]),
            }
        )


def _first_centroids(units: NDArray[np.float64], clusters: int, seed: int) -> NDArray[np.float64]:
    """Greedy k-means++: rows are drawn with a chance that grows with their squared distance to the nearest chosen one,
    a few for each centroid, and the one that leaves the least distance is taken."""
    # |x − c|² of grid points is exact, and 0 for equal ones only; 1 − cos of rounded vectors is neither.
    squares = np.einsum("nd,nd->n", units, units)
    tries = 2 + int(math.log(clusters))
    distances = np.full(len(units), 4.0)  # of opposites: the most there is
    chosen: list[int] = []
    while len(chosen) < clusters and distances.any():
        total = np.add.accumulate(distances)
        points = np.array([draw(seed, f"{len(chosen)} {i}", "clusters.seeding") for i in range(tries)]) * total[-1]
        # A draw so near to 1 that it rounds to 1 would point behind the last.
        drawn = np.minimum(np.searchsorted(total, points, side="right"), np.flatnonzero(distances)[-1])
        left = np.minimum(distances, squares[drawn, None] + squares - 2 * (units[drawn] @ units.T))
        best = int(np.argmin(np.add.accumulate(left, axis=1)[:, -1]))
        chosen.append(int(drawn[best]))
        distances = left[best]
    return units[chosen]


def _moved(sample: Vectors, centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centroids after one step of Lloyd's: the mean directions of their members."""
    sums = np.zeros_like(centroids)
    cosine = np.empty(len(sample))
    for block in blocks(len(sample), max(centroids.shape)):
        units = unit_vectors(sample[block])
        cosines = units @ centroids.T
        nearest = np.argmax(cosines, axis=1)
        cosine[block] = cosines[np.arange(len(nearest)), nearest]
        order = np.argsort(nearest, kind="stable")
        held, starts = np.unique(nearest[order], return_index=True)
        sums[held] += np.add.reduceat(units[order], starts, axis=0)
    # No members, or members that cancel out.
    empty = np.flatnonzero(~sums.any(axis=1))
    if len(empty):
        sums[empty] = unit_vectors(sample[np.argsort(cosine, kind="stable")[: len(empty)]])
    return unit_vectors(sums)


def _embedding_error(vector: list[Any] | None) -> ValueError | None:
    if vector is None or None in vector:
        return ValueError("there is no embedding")
    if not all(map(math.isfinite, vector)) or not any(vector):
        return ValueError("the embedding is zero or not finite")
    return None
