"""Costly measures, kept by what they were made from: a changed limit or a new neighbour computes nothing again."""

from collections.abc import Sequence

import pyarrow as pa

from curation.hashing import digest
from curation.stage import Stage
from curation.store.objects import Store, parquet_bytes


class Measures:
    """Finds and keeps the columns of costly stages. One per process; its index is read once per stage."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._where: dict[str, dict[str, str]] = {}

    def find(self, stage: Stage, keys: Sequence[str]) -> pa.Table | None:
        """Columns `key` and `stage.writes` of the known keys, one row each; None if none is known."""
        index = self._index(stage)
        wanted = {key for key in keys if key in index}
        if not wanted:
            return None
        tables = []
        for path in sorted({index[key] for key in wanted}):
            table = self._store.read_table(path)
            here = [key in wanted and index[key] == path for key in table["key"].to_pylist()]
            tables.append(table.filter(pa.array(here)))
        return pa.concat_tables(tables, promote_options="default")

    def keep(self, stage: Stage, rows: pa.Table) -> None:
        """Keep a stage's columns of rows that have their `key`, as one object."""
        if not rows.num_rows:
            return
        keys = rows["key"].to_pylist()
        path = f"{self._folder(stage)}/{digest(sorted(keys))}.parquet"
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        self._store.create(path, parquet_bytes(rows.select(["key", *stage.writes]).take(sorted(first.values()))))
        self._index(stage).update(dict.fromkeys(keys, path))

    def _folder(self, stage: Stage) -> str:
        return f"measures/{stage.name}-{stage.fingerprint()}"

    def _index(self, stage: Stage) -> dict[str, str]:
        folder = self._folder(stage)
        if folder not in self._where:
            self._where[folder] = {}
            for path in self._store.names(folder):
                for key in self._store.read_table(path, ["key"])["key"].to_pylist():
                    self._where[folder].setdefault(key, path)
        return self._where[folder]
