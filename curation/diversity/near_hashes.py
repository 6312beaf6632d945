"""Which 64-bit hashes are near to each other: pairs by combined bands, and which of them stay.

Bits are parted to d + k bands; two hashes that differ in at most d bits agree wholly on k of them at least (multi-index
hashing, Norouzi et al. 2012, with k bands for one). So only hashes with k equal bands are compared, none is missed, and
the keys of two bands of six are so long that a million hashes have few in common.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
FIRST_BATCH = 256
GROWTH = 8
MOST_SHARED = 256
"""Rows that share a key and are near to none are compared with so many of each other."""
PAIRS_AT_ONCE = 1 << 20
"""Pairs compared at a time; no result depends on it."""

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]
Pairs = NDArray[np.int64]
Agree = Callable[[Positions, Positions], NDArray[np.bool_]]
"""Whether rows that are near by their hashes are near in all else too, pair by pair."""


@dataclass(frozen=True)
class Bands:
    """The bits of a hash in `len(masks)` bands, of which two hashes within the distance share `shared` at least."""

    masks: tuple[int, ...]
    shared: int

    def choices(self) -> Iterator[tuple[np.uint64, NDArray[np.uint64]]]:
        """Each choice of `shared` bands, as a mask; and the masks of those before its last that are not among them."""
        for chosen in combinations(range(len(self.masks)), self.shared):
            earlier = [self.masks[i] for i in range(chosen[-1]) if i not in chosen]
            yield np.uint64(sum(self.masks[i] for i in chosen)), np.array(earlier, np.uint64)


def bands(distance: int, count: int) -> Bands:
    """The bands by which `count` hashes are compared: those that cost least, were their bits even."""
    if not 0 <= distance < HASH_BITS:
        raise ValueError(f"a distance of 64-bit hashes is in 0 to {HASH_BITS - 1}, not {distance}")

    def cost(shared: int) -> float:
        keys = comb(distance + shared, shared)
        # Sorting costs some thirty times what a comparison does.
        return keys * (30.0 * count + count * count / 2.0 ** (1 + HASH_BITS * shared // (distance + shared)))

    shared = min((k for k in range(1, 5) if distance + k <= HASH_BITS), key=cost)
    borders = [HASH_BITS * i // (distance + shared) for i in range(distance + shared + 1)]
    return Bands(tuple(((1 << (end - start)) - 1) << start for start, end in pairwise(borders)), shared)


def hamming_pairs(hashes: Hashes, distance: int) -> Pairs:
    """All pairs (i < j) of 64-bit hashes that differ in at most `distance` bits, int64 [pairs, 2], each once, in order.

    Equal hashes are best brought to one before: of m equal ones there are m² / 2 pairs.
    """
    return near_pairs(hashes, distance)


def near_pairs(hashes: Hashes, distance: int, agree: Agree | None = None, most: int | None = None) -> Pairs:
    """As `hamming_pairs`, and of these the pairs that `agree`.

    Args:
        most: of rows that share a key, each is compared with so many that come after it at most, in the order of rows;
            None is all. It bounds the work on hashes that were made to collide.
    """
    cut = bands(distance, len(hashes))
    found = [np.empty((0, 2), np.int64)]
    for key, earlier in cut.choices():
        for left, right in _equal_pairs(hashes & key, most):
            near = _first_met(hashes[left] ^ hashes[right], distance, earlier)
            left, right = left[near], right[near]
            if agree is not None:
                both = agree(left, right)
                left, right = left[both], right[both]
            found.append(np.stack([left, right], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def stand_ins(hashes: Hashes, distance: int, agree: Agree | None = None) -> Positions:
    """For each hash the position of the one that stays in its place, or -1 for those that stay.

    Hashes are gone through in order, the best first. One that is near to an earlier one that stays goes for the first
    of these; one that is not stays. So whatever goes is near to what stays for it: chains of small steps, whose ends
    have nothing to do with each other, do not make a group.

    Where keys bring many together, the order is taken in batches, each eight times the last: what is near to one that
    stays is out of the way before later ones are compared among themselves, so that a thousand copies of one image are
    not compared each with each (Blelloch et al. 2012). What remains is bounded: of hashes that share a key and are near
    to none, each is compared with 256 at most.
    """
    count = len(hashes)
    of = np.full(count, -1)
    crowded = _is_crowded(hashes, bands(distance, count))
    start, size = 0, FIRST_BATCH if crowded else count
    while start < count:
        stop = min(count, start + size)
        batch = start + np.flatnonzero(of[start:stop] < 0)
        _walk(batch, _pairs_of(hashes, batch, distance, agree, MOST_SHARED if crowded else None), of)
        staying = batch[of[batch] < 0]
        if crowded and len(hidden := _pairs_of(hashes, staying, distance, agree, MOST_SHARED)):
            # Of more than 256 that are near to one, some were not compared with it. All before the first is right.
            stop = int(staying[hidden[:, 1].min()])
            of[batch[batch >= stop]] = -1
            staying = staying[staying < stop]
        if stop < count:
            _give_way(hashes, staying, stop + np.flatnonzero(of[stop:] < 0), distance, agree, of)
        start, size = stop, size * GROWTH
    return of


def _pairs_of(hashes: Hashes, some: Positions, distance: int, agree: Agree | None, most: int | None) -> Pairs:
    """Near pairs among some rows, as positions in `some`."""
    within = None if agree is None else lambda a, b: agree(some[a], some[b])
    return near_pairs(hashes[some], distance, within, most)


def _walk(batch: Positions, pairs: Pairs, of: Positions) -> None:
    """Decide a batch by its near pairs, which are sorted; writes to `of`."""
    gone: dict[int, int] = {}
    for left, right in pairs.tolist():
        # All pairs in which `left` is the later one came before this.
        if left not in gone and right not in gone:
            gone[right] = left
    if gone:
        of[batch[list(gone)]] = batch[list(gone.values())]


def _give_way(
    hashes: Hashes, staying: Positions, rest: Positions, distance: int, agree: Agree | None, of: Positions
) -> None:
    """Mark those of `rest` that are near to one that stays, each for the first; writes to `of`."""
    cut = bands(distance, len(staying) + len(rest))
    first = np.full(len(hashes), len(hashes))
    for key, earlier in cut.choices():
        known = hashes[staying] & key
        order = np.argsort(known, kind="stable")
        ordered, wanted = known[order], hashes[rest] & key
        begin = np.searchsorted(ordered, wanted, "left")
        counts = np.minimum(np.searchsorted(ordered, wanted, "right") - begin, MOST_SHARED)
        for place, at in _spans(begin, counts):
            left, right = staying[order[at]], rest[place]
            near = _first_met(hashes[left] ^ hashes[right], distance, earlier)
            left, right = left[near], right[near]
            if agree is not None:
                both = agree(left, right)
                left, right = left[both], right[both]
            np.minimum.at(first, right, left)
    hit = rest[first[rest] < len(hashes)]
    of[hit] = first[hit]


def _first_met(differing: Hashes, distance: int, earlier: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which pairs are near, and were not met under the key of an earlier choice of bands."""
    near: NDArray[np.bool_] = np.bitwise_count(differing) <= distance
    for mask in earlier:
        near &= (differing & mask) != 0
    return near


