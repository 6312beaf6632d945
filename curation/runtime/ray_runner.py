"""The Ray runner: a pool of slots, each an actor that holds one unit at a time.

Ray's own retries are off. The driver hands out units, so it always knows which unit a dead worker held: a unit is
charged for a death only if its node still lives, is tried again at the end of the queue, and after two deaths is done
in processes of its own, so that the row that kills is named and its neighbours are kept.

Slots are ordered and not waited for: each takes work as soon as it is there, and one that finds no room on the cluster
keeps nobody waiting.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation import meter
from curation.errors import CurateError, EngineMissing, RunFailed
from curation.runtime import stopping
from curation.runtime.chain import Outcome
from curation.runtime.inline import ATTEMPTS
from curation.runtime.isolation import isolated
from curation.runtime.memory import MemoryLimits, Watch
from curation.runtime.ray_address import check_answers
from curation.runtime.tasks import BEAT_EVERY_S, Task, Working, execute, in_this_process, unwatched
from curation.store.objects import Store
from curation.store.parts import Receipt

OBJECT_STORE_BYTES = 300_000_000
MEMORY_PER_SLOT_BYTES = 1_500_000_000
NODE_LOSSES = 10
"""Times a unit may lose its node before the run gives up on it."""
START_TIMEOUT_S = 120.0
"""How long a run goes on without any slot."""
STARTS = 3
"""Starts that may die for each slot that is wanted, until no more are ordered; a unit's death allows as many again."""


class Board:
    """Where slots post how far they are, for the driver to read. If its node dies, a run goes on without."""

    def __init__(self) -> None:
        self._beats: dict[str, meter.Beat] = {}

    def post(self, part: str, beat: meter.Beat | None) -> None:
        """Of a unit; None when it has ended."""
        if beat is None:
            self._beats.pop(part, None)
        else:
            self._beats[part] = beat

    def read(self) -> dict[str, meter.Beat]:
        """Of all units at hand."""
        return self._beats


