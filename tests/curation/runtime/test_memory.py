"""A unit that takes more memory than it may costs the row that takes it, and nothing else."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from curation.runtime.memory import (
    PER_BYTE_ON_DISK,
    UNIT_BYTES,
    MemoryLimits,
    OverMemory,
    Watch,
    can_watch,
    held_bytes,
    machine_bytes,
    raising,
)
from curation.runtime.nodes import WHOLE, Map, Unit
from curation.runtime.ray_runner import RayRunner
from curation.runtime.run import Runner
from curation.stage import Stage
from curation.store.objects import Store
from curation.store.versions import read_version
from tests.support.toy import Absent, Double, Hoard, decisions, items, run_toy, single

ROOT = Path(__file__).parents[3]
LIMIT = 700_000_000
HOARD = 3_000_000_000

pytestmark = pytest.mark.skipif(not can_watch(), reason="memory of processes is told in /proc")


@dataclass(frozen=True)
class Speaks(Stage):
    """A stage with an engine."""

    engine: Absent = Absent()


def run_with_a_hoarder(store: Store, runner: Runner) -> None:
    run_toy(single([Double(), Hoard(5, HOARD)], range(8), target=100.0), store, runner)
    entries = decisions(store, read_version(store, "toy"), "only")
    hoarder = entries.pop("item-0005")
    assert (hoarder["verdict"], hoarder["reason"], hoarder["stage"]) == ("failed", "crashed", "Hoard")
    assert hoarder["error"] == (
        "the process died in stage Hoard: it held more than 0.7 GB of memory (--memory-gb allows a unit more)"
    )
    assert {entry["verdict"] for entry in entries.values()} == {"kept"}


def test_inline_a_row_that_takes_too_much_memory_fails_alone_in_the_same_run(tmp_path: Path) -> None:
    """In a process of its own: what pytest holds already would be allowed for."""
    code = (
        "import sys\nfrom tests.curation.runtime import test_memory as t\n"
        "from curation.runtime.inline import InlineRunner\n"
        "t.run_with_a_hoarder(t.Store(sys.argv[1]), InlineRunner(60.0, t.MemoryLimits(t.LIMIT)))\n"
        "import resource\n"
        # Its own peak since it began; what getrusage says of itself holds that of the test that started it.
        "own = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]\n"
        "print(max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=env, timeout=120, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout.split()[-1]) * 1024 < LIMIT + 1_300_000_000 < HOARD
    assert Store(str(tmp_path)).names("attempts") == []


@pytest.mark.ray
def test_under_ray_a_row_that_takes_too_much_memory_fails_alone(tmp_path: Path) -> None:
    runner = RayRunner(workers=1, unit_bytes=LIMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            run_with_a_hoarder(Store(str(tmp_path)), runner)
        finally:
            runner.close()


def test_above_its_limit_a_block_is_interrupted_and_what_follows_is_not() -> None:
    watch = Watch()
    held = held_bytes(os.getpid()) or 0
    with pytest.raises(OverMemory), raising(watch, held, 0):
        hoard = bytearray(1_200_000_000)
        for start in range(0, len(hoard), 4096):
            hoard[start] = 1
        time.sleep(1.0)
    with raising(watch, 0, 0):
        time.sleep(0.1)
    watch.close()


def test_the_watch_ends_with_its_process() -> None:
    code = (
        "import os, sys\nfrom curation.runtime.memory import Watch\nwatch = Watch()\n"
        "with watch.at_most(0, 1 << 40):\n    print(watch._process.pid, flush=True)\n    os.kill(os.getpid(), 9)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=60, capture_output=True, check=False)
    watcher = int(done.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{watcher}/cmdline").exists() and Path(f"/proc/{watcher}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_map_without_engines_may_hold_two_gigabytes_and_more_for_large_files() -> None:
    limits = MemoryLimits(slots=1)
    rows = items([1, 2])
    assert limits.of(Map("only", "listing", (Double(),)), rows) == UNIT_BYTES
    listed = rows.set_column(rows.column_names.index("kind"), "kind", pa.array(["listing"] * 2))
    listed = listed.append_column("size_bytes", pa.array([10_000_000, None]))
    larger = limits.of(Map("only", "listing", (Double(),)), listed)
    assert larger == min(limits.share(), UNIT_BYTES + PER_BYTE_ON_DISK * 10_000_000)


def test_engines_and_decisions_over_all_may_hold_the_slots_share_of_the_machine() -> None:
    limits = MemoryLimits(slots=3)
    assert limits.share() == max(UNIT_BYTES, int(0.9 * machine_bytes() / 3))
    assert limits.of(Map("only", "listing", (Speaks(),)), items([1])) == limits.share()
    assert limits.of(Map("only", "listing", (Double(),), WHOLE), items([1])) == limits.share()


def test_a_limit_that_is_given_counts_for_every_unit() -> None:
    limits = MemoryLimits(5_000_000_000, slots=3)
    nodes = (Map("only", "listing", (Speaks(),)), Map("only", "listing", (Double(),), Unit()))
    assert {limits.of(node, items([1])) for node in nodes} | {limits.share()} == {5_000_000_000}
