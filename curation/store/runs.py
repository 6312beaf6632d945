"""Runs of a dataset, as they began and as they ended. For people: nothing of them goes into a version."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

from curation.sealing import seal, typed, unseal
from curation.store.objects import Store

REMEDY = "delete it; nothing depends on it"


@dataclass(frozen=True)
class RunRecord:
    """One run. `ended` and `outcome` are empty for one that is going on, or that was killed.

    Attributes:
        token: random, so that two runs that begin alike in one second do not take one number.
    """

    number: int
    recipe: str
    began: str
    token: str
    ended: str = ""
    outcome: str = ""


def begin_run(store: Store, dataset: str, recipe: str) -> RunRecord:
    """Take the next number and say that a run begins."""
    number = max((record.number for record in runs(store, dataset)), default=0)
    while True:
        number += 1
        record = RunRecord(number, recipe, _now(), uuid4().hex)
        if store.create(f"{dataset}/_runs/{number}.began.json", seal(asdict(record))):
            return record


def end_run(store: Store, dataset: str, record: RunRecord, outcome: str) -> None:
    """Say how a run ended: the version that it made, or the error in a line."""
    ended = asdict(record) | {"ended": _now(), "outcome": outcome}
    store.create(f"{dataset}/_runs/{record.number}.ended.json", seal(ended))


def runs(store: Store, dataset: str) -> list[RunRecord]:
    """All runs of a dataset, in the order in which they began."""
    found: dict[int, RunRecord] = {}
    for name in store.names(f"{dataset}/_runs"):  # "1.began.json" comes before "1.ended.json"
        record = read_run(store, name)
        found[record.number] = record
    return [found[number] for number in sorted(found)]


def read_run(store: Store, name: str) -> RunRecord:
    """One record, as it was put at the beginning or the end of a run.

    Raises:
        StoreError: it is damaged.
    """
    return typed(RunRecord, unseal(store.read(name), name, REMEDY), name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
