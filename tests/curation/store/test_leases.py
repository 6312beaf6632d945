"""Collecting garbage against runs: what a run may reuse is spared while it goes on, and no longer."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.audit.verification import verify
from curation.errors import RunFailed
from curation.runtime.nodes import Pipeline
from curation.store import leases
from curation.store.garbage import collect, garbage
from curation.store.leases import COLLECTION, FOLDER, RUN, Lease, held_leases, run_lease
from curation.store.objects import Store
from curation.store.versions import end_version, read_version
from tests.support.small_corpus import curate
from tests.support.toy import Slowly, items, pipeline, run_toy

ROOT = Path(__file__).parents[3]


def nobody(sentence: str) -> None:
    raise AssertionError(sentence)


def folders(chosen: Pipeline) -> list[str]:
    return [f"parts/{node.fingerprint()}" for node in chosen.nodes]


@contextmanager
def old_unlisted_parts(store: Store) -> Iterator[Pipeline]:
    """Parts of a run whose version has ended: what the same run would reuse, and what nobody lists."""
    chosen = pipeline(items(range(12)))
    version, _ = run_toy(chosen, store)
    end_version(store, version)
    yield chosen


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return Store(tmp_path)
    return Store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_parts_that_a_run_may_reuse_are_spared_while_it_goes_on(store: Store) -> None:
    with old_unlisted_parts(store) as chosen:
        store.create("parts/given-up/unit/rows-1.parquet", b"rows")
        with run_lease(store, folders(chosen), nobody) as lease:
            before = store.names("parts")
            found, holders = collect(store, -1.0)
            assert [one.name for one in found] == ["parts/given-up/unit/rows-1.parquet"]
            assert len(holders) == 1 and f"process {os.getpid()}" in holders[0]
            assert set(before) - set(store.names("parts")) == {found[0].name}
            version, is_new = run_toy(chosen, store)
            lease.check()
        assert is_new and not any(wrong for _, wrong in verify(store, version))
    assert store.names(FOLDER) == []


def test_after_the_run_they_are_garbage(store: Store) -> None:
    with old_unlisted_parts(store) as chosen:
        with run_lease(store, folders(chosen), nobody):
            pass
        found, holders = collect(store, -1.0)
        assert found and holders == [] and store.names("parts") == []


def test_the_lease_of_a_killed_run_lapses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with old_unlisted_parts(store) as chosen:
        monkeypatch.setattr(leases, "LEASE_S", 3.0)
        killed = Lease(store, RUN, tuple(folders(chosen)))
        killed._renew()  # and nobody renews it
        assert collect(store, -1.0)[0] == []
        time.sleep(4.2)
        assert collect(store, -1.0)[0]
        time.sleep(3.0)
        collect(store, -1.0)
        assert store.names(FOLDER) == []


def test_a_lease_is_renewed_under_one_name_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 2.0)
    with run_lease(store, ["parts/x"], nobody) as lease:
        ends = time.monotonic() + 3.5
        while time.monotonic() < ends:
            assert [held.folders for held in held_leases(store, time.time() - 1)] == [("parts/x",)]
            time.sleep(0.1)
        lease.check()
        assert 1 <= len(store.names(FOLDER)) <= 2
    assert store.names(FOLDER) == []


def test_a_run_whose_lease_has_lapsed_does_not_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_lease(Store(tmp_path), ["parts/x"], nobody) as lease:
        lease.check()
        slept = time.time() + leases.LEASE_S + 1
        monkeypatch.setattr(time, "time", lambda: slept)
        with pytest.raises(RunFailed, match="could not be renewed for 601 s"):
            lease.check()


def test_a_run_waits_for_a_collection_that_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = Lease(store, COLLECTION, ())
    collection.take()
    told: list[str] = []
    began = threading.Event()

    def run() -> None:
        with run_lease(store, ["parts/x"], told.append):
            began.set()

    waiting = threading.Thread(target=run)
    waiting.start()
    assert not began.wait(1.5)
    collection.give_back()
    assert began.wait(5)
    waiting.join()
    assert len(told) == 1 and told[0].startswith("waiting for gc on ")


def test_a_run_in_another_process_that_reuses_old_parts_survives_a_collection(tmp_path: Path) -> None:
    """The command against the command: the second run reuses what the first made, and computes for a while."""
    code = (
        "import sys; from tests.support.toy import *; from curation.store.leases import run_lease\n"
        "store = Store(sys.argv[1]); chosen = pipeline(items(range(12)), [], 4.0)\n"
        "nodes = list(chosen.nodes)\n"
        "nodes[2] = Map('pieces', 'measured', (Explode(seed=1), SleepOn(3, 3.0)), Unit(target=4.0))\n"
        "chosen = Pipeline('toy', tuple(nodes))\n"
        "with run_lease(store, [f'parts/{n.fingerprint()}' for n in chosen.nodes], print) as lease:\n"
        "    version, new = run_toy(chosen, store); lease.check()\n"
    )
    store = Store(tmp_path)
    with old_unlisted_parts(store):
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env, stderr=subprocess.PIPE)
        while not store.names(FOLDER) and process.poll() is None:
            time.sleep(0.05)
        while process.poll() is None:
            said = curate("gc", "--store", str(tmp_path), "--older-than-h", "0", "--delete")
            assert said.code == 0, said.err
        assert process.wait() == 0, process.communicate()[1].decode()
        assert not any(wrong for _, wrong in verify(store, read_version(store, "toy")))


def test_the_age_of_garbage_counts_as_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with old_unlisted_parts(store):
        assert garbage(store, 3600, time.time()) == [] and Slowly.costly
