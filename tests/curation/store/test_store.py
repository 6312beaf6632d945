"""The store's promise: an object is there whole or not at all, and a name that is taken stays as it is."""

import errno
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pytest

from curation.audit.verification import verify
from curation.errors import StoreError
from curation.store.objects import STALE_AFTER_S, TEMPORARY, Store, parquet_bytes
from curation.store.parts import Receipt, find_receipt, put_part, put_table, receipt_path
from curation.store.runs import begin_run, end_run, runs
from curation.store.versions import claim_number, version_numbers
from tests.support.toy import items, pipeline, run_toy

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of every kind, empty."""
    match request.param:
        case "folder":
            return Store(tmp_path / "store")
        case "file":
            (tmp_path / "store").mkdir()
            return Store((tmp_path / "store").as_uri())
        case "memory":
            return Store("memory:///")
        case _:
            return Store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_an_object_is_put_once_and_stays_as_it_is(store: Store) -> None:
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.read("a/b") == b"first"
    assert store.read_range("a/b", 1, 3) == b"irs"
    assert store.exists("a/b") and not store.exists("a/c")


def test_a_large_object_is_put_once_too(store: Store) -> None:
    for data in (b"1" * 100_000, b"2" * 10):
        with store.writing("big/shard.tar") as file:
            file.write(data)
    assert store.read("big/shard.tar") == b"1" * 100_000
    with store.opened("big/shard.tar") as file:
        file.seek(99_990)
        assert file.read() == b"1" * 10


def test_objects_are_listed_by_folder_in_order(store: Store) -> None:
    for name in ("a/2", "a/1", "a/deep/3", "ab/4"):
        store.create(name, b"")
    assert store.names("a") == ["a/1", "a/2", "a/deep/3"]
    assert store.names("") == ["a/1", "a/2", "a/deep/3", "ab/4"]
    assert store.names("nothing") == []


def test_a_link_has_the_same_bytes_and_deleting_one_leaves_the_other(store: Store) -> None:
    store.create("parts/x", b"data")
    store.link("parts/x", "toy/1/shard")
    store.link("parts/x", "toy/1/shard")
    store.delete("parts/x")
    store.delete("parts/x")
    assert store.read("toy/1/shard") == b"data" and not store.exists("parts/x")


def test_an_object_that_is_not_there_is_named_in_one_line(store: Store) -> None:
    for read in (
        lambda: store.read("parts/gone"),
        lambda: store.read_range("parts/gone", 0, 1),
        lambda: store.read_table("parts/gone"),
        lambda: store.link("parts/gone", "elsewhere"),
        lambda: store.opened("parts/gone").__enter__(),
    ):
        with pytest.raises(StoreError) as raised:
            read()
        assert "\n" not in str(raised.value) and store.root in str(raised.value)
        assert "parts/gone" in str(raised.value) or "elsewhere" in str(raised.value)


def test_a_table_goes_there_and_back_and_only_columns_that_it_has_are_read(store: Store) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    store.create("t.parquet", parquet_bytes(table))
    assert store.read_table("t.parquet").equals(table)
    assert store.read_table("t.parquet", ["b", "never"]).column_names == ["b"]


def test_a_table_that_is_damaged_is_named(store: Store) -> None:
    store.create("t.parquet", parquet_bytes(pa.table({"a": [1]}))[:-9])
    with pytest.raises(StoreError, match=r"t\.parquet"):
        store.read_table("t.parquet")


def test_the_same_table_gives_the_same_bytes_however_it_is_chunked() -> None:
    whole = pa.table({"a": list(range(10)), "b": [str(i) for i in range(10)]})
    assert parquet_bytes(pa.concat_tables([whole.slice(0, 3), whole.slice(3)])) == parquet_bytes(whole)


def test_a_store_that_is_sent_to_a_worker_is_the_same_store(store: Store) -> None:
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.root, copy.is_local) == (store.root, store.is_local)


def test_a_bucket_that_is_not_there_is_said(s3: str) -> None:
    store = Store("s3://no-such-bucket/x")
    for use in (lambda: store.create("a", b""), lambda: store.names("a"), lambda: store.read("a")):
        with pytest.raises(StoreError, match="s3://no-such-bucket/x"):
            use()


def race(store: Store, writers: int = 8) -> list[tuple[bool, bytes]]:
    """Whether each of some threads won, and the bytes that it saw afterwards."""
    start = threading.Barrier(writers)

    def put(number: int) -> tuple[bool, bytes]:
        start.wait()
        won = store.create("race", b"%d" % number * 10_000)
        return won, store.read("race")

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(put, range(writers)))


def test_of_threads_that_put_one_name_one_wins_and_all_see_its_bytes(store: Store) -> None:
    for _ in range(10):
        found = race(store)
        assert [won for won, _ in found].count(True) == 1
        winner = next(number for number, (won, _) in enumerate(found) if won)
        assert {data for _, data in found} == {b"%d" % winner * 10_000}
        store.delete("race")


def _put(root: str, start: object, results: object, number: int) -> None:
    start.wait()  # type: ignore[attr-defined]
    won = Store(root).create("race", b"%d" % number * 10_000)
    results.put((number, won, Store(root).read("race")))  # type: ignore[attr-defined]


def test_of_processes_that_put_one_name_one_wins_and_all_see_its_bytes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(8), context.Queue()
    writers = [context.Process(target=_put, args=(str(tmp_path), start, results, n)) for n in range(8)]
    for writer in writers:
        writer.start()
    found = [results.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join()
    winners = [number for number, won, _ in found if won]
    assert len(winners) == 1
    assert {data for _, _, data in found} == {b"%d" % winners[0] * 10_000}


def test_an_object_under_way_is_not_to_be_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing("folder/object") as file:
        file.write(b"half")
        file.flush()
        assert any(path.name.startswith(TEMPORARY) for path in (tmp_path / "folder").iterdir())
        assert store.names("") == [] and not store.exists("folder/object")
    assert store.names("") == ["folder/object"]


def test_a_writer_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Store(tmp_path).writing("folder/object") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert list((tmp_path / "folder").iterdir()) == []


def test_what_killed_writers_left_is_swept_after_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("parts/whole", b"1")
    old, young = tmp_path / "parts" / f"{TEMPORARY}old", tmp_path / "parts" / f"{TEMPORARY}young"
    for path in (old, young):
        path.write_bytes(b"half")
    (tmp_path / "parts" / f"{TEMPORARY}gone").symlink_to(tmp_path / "gone")  # as if it went while we look
    long_ago = time.time() - STALE_AFTER_S - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(tmp_path / "parts" / "whole", (long_ago, long_ago))
    assert store.sweep() == 1
    left = sorted(path.name for path in (tmp_path / "parts").iterdir() if path.exists())
    assert left == [young.name, "whole"]


def test_a_full_disk_is_said_and_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "curate-test", tmp_path]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        store = Store(tmp_path)
        assert store.create("parts/small", b"1" * 1000)
        with pytest.raises(StoreError, match=r"cannot write parts/big .*No space left.*free some space and run again"):
            store.create("parts/big", b"1" * 2_000_000)
        with pytest.raises(StoreError, match="No space left"), store.writing("parts/shard.tar") as file:
            for _ in range(20):
                file.write(b"1" * 100_000)
        assert [path.name for path in (tmp_path / "parts").iterdir()] == ["small"]
        assert store.create("parts/other", b"1" * 1000)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


LIMITED = """
import resource, signal, sys
from curation.errors import StoreError
from curation.store.objects import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Store(sys.argv[1]).create("parts/big", b"1" * 200_000)
except StoreError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_is_said_and_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert said.stdout.startswith(f"cannot write parts/big to {tmp_path}: {os.strerror(errno.EFBIG)}"), said.stderr
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write a/b"):
        Store(tmp_path / "root").create("a/b", b"")


