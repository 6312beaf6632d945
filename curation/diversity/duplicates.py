"""Duplicates of three kinds: exact, perceptual, semantic; and which row of each group stays.

Every finder answers with the row that stays, or -1, for each row, as positions. What is better stays, by quality, then
by row id; semantic ones by their distance to the centroid, as their paper says.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.clusters import Vectors, blocks, embedding_matrix, id_ranks, unit_vectors
from curation.media.source_splits import held_out_rank
from curation.stage import Stage, reject

HASH_BITS = 64
SIMILARITY_ROWS = 1024
"""Rows of a block of similarities, which is square; no result depends on it."""

Positions = NDArray[np.int64]


def exact_groups(keys: Sequence[Hashable | None]) -> Positions:
    """A group for each row: the position of the first with an equal key. A row whose key is None is alone."""
    first: dict[Hashable, int] = {}
    return np.array([i if key is None else first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


def hamming_pairs(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """All pairs (i < j) of 64-bit hashes that differ in at most `distance` bits, int64 [pairs, 2], each once, in order.

    Bits are parted to d + 1 bands; two hashes that near agree wholly on one at least (multi-index hashing, Norouzi et
    al. 2012), so that only hashes with an equal band are compared, and none is missed. About
    n² (d + 1) / 2^(1 + 64 / (d + 1)) comparisons for n even hashes; equal hashes are best brought to one before.
    """
    if not 0 <= distance < HASH_BITS:
        raise ValueError(f"a distance of 64-bit hashes is in 0 to {HASH_BITS - 1}, not {distance}")
    bands = _bands(hashes, distance + 1)
    found = [np.empty((0, 2), np.int64)]
    for number, band in enumerate(bands):
        for left, right in _equal_pairs(band):
            near = np.bitwise_count(hashes[left] ^ hashes[right]) <= distance
            left, right = left[near], right[near]
            # A pair that an earlier band agrees on was found there.
            new = np.ones(len(left), bool)
            for earlier in bands[:number]:
                new &= earlier[left] != earlier[right]
            found.append(np.sort(np.stack([left[new], right[new]], axis=1), axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def connected_groups(count: int, pairs: NDArray[np.int64]) -> Positions:
    """A group for each of `count` rows: the first position among all that pairs connect it to (union-find)."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for left, right in pairs.tolist():
        a, b = root(left), root(right)
        parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(count)], np.int64)


def perceptual_groups(hashes: NDArray[np.uint64], distance: int) -> Positions:
    """A group for each hash: those that a chain of steps of at most `distance` bits connects.

    The ends of a chain may be further apart.
    """
    different, first, place = np.unique(hashes, return_index=True, return_inverse=True)
    group = connected_groups(len(different), hamming_pairs(different, distance))
    # Named by the first position of any member, not by the least hash.
    named = np.full(len(different), len(hashes))
    np.minimum.at(named, group, first)
    return named[group[place]]


def winners(
    groups: Positions,
    quality: NDArray[np.float64] | None,
    row_ids: Sequence[str],
    ranks: NDArray[np.int64] | None = None,
) -> Positions:
    """For each row the position of its group's best: the least rank, the highest quality (NaN is the lowest), then the
    least id."""
    held_out = np.zeros(len(groups), np.int64) if ranks is None else ranks
    worth = np.zeros(len(groups)) if quality is None else np.nan_to_num(quality, nan=-np.inf, neginf=-np.inf)
    order = np.lexsort((id_ranks(row_ids), -worth, held_out, groups))
    held, start, place = np.unique(groups[order], return_index=True, return_inverse=True)
    best = np.empty(len(groups), np.int64)
    best[order] = order[start][place] if len(held) else order
    return best


