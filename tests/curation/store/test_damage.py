"""Content that is used is content that was checked: no flipped bit of a store reaches a new version unsaid."""

import os
import random
import shutil
from pathlib import Path

import pytest

from curation.audit.verification import verify
from curation.audit.views import ask, open_views
from curation.errors import CurateError, StoreError
from curation.runtime.withdrawing import find_withdrawal, withdraw
from curation.store.measures import Measures
from curation.store.objects import Store
from curation.store.parts import find_receipt, put_bytes
from curation.store.versions import Version, read_version, version_numbers
from tests.support.small_corpus import curate
from tests.support.toy import Above, items, pipeline, run_toy

VALUES = [number * 7 % 101 for number in range(24)]
FLIPS = int(os.environ.get("CURATE_FLIPS", "6"))
"""Of each kind of object that is much read; a third as many of the others. `CURATE_FLIPS=60` makes 560."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "store"
    run_toy(pipeline(items(VALUES), [Above(80)]), Store(folder))
    return folder


@pytest.fixture(scope="module")
def wanted(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The shards of the changed pipeline, of a store that nobody touched."""
    folder = tmp_path_factory.mktemp("wanted") / "store"
    shutil.copytree(clean, folder)
    return shards(changed_run(folder))


def changed_run(folder: Path) -> Version:
    """A run that reuses most of what is there: a limit is looser."""
    return run_toy(pipeline(items(VALUES), [Above(90)]), Store(folder))[0]


def shards(version: Version) -> list[str]:
    return [shard.sha256 for shard in version.shards]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.unlink()
    path.write_bytes(bytes(data))


def kind_of(name: str) -> str:
    """What an object is: the role of a part's file, or the folder that it lies in."""
    steps = name.split("/")
    match steps[0]:
        case "parts":
            return "receipt" if steps[-1] == "receipt.json" else steps[-1].partition("-")[0]
        case "measures":
            return "measures"
        case _:
            return steps[1] if steps[1].startswith("_") else f"version: {steps[-1].rpartition('.')[2]}"


def objects_by_kind(store: Store) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for found in store.objects(""):
        if found.size and not found.name.endswith(".claim"):
            kinds.setdefault(kind_of(found.name), []).append(found.name)
    return kinds


KINDS = (
    *("rows", "ledger", "lineage", "blob", "table", "shard", "index", "receipt", "measures", "_versions"),
    *("version: tar", "version: parquet", "version: md", "version: idx", "version: json", "version: yaml"),
    *("version: sqlite", "version: uuid"),
)


def test_every_kind_of_object_of_a_store_is_flipped(clean: Path) -> None:
    assert set(objects_by_kind(Store(clean))) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_reaches_a_new_version_unsaid(clean: Path, wanted: list[str], tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    names = objects_by_kind(Store(clean))[kind]
    for number in range(FLIPS if kind in ("rows", "ledger", "measures", "shard", "_versions") else -(-FLIPS // 3)):
        folder = tmp_path / str(number)
        shutil.copytree(clean, folder)
        store = Store(folder)
        name = draw.choice(names)
        flip(folder / name, draw.randrange(8 * (folder / name).stat().st_size))
        try:
            found = [line for _, lines in verify(store, read_version(store, "toy", 1)) for line in lines]
        except StoreError as error:
            found = [str(error)]
        assert any(name in line or name.rpartition("/")[2] in line for line in found), (name, found)
        try:
            version = changed_run(folder)
        except StoreError as error:
            assert name in str(error) or name.rpartition("/")[0] in str(error), (name, error)
        else:
            assert shards(version) == wanted, name
            fresh = [line for _, lines in verify(store, version) for line in lines]
            assert not fresh or kind == "blob", (name, fresh)
        shutil.rmtree(folder)


def damage(store: Store, name: str) -> None:
    path = store.local_path(name)
    flip(path, path.stat().st_size * 4)


def test_damaged_measures_are_measured_again_and_said(clean: Path, wanted: list[str], tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "store")
    store = Store(tmp_path / "store")
    names = store.names("measures")
    before = {name: store.read(name) for name in names}
    for name in names:
        damage(store, name)
    assert shards(changed_run(tmp_path / "store")) == wanted
    version = read_version(store, "toy")
    remarks = [
        remark
        for receipt in version.receipts("measured")
        for remark in (find_receipt(store, receipt.part) or receipt).remarks
    ]
    assert {name for name in names if any(name in remark for remark in remarks)} == set(names)
    assert all("measured again" in remark for remark in remarks)
    assert {name: store.read(name) for name in store.names("measures")} == before


def test_measures_of_a_name_without_a_checksum_are_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_toy(pipeline(items(VALUES)), store)
    name = store.names("measures")[0]
    data = store.read(name)
    store.delete(name)
    store.create(name.rpartition("-")[0] + ".parquet", data)
    measures = Measures(store)
    stage = pipeline(items(VALUES)).stages()[0]
    keys = [key for path in store.names("measures") for key in store.read_table(path, ["key"])["key"].to_pylist()]
    known = measures.find(stage, keys)
    assert known is not None and known.num_rows < len(keys) and measures.take_remarks()


def test_a_damaged_table_is_named_by_a_question_too(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "store")
    store = Store(tmp_path / "store")
    version = read_version(store, "toy")
    name = version.receipts("measured")[0].files["ledger"].path
    damage(store, name)
    with pytest.raises(CurateError, match=name):
        ask(open_views(store, version), "select count(*) from ledger")
    told = curate("audit", "--store", str(tmp_path / "store"), "select count(*) from ledger")
    assert told.code == 4 and name in told.err and "Traceback" not in told.err


@pytest.mark.parametrize("role", ["shard", "blob", "index", "rows"])
def test_a_withdrawal_copies_no_damage_into_a_clean_shard(clean: Path, tmp_path: Path, role: str) -> None:
    shutil.copytree(clean, tmp_path / "store")
    store = Store(tmp_path / "store")
    version = read_version(store, "toy")
    views = open_views(store, version)
    chosen = ask(views, "select row_id from packed order by 1").to_pylist()[0]["row_id"]
    withdrawal = find_withdrawal(views, version, row_id=chosen)
    node = "packed" if role in ("shard", "index") else "encoded"
    files = [receipt.files[role].path for receipt in version.receipts(node) if role in receipt.files]
    for name in files:
        data = store.read(name)
        store.delete(name)
        store.create(name, bytes(byte ^ 1 for byte in data))
    with pytest.raises(StoreError, match="is damaged"):
        withdraw(store, version, withdrawal)
    assert version_numbers(store, "toy") == [1]


def test_a_part_file_whose_name_is_taken_by_damage_is_not_taken_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = put_bytes(store, "parts/a/b", "rows", ".bin", b"what was written")
    damage(store, file.path)
    with pytest.raises(StoreError, match=r"parts/a/b/rows-.*\.bin .*damaged.*delete parts/a/b and run again"):
        put_bytes(store, "parts/a/b", "rows", ".bin", b"what was written")


def test_a_large_object_whose_name_is_taken_by_damage_is_not_taken_for_it(tmp_path: Path, s3: str) -> None:
    for store in (Store(tmp_path), Store(f"{s3}/taken")):
        for again in (False, True):
            with store.writing_content("parts/a/b", "shard", ".tar") as file:
                file.write(b"some ")
                file.write(b"samples")
            assert store.read(file.name) == b"some samples" and file.size == 12, again
        store.delete(file.name)
        store.create(file.name, b"some sanples")
        with pytest.raises(StoreError, match="damaged"), store.writing_content("parts/a/b", "shard", ".tar") as file:
            file.write(b"some samples")