def test_the_first_receipt_stands(store: Store) -> None:
    rows = put_table(store, "parts/x/y", "rows", pa.table({"a": [1]}))
    first = Receipt("node", "parts/x/y", {"rows": rows}, rows_in=1)
    assert find_receipt(store, "parts/x/y") is None
    assert put_part(store, first) == first
    assert put_part(store, Receipt("node", "parts/x/y", {}, rows_in=2)) == first
    assert find_receipt(store, "parts/x/y") == first


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"null", b"\xff", b'{"files": []}', b'{"files": {"rows": {}}}'])
def test_a_damaged_receipt_names_itself(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    store.create(receipt_path("parts/x/y"), damage)
    with pytest.raises(StoreError, match=r"parts/x/y/receipt\.json is damaged"):
        find_receipt(store, "parts/x/y")


class Forgetful:
    """A service that does what it is asked and loses the answer to some puts: the client's second try meets its own."""

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def __call__(self, put: Callable[..., Any]) -> Callable[..., Any]:
        def forgetful(*arguments: Any, **named: Any) -> Any:
            answer = put(*arguments, **named)
            if self.lost:
                self.lost -= 1
                return put(*arguments, **named)  # what the client's retry does after a 500
            return answer

        return forgetful


@pytest.fixture
def forgetful(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(obstore, "put", Forgetful(10**6)(obstore.put))
    return Store(f"{s3}/{tmp_path.name}")


def test_a_put_whose_answer_was_lost_is_known_for_ours(forgetful: Store) -> None:
    assert forgetful.create("a", b"ours")
    assert not forgetful.create("a", b"theirs") and forgetful.read("a") == b"ours"
    with forgetful.writing_content("parts/a/b", "shard", ".tar") as file:
        file.write(b"samples")
    assert forgetful.read(file.name) == b"samples"


def test_a_run_all_of_whose_answers_were_lost_ends_well(forgetful: Store) -> None:
    version, is_new = run_toy(pipeline(items(range(9))), forgetful)
    assert is_new and version.number == 1 and version_numbers(forgetful, "toy") == [1]
    assert not any(wrong for _, wrong in verify(forgetful, version))


def test_claims_and_run_records_whose_answers_were_lost_are_taken_once(forgetful: Store) -> None:
    assert [claim_number(forgetful, "toy", content, 0) for content in "abc"] == [1, 2, 3]
    records = [begin_run(forgetful, "toy", "recipe") for _ in range(3)]
    assert [record.number for record in records] == [1, 2, 3]
    end_run(forgetful, "toy", records[1], "version 1")
    assert [record.outcome for record in runs(forgetful, "toy")] == ["", "version 1", ""]


def test_two_runs_that_begin_alike_take_two_numbers(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = sorted(record.number for record in pool.map(lambda _: begin_run(store, "toy", "recipe"), range(4)))
    assert numbers == [1, 2, 3, 4]
