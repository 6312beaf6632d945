"""A first look: which files it opens, and how many rows it takes of each. `--limit N` takes N source rows in all."""

from collections.abc import Sequence
from typing import Any

from curation.hashing import draw

LEAST_FILES = 16
"""Opened where there are so many, so that no single file speaks for a source."""
ROW_BYTES = 10_000_000
"""Rows are seldom larger on average: with so many bytes of files for each row that is asked for, no more are opened."""
ONE_ROW = ("html",)
"""Formats of which a file is one row, however large."""


def opened_files(rows: Sequence[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """The listed files that a first look of `limit` rows opens, in the order of draws of their names.

    A file has a row at least, so that `limit` files are enough; a few large ones are, too, and cost less.
    """
    if limit is None:
        return list(rows)
    chosen: list[dict[str, Any]] = []
    with_many, bytes_of_these = 0, 0
    for row in sorted(rows, key=lambda row: (draw(0, row["name"], "limit"), row["row_id"])):
        if len(chosen) >= limit or (with_many >= LEAST_FILES and bytes_of_these >= limit * ROW_BYTES):
            break
        chosen.append(row)
        if row["format"] not in ONE_ROW:
            with_many += 1
            bytes_of_these += row["size_bytes"] or 0
    return chosen


def shares(counts: Sequence[int], limit: int) -> list[int]:
    """How many rows to take of files that have `counts`: as many of each as can be, and `limit` in all if there are."""
    taken = [0] * len(counts)
    left = min(limit, sum(counts))
    while left:
        with_more = [i for i, count in enumerate(counts) if taken[i] < count]
        # All get the same, up to what the emptiest of them still has; the first get one more where it does not divide.
        step = min(*(counts[i] - taken[i] for i in with_more), left // len(with_more))
        for i in with_more if step else with_more[:left]:
            taken[i] += step or 1
            left -= step or 1
    return taken