def _is_crowded(hashes: Hashes, cut: Bands) -> bool:
    """Whether keys bring together far more than even hashes would."""
    count = len(hashes)
    for key, _ in cut.choices():
        _, sizes = np.unique(hashes & key, return_counts=True)
        if int((sizes * (sizes - 1) // 2).sum()) > 64 * count:
            return True
    return False


def _equal_pairs(values: NDArray[np.uint64], most: int | None) -> Iterator[tuple[Positions, Positions]]:
    """All pairs (i < j) of positions with equal values: each with its next, then with the one after that."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    here = np.arange(len(ordered))
    step = 0
    while len(here) and (most is None or step < most):
        step += 1
        here = here[here < len(ordered) - step]
        here = here[ordered[here] == ordered[here + step]]
        for some in range(0, len(here), PAIRS_AT_ONCE):
            part = here[some : some + PAIRS_AT_ONCE]
            yield order[part], order[part + step]


def _spans(begin: NDArray[Any], counts: NDArray[Any]) -> Iterator[tuple[Positions, Positions]]:
    """Pairs (i, j) with j in `begin[i]` to `begin[i] + counts[i]`, in pieces."""
    hit = np.flatnonzero(counts)
    ends = np.cumsum(counts[hit])
    start = 0
    while start < len(hit):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")))
        some = hit[start:stop]
        many = counts[some]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield np.repeat(some, many), np.repeat(begin[some], many) + within
        start = stop