def semantic_duplicates(
    vectors: Vectors,
    cluster: NDArray[np.integer[Any]],
    cosine: NDArray[np.float64],
    row_ids: Sequence[str],
    *,
    epsilon: float,
    keep: Literal["hard", "easy"] = "hard",
    against: Literal["kept", "seen"] = "kept",
    ranks: NDArray[np.int64] | None = None,
) -> tuple[Positions, NDArray[np.float64]]:
    """SemDeDup (Abbas et al. 2023): of rows of one cluster that are nearer than ε, the first stays.

    A cluster's rows are gone through in the order of their distance to the centroid, ties by row id; one whose cosine
    to an earlier one is above 1 − ε is a duplicate. It is greedy: another order would keep others, maybe fewer.

    Args:
        vectors: [n, d], read in blocks.
        cosine: to the centroid.
        epsilon: above 0; what equal vectors have is 1 but for some 1e-6.
        keep: `hard` goes from the furthest inwards, as in the paper; `easy` outwards.
        against: `kept` compares with rows that stay, so each duplicate is near to one that does; `seen` with all
            earlier ones, as the paper's script does, so that a chain of neighbours leaves only its first.
        ranks: rows of a lower one come first, whatever their distance.

    Returns:
        The position of the nearest earlier row that it was compared with, or -1, and the cosine to it, or NaN.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, not {epsilon}")
    outwards = -cosine if keep == "easy" else cosine
    first = np.zeros(len(cosine), np.int64) if ranks is None else ranks
    order = np.lexsort((id_ranks(row_ids), outwards, first, cluster))
    nearest, highest = np.full(len(order), -1), np.full(len(order), np.nan)
    borders = np.flatnonzero(np.diff(cluster[order])) + 1
    for members in np.split(order, borders):
        _walk_cluster(vectors, members, 1 - epsilon, against == "kept", nearest, highest)
    return nearest, highest


@dataclass(frozen=True)
class ExactDuplicates(Stage):
    """Find rows that are equal in all `keys`; a reduce of the duplicates alone, joined by row id.

    `split`, where given, is the column by which a row that is held out stays before one that is trained on.
    """

    keys: tuple[str, ...]
    quality: str | None = None
    split: str | None = None

    writes = ("row_id", "exact_duplicate_of")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.keys, *(name for name in (self.quality, self.split) if name)]))

    def __call__(self, rows: pa.Table) -> pa.Table:
        values = zip(*(rows[key].to_pylist() for key in self.keys), strict=True)
        groups = exact_groups([None if None in value else value for value in values])
        row_ids = rows["row_id"].to_pylist()
        best = winners(groups, _numbers(rows, self.quality), row_ids, _ranks(rows, self.split))
        return _duplicates(row_ids, "exact_duplicate_of", np.where(best == np.arange(len(best)), -1, best))


@dataclass(frozen=True)
class PerceptualDuplicates(Stage):
    """Find rows whose pictures look the same, by their 64-bit hash; a reduce of the duplicates alone, joined by row id.

    A row without a hash is no one's duplicate. `same`, where given, is the column that names a picture: rows of one
    picture (with captions of their own) are not duplicates of each other, and stay or go together. `split`, where
    given, is the column of splits: a row that is held out stays before one that is trained on, and the same picture in
    two splits is a duplicate.
    """

    perceptual_hash: str = "perceptual_hash"
    distance: int = 4
    quality: str | None = None
    same: str | None = None
    split: str | None = None

    writes = ("row_id", "perceptual_duplicate_of")
    packages = ("numpy",)

    @property
    def reads(self) -> tuple[str, ...]:
        named = (self.perceptual_hash, self.quality, self.same, self.split)
        return tuple(dict.fromkeys(name for name in named if name))

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = rows.filter(pc.is_valid(rows[self.perceptual_hash]))
        # Signed or not, the 64 bits are the same.
        hashes = rows[self.perceptual_hash].cast(pa.uint64(), safe=False).to_numpy()
        row_ids = rows["row_id"].to_pylist()
        groups = perceptual_groups(hashes, self.distance)
        best = winners(groups, _numbers(rows, self.quality), row_ids, _ranks(rows, self.split))
        identity = np.arange(len(best))
        if self.same:
            named = [rows[name].to_pylist() for name in (self.same, self.split) if name]
            identity = exact_groups([None if None in key else key for key in zip(*named, strict=True)])
        return _duplicates(row_ids, "perceptual_duplicate_of", np.where(identity[best] == identity, -1, best))


@dataclass(frozen=True)
class SemanticDuplicates(Stage):
    """Find rows whose embedding is near to another's of their cluster (SemDeDup); a reduce of the duplicates alone.

    See `semantic_duplicates`, also for what is greedy in it.
    """

    epsilon: float = 0.05
    keep: Literal["hard", "easy"] = "hard"
    against: Literal["kept", "seen"] = "kept"
    embedding: str = "embedding"
    split: str | None = None

    writes = ("row_id", "semantic_duplicate_of", "semantic_similarity")
    packages = ("numpy",)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.embedding, "cluster", "centroid_cosine", *([self.split] if self.split else []))

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = rows.filter(pc.is_valid(rows["cluster"]))
        row_ids = rows["row_id"].to_pylist()
        nearest, similarity = semantic_duplicates(
            embedding_matrix(rows[self.embedding]),
            rows["cluster"].to_numpy(),
            rows["centroid_cosine"].to_numpy(),
            row_ids,
            epsilon=self.epsilon,
            keep=self.keep,
            against=self.against,
            ranks=_ranks(rows, self.split),
        )
        found = _duplicates(row_ids, "semantic_duplicate_of", nearest)
        return found.append_column("semantic_similarity", pa.array(similarity[nearest >= 0]))


@dataclass(frozen=True)
class RejectDuplicates(Stage):
    """Reject rows that a reduce of this kind found to be the duplicate of another."""

    kind: Literal["exact", "perceptual", "semantic"] = "exact"

    @property
    def reads(self) -> tuple[str, ...]:
        return (f"{self.kind}_duplicate_of",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return reject(rows, pc.is_valid(rows[f"{self.kind}_duplicate_of"]), f"{self.kind}_duplicate")


def _bands(hashes: NDArray[np.uint64], count: int) -> list[NDArray[np.uint64]]:
    """The bits of hashes in `count` bands, whose widths differ by one at most."""
    borders = [HASH_BITS * i // count for i in range(count + 1)]
    return [(hashes >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1) for start, end in pairwise(borders)]


def _equal_pairs(values: NDArray[np.uint64]) -> Iterator[tuple[Positions, Positions]]:
    """All pairs of positions with equal values, a step at a time: each with its next, then with the one after that."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    here = np.arange(len(ordered))
    step = 0
    while len(here):
        step += 1
        here = here[here < len(ordered) - step]
        here = here[ordered[here] == ordered[here + step]]
        yield order[here], order[here + step]


