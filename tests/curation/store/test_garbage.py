"""Garbage is what no version lists and is old enough; what a version lists stays, whatever its age."""

import time
from pathlib import Path

from curation.audit.verification import verify
from curation.store.garbage import garbage, remove
from curation.store.objects import Store
from curation.store.versions import read_version
from tests.support.small_corpus import curate
from tests.support.toy import items, pipeline, run_toy

LATER_S = 7200.0


def test_parts_of_a_recipe_that_was_given_up_are_garbage_and_those_of_versions_are_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version, _ = run_toy(pipeline(items(range(12))), store)
    assert garbage(store, 3600, time.time() + LATER_S) == []
    store.create("parts/given-up/unit/rows-1.parquet", b"rows")
    store.create("parts/given-up/unit/receipt.json", b"{}")
    assert garbage(store, 3600, time.time()) == [], "too young: a run may be using it"
    found = garbage(store, 3600, time.time() + LATER_S)
    assert [one.name for one in found] == ["parts/given-up/unit/receipt.json", "parts/given-up/unit/rows-1.parquet"]
    assert remove(store, found) == 6
    assert not any(wrong for _, wrong in verify(store, version))
    assert run_toy(pipeline(items(range(12))), store) == (read_version(store, "toy"), False)


def test_the_command_only_reports_unless_it_is_asked_to_delete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_toy(pipeline(items(range(4))), store)
    store.create("parts/given-up/unit/receipt.json", b"{}")
    told = curate("gc", "--store", str(tmp_path), "--older-than-h", "0")
    assert "1 objects" in told.out and store.exists("parts/given-up/unit/receipt.json")
    done = curate("gc", "--store", str(tmp_path), "--older-than-h", "0", "--delete")
    assert "deleted" in done.out and not store.exists("parts/given-up/unit/receipt.json")
    assert curate("verify", "--store", str(tmp_path)).code == 0
