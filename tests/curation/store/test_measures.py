"""Costly measures are asked for once: the same values under the same stage are never computed again."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from curation.runtime.chain import Outcome, run_chain
from curation.stage import Stage
from curation.store.measures import Measures
from curation.store.objects import Store
from tests.support.toy import Above, Slowly, items


@dataclass(frozen=True)
class SlowlyAnew(Slowly):
    """The same, under another fingerprint."""

    def fingerprint(self) -> str:
        return "slowly-anew"


class Calls:
    """A store of measures, and the values that the costly stage was called for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.log = folder / "log"
        self.store = Store(folder / "store")

    def run(self, values: list[int], *before: Stage, stage: type[Slowly] = Slowly, limit: float = 1e9) -> Outcome:
        chain = [*before, stage(log=str(self.log)), Above(limit)]
        return run_chain("node", chain, items(values), measures=Measures(self.store))

    def made(self) -> list[int]:
        """The values since the last question."""
        if not self.log.exists():
            return []
        values = [int(line) for line in self.log.read_text().split()]
        self.log.unlink()
        return values


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def test_a_changed_limit_decides_again_without_measuring_again(calls: Calls) -> None:
    strict = calls.run([1, 2, 3, 4], limit=2)
    assert calls.made() == [1, 2, 3, 4]
    loose = calls.run([1, 2, 3, 4], limit=3)
    assert calls.made() == []
    assert strict.counts == {"item": {"kept": 2, "rejected": 2}}
    assert loose.counts == {"item": {"kept": 3, "rejected": 1}}
    assert loose.rows["square"].to_pylist() == [1, 4, 9, 16]


def test_a_loosened_stage_before_it_measures_only_what_it_newly_admits(calls: Calls) -> None:
    calls.run([1, 2, 3, 4, 5], Above(2))
    assert calls.made() == [1, 2]
    calls.run([1, 2, 3, 4, 5], Above(4))
    assert calls.made() == [3, 4]


def test_found_measures_give_what_computed_ones_gave(calls: Calls, tmp_path: Path) -> None:
    fresh = Calls(tmp_path / "other").run([3, 1, 2])
    calls.run([2, 7])
    mixed = calls.run([3, 1, 2])
    found = calls.run([3, 1, 2])
    assert mixed.rows.equals(fresh.rows) and found.rows.equals(fresh.rows)
    assert mixed.ledger.equals(fresh.ledger) and found.ledger.equals(fresh.ledger)


def test_another_fingerprint_measures_everything(calls: Calls) -> None:
    calls.run([1, 2])
    calls.run([1, 2], stage=SlowlyAnew)
    assert calls.made() == [1, 2, 1, 2]


def test_a_failed_row_is_not_kept_and_is_tried_again(calls: Calls) -> None:
    for _ in range(2):
        outcome = calls.run([1, -2, 3])
        assert outcome.counts == {"item": {"failed": 1, "kept": 2}}
    assert calls.made() == [1, -2, 3, -2]


def test_values_that_stand_twice_are_measured_once_the_next_time(calls: Calls) -> None:
    calls.run([4, 4, 5])
    calls.made()
    again = calls.run([5, 4, 4, 4])
    assert calls.made() == []
    assert again.rows["square"].to_pylist() == [25, 16, 16, 16]


def test_two_writers_of_the_same_measures_leave_one_object(calls: Calls) -> None:
    first, second = Measures(calls.store), Measures(calls.store)
    stage = Slowly()
    rows = pa.table({"key": ["a", "b", "a"], "square": [1, 2, 1]})
    for measures in (first, second):
        assert measures.find(stage, ["a"]) is None
    for measures in (first, second):
        measures.keep(stage, rows)
    assert len(calls.store.names("measures")) == 1
    found = Measures(calls.store).find(stage, ["b", "a", "never"])
    assert found is not None and sorted(found["key"].to_pylist()) == ["a", "b"]


def test_a_key_in_two_objects_is_found_once(calls: Calls) -> None:
    stage = Slowly()
    Measures(calls.store).keep(stage, pa.table({"key": ["a", "b"], "square": [1, 2]}))
    Measures(calls.store).keep(stage, pa.table({"key": ["b", "c"], "square": [2, 3]}))
    found = Measures(calls.store).find(stage, ["a", "b", "c"])
    assert found is not None and sorted(found["key"].to_pylist()) == ["a", "b", "c"]


def test_measures_do_not_depend_on_columns_that_are_not_read(calls: Calls) -> None:
    calls.run([1, 2])
    calls.made()
    rows = items([2, 1]).append_column("note", pa.array(["new", "new"]))
    run_chain("node", [Slowly(log=str(calls.log))], rows, measures=Measures(calls.store))
    assert calls.made() == []
