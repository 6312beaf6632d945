"""Indexes over a subset's shards: our own, in Parquet, and the files with which Energon opens the folder as it is.

Energon's are those that its `prepare` command writes for a `CrudeWebdataset` (megatron-energon 7): shard counts,
splits, a binary offset file beside each tar, and an SQLite index that joins of data sets use.
"""

import io
import json
import sqlite3
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from curation.errors import StageError, StoreError
from curation.hashing import bytes_digest
from curation.store.tar_shards import MAX_PART_BYTES, IndexRow, Part, shard_split
from schemas.shards import SHARD_INDEX

ROW_GROUP_ROWS = 65_536
ZSTD_LEVEL = 3
SQLITE_VERSION_FIELD = slice(96, 100)
"""Where an SQLite file names the library that last wrote it; readers ignore it."""

ENERGON_TABLES = """
CREATE TABLE samples (
    tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE, sample_index INTEGER NOT NULL,
    byte_offset INTEGER, byte_size INTEGER
);
CREATE TABLE sample_parts (
    tar_file_id INTEGER, sample_index INTEGER, part_name TEXT, content_byte_offset INTEGER, content_byte_size INTEGER
);
"""
ENERGON_INDEXES = """
CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
CREATE INDEX idx_sample_parts_seq ON sample_parts(tar_file_id, sample_index, content_byte_offset);
CREATE INDEX idx_sample_parts_full
    ON sample_parts(tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size);
"""


def index_table(shard: str, rows: Sequence[IndexRow], columns: pa.Table) -> pa.Table:
    """The index of one shard.

    Args:
        shard: file name of the tar.
        rows: as `write_shard` returns them.
        columns: one row per sample, in the same order: `row_id`, and what else readers select by.

    Raises:
        StageError: the columns are of other samples than the shard, or bear names that the index has itself.
    """
    own = [name for name in SHARD_INDEX.names if name != "row_id"]
    if taken := sorted(set(own) & set(columns.column_names)):
        raise StageError(f"index of {shard}: columns {taken} would hide the index's own")
    if columns.num_rows != len(rows) or "row_id" not in columns.column_names:
        raise StageError(f"index of {shard}: {len(rows)} samples, {columns.num_rows} rows of {columns.column_names}")
    values: dict[str, list[Any]] = {
        "key": [row.key for row in rows],
        "shard": [shard] * len(rows),
        "row_id": columns["row_id"].to_pylist(),
        "offset": [row.offset for row in rows],
        "size": [row.size for row in rows],
        "parts": [[vars(part) for part in row.parts] for row in rows],
    }
    table = pa.table(values, schema=SHARD_INDEX)
    for field in columns.schema:
        if field.name != "row_id":
            table = table.append_column(field, columns[field.name])
    return table


def subset_index(tables: Iterable[pa.Table]) -> pa.Table:
    """The index of a subset from those of its shards, in the order of the shards' names, however they come.

    Raises:
        StageError: a key that two samples of the subset share.
    """
    index = pa.concat_tables(tables).combine_chunks().sort_by([("shard", "ascending"), ("offset", "ascending")])
    if pc.count_distinct(index["key"]).as_py() != index.num_rows:
        counts = pc.value_counts(index["key"])
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
        raise StageError(f"{len(twice)} sample keys come twice in one subset, such as {sorted(twice)[0]}")
    return index


def index_rows(index: pa.Table, shard: str) -> list[IndexRow]:
    """The rows of one shard, as `verify_shard` takes them.

    Raises:
        StoreError: a sample whose place no shard can have: the index is of a stranger.
    """
    table = index.filter(pc.equal(index["shard"], shard)).select(["key", "offset", "size", "parts"])
    rows = []
    for row in table.to_pylist():
        parts = tuple(Part(**part) for part in row["parts"] or ())
        numbers = [row["offset"], row["size"], *(number for part in parts for number in (part.offset, part.size))]
        names = [row["key"], *(name for part in parts for name in (part.extension, part.xxh3))]
        if None in (*numbers, *names) or min(numbers) < 0 or any(part.size > MAX_PART_BYTES for part in parts):
            raise StoreError(
                f"the index of {shard} is damaged: sample {row['key']!r:.80} has a place that none can have"
            )
        rows.append(IndexRow(row["key"], row["offset"], row["size"], parts))
    return rows


