"""The chain's law: every row that goes in or is made has one verdict, however a block is cut."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from curation.errors import EngineMissing, StageError, StoreError
from curation.runtime.chain import Outcome, check_chain, join_outcomes, run_chain
from curation.stage import Stage, reject
from schemas.ledger import FAILED, KEPT, LEDGER, LINEAGE
from tests.support.toy import (
    Above,
    Double,
    ExitOn,
    Explode,
    Forgets,
    Loses,
    Lottery,
    Makes,
    MergeRoots,
    NeedsEngine,
    Orphans,
    RaiseOn,
    ReadsDouble,
    Slowly,
    Twins,
    Whispers,
    items,
)

STAGES = st.lists(
    st.one_of(
        st.builds(Lottery, st.integers(0, 50)),
        st.builds(Explode, st.integers(0, 50)),
        st.builds(MergeRoots, st.integers(0, 50)),
        st.builds(RaiseOn, st.integers(0, 9)),
        st.builds(Above, st.integers(0, 30)),
        st.just(Double()),
    ),
    max_size=5,
)
ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9)), max_size=12).map(
    lambda pairs: items([value for _, value in sorted(pairs)], [root for root, _ in sorted(pairs)])
)


def by_root(rows: pa.Table) -> list[pa.Table]:
    roots = rows["root"].to_pylist()
    return [rows.filter(pa.array([root == here for root in roots])) for here in sorted(set(roots))]


def known(rows: pa.Table) -> list[dict[str, object]]:
    """Rows without what is null: a failed row has no column that its neighbours brought to the table."""
    return [{name: value for name, value in row.items() if value is not None} for row in rows.to_pylist()]


def ledger_of(outcome: Outcome) -> dict[str, dict[str, object]]:
    return {row["row_id"]: row for row in outcome.ledger.to_pylist()}


@settings(max_examples=150, deadline=None)
@given(ROWS, STAGES)
def test_every_row_that_goes_in_or_is_made_has_one_ledger_entry(rows: pa.Table, stages: list[Stage]) -> None:
    outcome = run_chain("node", stages, rows, together="root")
    entries, edges = ledger_of(outcome), outcome.lineage.to_pylist()
    incoming, made = set(rows["row_id"].to_pylist()), {edge["child"] for edge in edges}
    assert outcome.ledger.num_rows == len(entries)
    assert set(entries) == incoming | made and not incoming & made
    assert sum(sum(counts.values()) for counts in outcome.counts.values()) == len(incoming) + len(made)
    assert sum(outcome.made.values()) == len(made)
    assert {row_id for row_id, entry in entries.items() if entry["made"]} == made
    # Edges are complete: both ends are rows of the ledger, each once, and what is not a row any more is a parent.
    assert len({(edge["child"], edge["parent"]) for edge in edges}) == len(edges)
    assert {edge["parent"] for edge in edges} <= set(entries)
    there = {row["row_id"]: row["verdict"] for row in outcome.rows.to_pylist()}
    assert set(entries) - set(there) == {edge["parent"] for edge in edges} - set(there)
    assert all(entries[row_id]["verdict"] == verdict for row_id, verdict in there.items())
    assert all((entry["stage"] is None) == (entry["verdict"] == KEPT) for entry in entries.values())
    assert outcome.ledger.schema.equals(LEDGER) and outcome.lineage.schema.equals(LINEAGE)


@settings(max_examples=150, deadline=None)
@given(ROWS, STAGES)
def test_the_result_does_not_depend_on_how_a_block_is_cut(rows: pa.Table, stages: list[Stage]) -> None:
    whole = run_chain("node", stages, rows, together="root")
    if not rows.num_rows:
        return
    cut = join_outcomes([run_chain("node", stages, block, together="root") for block in by_root(rows)])
    assert known(cut.rows) == known(whole.rows)
    assert cut.ledger.equals(whole.ledger)
    assert cut.lineage.equals(whole.lineage)


def test_a_row_that_raises_fails_alone_with_stage_exception_and_message() -> None:
    outcome = run_chain("node", [Double(), RaiseOn(5), Above(7)], items(list(range(10))))
    entries = outcome.ledger.to_pylist()
    failed = [entry for entry in entries if entry["verdict"] == FAILED]
    assert [(e["row_id"], e["stage"], e["reason"], e["error"]) for e in failed] == [
        ("item-0005", "RaiseOn", "ArithmeticError", "cannot digest")
    ]
    assert Counter(entry["verdict"] for entry in entries) == {"kept": 7, "rejected": 2, "failed": 1}


def test_two_rows_with_the_value_that_raises_fail_and_the_rest_goes_on() -> None:
    outcome = run_chain("node", [RaiseOn(1)], items([1, 0, 0, 1, 0]))
    assert outcome.counts == {"item": {"failed": 2, "kept": 3}}


def test_a_block_of_which_every_row_raises_fails_and_ends_nothing() -> None:
    outcome = run_chain("node", [RaiseOn(1), Double()], items([1, 1]))
    assert outcome.counts == {"item": {"failed": 2}}


def test_a_library_that_calls_exit_fails_its_row_alone() -> None:
    outcome = run_chain("node", [ExitOn(1)], items([0, 1, 2]))
    assert ledger_of(outcome)["item-0001"]["reason"] == "SystemExit"
    assert outcome.counts == {"item": {"failed": 1, "kept": 2}}


def test_a_group_that_cannot_be_parted_fails_together() -> None:
    outcome = run_chain("node", [RaiseOn(1)], items([0, 1, 0, 0], ["a", "a", "b", "b"]), together="root")
    assert {row["root"]: row["verdict"] for row in outcome.rows.to_pylist()} == {"a": "failed", "b": "kept"}


def test_a_message_that_is_not_utf_8_fails_its_row_alone() -> None:
    outcome = run_chain("node", [RaiseOn(1, "cannot open /media/\udcff.wav")], items([0, 1, 2]))
    assert ledger_of(outcome)["item-0001"]["error"] == "cannot open /media/\\udcff.wav"
    assert outcome.counts == {"item": {"failed": 1, "kept": 2}}


def test_a_row_that_is_decided_meets_no_later_stage_and_keeps_its_decision() -> None:
    rows = reject(items([1, 2]), [True, False], "first")
    rows = reject(rows, [True, True], "second")
    assert [d["reason"] for d in rows["decision"].to_pylist()] == ["first", "second"]
    outcome = run_chain("node", [Above(1), RaiseOn(2)], items([1, 2]))
    assert ledger_of(outcome)["item-0001"]["reason"] == "above"


def test_a_verdict_has_its_value_and_limit() -> None:
    entry = ledger_of(run_chain("node", [Above(2.5)], items([3])))["item-0000"]
    assert (entry["value"], entry["threshold"], entry["stage"], entry["node"]) == (3.0, 2.5, "Above", "node")


def test_made_rows_have_the_columns_of_their_stage_whatever_became_of_a_neighbour() -> None:
    """Else the digest of a row, and every unit after it, would depend on a neighbour's failure."""
    rows = items([1, 2], ["a", "b"])
    for seed in range(20):
        stages = [Double(), MergeRoots(seed)]
        together = run_chain("node", stages, rows, together="root").rows.to_pylist()
        apart = [run_chain("node", stages, row, together="root").rows.to_pylist() for row in (rows[:1], rows[1:])]
        digests = {row["row_id"]: row["digest"] for outcome in apart for row in outcome}
        assert {row["row_id"]: row["digest"] for row in together} == digests


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Loses(), "stage Loses lost the row item-0000 without a verdict"),
        (Forgets(), "stage Forgets did not write its column 'promised'"),
        (Whispers(), "stage Whispers wrote the column 'secret', which is not among its `writes`"),
        (Twins(), "stage Twins gave two rows one id"),
        (Orphans(), "stage Orphans made the row orphan of item-0000 without naming its parents"),
        (Makes(parents=("nobody",)), "stage Makes made the row made of 'nobody', which it was not given"),
    ],
)
def test_a_stage_that_breaks_its_contract_is_named(stage: Stage, message: str) -> None:
    with pytest.raises(StageError) as raised:
        run_chain("node", [stage], items([1, 2]))
    assert str(raised.value) == message


