"""Versions: numbers that nobody shares, manifests that never change, damage that names itself."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from curation.errors import StoreError
from curation.store.objects import Store
from curation.store.versions import (
    Version,
    claim_number,
    datasets,
    manifest_path,
    publish,
    read_version,
    version_numbers,
)
from tests.support.toy import items, pipeline, run_toy


def empty_version(dataset: str, number: int) -> Version:
    return Version(dataset, number, None, recipe={}, engines=[], nodes=[], shards=[])


def test_versions_are_numbered_from_one_and_know_their_parents(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, _ = run_toy(pipeline(items(range(5))), store)
    second, is_new = run_toy(pipeline(items(range(6))), store)
    assert is_new and (first.number, first.parent, second.number, second.parent) == (1, None, 2, 1)
    assert version_numbers(store, "toy") == [1, 2] and datasets(store) == ["toy"]
    assert read_version(store, "toy") == second and read_version(store, "toy", 1) == first


def test_the_same_content_makes_no_new_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, _ = run_toy(pipeline(items(range(8))), store)
    again, is_new = run_toy(pipeline(items(range(8))), store)
    assert not is_new and again == first and version_numbers(store, "toy") == [1]


def test_two_stores_get_the_same_version_from_the_same_rows(tmp_path: Path) -> None:
    one, _ = run_toy(pipeline(items(range(20))), Store(tmp_path / "one"))
    other, _ = run_toy(pipeline(items(range(20))), Store(tmp_path / "other"))
    assert one == other


def test_publishers_at_once_get_different_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def one(_: int) -> int:
        number = claim_number(store, "toy", f"content {_}", 0)
        publish(store, empty_version("toy", number))
        return number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(one, range(24))) == list(range(1, 25))
    assert version_numbers(store, "toy") == list(range(1, 25))


def test_a_publisher_that_dies_leaves_a_gap_and_nothing_visible(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, empty_version("toy", claim_number(store, "toy", "a", 0)))
    assert claim_number(store, "toy", "b", 1) == 2
    assert version_numbers(store, "toy") == [1]
    assert claim_number(store, "toy", "c", 1) == 3


def test_who_has_the_same_content_shares_a_claim_unless_it_is_that_of_an_older_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert claim_number(store, "toy", "a", 0) == claim_number(store, "toy", "a", 0) == 1
    assert claim_number(store, "toy", "b", 0) == 2
    assert claim_number(store, "toy", "a", 1) == 3
    assert claim_number(store, "toy", "a", 2) == 3


def test_a_version_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    version = empty_version("toy", 1)
    assert publish(Store(tmp_path), version) == (version, True)
    assert publish(Store(tmp_path), replace(version, parent=7)) == (version, False)
    with pytest.raises(StoreError, match="version toy/1 already exists, with another content"):
        publish(Store(tmp_path), replace(version, recipe={"another": 1}))


def test_an_unknown_version_or_dataset_says_which_there_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, empty_version("toy", 1))
    publish(store, empty_version("toy", 4))
    with pytest.raises(StoreError, match=r"no version 3 of 'toy'; versions: \[1, 4\]"):
        read_version(store, "toy", 3)
    with pytest.raises(StoreError, match=r"no version of 'speech'; datasets here: \['toy'\]"):
        read_version(store, "speech")
    with pytest.raises(StoreError, match="datasets here: none"):
        read_version(Store(tmp_path / "nothing"), "speech")


DAMAGE = [b"", b"[]", b"null", b"{}", b'{"nodes": 3}', b"\xff\xfe", b'{"nodes": [], "shards": []}']


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_names_itself(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    store.create(manifest_path("toy", 1), damage)
    with pytest.raises(StoreError, match=r"toy/_versions/1\.json is damaged"):
        read_version(store, "toy")


def test_what_is_no_manifest_is_no_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("notes.txt", "x.json", "1.json.bak"):
        store.create(f"toy/_versions/{name}", b"")
    assert version_numbers(store, "toy") == []
