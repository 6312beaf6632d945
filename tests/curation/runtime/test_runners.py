"""Both runners give the same bytes; what kills a worker costs its own row alone, and is named."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from curation.errors import EngineMissing, RunFailed, StageError
from curation.runtime import ray_runner
from curation.runtime.isolation import isolated
from curation.runtime.nodes import Map, Pipeline, Unit
from curation.runtime.ray_runner import START_TIMEOUT_S, STARTS, RayRunner, Slot
from curation.runtime.run import Runner
from curation.runtime.tasks import Task
from curation.store.objects import Store
from curation.store.versions import read_version
from tests.support.toy import (
    Above,
    Double,
    ExitOn,
    KillOn,
    Loses,
    NeedsEngine,
    RaiseOn,
    SleepOn,
    Slowly,
    decisions,
    items,
    pipeline,
    run_toy,
    single,
)

ROOT = Path(__file__).parents[3]


@dataclass
class Kept:
    """A runner that a module's tests share: closing it is the fixture's."""

    runner: RayRunner

    def run(self, *args: Any) -> None:
        self.runner.run(*args)

    def close(self) -> None:
        """Not yet."""


@contextmanager
def ray(workers: int) -> Iterator[Runner]:
    runner = RayRunner(workers=workers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            yield Kept(runner)
        finally:
            runner.close()


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Runner]:
    with ray(2) as runner:
        yield runner


def objects(store: Store) -> dict[str, bytes]:
    """Everything that a run leaves; of receipts, what is no timing."""
    found = {name: store.read(name) for name in store.names("") if not name.startswith("measures/")}
    return {name: data for name, data in found.items() if not name.endswith("receipt.json")}


def only(store: Store) -> dict[str, dict[str, Any]]:
    return decisions(store, read_version(store, "toy"), "only")


@pytest.mark.ray
def test_inline_and_ray_with_one_and_two_workers_give_the_same_bytes(tmp_path: Path, two_workers: Runner) -> None:
    chosen = pipeline(items(range(40)), [Above(35), RaiseOn(7), Double()])
    inline, _ = run_toy(chosen, Store(tmp_path / "inline"))
    assert isinstance(two_workers, Kept)
    for workers in (1, 2):
        two_workers.runner.workers = workers
        version, _ = run_toy(chosen, Store(tmp_path / str(workers)), two_workers)
        assert version == inline
        assert objects(Store(tmp_path / str(workers))) == objects(Store(tmp_path / "inline"))
    assert inline.shards and inline.node("measured").counts == {  # type: ignore[union-attr]
        "item": {"failed": 1, "kept": 35, "rejected": 4}
    }


@pytest.mark.ray
def test_under_ray_a_row_that_kills_its_worker_fails_alone(tmp_path: Path, two_workers: Runner) -> None:
    store = Store(tmp_path)
    run_toy(single([Double(), KillOn(5), Above(7)], range(12)), store, two_workers)
    entries = only(store)
    killed = entries.pop("item-0005")
    assert (killed["verdict"], killed["reason"], killed["stage"]) == ("failed", "crashed", "KillOn")
    assert killed["error"] == "the process died in stage KillOn: signal 9 (SIGKILL)"
    assert [entries[name]["verdict"] for name in sorted(entries)] == ["kept"] * 7 + ["rejected"] * 4


@pytest.mark.ray
def test_under_ray_a_row_that_never_ends_fails_alone(tmp_path: Path, two_workers: Runner) -> None:
    store = Store(tmp_path)
    assert isinstance(two_workers, Kept)
    two_workers.runner.unit_timeout_s = 6.0
    try:
        run_toy(single([SleepOn(2)], [1, 2], target=100.0), store, two_workers)
    finally:
        two_workers.runner.unit_timeout_s = 3600.0
    entries = only(store)
    assert entries.pop("item-0001")["error"] == "the process died in stage SleepOn: no result after 6 s"
    assert {entry["verdict"] for entry in entries.values()} == {"kept"}


@pytest.mark.ray
def test_under_ray_an_exception_is_not_tried_again(tmp_path: Path, two_workers: Runner) -> None:
    log = tmp_path / "log"
    run_toy(single([Slowly(log=str(log)), RaiseOn(2)], range(6)), Store(tmp_path / "store"), two_workers)
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4", "5"]
    assert only(Store(tmp_path / "store"))["item-0002"]["reason"] == "ArithmeticError"


@pytest.mark.ray
def test_under_ray_a_defect_of_a_stage_ends_the_run(tmp_path: Path, two_workers: Runner) -> None:
    with pytest.raises(StageError, match="stage Loses lost the row"):
        run_toy(single([Loses()], range(3)), Store(tmp_path), two_workers)


@pytest.mark.ray
def test_under_ray_a_missing_engine_arrives_as_itself(tmp_path: Path, two_workers: Runner) -> None:
    with pytest.raises(EngineMissing, match=r"pip install 'omni-curation\[toy\]'") as raised:
        run_toy(single([NeedsEngine()], range(3)), Store(tmp_path), two_workers)
    assert raised.value.exit_code == 3


@pytest.mark.ray
def test_a_pool_goes_on_after_an_error(tmp_path: Path, two_workers: Runner) -> None:
    version, _ = run_toy(single([Double()], range(9)), Store(tmp_path), two_workers)
    assert version.node("only").counts == {"item": {"kept": 9}}  # type: ignore[union-attr]


@pytest.mark.ray
def test_a_slot_that_is_busy_with_a_run_that_failed_is_no_slot_of_the_next(tmp_path: Path, two_workers: Runner) -> None:
    run_toy(single([Slowly(0.5)], range(4), target=1.0), Store(tmp_path), two_workers)  # both slots are there
    with pytest.raises(StageError):
        run_toy(single([SleepOn(2, 10.0), Loses()], [1, 2], target=1.0), Store(tmp_path), two_workers)
    run_toy(single([KillOn(1)], [1]), Store(tmp_path), two_workers)
    assert only(Store(tmp_path))["item-0000"]["reason"] == "crashed"


@pytest.fixture(scope="module")
def one_cpu(two_workers: Runner) -> Iterator[str]:
    """The address of a cluster with one CPU; the shared one stops, since a process has one cluster at a time."""
    from ray.cluster_utils import Cluster

    assert isinstance(two_workers, Kept)
    two_workers.runner.close()
    sizes = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=sizes)
    yield cluster.address
    cluster.shutdown()


@pytest.mark.ray
def test_slots_that_find_no_room_keep_nobody_waiting(tmp_path: Path, one_cpu: str) -> None:
    started = time.monotonic()
    version, _ = run_toy(single([Double()], range(12), target=1.0), Store(tmp_path), RayRunner(3, one_cpu))
    assert time.monotonic() - started < START_TIMEOUT_S / 4
    assert version.node("only").counts == {"item": {"kept": 12}}  # type: ignore[union-attr]


@pytest.mark.ray
def test_slots_that_find_no_room_take_the_place_of_one_that_dies(tmp_path: Path, one_cpu: str) -> None:
    run_toy(single([KillOn(5)], range(12), target=2.0), Store(tmp_path), RayRunner(3, one_cpu))
    entries = only(Store(tmp_path))
    assert entries.pop("item-0005")["reason"] == "crashed"
    assert {entry["verdict"] for entry in entries.values()} == {"kept"}


@pytest.mark.ray
def test_a_cluster_without_room_for_any_slot_is_told_with_what_it_has(
    tmp_path: Path, one_cpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray as ray_itself

    monkeypatch.setattr(ray_runner, "START_TIMEOUT_S", 2.0)
    ray_itself.init(address=one_cpu, namespace="others", log_to_driver=False)
    other = ray_itself.remote(num_cpus=1, lifetime="detached", name="other")(Slot).remote()
    ray_itself.get(other.ready.remote())
    ray_itself.shutdown()
    try:
        with pytest.raises(RunFailed) as raised:
            run_toy(single([Double()], range(12), target=1.0), Store(tmp_path), RayRunner(3, one_cpu))
    finally:
        ray_itself.init(address=one_cpu, namespace="others", log_to_driver=False)
        ray_itself.kill(ray_itself.get_actor("other"))
        ray_itself.shutdown()
    assert re.fullmatch(
        r"no slot started in \d+ s: 3 were asked for, each with 1 CPUs and 0 GPUs; "
        r"the cluster has 1 CPUs \(0 free\) and 0 GPUs \(0 free\) on 1 node",
        str(raised.value),
    )


@pytest.mark.ray
@pytest.mark.parametrize("deaths", [STARTS - 1, STARTS])
def test_a_slot_that_dies_as_it_starts_is_replaced_a_few_times(
    tmp_path: Path, one_cpu: str, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    log = tmp_path / "log"

    class Stillborn(Slot):
        def __init__(self) -> None:
            with log.open("a") as file:
                file.write("start\n")
            if log.read_text().count("start") <= deaths:
                os._exit(7)

    monkeypatch.setattr(ray_runner, "Slot", Stillborn)
    chosen, store, runner = single([Double()], range(3)), Store(tmp_path / "store"), RayRunner(1, one_cpu)
    if deaths < STARTS:
        version, _ = run_toy(chosen, store, runner)
        assert version.node("only").counts == {"item": {"kept": 3}}  # type: ignore[union-attr]
    else:
        with pytest.raises(RunFailed, match=r"slots die as they start: 1 were asked for.*the last start died of"):
            run_toy(chosen, store, runner)
    assert log.read_text().count("start") == STARTS


def test_inline_a_row_that_kills_its_process_fails_alone_at_the_third_start(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from tests.support import toy; toy.main()",
        str(tmp_path),
        "inline",
        "0",
        "12",
        "7",
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    runs = [subprocess.run(command, env=env, timeout=60, check=False, capture_output=True) for _ in range(3)]
    assert [run.returncode for run in runs] == [-9, -9, 0]
    store = Store(tmp_path)
    entries = decisions(store, read_version(store, "toy"), "measured")
    killed = entries.pop("item-0001")
    assert (killed["verdict"], killed["reason"], killed["stage"]) == ("failed", "crashed", "KillOn")
    assert {entry["verdict"] for entry in entries.values()} == {"kept"}
    assert store.names("attempts") == []


def test_inline_an_error_leaves_no_mark_of_a_death(tmp_path: Path) -> None:
    with pytest.raises(StageError):
        run_toy(single([Loses()], range(3)), Store(tmp_path))
    assert Store(tmp_path).names("attempts") == []


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        (KillOn(3), "the process died in stage KillOn: signal 9 (SIGKILL)"),
        (KillOn(3, 11), "the process died in stage KillOn: signal 11 (SIGSEGV)"),
        (KillOn(3, 40), "the process died in stage KillOn: signal 40"),
        (ExitOn(3, at_once=True), "the process died in stage ExitOn: exit code 0"),
    ],
)
def test_alone_in_a_process_what_kills_is_charged_to_its_rows(tmp_path: Path, stage: Any, error: str) -> None:
    node = Map("only", "listing", (Double(), stage))
    outcome = isolated(Store(tmp_path), 60.0)(Task(node, "parts/x/y", ()), items([3, 1]))
    assert {row["row_id"]: row["error"] for row in outcome.ledger.to_pylist()} == {
        "item-0000": error, "item-0001": None,
    }  # fmt: skip


def test_alone_in_a_process_rows_that_stay_together_fail_together(tmp_path: Path) -> None:
    node = Map("only", "listing", (KillOn(3),), Unit(together="root"))
    rows = items([1, 3, 1], ["a", "a", "b"])
    outcome = isolated(Store(tmp_path), 30.0)(Task(node, "parts/x/y", ()), rows)
    assert outcome.counts == {"item": {"failed": 2, "kept": 1}}


def test_a_process_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.support.toy import *; from curation.runtime.isolation import isolated\n"
        "from curation.runtime.tasks import Task\n"
        "isolated(Store(sys.argv[1]), 600)(Task(Map('only', 'listing', (SleepOn(1, 600),)), 'x', ()), items([1]))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "store")], env=env, start_new_session=True)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("children are found in /proc")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("curate-*/stage")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = Path("/proc") / children.read_text().split()[0]
    assert child.exists()
    parent.kill()
    parent.wait()
    with suppress(OSError):  # it may go while we look
        while "State:\tZ" not in (child / "status").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert time.monotonic() < deadline


def test_alone_in_a_process_errors_are_the_same_errors(tmp_path: Path) -> None:
    node = Map("only", "listing", (NeedsEngine(),))
    with pytest.raises(EngineMissing):
        isolated(Store(tmp_path), 30.0)(Task(node, "parts/x/y", ()), items([1]))


def test_a_node_that_keeps_nothing_leaves_an_empty_version_that_is_not_accepted(tmp_path: Path) -> None:
    version, _ = run_toy(pipeline(items([5, 6, 7]), [Above(1)]), Store(tmp_path))
    assert not version.accepted and version.shards == []
    assert "nothing was kept of 3" in version.verdict and "above" in version.verdict


def test_a_chain_whose_column_nobody_writes_is_found_before_anything_runs(tmp_path: Path) -> None:
    chosen = pipeline(items([1]))
    nodes = [replace(node, joins=()) if isinstance(node, Map) else node for node in chosen.nodes]
    with pytest.raises(StageError, match="node encoded: stage Encode reads 'largest', which nothing before it writes"):
        run_toy(Pipeline("toy", tuple(nodes)), Store(tmp_path))
    assert Store(tmp_path).names("parts") == []
