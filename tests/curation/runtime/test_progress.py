"""Progress: rows, a rate and the time left for each stage at work, within a unit too, and the same bytes with it."""

import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from curation import meter
from curation.meter import Beat
from curation.runtime.inline import InlineRunner
from curation.runtime.nodes import Map, Pipeline
from curation.runtime.progress import LiveProgress, clock, pace, stage_figures
from curation.runtime.ray_runner import RayRunner
from curation.runtime.run import Run, Runner
from curation.runtime.tasks import Task
from curation.stage import Stage, measure_each
from curation.store.objects import Store
from curation.store.parts import Receipt
from tests.support.toy import Double, items, pipeline, single

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class RowByRow(Stage):
    """Takes its time for each row."""

    seconds: float = 0.05
    reads = ("value",)
    writes = ("slept",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return measure_each(rows, {"slept": pa.float64()}, self.measure)

    def measure(self, row: dict[str, Any]) -> dict[str, float]:
        time.sleep(self.seconds)
        return {"slept": self.seconds}


def shown(chosen: Pipeline, store: Store, runner: Runner, *, terminal: bool = False, every_s: float = 1.0) -> str:
    """What a run prints."""
    out = io.StringIO()
    run = Run(chosen, store)
    with LiveProgress(Console(file=out, force_terminal=terminal, width=160), every_s) as progress:
        try:
            run.run(runner, progress)
        finally:
            runner.close()
    return out.getvalue()


LINE = re.compile(
    r"^only: 0 of 1 units, 0 of 80 rows, 0:0\d left, no rows decided; "
    r"RowByRow \d+ of 80 rows, (\d\d|\d\.\d)/s, 0:\d\d left$",
    re.M,
)


def test_a_node_of_one_long_unit_says_how_far_its_stage_is(tmp_path: Path) -> None:
    said = shown(single([Double(), RowByRow(), Double()], range(80), target=1000.0), Store(tmp_path), InlineRunner())
    lines = LINE.findall(said)
    assert 2 <= len(lines) <= 5, said
    assert said.splitlines()[-1] == "only: 1 units computed, 0 reused, 80 kept"


@pytest.mark.ray
def test_under_ray_workers_say_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    chosen = single([RowByRow(0.1)], range(80), target=1000.0)
    said = shown(chosen, Store(tmp_path), RayRunner(workers=1))
    assert re.search(r"RowByRow \d+ of 80 rows, \d\.\d/s, 0:0\d left", said), said


def test_half_a_minute_goes_by_between_lines_where_nobody_looks(tmp_path: Path) -> None:
    chosen = single([RowByRow(0.02)], range(80), target=1000.0)
    said = shown(chosen, Store(tmp_path), InlineRunner(), every_s=30.0)
    assert said.splitlines() == ["only: 1 units computed, 0 reused, 80 kept"]


def test_a_terminal_is_shown_the_stage_at_work(tmp_path: Path) -> None:
    chosen = single([RowByRow()], range(60), target=1000.0)
    said = shown(chosen, Store(tmp_path), InlineRunner(), terminal=True)
    assert re.search(r"RowByRow.*\d+ of 60 rows", said) and "left" in said


def test_progress_changes_no_byte(tmp_path: Path) -> None:
    chosen = pipeline(items(range(20)))
    nodes = list(chosen.nodes)
    nodes[1] = Map("measured", "listing", (RowByRow(0.01),))
    chosen = Pipeline("toy", tuple(nodes))
    stores = [Store(tmp_path / name) for name in ("watched", "alone")]
    shown(chosen, stores[0], InlineRunner(), every_s=0.0)

    class Nobody:
        def node_starts(self, *_: object) -> None: ...
        def landed(self, task: Task, receipt: Receipt) -> None: ...
        def working(self, beats: Sequence[tuple[Task, Beat]]) -> None: ...
        def node_ends(self, *_: object) -> None: ...

    Run(chosen, stores[1]).run(InlineRunner(), Nobody())
    names = [name for name in stores[0].names("parts") if not name.endswith("receipt.json")]
    assert names and [stores[1].read(name) for name in names] == [stores[0].read(name) for name in names]


def test_a_stage_in_several_units_adds_up_and_ends_with_the_last() -> None:
    beats = [Beat("Hear", 1, 3, 100, 50, 10.0), Beat("Hear", 1, 3, 100, 10, 10.0), Beat("See", 0, 3, 40, 0, 65.0)]
    assert stage_figures(beats) == {
        "Hear": (0.3, "60 of 200 rows, 6.0/s, 1:30 left"),
        "See": (0.0, "40 rows, for 1:05"),
    }


@pytest.mark.parametrize(("rate", "words"), [(12345.6, "12,346/s"), (9.96, "10.0/s"), (0.5, "30.0/min")])
def test_a_rate_is_one_that_can_be_read(rate: float, words: str) -> None:
    assert pace(rate) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0:00"), (61, "1:01"), (3661, "1:01:01"), (90000, "25:00:00")])
def test_time_left_is_written_as_a_clock_has_it(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_a_stage_never_counts_more_rows_than_came() -> None:
    meter.enter("Twice", 0, 1, 3)
    meter.advance(7)
    beat = meter.beat()
    assert beat is not None and (beat.done, beat.rows) == (3, 3)
    meter.leave()
    assert meter.beat() is None
