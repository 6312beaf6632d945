"""Costly measures, kept by what they were made from: a changed limit or a new neighbour computes nothing again."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import StoreError
from curation.hashing import bytes_digest, digest
from curation.stage import Stage
from curation.store.objects import Store, damaged, parquet_bytes

SUFFIX = ".parquet"
CHECKSUM = re.compile(r"-([0-9a-f]{32})\.parquet$")


class Measures:
    """Finds and keeps the columns of costly stages. One per process; its index is read once per stage.

    The index is an Arrow table of keys and the numbers of their objects: some 40 bytes a measure. An object is named by
    its keys and by its content, and compared with its name before anything of it is used. A damaged one is deleted, and
    what it held is measured again.

    Attributes:
        remarks: what was found damaged since somebody last took them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._indexes: dict[str, pa.Table] = {}
        self._paths: dict[str, list[str]] = {}
        self.remarks: list[str] = []

    def find(self, stage: Stage, keys: Sequence[str]) -> pa.Table | None:
        """Columns `key` and `stage.writes` of the known keys, one row each; None if none is known."""
        folder, index = self._index(stage)
        wanted = pa.array(sorted(set(keys)), pa.string())
        hits = index.filter(pc.is_in(index["key"], wanted))
        tables = []
        found: set[str] = set()
        for number in sorted(set(hits["object"].to_pylist())):
            table = self._read(folder, number)
            if table is None:
                continue
            table = table.filter(pc.is_in(table["key"], wanted))
            fresh = [key not in found for key in table["key"].to_pylist()]
            tables.append(table.filter(pa.array(fresh, pa.bool_())))
            found.update(table["key"].to_pylist())
        return pa.concat_tables(tables, promote_options="default") if found else None

    def keep(self, stage: Stage, rows: pa.Table) -> None:
        """Keep a stage's columns of rows that have their `key`, as one object."""
        if not rows.num_rows:
            return
        folder, index = self._index(stage)
        keys = rows["key"].to_pylist()
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        data = parquet_bytes(rows.select(["key", *stage.writes]).take(sorted(first.values())))
        path = f"{folder}/{digest(sorted(keys))}-{bytes_digest(data)}{SUFFIX}"
        if not self._store.create(path, data):
            self._drop(path)
            self._store.create(path, data)
        self._paths[folder].append(path)
        entries = _entries(pa.array(list(first), pa.string()), len(self._paths[folder]) - 1)
        self._indexes[folder] = pa.concat_tables([index, entries])

    def take_remarks(self) -> list[str]:
        """What was found damaged since the last call."""
        remarks, self.remarks = self.remarks, []
        return remarks

    def _read(self, folder: str, number: int) -> pa.Table | None:
        """An object of measures; None if it is damaged or gone, and then it is forgotten."""
        path = self._paths[folder][number]
        try:
            return read_measures(self._store, path)
        except StoreError as error:
            if self._store.exists(path):
                self._drop(path, str(error))
            index = self._indexes[folder]
            self._indexes[folder] = index.filter(pc.not_equal(index["object"], number))
            return None

    def _drop(self, path: str, why: str = "") -> None:
        self._store.delete(path)
        self.remarks.append(f"{why or f'{path} is damaged'}: deleted, and measured again")

    def _index(self, stage: Stage) -> tuple[str, pa.Table]:
        folder = f"measures/{stage.name}-{stage.fingerprint()}"
        if folder not in self._indexes:
            paths = self._store.names(folder)
            tables = [_entries(keys, number) for number, keys in enumerate(map(self._keys, paths))]
            self._paths[folder] = paths
            self._indexes[folder] = pa.concat_tables([_entries(pa.array([], pa.string()), 0), *tables])
        return folder, self._indexes[folder]

    def _keys(self, path: str) -> pa.ChunkedArray:
        """The keys of an object; none if it is damaged."""
        try:
            return read_measures(self._store, path, ["key"])["key"]
        except StoreError as error:
            if self._store.exists(path):
                self._drop(path, str(error))
            return pa.chunked_array([], pa.string())


def read_measures(store: Store, path: str, columns: list[str] | None = None) -> pa.Table:
    """One object of measures, or some columns of it.

    Raises:
        StoreError: it is not what its name says.
    """
    checksum = checksum_of(path)
    if checksum is None:
        raise damaged(path, store.root)
    return store.read_table(path, columns, xxh3=checksum)


def checksum_of(path: str) -> str | None:
    """The xxh3-128 that the name of an object of measures ends in; None for a name that has none."""
    found = CHECKSUM.search(path)
    return found and found[1]


def _entries(keys: pa.Array | pa.ChunkedArray, number: int) -> pa.Table:
    return pa.table({"key": keys, "object": pa.array([number] * len(keys), pa.int32())})
