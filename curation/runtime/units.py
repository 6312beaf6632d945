"""Cutting a node's input to units of work at borders that the content sets.

A border follows a group of rows when the group's hash, read as a number in [0, 1), falls below cost / target. So a new
or changed file moves no border but those beside it, whatever the number of workers or the order of arrival. A unit that
would pass twice the target is cut as well; the next content border brings the cuts back in step.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from curation.hashing import digest, draw
from curation.runtime.nodes import Unit

PLANNING_COLUMNS = ("row_id", "root", "ordinal", "kind", "digest")
"""What planning needs of every row; small, so that the driver can hold it for millions."""

MAX_GROUPS = 20_000
"""Groups in a unit on average at most, even where they seem to cost nothing."""


def cut(rows: pa.Table, unit: Unit) -> Iterator[list[int]]:
    """Positions of the rows of each unit, in order of root, ordinal and row id.

    Args:
        rows: `PLANNING_COLUMNS`, the unit's `cost` and its `together` column.
    """
    order = pa.compute.sort_indices(
        rows, sort_keys=[("root", "ascending"), ("ordinal", "ascending"), ("row_id", "ascending")]
    ).to_pylist()
    together = rows[unit.together].to_pylist()
    costs = [1.0] * rows.num_rows if unit.cost is None else rows[unit.cost].to_pylist()
    current: list[int] = []
    spent = 0.0
    for group in _groups(order, together):
        cost = max(sum(costs[i] or 0.0 for i in group), unit.target / MAX_GROUPS)
        if current and spent + cost > 2 * unit.target:
            yield current
            current, spent = [], 0.0
        current += group
        spent += cost
        if draw(0, str(together[group[0]]), "unit") < cost / unit.target:
            yield current
            current, spent = [], 0.0
    if current:
        yield current


def unit_name(digests: Sequence[str], joined: Sequence[Sequence[str | None]]) -> str:
    """A unit's name: from the content of its rows, in their order, and of what each join brings to them."""
    return digest([digests, joined])


def _groups(order: list[int], together: list[object]) -> Iterator[list[int]]:
    group: list[int] = []
    for i in order:
        if group and together[i] != together[group[-1]]:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
