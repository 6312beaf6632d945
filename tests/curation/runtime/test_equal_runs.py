"""Equal runs at once make one version, whoever is first; runs that differ make one each."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from curation.audit.verification import verify
from curation.runtime import publishing
from curation.store.objects import Store
from curation.store.versions import claim_number, read_version, version_numbers
from tests.support.toy import items, pipeline, run_toy

RUNS, ROUNDS = 4, 10


def equal_runs(roots: list[str], together: Barrier, answers: "multiprocessing.Queue[tuple[int, bool]]") -> None:
    """In a process of its own: the same run in each store, when all others are ready to publish in it."""
    newest = publishing._newest

    def slow_look(store: Store, dataset: str) -> object:
        found = newest(store, dataset)
        if not version_numbers(store, dataset):
            together.wait(60)  # everybody has seen that there is no version yet
        return found

    for root in roots:
        looks = iter([slow_look])
        publishing._newest = lambda store, name, looks=looks: next(looks, newest)(store, name)  # type: ignore[assignment]
        version, is_new = run_toy(pipeline(items(range(12))), Store(root))
        answers.put((version.number, is_new))


def race(roots: list[str]) -> list[tuple[int, bool]]:
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(RUNS), context.Queue()
    processes = [context.Process(target=equal_runs, args=(roots, together, answers)) for _ in range(RUNS)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in range(RUNS * len(roots))]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return found


def test_equal_runs_at_once_make_one_version(tmp_path: Path) -> None:
    roots = [str(tmp_path / str(number)) for number in range(ROUNDS)]
    found = race(roots)
    assert {number for number, _ in found} == {1}
    assert sum(is_new for _, is_new in found) == ROUNDS
    for root in roots:
        assert version_numbers(Store(root), "toy") == [1]
        assert not any(wrong for _, wrong in verify(Store(root), read_version(Store(root), "toy")))


def test_on_an_object_store_too(s3: str) -> None:
    roots = [f"{s3}/equal-{number}" for number in range(3)]
    found = race(roots)
    # Who put the manifest cannot be told from who finds it there: the answer to a put may be lost.
    assert {number for number, _ in found} == {1} and sum(is_new for _, is_new in found) >= len(roots)
    assert [version_numbers(Store(root), "toy") for root in roots] == [[1]] * len(roots)


def test_what_a_killed_run_had_claimed_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publishing, "publish", killed)
        run_toy(pipeline(items(range(12))), store)
    assert version_numbers(store, "toy") == []
    version, is_new = run_toy(pipeline(items(range(12))), store)
    assert (version.number, is_new) == (1, True)


def test_a_dataset_that_comes_back_to_an_older_content_gets_a_new_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    numbers = [run_toy(pipeline(items(range(count))), store)[0].number for count in (12, 16, 12)]
    assert numbers == [1, 2, 3]


def test_two_contents_never_share_a_number(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert claim_number(store, "toy", "other", 0) == 1
    version, is_new = run_toy(pipeline(items(range(12))), store)
    assert (version.number, is_new) == (2, True)
