"""A store that a stranger wrote: no path in it leads out of it, on disk or on S3; whatever is wrong is one error."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.errors import CurateError, StoreError
from curation.sealing import seal, unseal
from curation.store.objects import Store
from curation.store.versions import manifest_path, read_version
from tests.support.small_corpus import curate
from tests.support.toy import items, pipeline, run_toy

SECRET = b"root:x:0:0: a file beside the store"

Change = Callable[[dict[str, Any]], None]


def some_part(manifest: dict[str, Any], node: str = "encoded") -> dict[str, Any]:
    return next(n for n in manifest["nodes"] if n["name"] == node)["parts"][0]


def file_of(manifest: dict[str, Any], role: str, node: str = "encoded") -> dict[str, Any]:
    return some_part(manifest, node)["files"][role]


OUTSIDE = ("/etc/passwd", "../victim/secret", "parts/../../victim/secret", "toy/1/../../../victim/secret")
HOSTILE: dict[str, Change] = {
    "dataset leads up": lambda m: m.update(dataset="../victim"),
    "dataset is absolute": lambda m: m.update(dataset="/etc"),
    "another dataset": lambda m: m.update(dataset="other"),
    "another number": lambda m: m.update(number=7),
    "number is text": lambda m: m.update(number="../../victim"),
    "number is negative": lambda m: m.update(number=-1),
    **{f"shard at {path}": lambda m, path=path: m["shards"][0].update(path=path) for path in OUTSIDE},
    **{f"shard from {path}": lambda m, path=path: m["shards"][0].update(part_path=path) for path in OUTSIDE},
    **{f"card at {path}": lambda m, path=path: m["files"][0].update(path=path) for path in OUTSIDE},
    **{f"rows at {path}": lambda m, path=path: file_of(m, "rows").update(path=path) for path in OUTSIDE},
    **{f"blob at {path}": lambda m, path=path: file_of(m, "blob").update(path=path) for path in OUTSIDE},
    **{f"ledger at {path}": lambda m, path=path: file_of(m, "ledger").update(path=path) for path in OUTSIDE},
    **{
        f"shard file at {path}": lambda m, path=path: file_of(m, "shard", "packed").update(path=path)
        for path in OUTSIDE
    },
    **{f"part is {path}": lambda m, path=path: some_part(m).update(part=path) for path in OUTSIDE},
    "backslashes": lambda m: m["shards"][0].update(path="toy\\1\\..\\..\\victim\\secret"),
    "control characters": lambda m: m["shards"][0].update(path="toy/1/\x1b[2Jtrain.tar"),
    "a NUL": lambda m: m["shards"][0].update(path="toy/1/x\0.tar"),
    "half a surrogate pair": lambda m: m["files"][0].update(path="toy/1/\ud800"),
    "a part of another shape": lambda m: some_part(m).update(part="toy/1"),
    "no checksum": lambda m: file_of(m, "rows").update(xxh3=""),
    "nodes is text": lambda m: m.update(nodes="all of them"),
    "parts is a number": lambda m: m["nodes"][0].update(parts=3),
    "files is a list": lambda m: some_part(m).update(files=[]),
    "counts are texts": lambda m: some_part(m).update(counts={"item": "many"}),
    "shelves are numbers": lambda m: m.update(shelves=[1]),
    "a shelf counts texts": lambda m: m["shelves"].append(
        {"node": "n", "source": "s", "subsets": {}, "amounts": [{"heading": 3}], "origins": []}
    ),
    "details without a hash": lambda m: some_part(m, "packed")["details"].update(sha256=None),
    "details without a subset": lambda m: some_part(m, "packed").update(details={}),
    "an unknown key": lambda m: m.update(post_install="rm -rf /"),
    "recipe is null": lambda m: m.update(recipe=None),
}


COMMANDS = (
    ["verify", "--version", "1"],
    ["drop", "--version", "1"],
    ["audit", "--version", "1", "select * from ledger"],
    ["sheet", "--version", "1", "--out", "no.png"],
    ["status"],
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two versions, and a file beside it that nobody shall read or delete."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store")
    run_toy(pipeline(items(range(9))), store)
    run_toy(pipeline(items(range(12))), store)
    (folder / "victim").mkdir()
    (folder / "victim" / "secret").write_bytes(SECRET)
    (folder / "victim" / "1").mkdir()
    (folder / "victim" / "1" / "kept").write_bytes(SECRET)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", f"{made}/.", str(tmp_path)], check=True)
    return tmp_path


def rewrite(root: Path, change: Change, number: int = 1) -> None:
    path = root / manifest_path("toy", number)
    manifest = unseal(path.read_bytes(), "manifest")
    change(manifest)
    path.unlink()
    path.write_bytes(seal(manifest))


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_one_error_and_nothing_beside_the_store_is_touched(place: Path, name: str) -> None:
    root = place / "store"
    rewrite(root, HOSTILE[name])
    before = state(place)
    with pytest.raises(StoreError, match=r"^toy/_versions/1\.json.* is damaged"):
        read_version(Store(root), "toy", 1)
    for command in COMMANDS:
        said = curate(*command, "--store", str(root))
        assert said.code == 4 and "Traceback" not in said.err + said.out, (command, said)
        assert SECRET.decode() not in said.out + said.err
    assert state(place) == before


@pytest.mark.parametrize(
    "dataset", ["../victim", "/etc", "..", ".", "a/../../victim", "toy/../toy", "x\0", "toy//x", "\\"]
)
def test_a_dataset_that_is_no_name_is_refused(place: Path, dataset: str) -> None:
    before = state(place)
    with pytest.raises(StoreError):
        read_version(Store(place / "store"), dataset, 1)
    assert state(place) == before


def opened(store: Store, name: str) -> bytes:
    with store.opened(name) as file:
        return file.read()


READING: dict[str, Callable[[Store, str], object]] = {
    "read": lambda store, name: store.read(name),
    "range": lambda store, name: store.read_range(name, 0, 4),
    "opened": opened,
    "check": lambda store, name: store.check(name, "0" * 32),
    "table": lambda store, name: store.read_table(name),
    "exists": lambda store, name: store.exists(name),
    "link": lambda store, name: store.link(name, "toy/copy"),
}
WRITING: dict[str, Callable[[Store, str], object]] = {
    "create": lambda store, name: store.create(name, b"x"),
    "delete": lambda store, name: store.delete(name),
    "link": lambda store, name: store.link("toy/_versions/1.json", name),
    "writing": lambda store, name: store.writing(name).__enter__(),
}
NAMES = [
    "/etc/passwd",
    "../victim/secret",
    "toy/../../victim/secret",
    "",
    ".",
    "toy//x",
    "toy/./x",
    "a\\b",
    "a\0b",
    "a\nb",
]


@pytest.mark.parametrize("way", [*READING, *(f"write: {name}" for name in WRITING)])
@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_door_on_disk(place: Path, way: str, name: str) -> None:
    before = state(place / "victim")
    with pytest.raises(StoreError, match="is no name of an object"):
        (READING | {f"write: {n}": do for n, do in WRITING.items()})[way](Store(place / "store"), name)
    assert state(place / "victim") == before


@pytest.mark.parametrize("way", [*READING, *(f"write: {name}" for name in WRITING)])
@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_door_on_s3(s3: str, way: str, name: str) -> None:
    with pytest.raises(StoreError, match="is no name of an object"):
        (READING | {f"write: {n}": do for n, do in WRITING.items()})[way](Store(f"{s3}/doors/store"), name)


@pytest.mark.parametrize("way", READING)
def test_a_link_that_leads_out_is_not_followed(place: Path, way: str) -> None:
    store = Store(place / "store")
    os.symlink(place / "victim" / "secret", place / "store" / "toy" / "link")
    os.symlink(place / "victim", place / "store" / "parts" / "folder")
    for name in ("toy/link", "parts/folder/secret"):
        with pytest.raises(StoreError, match="a link that leads out of the store"):
            READING[way](store, name)


def test_a_link_that_leads_out_is_not_written_through_and_deleting_it_spares_what_it_leads_to(place: Path) -> None:
    store = Store(place / "store")
    os.symlink(place / "victim", place / "store" / "other")
    with pytest.raises(StoreError, match="leads out"):
        store.create("other/new", b"x")
    with pytest.raises(StoreError, match="leads out"):
        store.delete("other/secret")
    with pytest.raises(StoreError, match="leads out"):
        store.names("other")
    assert "other" not in store.folders() and "toy" in store.folders()
    os.symlink(place / "victim" / "secret", place / "store" / "toy" / "link")
    store.delete("toy/link")
    assert (place / "victim" / "secret").read_bytes() == SECRET
    assert state(place / "victim") == {"secret": SECRET, "1/kept": SECRET}


def test_a_link_inside_the_store_is_followed(place: Path) -> None:
    Store(place / "store").create("toy/_more/x", b"inside")
    os.symlink(place / "store" / "toy" / "_more", place / "store" / "toy" / "alias")
    assert Store(place / "store").read("toy/alias/x") == b"inside"


def test_a_store_below_a_linked_root_works(place: Path) -> None:
    os.symlink(place / "store", place / "elsewhere")
    assert read_version(Store(place / "elsewhere"), "toy").number == 2
    assert Store(place / "elsewhere").names("toy") == Store(place / "store").names("toy")


def test_a_hostile_manifest_on_s3_is_one_error_too(s3: str, place: Path) -> None:
    url = f"{s3}/hostile"
    store = Store(url)
    run_toy(pipeline(items(range(9))), store)
    Store(f"{s3}/victim").create("secret", SECRET)
    clean = store.read(manifest_path("toy", 1))
    for name, change in HOSTILE.items():
        manifest = unseal(clean, "manifest")
        change(manifest)
        store.delete(manifest_path("toy", 1))
        store.create(manifest_path("toy", 1), seal(manifest))
        with pytest.raises(StoreError):
            read_version(store, "toy", 1)
        assert Store(f"{s3}/victim").read("secret") == SECRET, name


RECEIPTS: dict[str, Change] = {
    "part elsewhere": lambda r: r.update(part="parts/x/y"),
    "rows outside": lambda r: r["files"]["rows"].update(path="/etc/passwd"),
    "rows of another part": lambda r: r["files"]["rows"].update(path="parts/x/y/rows.parquet"),
    "no files": lambda r: r.update(files=None),
    "files is text": lambda r: r.update(files="rows"),
    "counts of texts": lambda r: r.update(counts={"item": {"kept": "all"}}),
    "unknown key": lambda r: r.update(execute="this"),
}


@pytest.mark.parametrize("name", RECEIPTS)
def test_a_hostile_receipt_is_one_error(place: Path, name: str) -> None:
    store = Store(place / "store")
    receipt = read_version(store, "toy").receipts("encoded")[0]
    path = f"{receipt.part}/receipt.json"
    value = unseal(store.read(path), path)
    RECEIPTS[name](value)
    store.delete(path)
    store.create(path, seal(value))
    with pytest.raises(CurateError, match=f"{path}.* is damaged"):
        run_toy(pipeline(items(range(12))), store)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"\xff\xfe", b'{"nodes": 3}', b"[" * 100_000, seal({}), seal({"part": 3})]
)
@pytest.mark.parametrize("kind", ["manifest", "receipt", "began", "withdrawn", "claim"])
def test_garbage_in_any_json_of_a_store_is_one_line(place: Path, kind: str, data: bytes) -> None:
    store = Store(place / "store")
    path = {
        "manifest": manifest_path("toy", 2),
        "receipt": f"{read_version(store, 'toy').receipts('encoded')[0].part}/receipt.json",
        "began": "toy/_runs/1.began.json",
        "withdrawn": "toy/_withdrawn/x.json",
        "claim": "toy/_versions/9.claim",
    }[kind]
    store.delete(path)
    store.create(path, data)
    try:
        run_toy(pipeline(items(range(13))), store)
    except StoreError as error:
        assert path in str(error) and kind != "began"
    else:
        assert kind not in ("manifest", "withdrawn")
    for command in (["verify", "--dataset", "toy"], ["status"]):
        said = curate(*command, "--store", str(place / "store"))
        assert "Traceback" not in said.out + said.err and said.code in (0, 1, 4), said
