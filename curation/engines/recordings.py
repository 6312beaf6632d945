"""Recordings: answers of engines that would not give them twice, kept before they are used.

An engine that is not `repeatable` costs money, or answers otherwise when it is asked again. So each answer is an
object of its own, put under the name of its request, if that is free, before anybody sees it: a run that is killed,
widened or repeated asks only for what was never answered. Recordings are part of the data; nothing evicts them.

Engines do not know the store. Whoever runs them lends its objects to this process with `bind`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from curation.engines.engine import Engine
from curation.errors import EngineMissing
from curation.sealing import seal, unseal

REMEDY = "delete it to ask again"


class Objects(Protocol):
    """What recordings need of a store: immutable objects by name, put whole and put once; safe to share by threads."""

    def create(self, name: str, data: bytes) -> bool:
        """Put an object if its name is free; False where it was taken."""

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""

    def read(self, name: str) -> bytes:
        """All bytes of an object."""


class Recordings:
    """The recorded answers of one engine, among some objects: JSON, one object a request."""

    def __init__(self, objects: Objects, engine: Engine) -> None:
        self._objects = objects
        self._folder = f"recordings/{engine.engine}-{engine.fingerprint()}"

    def name(self, key: str) -> str:
        """Where the recording of a request lies. Folders of two letters keep each of them small."""
        return f"{self._folder}/{key[:2]}/{key}.json"

    def find(self, key: str) -> dict[str, Any] | None:
        """What was recorded for a request, or None.

        Raises:
            StoreError: it cannot be read, or is not what was written.
        """
        name = self.name(key)
        return unseal(self._objects.read(name), name, REMEDY) if self._objects.exists(name) else None

    def keep(self, key: str, recorded: dict[str, Any]) -> dict[str, Any]:
        """Record an answer, and return the one that counts: where two workers asked at once, the first to be put."""
        if self._objects.create(self.name(key), seal(recorded)):
            return recorded
        return self.find(key) or recorded


_bound: list[Objects] = []
"""The objects that this process lends; at most one."""


def bind(objects: Objects | None) -> None:
    """Lend objects to the engines of this process, in all its threads, until the next call. None takes them back."""
    _bound[:] = [] if objects is None else [objects]


@contextmanager
def bound_to(objects: Objects) -> Iterator[None]:
    """Bind a store for the length of a block; then the one that was bound before is bound again."""
    before = list(_bound)
    bind(objects)
    try:
        yield
    finally:
        _bound[:] = before


def recordings_of(engine: Engine) -> Recordings:
    """The recordings of an engine in the store that is bound.

    Raises:
        EngineMissing: none are. No answer is paid for that cannot be kept.
    """
    if not _bound:
        raise EngineMissing(
            f"engine {engine.label}: there is nowhere to keep its answers; "
            "lend it a store with curation.engines.recordings.bind(store)"
        )
    return Recordings(_bound[0], engine)
