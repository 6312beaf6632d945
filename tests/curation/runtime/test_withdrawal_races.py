"""A withdrawal thrown against runs and publishers: whatever becomes visible after it is without what was withdrawn."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from curation.audit.verification import verify
from curation.audit.views import open_views
from curation.meter import Beat
from curation.runtime import publishing
from curation.runtime.nodes import Node
from curation.runtime.run import Runner, Watcher
from curation.runtime.tasks import Task
from curation.runtime.withdrawing import find_withdrawal, withdraw
from curation.store.objects import Store
from curation.store.parts import Receipt
from curation.store.versions import Version, claim_number, read_version, version_numbers, void_claims
from tests.curation.runtime.test_runners import ray
from tests.curation.runtime.test_withdrawal import packed
from tests.support.toy import items, pipeline, run_toy

NODES = ("listing", "measured", "pieces", "summit", "encoded", "packed")


def version_of(store: Store, count: int = 12) -> Version:
    return run_toy(pipeline(items(range(count))), store)[0]


def withdraw_one(store: Store, row_id: str) -> Version:
    newest = read_version(store, "toy")
    return withdraw(store, newest, find_withdrawal(open_views(store, newest), newest, row_id=row_id))[0]


@dataclass
class Meddler:
    """A watcher that does something at a moment of a run, once."""

    watcher: Watcher
    at: str
    node: str
    act: Callable[[], object]
    done: bool = False

    def _at(self, moment: str, node: str) -> None:
        if not self.done and (moment, node) == (self.at, self.node):
            self.done = True
            self.act()

    def node_starts(self, node: Node, tasks: Sequence[Task], found: Sequence[Receipt]) -> None:
        self._at("starts", node.name)
        self.watcher.node_starts(node, tasks, found)

    def landed(self, task: Task, receipt: Receipt) -> None:
        self._at("lands", task.node.name)
        self.watcher.landed(task, receipt)

    def working(self, beats: Sequence[tuple[Task, Beat]]) -> None:
        self.watcher.working(beats)

    def node_ends(self, node: Node, receipts: Sequence[Receipt]) -> None:
        self.watcher.node_ends(node, receipts)
        self._at("ends", node.name)


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Runner]:
    with ray(2) as runner:
        yield runner


MOMENTS = [(at, node) for node in NODES for at in ("starts", "ends")] + [("lands", node) for node in NODES[1:]]


@pytest.mark.parametrize(("at", "node"), MOMENTS)
def test_what_is_withdrawn_during_a_run_is_not_in_its_version(tmp_path: Path, at: str, node: str) -> None:
    against_a_run(tmp_path, at, node, None)


@pytest.mark.ray
@pytest.mark.parametrize(("at", "node"), [("starts", node) for node in NODES] + [("ends", "packed")])
def test_what_is_withdrawn_during_a_run_on_ray_is_not_in_its_version(
    tmp_path: Path, two_workers: Runner, at: str, node: str
) -> None:
    against_a_run(tmp_path, at, node, two_workers)


def against_a_run(folder: Path, at: str, node: str, runner: Runner | None) -> None:
    store = Store(folder)
    first = version_of(store)
    chosen = sorted(packed(store, first))[3]
    meddlers: list[Meddler] = []

    def watching(watcher: Watcher) -> Watcher:
        meddlers.append(Meddler(watcher, at, node, lambda: withdraw_one(store, chosen)))
        return meddlers[0]

    version, is_new = run_toy(pipeline(items(range(15))), store, runner, watching=watching)
    assert meddlers[0].done and is_new
    assert version_numbers(store, "toy") == [1, 2, version.number]
    for number in version_numbers(store, "toy")[1:]:
        assert chosen not in packed(store, read_version(store, "toy", number))
    assert version.withdrawn == [chosen]
    assert set(packed(store, version)) > set(packed(store, first)) - {chosen}
    assert not any(wrong for _, wrong in verify(store, version))
    assert run_toy(pipeline(items(range(15))), store) == (version, False)


@pytest.mark.parametrize("moment", ["claim_number", "withdrawal_records", "version_files", "publish"])
@pytest.mark.parametrize("before", [True, False])
def test_what_is_withdrawn_while_a_version_is_published_is_in_none_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, before: bool
) -> None:
    """Between any two steps of publishing: the claim, the look for withdrawals, the files, the manifest."""
    store = Store(tmp_path)
    first = version_of(store)
    chosen = sorted(packed(store, first))[3]
    step = getattr(publishing, moment)
    calls: list[int] = []

    def meddled(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            return step(*arguments, **named)
        if before:
            withdraw_one(store, chosen)
        result = step(*arguments, **named)
        if not before:
            withdraw_one(store, chosen)
        return result

    monkeypatch.setattr(publishing, moment, meddled)
    version, _ = run_toy(pipeline(items(range(15))), store)
    newest = read_version(store, "toy")
    assert chosen not in packed(store, newest)
    seen = [number for number in version_numbers(store, "toy") if number > 1]
    holding = [number for number in seen if chosen in packed(store, read_version(store, "toy", number))]
    # A version that was visible before the withdrawal still holds it, and is followed by one that does not.
    after_the_manifest = moment == "publish" and not before
    assert holding == ([version.number] if after_the_manifest else [])
    assert not after_the_manifest or newest.number > version.number
    assert not any(wrong for _, wrong in verify(store, newest))
    assert set(packed(store, newest)) == set(packed(store, version)) - {chosen}


def test_twenty_withdrawals_against_runs_at_once_bring_nothing_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chosen = sorted(packed(store, version_of(store, 24)))[:20]
    errors: list[BaseException] = []

    def guarded(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    def runs() -> None:
        for count in range(25, 30):
            version_of(store, count)

    def withdrawals(mine: Sequence[str]) -> None:
        for row_id in mine:
            withdraw_one(store, row_id)

    acts = (runs, lambda: withdrawals(chosen[::2]), lambda: withdrawals(chosen[1::2]))
    threads = [Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    newest = read_version(store, "toy")
    assert not set(chosen) & set(packed(store, newest)) and newest.withdrawn == sorted(chosen)
    last = version_of(store, 31)
    assert not set(chosen) & set(packed(store, last)) and last.withdrawn == sorted(chosen)
    assert not any(wrong for _, wrong in verify(store, last))


def test_a_claim_that_was_made_void_is_no_version_and_its_number_is_not_used_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version_of(store)
    number = claim_number(store, "toy", "content", 1)
    void_claims(store, "toy")
    void_claims(store, "toy")
    assert version_numbers(store, "toy") == [1] and read_version(store, "toy").number == 1
    assert claim_number(store, "toy", "content", 1) == number + 1