def test_a_made_row_with_the_id_of_one_that_is_decided_is_a_defect() -> None:
    with pytest.raises(StageError, match="Makes made the row item-0001, which already exists"):
        run_chain("node", [Above(1), Makes(row_id="item-0001")], items([1, 2]))


def test_an_engine_that_is_missing_ends_the_block_and_fails_no_row() -> None:
    with pytest.raises(EngineMissing, match=r"pip install 'omni-curation\[toy\]'"):
        run_chain("node", [NeedsEngine()], items([1, 2]))


def test_a_store_that_refuses_a_measure_ends_the_block_and_fails_no_row() -> None:
    class FullDisk:
        """Stands for a store without space."""

        def find(self, stage: Stage, keys: object) -> None:
            raise StoreError("no space")

        keep = find

    with pytest.raises(StoreError):
        run_chain("node", [Slowly()], items([1, 2]), measures=FullDisk())


def test_an_empty_block_gives_an_empty_outcome() -> None:
    outcome = run_chain("node", [Double(), Explode()], items([]))
    assert (outcome.rows.num_rows, outcome.ledger.num_rows, outcome.lineage.num_rows) == (0, 0, 0)


def test_check_chain_names_node_stage_and_column() -> None:
    with pytest.raises(StageError) as raised:
        check_chain("samples", items([]).column_names, [Explode(), ReadsDouble()])
    assert str(raised.value) == "node samples: stage ReadsDouble reads 'double', which nothing before it writes"
    columns = check_chain("samples", items([]).column_names, [Double(), ReadsDouble()])
    assert set(columns) == {*items([]).column_names, "double"}


def test_columns_of_parents_are_not_there_after_a_stage_that_makes_rows() -> None:
    with pytest.raises(StageError, match="stage ReadsDouble reads 'double'"):
        check_chain("node", items([]).column_names, [Double(), Explode(), ReadsDouble()])
