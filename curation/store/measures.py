"""Costly measures, kept by what they were made from: a changed limit or a new neighbour computes nothing again."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.hashing import digest
from curation.stage import Stage
from curation.store.objects import Store, parquet_bytes


class Measures:
    """Finds and keeps the columns of costly stages. One per process; its index is read once per stage.

    The index is an Arrow table of keys and the numbers of their objects: some 40 bytes a measure.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._indexes: dict[str, pa.Table] = {}
        self._paths: dict[str, list[str]] = {}

    def find(self, stage: Stage, keys: Sequence[str]) -> pa.Table | None:
        """Columns `key` and `stage.writes` of the known keys, one row each; None if none is known."""
        folder, index = self._index(stage)
        wanted = pa.array(sorted(set(keys)), pa.string())
        hits = index.filter(pc.is_in(index["key"], wanted))
        if not hits.num_rows:
            return None
        tables = []
        found: set[str] = set()
        for number in sorted(set(hits["object"].to_pylist())):
            table = self._store.read_table(self._paths[folder][number])
            table = table.filter(pc.is_in(table["key"], wanted))
            fresh = [key not in found for key in table["key"].to_pylist()]
            tables.append(table.filter(pa.array(fresh, pa.bool_())))
            found.update(table["key"].to_pylist())
        return pa.concat_tables(tables, promote_options="default")

    def keep(self, stage: Stage, rows: pa.Table) -> None:
        """Keep a stage's columns of rows that have their `key`, as one object."""
        if not rows.num_rows:
            return
        folder, index = self._index(stage)
        keys = rows["key"].to_pylist()
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        once = rows.select(["key", *stage.writes]).take(sorted(first.values()))
        path = f"{folder}/{digest(sorted(keys))}.parquet"
        self._store.create(path, parquet_bytes(once))
        self._paths[folder].append(path)
        entries = _entries(once["key"], len(self._paths[folder]) - 1)
        self._indexes[folder] = pa.concat_tables([index, entries])

    def _index(self, stage: Stage) -> tuple[str, pa.Table]:
        folder = f"measures/{stage.name}-{stage.fingerprint()}"
        if folder not in self._indexes:
            paths = self._store.names(folder)
            tables = [
                _entries(self._store.read_table(path, ["key"])["key"], number) for number, path in enumerate(paths)
            ]
            self._paths[folder] = paths
            self._indexes[folder] = pa.concat_tables([_entries(pa.array([], pa.string()), 0), *tables])
        return folder, self._indexes[folder]


def _entries(keys: pa.Array | pa.ChunkedArray, number: int) -> pa.Table:
    return pa.table({"key": keys, "object": pa.array([number] * len(keys), pa.int32())})
