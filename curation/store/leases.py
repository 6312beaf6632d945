"""Leases: what a run may reuse while it goes on, so that nothing of it is collected as garbage.

A lease is an object below `leases/` that names folders of parts. Its holder puts a new one every minute; one that is
not renewed for ten has lapsed, as that of a run that was killed does. Whoever collects garbage puts a lease too, before
looking at those of runs; a run puts its own before looking for that. So at least one of them sees the other, and
neither asks anybody else: garbage in a leased folder is spared, and a run that meets a collection waits for its end.

Ages are told by the store's own clock.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from curation.errors import RunFailed, StoreError
from curation.sealing import seal, typed, unseal
from curation.store.objects import Store

FOLDER = "leases"
LEASE_S = 600.0
"""A lease that was not renewed for so long has lapsed."""
RENEWALS = 10
"""In the time of a lease."""
RUN = "run"
COLLECTION = "gc"


@dataclass(frozen=True)
class Held:
    """A lease that somebody holds.

    Attributes:
        kind: `run` or `gc`.
        folders: of parts that the holder may use.
        holder: who holds it, for people.
    """

    kind: str
    folders: tuple[str, ...]
    holder: str


@dataclass
class Lease:
    """A lease of our own, renewed by a thread until it is given back."""

    store: Store
    kind: str
    folders: tuple[str, ...]
    _name: str = field(default_factory=lambda: secrets.token_hex(8))
    _number: int = 0
    _renewed_s: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def take(self) -> float:
        """Put it, and renew it from now on. Returns the time by the store's clock, in seconds since 1970."""
        self._renew()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        mine = [found for found in self.store.objects(FOLDER) if found.name == self._path(self._number)]
        return mine[0].modified_s if mine else time.time()

    def check(self) -> None:
        """Make sure that nothing can have been collected since it was taken.

        Raises:
            RunFailed: it has lapsed, as where the machine slept or the store was away.
        """
        away_s = time.time() - self._renewed_s
        if away_s > LEASE_S:
            raise RunFailed(
                f"the run's lease on its parts could not be renewed for {away_s:.0f} s, so some of them may be gone; "
                "run again, completed units are reused"
            )

    def give_back(self) -> None:
        """End it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(StoreError):  # it lapses by itself
            for number in (self._number, self._number - 1):
                self.store.delete(self._path(number))

    def _path(self, number: int) -> str:
        return f"{FOLDER}/{self.kind}-{self._name}-{number}.json"

    def _keep(self) -> None:
        while not self._ended.wait(LEASE_S / RENEWALS):
            with suppress(StoreError):  # the next renewal may come through; `check` says if none did
                if time.time() - self._renewed_s <= LEASE_S:  # one that has lapsed stays so
                    self._renew()

    def _renew(self) -> None:
        holder = f"{self.kind} on {socket.gethostname()}, process {os.getpid()}"
        data = seal({"folders": self.folders, "holder": holder})
        self.store.create(self._path(self._number + 1), data)
        self._number, self._renewed_s = self._number + 1, time.time()
        self.store.delete(self._path(self._number - 1))


@contextmanager
def run_lease(store: Store, folders: Iterable[str], waits: Callable[[str], None]) -> Iterator[Lease]:
    """A run's lease on folders of parts; waits for a collection of garbage that goes on.

    Args:
        waits: is told once, in a sentence, if there is one.
    """
    lease = Lease(store, RUN, tuple(sorted(set(folders))))
    try:
        lease.take()
        told = False
        while collections := [held for held in held_leases(store, time.time()) if held.kind == COLLECTION]:
            if not told:
                waits(f"waiting for {collections[0].holder} to end, at most {LEASE_S:.0f} s after it was killed")
            told = True
            time.sleep(0.5)
        yield lease
    finally:
        lease.give_back()


def held_leases(store: Store, now_s: float) -> list[Held]:
    """All leases that have not lapsed."""
    while True:
        found = [_held(store, each.name) for each in store.objects(FOLDER) if now_s - each.modified_s <= LEASE_S]
        held = [one for one in found if one is not None]
        if len(held) == len(found):
            return held
        # One was given back since the listing, or renewed under a name that the listing lacks: look again.


def _held(store: Store, name: str) -> Held | None:
    """A lease; None if it is gone."""
    try:
        data = store.read(name)
    except StoreError:
        if store.exists(name):
            raise
        return None
    kind = name.rsplit("/", 1)[-1].partition("-")[0]
    return typed(Held, unseal(data, name, "delete it once no run goes on") | {"kind": kind}, name)


def lapsed_leases(store: Store, now_s: float) -> list[str]:
    """Names of leases that nobody renews any more."""
    return [each.name for each in store.objects(FOLDER) if now_s - each.modified_s > 2 * LEASE_S]
