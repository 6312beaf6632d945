"""The in-process runner: tasks one after the other, here, where a debugger can follow.

A task that kills this process leaves a mark in the store. One that has killed it twice is done in processes of its own
when the run is started again. One that takes more memory than it may is given up and done so at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from curation.hashing import digest
from curation.runtime.chain import Outcome
from curation.runtime.isolation import isolated
from curation.runtime.memory import MemoryLimits, OverMemory, Watch, raising
from curation.runtime.tasks import Task, execute, in_this_process
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

    def run(self, tasks: Sequence[Task], store: Store, landed: Callable[[Task, Receipt], None]) -> None:
        """Do all tasks; `landed` is told of each as its part lands."""
        for task in tasks:
            marks = f"attempts/{digest(task.part)}"
            earlier = store.names(marks)
            alone = isolated(store, self.unit_timeout_s, self.memory)
            if len(earlier) >= ATTEMPTS:
                receipt = execute(task, store, alone)
            else:
                try:
                    store.create(f"{marks}/{len(earlier)}", b"")
                    receipt = self._here(task, store) or execute(task, store, alone)
                finally:
                    _unmark(store, f"{marks}/{len(earlier)}")
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
        """End the watch over memory."""
        self._watch.close()


def _unmark(store: Store, mark: str) -> None:
    try:
        store.delete(mark)
    except KeyboardInterrupt:  # in the midst of it; a mark that stayed would count as a death
        store.delete(mark)
        raise