def index_bytes(index: pa.Table) -> bytes:
    """A table as Parquet. The same rows give the same bytes, however they are chunked (under one version of Arrow)."""
    sink = io.BytesIO()
    pq.write_table(
        index.combine_chunks(),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=ZSTD_LEVEL,
    )
    return sink.getvalue()


def energon_files(
    index: pa.Table, *, subflavors: Mapping[str, str] | None = None, joinable: bool = True
) -> dict[str, bytes]:
    """The files that make a subset's folder a prepared Energon data set, by path in that folder.

    Args:
        index: of the subset, as `subset_index` returns it.
        subflavors: tags of every sample, by which a task encoder picks its cooker.
        joinable: write `index.sqlite`, which only joins and lookups by key need; it takes some 100 bytes per part.
    """
    shards = _by_shard(index)
    counts = {name: rows.num_rows for name, rows in shards.items()}
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in counts:
        splits.setdefault(energon_split(shard_split(name)), []).append(name)
    files = {f"{name}.idx": _offsets(rows) for name, rows in shards.items()}
    files[".nv-meta/.info.json"] = json.dumps({"shard_counts": counts}, indent=2).encode()
    files[".nv-meta/split.yaml"] = _yaml({"split_parts": splits, "exclude": []})
    files[".nv-meta/dataset.yaml"] = _yaml(
        {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
        | ({"subflavors": dict(subflavors)} if subflavors else {})
    )
    if joinable:
        database = _sqlite(list(shards.values()))
        files[".nv-meta/index.sqlite"] = database
        # Energon names its index by a random id, to know a changed one; made from content it does that too.
        files[".nv-meta/index.uuid"] = str(uuid.UUID(bytes_digest(database))).encode()
    return files


def energon_split(split: str) -> str:
    """What Energon calls a split."""
    return "val" if split == "validation" else split


def _by_shard(index: pa.Table) -> dict[str, pa.Table]:
    """The rows of each shard, in order. Those of one shard are neighbours in a subset's index."""
    shards: dict[str, pa.Table] = {}
    start = 0
    for count in pc.value_counts(index["shard"].combine_chunks()).to_pylist():
        shards[count["values"]] = index.slice(start, count["counts"])
        start += count["counts"]
    return shards


def _offsets(rows: pa.Table) -> bytes:
    """Where each sample of a shard begins, and where the last one ends, as little-endian uint64."""
    starts = rows["offset"].to_pylist()
    end = starts[-1] + rows["size"][-1].as_py()
    return struct.pack(f"<{len(starts) + 1}Q", *starts, end)


def _sqlite(shards: Sequence[pa.Table]) -> bytes:
    with_samples = "INSERT INTO samples VALUES (?, ?, ?, ?, ?)"
    with_parts = "INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)"
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(ENERGON_TABLES)
        for number, rows in enumerate(shards):
            database.executemany(with_samples, _sample_records(number, rows))
            database.executemany(with_parts, _part_records(number, rows))
        database.executescript(ENERGON_INDEXES)
        database.commit()
        content = bytearray(database.serialize())
    finally:
        database.close()
    content[SQLITE_VERSION_FIELD] = (3_000_000).to_bytes(4, "big")
    return bytes(content)


def _sample_records(number: int, rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    columns = [rows[name].to_pylist() for name in ("key", "offset", "size")]
    for place, (key, offset, size) in enumerate(zip(*columns, strict=True)):
        yield number, key, place, offset, size


def _part_records(number: int, rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    for place, parts in enumerate(rows["parts"].to_pylist()):
        for part in parts:
            yield number, place, part["extension"], part["offset"], part["size"]


def _yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, sort_keys=False).encode()