@contextmanager
def _posting(part: str, board: Any) -> Iterator[None]:
    """Post, from a thread, where the unit at hand stands."""
    if board is None:
        yield
        return
    ended = threading.Event()

    def post() -> None:
        while not ended.wait(BEAT_EVERY_S):
            if beat := meter.beat():
                board.post.remote(part, beat)

    thread = threading.Thread(target=post, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        board.post.remote(part, None)


class Slot:
    """One worker: loads its engines on first use and does one task at a time.

    A unit that takes more memory than it may ends the worker, as any death does.
    """

    _watch: Watch | None = None

    def ready(self) -> str:
        """The id of the node that it runs on."""
        ray = _ray()
        return str(ray.get_runtime_context().get_node_id())

    def do(
        self, task: Task, store: Store, isolate: bool, timeout_s: float, memory: MemoryLimits, board: Any = None
    ) -> Receipt:
        """One task, in this process or in processes of its own. How far it is stands on the board now and then."""
        watch = self._watch = self._watch or Watch()
        here = in_this_process(store)

        def watched(task: Task, rows: pa.Table) -> Outcome:
            with watch.at_most(0, memory.of(task.node, rows)):
                return here(task, rows)

        try:
            with _posting(task.part, board):
                return execute(task, store, isolated(store, timeout_s, memory) if isolate else watched)
        except EngineMissing as error:
            where = f"worker on {socket.gethostname()} ({_ray().util.get_node_ip_address()})"
            raise type(error)(f"{where}: {error}") from error


@dataclass
class _Worker:
    actor: Any
    node: str
    task: Task | None = None
    since: float = 0.0
    isolated: bool = False


@dataclass
class RayRunner:
    """Runs tasks on a Ray cluster, or on one that it starts here.

    Attributes:
        workers: slots; None for one per CPU, as far as memory goes.
        address: of a running cluster; None starts a local one and stops it at the end.
        slot_cpus, slot_gpus: what one slot asks for.
        unit_timeout_s: after this a unit counts as dead.
        unit_bytes: memory that a unit may hold; None for the default (`MemoryLimits`).
    """

    workers: int | None = None
    address: str | None = None
    slot_cpus: float = 1.0
    slot_gpus: float = 0.0
    unit_timeout_s: float = 3600.0
    unit_bytes: int | None = None
    _pool: list[_Worker] = field(default_factory=list)
    _starting: dict[Any, Any] = field(default_factory=dict)
    """Actors that may still wait for room, by the reference that tells of their start."""
    _dead_starts: list[str] = field(default_factory=list)
    _started: bool = False
    _board: Any = None
    _reading: Any = None
    """The board's answer that was asked for last."""
    _read_at: float = 0.0

    def run(
        self,
        tasks: Sequence[Task],
        store: Store,
        landed: Callable[[Task, Receipt], None],
        working: Working = unwatched,
    ) -> None:
        """Do all tasks; `landed` is called for each as its part lands, `working` how far those at hand are."""
        if not tasks:
            return
        self._start()
        self._dismiss_busy()
        self._put_up_board()
        self._dead_starts.clear()
        waiting = deque(tasks)
        deaths: dict[str, int] = {}
        losses: dict[str, int] = {}
        running: dict[Any, _Worker] = {}
        slot_seen = time.monotonic()
        while waiting or running:
            stopping.check()
            wanted = min(self._size(), len(waiting) + len(running))
            self._order(wanted)
            slot_seen = time.monotonic() if self._pool else slot_seen
            self._give_up_without_slots(wanted, time.monotonic() - slot_seen)
            for worker in self._pool:
                if worker.task is None and waiting:
                    worker.task, worker.since = waiting.popleft(), time.monotonic()
                    worker.isolated = deaths.get(worker.task.part, 0) >= ATTEMPTS
                    memory = MemoryLimits(self.unit_bytes, self._slots_of_a_node())
                    reference = worker.actor.do.remote(
                        worker.task, store, worker.isolated, self.unit_timeout_s, memory, self._board
                    )
                    running[reference] = worker
            self._tell(running, working)
            for reference in self._ended(running):
                if reference in self._starting:
                    self._admit(reference)
                    continue
                worker = running.pop(reference)
                task, worker.task = worker.task, None
                assert task is not None
                receipt = self._result(reference, worker)
                if receipt is not None:
                    landed(task, receipt)
                    continue
                counted = losses if self._node_is_gone(worker.node) else deaths
                counted[task.part] = counted.get(task.part, 0) + 1
                if deaths.get(task.part, 0) > ATTEMPTS or losses.get(task.part, 0) > NODE_LOSSES:
                    raise RunFailed(f"node {task.node.name}: workers keep dying on unit {task.part}, even isolated")
                waiting.append(task)

    def close(self) -> None:
        """Give the slots back, those that never found room too, and stop the local cluster."""
        if not self._started:
            return
        ray = _ray()

        boards = [] if self._board is None else [self._board]
        for actor in (*(worker.actor for worker in self._pool), *self._starting.values(), *boards):
            ray.kill(actor)
        self._board = self._reading = None
        self._pool.clear()
        self._starting.clear()
        ray.shutdown()
        self._started = False

    def _put_up_board(self) -> None:
        """Where slots post how far they are; they need not wait for it."""
        self._board = self._board or _ray().remote(num_cpus=0, max_restarts=0)(Board).remote()

    def _tell(self, running: dict[Any, _Worker], working: Working) -> None:
        """Read the board without waiting for it, and tell of the units that are at hand."""
        ray = _ray()
        from ray.exceptions import RayError

        if time.monotonic() - self._read_at < BEAT_EVERY_S:
            return
        self._read_at = time.monotonic()
        try:
            if self._board is None:
                self._put_up_board()
            elif self._reading is None:
                self._reading = self._board.read.remote()
            elif ray.wait([self._reading], timeout=0)[0]:
                beats = ray.get(self._reading)
                at_hand = {worker.task.part: worker.task for worker in running.values() if worker.task}
                self._reading = self._board.read.remote()
                working([(at_hand[part], beat) for part, beat in beats.items() if part in at_hand])
        except RayError:  # its node is gone; progress is not worth more than another board
            self._board = self._reading = None

    def _start(self) -> None:
        if self._started:
            return
        if self.address:
            check_answers(self.address)
        ray = _ray()

        # Ray sets a handler of its own, which would end the process where it stands.
        handler = signal.getsignal(signal.SIGTERM)
        self._started = True
        try:
            if self.address:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(
                    address="local",
                    num_cpus=max(self.workers or 0, _cpus()),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=OBJECT_STORE_BYTES,
                )
        except Exception as error:
            where = self.address or "this machine"
            self.close()
            raise RunFailed(
                f"Ray does not start on {where}: {error}; a cluster must have our version of Ray and, where it uses "
                "tokens, the same RAY_AUTH_MODE and RAY_AUTH_TOKEN; `--runner inline` needs no Ray"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        if not self._fits():
            raise RunFailed(
                f"no node of the cluster has {self.slot_cpus:g} CPUs and {self.slot_gpus:g} GPUs for a slot; "
                f"{_cluster()}"
            )

    def _fits(self) -> bool:
        ray = _ray()

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return any(n.get("CPU", 0) >= self.slot_cpus and n.get("GPU", 0) >= self.slot_gpus for n in nodes)

    def _size(self) -> int:
        ray = _ray()

        if self.workers:
            return self.workers
        return max(1, int(min(ray.cluster_resources().get("CPU", 1) / self.slot_cpus, self._memory_allows())))

    def _slots_of_a_node(self) -> int:
        """How many slots may share a machine at most."""
        ray = _ray()

        cpus = max((node["Resources"].get("CPU", 1.0) for node in ray.nodes() if node["Alive"]), default=1.0)
        return max(1, min(self._size(), int(cpus / self.slot_cpus) if self.slot_cpus else self._size()))

    def _memory_allows(self) -> float:
        ray = _ray()

        return float(ray.cluster_resources().get("memory", MEMORY_PER_SLOT_BYTES) / MEMORY_PER_SLOT_BYTES)

    def _dismiss_busy(self) -> None:
        """End slots that still do a unit of an earlier run, which ended in an error."""
        ray = _ray()

        for worker in [worker for worker in self._pool if worker.task is not None]:
            ray.kill(worker.actor)
            self._pool.remove(worker)

    def _order(self, wanted: int) -> None:
        """Order slots until as many as are `wanted` are here or starting, unless starts keep dying."""
        ray = _ray()

        slot = ray.remote(
            num_cpus=self.slot_cpus, num_gpus=self.slot_gpus, max_restarts=0, max_task_retries=0, max_concurrency=1
        )(Slot)
        while len(self._pool) + len(self._starting) < wanted and len(self._dead_starts) < STARTS * wanted:
            actor = slot.remote()
            self._starting[actor.ready.remote()] = actor

    def _admit(self, reference: Any) -> None:
        """Put a slot that has started into the pool; one that died on the way is noted, and ordered again."""
        ray = _ray()
        from ray.exceptions import RayError

        actor = self._starting.pop(reference)
        try:
            self._pool.append(_Worker(actor, ray.get(reference)))
        except RayError as error:
            ray.kill(actor)
            self._dead_starts.append(str(error))

    def _give_up_without_slots(self, wanted: int, waited_s: float) -> None:
        """End a run that has no slot and that nothing promises one.

        Raises:
            RunFailed: saying what was asked for, what the cluster has, and what the last start died of.
        """
        if self._pool or (self._starting and waited_s < START_TIMEOUT_S):
            return
        found = f"no slot started in {waited_s:.0f} s" if self._starting else "slots die as they start"
        died = f"; the last start died of: {self._dead_starts[-1]}" if self._dead_starts else ""
        raise RunFailed(
            f"{found}: {wanted} were asked for, each with {self.slot_cpus:g} CPUs and {self.slot_gpus:g} GPUs; "
            f"{_cluster()}{died}"
        )

    def _ended(self, running: dict[Any, _Worker]) -> list[Any]:
        """A start or a unit that has ended, if any has; units past their deadline end by ending their worker."""
        ray = _ray()

        ended, _ = ray.wait([*self._starting, *running], num_returns=1, timeout=1.0)
        for worker in running.values():
            # An isolated unit takes as long as its children, each of which has its own deadline.
            if not worker.isolated and time.monotonic() - worker.since > self.unit_timeout_s:
                ray.kill(worker.actor)
        return list(ended)

    def _result(self, reference: Any, worker: _Worker) -> Receipt | None:
        """The receipt, or None if the worker died."""
        ray = _ray()
        from ray.exceptions import RayError, RayTaskError

        try:
            receipt: Receipt = ray.get(reference)
            return receipt
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, CurateError) else RunFailed(str(error)) from error
        except RayError:
            self._pool.remove(worker)
            self._dead_starts.clear()
            return None

    def _node_is_gone(self, node: str) -> bool:
        ray = _ray()

        return not any(n["NodeID"] == node and n["Alive"] for n in ray.nodes())


def _ray() -> Any:
    """Ray, imported where it is used: `curate plan` and the in-process runner need none."""
    import ray

    return ray


def _cluster() -> str:
    """What the cluster has, and what of it is free, in words."""
    ray = _ray()

    nodes = sum(node["Alive"] for node in ray.nodes())
    has, free = ray.cluster_resources(), ray.available_resources()
    amounts = [f"{has.get(name, 0):g} {name}s ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
    return f"the cluster has {amounts[0]} and {amounts[1]} on {nodes} node{'' if nodes == 1 else 's'}"


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
