"""Runs of a dataset, as they began and as they ended. For people: nothing of them goes into a version."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from curation.errors import StoreError
from curation.store.objects import Store


@dataclass(frozen=True)
class RunRecord:
    """One run. `ended` and `outcome` are empty for one that is going on, or that was killed."""

    number: int
    recipe: str
    began: str
    ended: str = ""
    outcome: str = ""


def begin_run(store: Store, dataset: str, recipe: str) -> RunRecord:
    """Take the next number and say that a run begins."""
    number = max((record.number for record in runs(store, dataset)), default=0)
    while True:
        number += 1
        record = RunRecord(number, recipe, _now())
        if store.create(f"{dataset}/_runs/{number}.began.json", json.dumps(asdict(record)).encode()):
            return record


def end_run(store: Store, dataset: str, record: RunRecord, outcome: str) -> None:
    """Say how a run ended: the version that it made, or the error in a line."""
    ended = asdict(record) | {"ended": _now(), "outcome": outcome}
    store.create(f"{dataset}/_runs/{record.number}.ended.json", json.dumps(ended).encode())


def runs(store: Store, dataset: str) -> list[RunRecord]:
    """All runs of a dataset, in the order in which they began."""
    found: dict[int, RunRecord] = {}
    for name in store.names(f"{dataset}/_runs"):  # "1.began.json" comes before "1.ended.json"
        try:
            record = RunRecord(**json.loads(store.read(name)))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{name} is damaged ({error}); delete it, nothing depends on it") from error
        found[record.number] = record
    return [found[number] for number in sorted(found)]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
