"""The in-process runner: tasks one after the other, here, where a debugger can follow.

A task that kills this process leaves a mark in the store. One that has killed it twice is done in processes of its own
when the run is started again. One that takes more memory than it may is given up and done so at once.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from curation import meter
from curation.hashing import digest
from curation.runtime import stopping
from curation.runtime.chain import Outcome
from curation.runtime.isolation import isolated
from curation.runtime.memory import MemoryLimits, OverMemory, Watch, raising
from curation.runtime.tasks import BEAT_EVERY_S, Task, Working, execute, in_this_process, unwatched
from curation.store.objects import Store
from curation.store.parts import Receipt

ATTEMPTS = 2
"""Deaths after which a task is isolated."""


@dataclass(frozen=True)
class InlineRunner:
    """Runs tasks in this process."""

    unit_timeout_s: float = 3600.0
    memory: MemoryLimits = MemoryLimits()
    _watch: Watch = field(default_factory=Watch, repr=False, compare=False)
    _marks: list[str] = field(default_factory=list, compare=False, repr=False)
    """Ours, and perhaps still in the store."""
    _stores: list[Store] = field(default_factory=list, compare=False, repr=False)

    def run(
        self,
        tasks: Sequence[Task],
        store: Store,
        landed: Callable[[Task, Receipt], None],
        working: Working = unwatched,
    ) -> None:
        """Do all tasks; `landed` is called for each as its part lands, `working` how far the one at hand is."""
        at_hand: list[Task] = []
        with _beating(at_hand, working):
            self._run(tasks, store, landed, at_hand)

    def _run(
        self, tasks: Sequence[Task], store: Store, landed: Callable[[Task, Receipt], None], at_hand: list[Task]
    ) -> None:
        self._stores[:] = [store]
        for task in tasks:
            stopping.check()
            at_hand[:] = [task]
            marks = f"attempts/{digest(task.part)}"
            earlier = store.names(marks)
            alone = isolated(store, self.unit_timeout_s, self.memory)
            if len(earlier) >= ATTEMPTS:
                receipt = execute(task, store, alone)
            else:
                mark = f"{marks}/{len(earlier)}"
                try:
                    self._marks.append(mark)
                    store.create(mark, b"")
                    receipt = self._here(task, store) or execute(task, store, alone)
                finally:
                    self._unmark(store)
            for mark in earlier:
                store.delete(mark)
            landed(task, receipt)

    def _here(self, task: Task, store: Store) -> Receipt | None:
        """The task done in this process; None where it took too much memory."""

        def run(task: Task, rows: pa.Table) -> Outcome:
            allowed = self.memory.of(task.node, rows)
            with raising(self._watch, allowed, max(MemoryLimits().share(), 2 * allowed)):
                return in_this_process(store)(task, rows)

        try:
            return execute(task, store, run)
        except OverMemory:
            return None

    def close(self) -> None:
        """End the watch over memory. A mark of ours that a signal left behind would count as a death, and goes."""
        self._watch.close()
        for store in self._stores:
            self._unmark(store)

    def _unmark(self, store: Store) -> None:
        while self._marks:
            store.delete(self._marks[-1])
            self._marks.pop()


@contextmanager
def _beating(at_hand: list[Task], working: Working) -> Iterator[None]:
    """Tell, from a thread, where the task at hand stands."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(BEAT_EVERY_S):
            beat = meter.beat()
            if beat and at_hand:
                working([(at_hand[0], beat)])

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
