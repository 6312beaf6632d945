"""Withdrawals: rows and sources that no version from now on may hold. They are for good."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import StoreError
from curation.hashing import digest
from curation.sealing import seal, typed, unseal
from curation.store.objects import Store

REASON = "withdrawn"
"""In the ledger, for a row that was withdrawn."""


class WithdrawnSince(StoreError):
    """Something was withdrawn after a run, or another withdrawal, had read what was; it begins again."""


REMEDY = "restore it: it says what must stay out"


@dataclass(frozen=True)
class WithdrawalRecord:
    """One withdrawal, as it is kept: what was asked for, the source if it was one, and the rows that it takes along."""

    asked: str
    source: str | None
    ids: list[str]


@dataclass(frozen=True)
class Withdrawn:
    """All that was withdrawn from a dataset.

    Attributes:
        asked: ids and URIs as they were asked for, sorted.
        ids: those, and the ids of all rows that were made of them.
        uris: of sources, as the rows' `uri` or `url` has them.
    """

    asked: tuple[str, ...] = ()
    ids: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.asked)

    def among(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which rows of a table were withdrawn: by their id, their file, or where they were downloaded from."""
        found = pc.is_in(rows["row_id"], pa.array(sorted(self.ids), pa.string()))
        for name in ("uri", "url"):
            if name in rows.column_names and self.uris:
                found = pc.or_(found, pc.is_in(rows[name], pa.array(sorted(self.uris), pa.string())))
        return found


def withdrawn_from(store: Store, dataset: str) -> Withdrawn:
    """Everything that was ever withdrawn from a dataset.

    Raises:
        StoreError: a record is damaged; nothing can be run before it is whole again.
    """
    names = store.names(f"{dataset}/_withdrawn")
    return _withdrawn(store.root, dataset, tuple(names)) if names else Withdrawn()


def record_withdrawal(store: Store, dataset: str, *, source: str | None, ids: Iterable[str]) -> None:
    """Put a withdrawal on record, for all runs to come.

    Args:
        source: the URI that was asked for; None where it was a row.
        ids: the first is the row that was asked for, where there is no source.
    """
    withdrawn = list(ids)
    record = WithdrawalRecord(source or withdrawn[0], source, sorted(withdrawn))
    data = seal(asdict(record))
    name = f"{dataset}/_withdrawn/{digest(asdict(record))}.json"
    if not store.ensure(name, data):
        raise StoreError(f"{name} is damaged: {REMEDY}")


def withdrawal_records(store: Store, dataset: str) -> list[WithdrawalRecord]:
    """All withdrawals of a dataset, one by one."""
    return [read_withdrawal(store, name) for name in store.names(f"{dataset}/_withdrawn")]


def read_withdrawal(store: Store, name: str) -> WithdrawalRecord:
    """One record.

    Raises:
        StoreError: it is damaged.
    """
    return typed(WithdrawalRecord, unseal(store.read(name), name, REMEDY), name)


@lru_cache(maxsize=4)
def _withdrawn(root: str, dataset: str, names: tuple[str, ...]) -> Withdrawn:
    """A record never changes, so its name stands for it."""
    records = withdrawal_records(Store(root), dataset)
    return Withdrawn(
        asked=tuple(sorted({record.asked for record in records})),
        ids=frozenset(row_id for record in records for row_id in record.ids),
        uris=frozenset(record.source for record in records if record.source is not None),
    )
