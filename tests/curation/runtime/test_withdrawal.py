"""What is withdrawn is in no version from then on: neither in the one that withdraws it, nor in any run's after it."""

import json
from pathlib import Path

import pytest

from curation.audit.verification import verify
from curation.audit.views import ask, open_views
from curation.errors import SourceError
from curation.runtime.withdrawing import Withdrawal, find_withdrawal, withdraw
from curation.store.garbage import garbage, remove
from curation.store.objects import Store
from curation.store.versions import Version, read_version, version_numbers
from tests.support.small_corpus import curate
from tests.support.toy import decisions, items, pipeline, run_toy

FAR_AHEAD_S = 1e12


def version_of(store: Store, count: int = 24, log: str = "") -> Version:
    return run_toy(pipeline(items(range(count))), store)[0]


def packed(store: Store, version: Version) -> dict[str, str]:
    """Row ids in the shards, with the hashes of their payloads."""
    rows = {}
    for receipt in version.receipts("packed"):
        for row in store.read_table(receipt.files["index"].path).to_pylist():
            rows[row["row_id"]] = row["parts"][0]["xxh3"]
    return rows


def one_with_pieces(store: Store, version: Version) -> Withdrawal:
    """The withdrawal of the first source that several samples were made of."""
    views = open_views(store, version)
    question = "select parent from lineage group by 1 having count(*) > 1 order by 1 limit 1"
    parent = ask(views, question).to_pylist()[0]["parent"]
    return find_withdrawal(views, version, source=f"/toy/{parent}")


def test_a_withdrawn_source_takes_its_descendants_along_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    withdrawal = one_with_pieces(store, before)
    after, changed = withdraw(store, before, withdrawal)
    gone = set(withdrawal.ids)
    assert gone & set(packed(store, before))
    assert packed(store, after) == {k: v for k, v in packed(store, before).items() if k not in gone}
    assert not any(wrong for _, wrong in verify(store, after))
    kept = {shard.sha256 for shard in after.shards}
    assert changed == sorted(shard.path for shard in before.shards if shard.sha256 not in kept)
    assert 0 < len(changed) < len(before.shards)


def test_no_part_of_the_new_version_holds_what_was_withdrawn(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    withdrawal = one_with_pieces(store, before)
    after, _ = withdraw(store, before, withdrawal)
    views = open_views(store, after)
    ids = ", ".join(f"'{row_id}'" for row_id in withdrawal.ids)
    for node in ("listing", "measured", "pieces", "encoded", "packed"):
        assert ask(views, f"select * from {node} where row_id in ({ids})").num_rows == 0, node
    told = ask(views, f"select row_id, verdict, reason from ledger where row_id in ({ids})").to_pylist()
    assert told == [{"row_id": withdrawal.seeds[0], "verdict": "rejected", "reason": "withdrawn"}]
    assert ask(views, f"select * from lineage where child in ({ids}) or parent in ({ids})").num_rows == 0


def test_the_ledger_balances_after_a_withdrawal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    after, _ = withdraw(store, before, one_with_pieces(store, before))
    for node in after.nodes:
        if node.counts:
            verdicts = sum(sum(counts.values()) for counts in node.counts.values())
            assert node.rows_in + sum(node.made.values()) == verdicts, node.name
            assert verdicts == len(decisions(store, after, node.name))


def test_nothing_is_computed_for_a_withdrawal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    measures = store.names("measures")
    after, _ = withdraw(store, before, one_with_pieces(store, before))
    assert store.names("measures") == measures
    # What was found over all rows stays: the summit is of the corpus as it was.
    assert after.parts("summit") == before.parts("summit")


def test_a_later_run_does_not_bring_it_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    withdrawal = one_with_pieces(store, before)
    after, _ = withdraw(store, before, withdrawal)
    again = version_of(store)
    assert packed(store, again).keys() == packed(store, after).keys()
    assert again.withdrawn == [withdrawal.source]
    seed = decisions(store, again, "measured")[withdrawal.seeds[0]]
    assert (seed["verdict"], seed["reason"]) == ("rejected", "withdrawn")
    more = version_of(store, count=30)
    assert not set(withdrawal.ids) & set(packed(store, more))
    assert set(packed(store, after)) <= set(packed(store, more))
    assert version_of(store, count=30).number == more.number, "a second run finds everything done"


def test_one_row_can_be_withdrawn_and_its_siblings_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    chosen = sorted(packed(store, before))[0]
    withdrawal = find_withdrawal(open_views(store, before), before, row_id=chosen)
    assert withdrawal.ids == (chosen,)
    after, changed = withdraw(store, before, withdrawal)
    assert set(packed(store, before)) - set(packed(store, after)) == {chosen}
    assert len(changed) == 1
    assert chosen not in packed(store, version_of(store))


def test_two_withdrawals_add_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = version_of(store)
    a, b = sorted(packed(store, first))[:2]
    second, _ = withdraw(store, first, find_withdrawal(open_views(store, first), first, row_id=a))
    third, _ = withdraw(store, second, find_withdrawal(open_views(store, second), second, row_id=b))
    assert set(packed(store, first)) - set(packed(store, third)) == {a, b}
    assert third.withdrawn == sorted([a, b])
    assert packed(store, version_of(store)).keys() == packed(store, third).keys()


def test_what_is_not_there_cannot_be_withdrawn(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = version_of(store, count=3)
    for asked in ({"source": "/toy/nobody"}, {"row_id": "nobody"}):
        with pytest.raises(SourceError, match="nobody"):
            find_withdrawal(open_views(store, version), version, **asked)


def test_the_command_names_the_shards_that_change_and_what_still_holds_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = version_of(store)
    chosen = sorted(packed(store, version))[0]
    told = curate("withdraw", "--id", chosen, "--store", str(tmp_path), "--dry-run")
    assert told.code == 0 and version_numbers(store, "toy") == [1]
    done = curate("withdraw", "--id", chosen, "--store", str(tmp_path))
    assert done.code == 0, done.err
    assert "changed: toy/1/asr/train-" in done.out and "toy/2" in done.out
    assert curate("verify", "--store", str(tmp_path)).code == 0
    assert curate("withdraw", "--store", str(tmp_path)).code == 2
    assert curate("withdraw", "--source", "/nowhere", "--store", str(tmp_path)).code == 2


def test_an_ended_version_leaves_its_parts_to_the_collector(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = version_of(store)
    chosen = sorted(packed(store, before))[0]
    after, _ = withdraw(store, before, find_withdrawal(open_views(store, before), before, row_id=chosen))
    assert curate("drop", "--version", "2", "--store", str(tmp_path)).code == 2, "the newest stays"
    assert curate("drop", "--version", "1", "--store", str(tmp_path)).code == 0
    assert version_numbers(store, "toy") == [2]
    remove(store, garbage(store, 0, FAR_AHEAD_S))
    assert not any(wrong for _, wrong in verify(store, after))
    tables = [path for path in store.names("parts") if path.endswith(".parquet")]
    found = [path for path in tables if chosen in json.dumps(store.read_table(path).to_pylist(), default=str)]
    assert all("/ledger-" in path or "/lineage-" in path for path in found), found
    assert read_version(store, "toy").number == 2
