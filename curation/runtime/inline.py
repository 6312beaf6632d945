"""The in-process runner: tasks one after the other, here, where a debugger can follow.

A task that kills this process leaves a mark in the store. One that has killed it twice is done in processes of its own
when the run is started again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curation.hashing import digest
from curation.runtime.isolation import isolated
from curation.runtime.tasks import Task, execute
from curation.store.objects import Store
from curation.store.parts import Receipt

ATTEMPTS = 2
"""Deaths after which a task is isolated."""


@dataclass(frozen=True)
class InlineRunner:
    """Runs tasks in this process."""

    unit_timeout_s: float = 3600.0

    def run(self, tasks: Sequence[Task], store: Store, landed: Callable[[Task, Receipt], None]) -> None:
        """Do all tasks; `landed` is told of each as its part lands."""
        for task in tasks:
            marks = f"attempts/{digest(task.part)}"
            earlier = store.names(marks)
            if len(earlier) >= ATTEMPTS:
                receipt = execute(task, store, isolated(store, self.unit_timeout_s))
            else:
                try:
                    store.create(f"{marks}/{len(earlier)}", b"")
                    receipt = execute(task, store)
                finally:
                    _unmark(store, f"{marks}/{len(earlier)}")
            for mark in earlier:
                store.delete(mark)
            landed(task, receipt)

    def close(self) -> None:
        """Nothing to give back."""


def _unmark(store: Store, mark: str) -> None:
    try:
        store.delete(mark)
    except KeyboardInterrupt:  # in the midst of it; a mark that stayed would count as a death
        store.delete(mark)
        raise
