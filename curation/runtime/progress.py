"""What a run shows while it goes on: a line per node and one per stage at work, with rows, pace, time left, verdicts.

On a terminal the lines are drawn over; elsewhere a line is printed per node, and one every half minute within it.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from curation.media.source_folders import notes_of
from curation.meter import Beat
from curation.runtime.nodes import Listing, Node, Pinned
from curation.runtime.tasks import Task
from curation.store.parts import Receipt

LINE_EVERY_S = 30.0
"""Where nobody looks through a terminal."""


class LiveProgress:
    """A watcher that draws on a terminal, and prints lines elsewhere. `working` may be called from any thread."""

    def __init__(self, console: Console, line_every_s: float = LINE_EVERY_S) -> None:
        self._console = console
        self._line_every_s = line_every_s
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._lock = threading.Lock()
        self._line: TaskID | None = None
        self._stages: dict[str, TaskID] = {}
        self._node = ""
        self._counts: Counter[str] = Counter()
        self._cost = self._total = self._spent = 0.0
        self._rows = self._rows_computed = self._rows_total = self._computed = 0
        self._units = self._started = self._printed = 0.0
        self._weights: Counter[str] = Counter()

    def __enter__(self) -> "LiveProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def node_starts(self, node: Node, tasks: Sequence[Task], found: Sequence[Receipt]) -> None:
        with self._lock:
            self._node, self._counts, self._weights = node.name, Counter(), Counter()
            self._rows = self._rows_computed = self._computed = 0
            self._spent = 0.0
            self._units, self._total = len(tasks), sum(task.cost for task in tasks)
            self._rows_total = sum(task.rows for task in tasks)
            self._started = self._printed = time.monotonic()
            for receipt in found:
                self._count(receipt)
            self._line = self._progress.add_task(node.name, total=1.0, figures="")
            self._show([])

    def landed(self, task: Task, receipt: Receipt) -> None:
        with self._lock:
            self._count(receipt)
            self._computed += 1
            self._rows_computed += task.rows
            self._spent += task.cost
            self._weights.update(receipt.timings)
            for remark in receipt.remarks:
                self._console.print(Text(remark), style="yellow", soft_wrap=True)
            self._show([])

    def working(self, beats: Sequence[tuple[Task, Beat]]) -> None:
        """Where the units at hand stand."""
        with self._lock:
            if self._line is not None:
                self._show(beats)

    def node_ends(self, node: Node, receipts: Sequence[Receipt]) -> None:
        with self._lock:
            assert self._line is not None
            for line in self._stages.values():
                self._progress.remove_task(line)
            self._stages = {}
            self._progress.update(self._line, completed=1.0)
            self._line = None
            for note in notes_of(node.rows) if isinstance(node, Listing) else ():
                self._print(f"{node.name}: {note}")
            if not self._console.is_terminal and not isinstance(node, (Listing, Pinned)):
                reused = len(receipts) - self._computed
                self._print(f"{node.name}: {self._computed} units computed, {reused} reused, {self._verdicts()}")

    def _count(self, receipt: Receipt) -> None:
        for counts in receipt.counts.values():
            self._counts.update(counts)
        self._rows += receipt.rows_in

    def _show(self, beats: Sequence[tuple[Task, Beat]]) -> None:
        """Draw the node and the stages at work; or print them, if it is time."""
        now = time.monotonic()
        stages = stage_figures([beat for _, beat in beats])
        if self._console.is_terminal:
            assert self._line is not None
            self._progress.update(self._line, completed=self._share(beats), figures=self._figures(beats))
            if beats or not self._units:
                self._draw(stages)
        elif beats and now - self._printed >= self._line_every_s:
            self._printed = now
            words = [f"{self._node}: {self._figures(beats)}", *(f"{name} {said}" for name, (_, said) in stages.items())]
            self._print("; ".join(words))

    def _draw(self, stages: dict[str, tuple[float, str]]) -> None:
        for name in [name for name in self._stages if name not in stages]:
            self._progress.remove_task(self._stages.pop(name))
        for name, (share, said) in stages.items():
            if name not in self._stages:
                self._stages[name] = self._progress.add_task(f"  {name}", total=1.0, figures="")
            self._progress.update(self._stages[name], completed=share, figures=said)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _share(self, beats: Sequence[tuple[Task, Beat]]) -> float:
        """How much of the node is done, by the cost of its units; of those at hand by their stages."""
        if not self._total:
            return 0.0
        return min(1.0, (self._spent + sum(task.cost * self._unit_share(beat) for task, beat in beats)) / self._total)

    def _unit_share(self, beat: Beat) -> float:
        """How much of a unit is done: its stages by what they cost in units that landed, alike where none has."""
        within = beat.done / beat.rows if beat.rows else 0.0
        whole = sum(self._weights.values())
        if not whole:
            return (beat.place + within) / max(beat.stages, 1)
        before = sum(list(self._weights.values())[: beat.place])
        return min(1.0, (before + within * self._weights[beat.stage]) / whole)

    def _figures(self, beats: Sequence[tuple[Task, Beat]]) -> str:
        seconds = time.monotonic() - self._started
        share = self._share(beats)
        words = []
        if self._units:
            words.append(f"{self._computed} of {self._units:g} units, {self._rows_computed} of {self._rows_total} rows")
        else:
            words.append(f"{self._rows} rows")
        if self._rows_computed:
            words.append(pace(self._rows_computed / max(seconds, 1e-3)))
        if 0 < share < 1 and seconds > 1:
            words.append(f"{clock(seconds * (1 - share) / share)} left")
        return ", ".join([*words, self._verdicts()])

    def _verdicts(self) -> str:
        return ", ".join(f"{count} {verdict}" for verdict, count in sorted(self._counts.items())) or "no rows decided"


def stage_figures(beats: Sequence[Beat]) -> dict[str, tuple[float, str]]:
    """For each stage at work, in all units at hand: the share that is done, and rows, pace and time left in words."""
    found = {}
    for name in dict.fromkeys(beat.stage for beat in beats):
        mine = [beat for beat in beats if beat.stage == name]
        done, rows = sum(beat.done for beat in mine), sum(beat.rows for beat in mine)
        rate = sum(beat.done / beat.seconds for beat in mine if beat.seconds > 0)
        words = [f"{done} of {rows} rows"]
        if rate:
            # Units go on side by side: the last one ends the stage.
            left_s = max((beat.rows - beat.done) * beat.seconds / beat.done for beat in mine if beat.done)
            words += [pace(rate), f"{clock(left_s)} left"]
        else:
            words = [f"{rows} rows, for {clock(max(beat.seconds for beat in mine))}"]
        found[name] = (done / rows if rows else 0.0, ", ".join(words))
    return found


def pace(rows_per_s: float) -> str:
    """A rate in rows a second, or a minute where that is too slow to see."""
    if rows_per_s >= 10:
        return f"{rows_per_s:,.0f}/s"
    return f"{rows_per_s:.1f}/s" if rows_per_s >= 1 else f"{rows_per_s * 60:.1f}/min"


def clock(seconds: float) -> str:
    """A stretch of time as `m:ss` or `h:mm:ss`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
