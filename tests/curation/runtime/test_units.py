"""Units: every row once, groups whole, never twice the target, and borders that only the content moves."""

import random

import pyarrow as pa
from hypothesis import given, settings, strategies as st

from curation.hashing import draw
from curation.runtime.nodes import WHOLE, Unit
from curation.runtime.units import cut, unit_name

ROOTS = st.dictionaries(
    st.integers(0, 10_000).map(lambda number: f"root-{number}"),
    st.lists(st.floats(0, 40), min_size=1, max_size=5),
    max_size=40,
)
TARGET = 50.0
BY_ROOT = Unit("cost", TARGET, together="root")


def table(roots: dict[str, list[float]]) -> pa.Table:
    rows = [
        {"row_id": f"{root}/{i}", "root": root, "ordinal": i, "kind": "item", "cost": cost}
        for root, costs in roots.items()
        for i, cost in enumerate(costs)
    ]
    text = [(name, pa.string()) for name in ("row_id", "root", "kind")]
    return pa.Table.from_pylist(rows, pa.schema([*text, ("ordinal", pa.int64()), ("cost", pa.float64())]))


def units(rows: pa.Table, unit: Unit) -> list[tuple[str, ...]]:
    """Units by the ids of their rows."""
    ids = rows["row_id"].to_pylist()
    return [tuple(ids[i] for i in positions) for positions in cut(rows, unit)]


@settings(deadline=None)
@given(ROOTS)
def test_every_row_is_in_one_unit_and_in_order(roots: dict[str, list[float]]) -> None:
    rows = table(roots)
    found = [row_id for unit in units(rows, BY_ROOT) for row_id in unit]
    assert found == rows.sort_by([("root", "ascending"), ("ordinal", "ascending")])["row_id"].to_pylist()


@settings(deadline=None)
@given(ROOTS)
def test_no_group_is_parted(roots: dict[str, list[float]]) -> None:
    homes: dict[str, set[int]] = {}
    for number, unit in enumerate(units(table(roots), BY_ROOT)):
        for row_id in unit:
            homes.setdefault(row_id.split("/")[0], set()).add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())


@settings(deadline=None)
@given(ROOTS)
def test_a_unit_passes_twice_the_target_only_for_a_group_that_does_alone(roots: dict[str, list[float]]) -> None:
    for unit in units(table(roots), BY_ROOT):
        inside = {row_id.split("/")[0] for row_id in unit}
        assert len(inside) == 1 or sum(sum(roots[root]) for root in inside) <= 2 * TARGET + 1e-9


@settings(deadline=None)
@given(ROOTS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(roots: dict[str, list[float]], shuffle: random.Random) -> None:
    rows = table(roots)
    order = list(range(rows.num_rows))
    shuffle.shuffle(order)
    assert units(rows.take(pa.array(order, pa.int64())), BY_ROOT) == units(rows, BY_ROOT)


@settings(max_examples=200, deadline=None)
@given(ROOTS, st.integers(0, 10_000).map(lambda n: f"root-{n}"), st.lists(st.floats(0, 40), min_size=1, max_size=5))
def test_a_new_group_disturbs_nothing_beyond_the_content_borders_beside_it(
    roots: dict[str, list[float]], new: str, costs: list[float]
) -> None:
    roots.pop(new, None)
    before, after = units(table(roots), BY_ROOT), units(table(roots | {new: costs}), BY_ROOT)
    # A root after which the content alone, whatever came before it, sets a border.
    borders = [root for root in sorted(roots) if draw(0, root, "unit") < sum(roots[root]) / TARGET]
    left = max((root for root in borders if root < new), default="")
    right = min((root for root in borders if root > new), default="~")
    for unit in set(before) ^ set(after):
        assert all(left < row_id.split("/")[0] <= right for row_id in unit)


def test_a_new_row_changes_a_few_units_of_many() -> None:
    roots = {f"root-{n:04d}": [5.0] for n in range(2000)}
    before = set(units(table(roots), BY_ROOT))
    for new in ("root-0000x", "root-0777x", "root-1999x"):
        after = set(units(table(roots | {new: [5.0]}), BY_ROOT))
        assert len(before) > 150
        assert len(after - before) <= 12
        assert len(before - after) <= 12


def test_units_cost_about_their_target() -> None:
    roots = {f"root-{n:04d}": [5.0] for n in range(2000)}
    found = units(table(roots), BY_ROOT)
    assert 0.5 * TARGET < 2000 * 5.0 / len(found) < 1.5 * TARGET


def test_the_whole_is_one_unit_and_nothing_is_none() -> None:
    rows = table({f"root-{n}": [1.0, 2.0] for n in range(100)})
    assert len(units(rows, WHOLE)) == 1
    assert units(table({}), WHOLE) == []


def test_a_row_without_a_cost_costs_nothing() -> None:
    rows = table({f"root-{n}": [60.0] for n in range(3)})
    rows = pa.concat_tables([rows, table({"root-9": [0.0]}).set_column(4, "cost", pa.nulls(1, pa.float64()))])
    assert sorted(row_id for unit in units(rows, BY_ROOT) for row_id in unit) == [
        "root-0/0", "root-1/0", "root-2/0", "root-9/0",
    ]  # fmt: skip


def test_a_unit_is_named_by_content_order_and_joins() -> None:
    names = {unit_name(["a", "b"], []), unit_name(["b", "a"], []), unit_name(["a"], []), unit_name(["a", "b"], ["t"])}
    assert len(names) == 4
    assert unit_name(["a", "b"], ["t"]) == unit_name(["a", "b"], ["t"])
