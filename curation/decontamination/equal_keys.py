"""Joins of arrays on equal keys, and the best of the matches that they give: what every comparison here ends in."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

PAIRS_AT_ONCE = 1 << 22
"""Pairs held at a time; no result depends on it."""


def equal_pairs(wanted: NDArray[Any], ordered: NDArray[Any]) -> Iterator[tuple[Positions, Positions]]:
    """All pairs (position in `wanted`, position in `ordered`) of equal keys, in pieces, in the order of `wanted`.

    Args:
        ordered: ascending; a key may stand several times.
    """
    first = np.searchsorted(ordered, wanted, "left")
    counts = np.searchsorted(ordered, wanted, "right") - first
    hit = np.flatnonzero(counts)
    ends = np.cumsum(counts[hit])
    start = 0
    while start < len(hit):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")))
        some = hit[start:stop]
        many = counts[some]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield np.repeat(some, many), np.repeat(first[some], many) + within
        start = stop


def first_of_each(group: Positions, *ranks: NDArray[Any]) -> Positions:
    """The position of each group's first by `ranks`, the weightiest rank first; in the order of the groups."""
    order = np.lexsort((*reversed(ranks), group))
    _, start = np.unique(group[order], return_index=True)
    return np.asarray(order[start], np.int64)
