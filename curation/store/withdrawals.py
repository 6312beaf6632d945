"""Withdrawals: rows and sources that no version from now on may hold. They are for good."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import StoreError
from curation.hashing import digest
from curation.store.objects import Store

REASON = "withdrawn"
"""In the ledger, for a row that was withdrawn."""


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
    return _withdrawn(store.root, tuple(names)) if names else Withdrawn()


def record_withdrawal(store: Store, dataset: str, *, source: str | None, ids: Iterable[str]) -> None:
    """Put a withdrawal on record, for all runs to come.

    Args:
        source: the URI that was asked for; None where it was a row.
        ids: the first is the row that was asked for, where there is no source.
    """
    withdrawn = list(ids)
    value = {"asked": source or withdrawn[0], "source": source, "ids": sorted(withdrawn)}
    data = json.dumps(value, sort_keys=True, indent=1).encode()
    store.create(f"{dataset}/_withdrawn/{digest(value)}.json", data)


@lru_cache(maxsize=4)
def _withdrawn(root: str, names: tuple[str, ...]) -> Withdrawn:
    """A record never changes, so its name stands for it."""
    store = Store(root)
    asked, ids, uris = set(), set(), set()
    for name in names:
        try:
            value = json.loads(store.read(name))
            asked.add(str(value["asked"]))
            ids |= set(value["ids"])
            uris |= {value["source"]} - {None}
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{name} is damaged ({error}): restore it, it says what must stay out") from error
    return Withdrawn(tuple(sorted(asked)), frozenset(ids), frozenset(uris))
