"""How much memory a unit of work may hold, and the watch that sees to it.

What a stranger's file unfolds to is bounded where it is read (`media.decoded`); this is for what gets past. Processes
are watched by their resident memory. RLIMIT_AS and RLIMIT_DATA count addresses, of which allocators, torch and Ray
reserve gigabytes that they never touch, and a process that reaches them breaks in whatever line comes next.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.runtime import memory_watch
from curation.runtime.memory_watch import LOOKS_EVERY_S, held_bytes
from curation.runtime.nodes import Map

__all__ = ["BY_DEFAULT", "LOOKS_EVERY_S", "MemoryLimits", "OverMemory", "Watch", "held_bytes", "machine_bytes"]

UNIT_BYTES = 1_900_000_000
"""Of a unit without engines: with what it holds before anybody looks again, no more than 2 GB."""
GROWTH_BYTES = 1_000_000_000
"""A process that held much before the unit (a loaded engine) may hold so much more."""
PER_BYTE_ON_DISK = 16
"""A large file may take more: that of an honest file is some times what it has on disk, a bomb has next to nothing."""
MACHINE_SHARE = 0.9


class OverMemory(BaseException):
    """A unit in this process holds more memory than it may. No stage catches it: it is no `Exception`."""


@dataclass(frozen=True)
class MemoryLimits:
    """What a unit of work may hold.

    Attributes:
        unit_bytes: the same for every unit; None takes `UNIT_BYTES` for maps without engines, and more for large files
            on disk, and for all else the slot's share of the machine.
        slots: how many share a machine.
    """

    unit_bytes: int | None = None
    slots: int = 1

    def share(self) -> int:
        """What a slot may hold whatever it does; never less than `UNIT_BYTES`."""
        return self.unit_bytes or max(UNIT_BYTES, int(MACHINE_SHARE * machine_bytes() / max(1, self.slots)))

    def of(self, node: Any, rows: pa.Table) -> int:
        """What the rows of a unit may take."""
        if self.unit_bytes is not None:
            return self.unit_bytes
        if not isinstance(node, Map) or any(stage.engines() for stage in node.stages):
            return self.share()
        if node.unit.target == float("inf"):
            return self.share()
        return min(self.share(), UNIT_BYTES + PER_BYTE_ON_DISK * _bytes_on_disk(rows))


BY_DEFAULT = MemoryLimits()


def machine_bytes() -> int:
    """Memory of this machine, or of the container that this process is in."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return total


def can_watch() -> bool:
    """Whether memory of processes can be looked at here, which is so on Linux."""
    return held_bytes(os.getpid()) is not None


def _bytes_on_disk(rows: pa.Table) -> int:
    if "size_bytes" not in rows.column_names or "kind" not in rows.column_names:
        return 0
    listed = pc.equal(rows["kind"], "listing")
    return int(pc.sum(rows["size_bytes"].filter(listed)).as_py() or 0)


class Watch:
    """A watch over this process. It starts with its first limit, and ends with the process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def at_most(self, soft: int, hard: int) -> Iterator[None]:
        """Within it, this process gets SIGUSR1 above `soft` bytes and is killed above `hard`; 0 is no limit.

        A process that holds much already may hold `GROWTH_BYTES` more.
        """
        if not can_watch():
            yield
            return
        held = held_bytes(os.getpid()) or 0
        self._say(*(limit and max(limit, held + GROWTH_BYTES) for limit in (soft, hard)))
        try:
            yield
        finally:
            self._say(0, 0)

    def close(self) -> None:
        """End the watch."""
        if self._process is not None and self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
        self._process = None

    def _say(self, soft: int, hard: int) -> None:
        """Tell the watch its limits, and wait until it has heard: a late signal would meet another unit."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-I", "-S", memory_watch.__file__, str(os.getpid())]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, start_new_session=True)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(b"%d %d\n" % (soft, hard))
        self._process.stdout.read(1)


@contextmanager
def raising(watch: Watch, soft: int, hard: int) -> Iterator[None]:
    """As `Watch.at_most`; above `soft` it raises `OverMemory` here. In another thread than the main one, which gets no
    signals, nothing is watched.

    Raises:
        OverMemory: at the next line of Python that the main thread comes to.
    """
    if threading.current_thread() is not threading.main_thread() or not can_watch():
        yield
        return

    def over(*_: Any) -> None:
        raise OverMemory

    before = signal.signal(signal.SIGUSR1, over)
    try:
        with watch.at_most(soft, hard):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)
