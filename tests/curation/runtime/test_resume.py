"""Killed and resumed: the same shards, nothing with a part is computed again, and the ledger balances."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from curation.errors import StoreError
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.toy import RaiseWhile, decisions, items, pipeline, run_toy, single

ROOT = Path(__file__).parents[3]
COUNT = 48
SECONDS_PER_ROW = 0.03


def start(store: Path, runner: str = "inline", seconds: float = SECONDS_PER_ROW) -> "subprocess.Popen[bytes]":
    """A run in a session of its own, so that its whole process group can be killed."""
    command = [
        sys.executable,
        "-c",
        "from tests.support import toy; toy.main()",
        str(store),
        runner,
        str(seconds),
        str(COUNT),
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()


def receipts(store: Path) -> dict[str, tuple[int, int]]:
    """Receipts by name, with what changes when one is written again."""
    found = store.rglob("receipt.json")
    return {p.relative_to(store).as_posix(): (p.stat().st_ino, p.stat().st_mtime_ns) for p in found}


def shards(store: Path, version: Version) -> list[tuple[str, str]]:
    paths = [shard.path for shard in version.shards]
    return [(path, hashlib.sha256((store / path).read_bytes()).hexdigest()) for path in paths]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Version]:
    root = tmp_path_factory.mktemp("undisturbed")
    finish(start(root, seconds=0.0))
    return root, read_version(Store(root), "toy")


def killed_at_random(root: Path, runner: str, kills: int, seed: int) -> None:
    """Start a run again and again, kill each at a random number of receipts, and let the last one end.

    What has a receipt when a run is killed must have the very same receipt at the end.
    """
    lots = random.Random(seed)
    seen: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        process = start(root, runner)
        enough, delay = len(seen) + lots.randint(1, 4), lots.random() * 0.2
        deadline = time.monotonic() + 60
        while process.poll() is None and len(receipts(root)) < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        there = receipts(root)
        assert seen.items() <= there.items()
        seen = there
    finish(start(root, runner))
    assert seen.items() <= receipts(root).items()


def balance(root: Path, version: Version) -> None:
    """Per node, rows in and rows made are the sum of the verdicts, and each row has one entry."""
    store = Store(root)
    for node in version.nodes:
        tables = [store.read_table(r.files["ledger"].path) for r in version.receipts(node.name) if "ledger" in r.files]
        if not tables:
            continue
        ids = pa.concat_tables(tables)["row_id"].to_pylist()
        assert max(Counter(ids).values()) == 1
        assert node.rows_in + sum(node.made.values()) == len(ids)
        assert sum(sum(counts.values()) for counts in node.counts.values()) == len(ids)


@pytest.mark.slow
def test_killed_five_times_inline_the_shards_are_those_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: tuple[Path, Version]
) -> None:
    killed_at_random(tmp_path, "inline", kills=5, seed=2)
    version = read_version(Store(tmp_path), "toy")
    assert shards(tmp_path, version) == shards(*undisturbed) and version.shards
    assert version.content() == undisturbed[1].content()
    balance(tmp_path, version)


@pytest.mark.ray
@pytest.mark.slow
def test_killed_under_ray_the_shards_are_those_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: tuple[Path, Version]
) -> None:
    killed_at_random(tmp_path, "ray", kills=1, seed=3)
    version = read_version(Store(tmp_path), "toy")
    assert shards(tmp_path, version) == shards(*undisturbed)
    assert version.content() == undisturbed[1].content()
    balance(tmp_path, version)


def test_an_undisturbed_run_balances_and_its_parts_are_whole(undisturbed: tuple[Path, Version]) -> None:
    root, version = undisturbed
    balance(root, version)
    store = Store(root)
    for node in version.nodes:
        for receipt in version.receipts(node.name):
            assert all(len(store.read(file.path)) == file.size for file in receipt.files.values())


def test_a_full_disk_ends_the_run_and_with_more_space_it_goes_on(
    tmp_path: Path, undisturbed: tuple[Path, Version]
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "curate-test", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        chosen = pipeline(items([number * 7 % 101 for number in range(COUNT)]))
        with pytest.raises(StoreError, match=r"No space left on device; free some space and run again"):
            run_toy(chosen, Store(tmp_path))
        there = receipts(tmp_path)
        assert there and not list(tmp_path.rglob(".tmp-*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path)], check=True)
        version, _ = run_toy(chosen, Store(tmp_path))
        assert there.items() <= receipts(tmp_path).items()
        assert version.content() == undisturbed[1].content()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_two_runs_on_one_store_at_once_end_in_the_same_content(
    tmp_path: Path, undisturbed: tuple[Path, Version]
) -> None:
    both = [start(tmp_path, seconds=0.01) for _ in range(2)]
    for process in both:
        finish(process)
    version = read_version(Store(tmp_path), "toy")
    assert shards(tmp_path, version)[0][1] == shards(*undisturbed)[0][1]
    assert version.content() == undisturbed[1].content()


def test_rows_that_failed_are_tried_again_when_asked_and_only_then(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    chosen = single([RaiseWhile(str(trouble), 3)], [1, 2, 3, 4])
    store = Store(tmp_path / "store")

    def verdicts(*, retry_failed: bool) -> list[str]:
        version, _ = run_toy(chosen, store, retry_failed=retry_failed)
        return sorted(entry["verdict"] for entry in decisions(store, version, "only").values())

    assert verdicts(retry_failed=False) == ["failed", "kept", "kept", "kept"]
    trouble.unlink()
    assert verdicts(retry_failed=False) == ["failed", "kept", "kept", "kept"]
    assert verdicts(retry_failed=True) == ["kept"] * 4
    assert verdicts(retry_failed=False) == ["kept"] * 4
