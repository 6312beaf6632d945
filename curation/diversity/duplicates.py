"""Duplicates of three kinds: exact, perceptual, semantic; and which row of each group stays.

Every finder answers with the row that stays, or -1, for each row, as positions. What is better stays, by quality, then
by row id; semantic ones by their distance to the centroid, as their paper says.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from curation.diversity.clusters import Vectors, blocks, embedding_matrix, id_ranks, unit_vectors
from curation.diversity.near_hashes import HASH_BITS, Hashes, stand_ins
from curation.media.source_splits import held_out_rank
from curation.ranges import Positive
from curation.stage import Stage, reject, with_column
from curation.vision.colour_signature import AT_ONCE, Signatures, colour_distance, signatures_of
from curation.vision.perceptual_hash import hamming_distance

SIMILARITY_ROWS = 1024
"""Rows of a block of similarities, which is square; no result depends on it."""

Positions = NDArray[np.int64]


def exact_groups(keys: Sequence[Hashable | None]) -> Positions:
    """A group for each row: the position of the first with an equal key. A row whose key is None is alone."""
    first: dict[Hashable, int] = {}
    return np.array([i if key is None else first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


@dataclass(frozen=True)
class Looks:
    """How images look: perceptual hashes and, where colour counts, signatures; limits of what looks the same."""

    hashes: Hashes
    colours: Signatures | None
    distance: int
    colour: float

    def agree(self, left: Positions, right: Positions) -> NDArray[np.bool_]:
        """Whether the colours of rows are near, pair by pair."""
        if self.colours is None:
            return np.ones(len(left), bool)
        near = np.empty(len(left), bool)
        for start in range(0, len(left), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            near[some] = colour_distance(self.colours[left[some]], self.colours[right[some]]) <= self.colour
        return near

    def numbers(self) -> Positions:
        """A number from 0 for each row, the same for rows that look exactly the same."""
        _, number, count = np.unique(self.hashes, return_inverse=True, return_counts=True)
        several = np.flatnonzero(count[number] > 1)
        if self.colours is None or not len(several):
            return np.asarray(number, np.int64)
        # Only rows of one hash may differ in colour alone.
        keys = np.hstack([self.hashes[several].view(np.uint8).reshape(-1, 8), self.colours[several]])
        names = keys.view(np.dtype((np.void, keys.shape[1]))).reshape(-1)
        number[several] = len(count) + np.unique(names, return_inverse=True)[1]
        return np.asarray(np.unique(number, return_inverse=True)[1], np.int64)


def perceptual_duplicates(looks: Looks, order: Positions) -> Positions:
    """For each row the row that stays in its place, or -1: one that looks almost the same and comes earlier in `order`.

    Rows are gone through in that order; each that is near to one that stays goes, for the first of these. See
    `stand_ins`, also for what bounds it.
    """
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    number = looks.numbers()
    first = np.full(int(number.max(initial=-1)) + 1, len(order))
    np.minimum.at(first, number, place)
    ranked = np.argsort(first)
    # The best row of each look, the best look first.
    best = order[first[ranked]]
    of = stand_ins(looks.hashes[best], looks.distance, lambda a, b: looks.agree(best[a], best[b]))
    stays = np.empty(len(first), np.int64)
    stays[ranked] = np.where(of < 0, best, best[of])
    stands = stays[number]
    return np.where(stands == np.arange(len(stands)), -1, stands)


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
        quality = _numbers(rows, self.quality) if self.quality else None
        best = winners(groups, quality, row_ids, _ranks(rows, self.split))
        return _duplicates(row_ids, "exact_duplicate_of", np.where(best == np.arange(len(best)), -1, best))


@dataclass(frozen=True)
class PerceptualDuplicates(Stage):
    """Find rows whose images look the same; a reduce of the duplicates alone, joined by row id.

    Two images look the same where their perceptual hashes differ in at most `distance` of 64 bits and their colour
    signatures by at most `max_colour_distance` of 255 in the cell where they differ most; null leaves colour out. Rows
    are gone through from the best to the worst, and one goes where it is near to one that stays, with that row's id and
    the distances to it. The best has the most of the first column of `quality`, then of the next, null last; then the
    least id. A row without a hash is nobody's duplicate.

    `same`, where given, is the column that names an image: rows of one image (with captions of their own) are not
    duplicates of each other, and stay or go together, by the best of them. `split`, where given, is the column of
    splits: a row that is held out stays before one that is trained on, and the same image in two splits is a
    duplicate.
    """

    perceptual_hash: str = "perceptual_hash"
    colour_signature: str = "colour_signature"
    distance: Annotated[int, Field(ge=0, lt=HASH_BITS)] = 4
    max_colour_distance: Positive | None = 16.0
    quality: tuple[str, ...] | str | None = None
    same: str | None = None
    split: str | None = None

    writes = ("row_id", "perceptual_duplicate_of", "perceptual_distance", "colour_distance")
    packages = ("numpy",)
    version = 2

    @property
    def qualities(self) -> tuple[str, ...]:
        """The columns of `quality`, the weightiest first."""
        return (self.quality,) if isinstance(self.quality, str) else self.quality or ()

    @property
    def reads(self) -> tuple[str, ...]:
        colour = None if self.max_colour_distance is None else self.colour_signature
        named = (self.perceptual_hash, colour, *self.qualities, self.same, self.split)
        return tuple(dict.fromkeys(name for name in named if name))

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = rows.filter(pc.is_valid(rows[self.perceptual_hash]))
        # Signed or not, the 64 bits are the same.
        hashes = rows[self.perceptual_hash].cast(pa.uint64(), safe=False).to_numpy()
        limit = self.max_colour_distance
        colours = None if limit is None else signatures_of(rows[self.colour_signature])
        row_ids = rows["row_id"].to_pylist()
        worth = [-np.nan_to_num(_numbers(rows, name), nan=-np.inf, neginf=-np.inf) for name in self.qualities]
        ranks = _ranks(rows, self.split)
        order = np.lexsort((id_ranks(row_ids), *reversed(worth), *([] if ranks is None else [ranks])))
        of = perceptual_duplicates(Looks(hashes, colours, self.distance, limit or 0.0), order)
        if self.same:
            named = [rows[name].to_pylist() for name in (self.same, self.split) if name]
            keys = zip(*named, strict=True)
            image = exact_groups([None if key[0] is None else key for key in keys])
            of = np.where((of >= 0) & (image[of] == image), -1, of)
        found = np.flatnonzero(of >= 0)
        table = _duplicates(row_ids, "perceptual_duplicate_of", of)
        bits = hamming_distance(hashes[found], hashes[of[found]])
        apart = None if colours is None else np.round(colour_distance(colours[found], colours[of[found]]), 3)
        nothing = pa.nulls(len(found), pa.float64())
        table = table.append_column("perceptual_distance", pa.array(bits.astype(np.int32)))
        return table.append_column("colour_distance", nothing if apart is None else pa.array(apart))


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

    writes = ("row_id", "semantic_duplicate_of", "semantic_similarity", "semantic_distance")
    packages = ("numpy",)
    version = 2

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
        found = found.append_column("semantic_similarity", pa.array(similarity[nearest >= 0]))
        return found.append_column("semantic_distance", pa.array(1 - similarity[nearest >= 0]))


@dataclass(frozen=True)
class RejectDuplicates(Stage):
    """Reject rows that a reduce of this kind found to be the duplicate of another.

    It writes whom a row is a duplicate of, a row that stays, and how far apart they are: in bits of the perceptual hash
    and, besides, in colour; in 1 - cosine; or 0 for exact ones.

    Attributes:
        limit: the threshold of the reduce, for the ledger.
    """

    kind: Literal["exact", "perceptual", "semantic"] = "exact"
    limit: float | None = None

    writes = ("duplicate_of", "duplicate_distance", "duplicate_colour_distance")
    version = 2

    @property
    def reads(self) -> tuple[str, ...]:
        distances = {"exact": (), "perceptual": ("perceptual_distance", "colour_distance")}
        return (f"{self.kind}_duplicate_of", *distances.get(self.kind, (f"{self.kind}_distance",)))

    def __call__(self, rows: pa.Table) -> pa.Table:
        twin = rows[f"{self.kind}_duplicate_of"]
        found = pc.is_valid(twin)
        nothing = pa.nulls(rows.num_rows, pa.float64())
        distance, colour = pc.if_else(found, 0.0, None).cast(pa.float64()), nothing
        if self.kind != "exact":
            distance = rows[f"{self.kind}_distance"].cast(pa.float64())
        if self.kind == "perceptual":
            colour = rows["colour_distance"]
        for name, values in zip(self.writes, (twin, distance, colour), strict=True):
            rows = with_column(rows, name, values)
        limit = 0.0 if self.kind == "exact" else self.limit
        return reject(rows, found, f"{self.kind}_duplicate", value=distance, limit=limit)


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


def _numbers(rows: pa.Table, column: str) -> NDArray[np.float64]:
    """A column of numbers, with NaN for null."""
    return np.asarray(rows[column].cast(pa.float64()).to_numpy(), np.float64)
