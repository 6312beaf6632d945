"""What a run shows while it goes on: one line per node, with rows, pace, time left and verdicts."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from curation.media.source_folders import notes_of
from curation.runtime.nodes import Listing, Node, Pinned
from curation.runtime.tasks import Task
from curation.store.parts import Receipt


class LiveProgress:
    """A watcher that draws on a terminal, and prints a line per node elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[verdicts]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._line: TaskID | None = None
        self._counts: Counter[str] = Counter()
        self._rows = 0
        self._computed = 0
        self._started = 0.0

    def __enter__(self) -> "LiveProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def node_starts(self, node: Node, tasks: Sequence[Task], found: Sequence[Receipt]) -> None:
        self._counts = Counter()
        self._rows = self._computed = 0
        self._started = time.monotonic()
        for receipt in found:
            self._count(receipt)
        total = sum(task.cost for task in tasks) or 1.0
        self._line = self._progress.add_task(node.name, total=total, rows="", verdicts="")
        self._show()

    def landed(self, task: Task, receipt: Receipt) -> None:
        self._count(receipt)
        self._computed += 1
        assert self._line is not None
        self._progress.advance(self._line, task.cost)
        self._show()

    def node_ends(self, node: Node, receipts: Sequence[Receipt]) -> None:
        assert self._line is not None
        self._progress.update(self._line, total=1.0, completed=1.0)
        for note in notes_of(node.rows) if isinstance(node, Listing) else ():
            self._console.print(f"{node.name}: {note}", highlight=False, markup=False)
        if not self._console.is_terminal and not isinstance(node, (Listing, Pinned)):
            reused = len(receipts) - self._computed
            self._console.print(
                f"{node.name}: {self._computed} units computed, {reused} found, {self._verdicts()}", highlight=False
            )

    def _count(self, receipt: Receipt) -> None:
        for counts in receipt.counts.values():
            self._counts.update(counts)
        self._rows += receipt.rows_in

    def _show(self) -> None:
        assert self._line is not None
        seconds = max(time.monotonic() - self._started, 1e-3)
        pace = f" {self._rows / seconds:.1f}/s" if self._computed else ""
        self._progress.update(self._line, rows=f"{self._rows} rows{pace}", verdicts=self._verdicts())

    def _verdicts(self) -> str:
        return ", ".join(f"{count} {verdict}" for verdict, count in sorted(self._counts.items())) or "no rows decided"