def _walk_cluster(
    vectors: Vectors,
    members: Positions,
    limit: float,
    kept_only: bool,
    nearest: Positions,
    highest: NDArray[np.float64],
) -> None:
    """Mark duplicates among one cluster's `members`, in their order; writes to `nearest` and `highest`."""
    stays = np.ones(len(members), bool)
    for start in range(0, len(members), SIMILARITY_ROWS):
        block = slice(start, min(start + SIMILARITY_ROWS, len(members)))
        mine = unit_vectors(vectors[members[block]])
        best, best_at = np.full(len(mine), -np.inf), np.full(len(mine), -1)
        compared = np.flatnonzero(stays[:start]) if kept_only else np.arange(start)
        for some in blocks(len(compared), max(SIMILARITY_ROWS, vectors.shape[1])):
            cosines = mine @ unit_vectors(vectors[members[compared[some]]]).T
            at = np.argmax(cosines, axis=1)
            value = cosines[np.arange(len(at)), at]
            better = value > best
            best[better], best_at[better] = value[better], compared[some][at[better]]
        inside = np.tril(mine @ mine.T, -1) - np.triu(np.full((len(mine), len(mine)), np.inf))
        # Only rows that have a near one among those before them need be looked at one by one.
        for i in np.flatnonzero((inside.max(axis=1) > limit) | (best > limit)):
            row = np.where(stays[block], inside[i], -np.inf) if kept_only else inside[i]
            j = int(np.argmax(row))
            if row[j] > best[i]:
                best[i], best_at[i] = row[j], start + j
            stays[start + i] = best[i] <= limit
        gone = np.flatnonzero(~stays[block])
        nearest[members[start + gone]] = members[best_at[gone]]
        highest[members[start + gone]] = np.minimum(best[gone], 1.0)


def _duplicates(row_ids: Sequence[str], column: str, of: Positions) -> pa.Table:
    """The rows that have another to stay for them, with its id."""
    found = np.flatnonzero(of >= 0)
    ids = pa.array(row_ids, pa.string())
    return pa.table({"row_id": ids.take(pa.array(found)), column: ids.take(pa.array(of[found]))})


def _ranks(rows: pa.Table, split: str | None) -> NDArray[np.int64] | None:
    """How strictly each row is held out, by its split; None where there are no splits."""
    if split is None:
        return None
    return np.array([held_out_rank(value) for value in rows[split].to_pylist()], np.int64)


def _numbers(rows: pa.Table, column: str | None) -> NDArray[np.float64] | None:
    """A column of numbers, with NaN for null."""
    return None if column is None else rows[column].to_numpy().astype(np.float64)
