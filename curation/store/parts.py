"""Parts: what a unit of work left behind. Data first, under names made from content; the receipt last, put if absent.

A unit whose receipt is there is done. Resume, retry and idempotence are this one rule.
"""

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curation.errors import StoreError
from curation.hashing import bytes_digest
from curation.store.objects import Store, parquet_bytes

PAYLOAD = "payload"
"""The column of a chain's last stage whose bytes go to the part's blob."""

PAYLOAD_PLACE = pa.struct([pa.field("offset", pa.int64()), pa.field("size", pa.int64()), pa.field("xxh3", pa.string())])


@dataclass(frozen=True)
class PartFile:
    """One object of a part."""

    path: str
    size: int
    xxh3: str
    rows: int = 0


@dataclass(frozen=True)
class Receipt:
    """Says that a unit is done: its files with their hashes, and what became of its rows.

    Attributes:
        files: by role: rows, ledger, lineage, blob, shard, index.
        counts: ledger rows by kind and verdict.
        rows_in: rows that came in.
        made: rows that were made of them, by kind.
        timings: CPU seconds by stage; informative, no part of any version.
    """

    node: str
    part: str
    files: dict[str, PartFile]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    rows_in: int = 0
    made: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """What a version records of it: everything that is the same for every runner and every run."""
        return {name: value for name, value in asdict(self).items() if name != "timings"}


def receipt_path(part: str) -> str:
    return f"{part}/receipt.json"


def find_receipt(store: Store, part: str) -> Receipt | None:
    """The receipt of a part, or None if the unit is not done."""
    path = receipt_path(part)
    return parse_receipt(store.read(path), path) if store.exists(path) else None


def parse_receipt(data: bytes, path: str) -> Receipt:
    """Raises StoreError, naming the receipt, if it is damaged."""
    try:
        value = json.loads(data)
        value["files"] = {role: PartFile(**file) for role, file in value["files"].items()}
        return Receipt(**value)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete that folder and run again") from error


def put_part(store: Store, receipt: Receipt) -> Receipt:
    """Put the receipt if absent; if another worker was first, its receipt stands and is returned."""
    data = json.dumps(asdict(receipt), sort_keys=True, indent=1).encode()
    path = receipt_path(receipt.part)
    return receipt if store.create(path, data) else parse_receipt(store.read(path), path)


def put_table(store: Store, part: str, role: str, table: pa.Table) -> PartFile:
    """Put a table beside its part."""
    return put_bytes(store, part, role, ".parquet", parquet_bytes(table), table.num_rows)


def put_bytes(store: Store, part: str, role: str, suffix: str, data: bytes, rows: int = 0) -> PartFile:
    """Put bytes beside a part, under a name made from their hash, so that no two workers write one name differently."""
    xxh3 = bytes_digest(data)
    path = f"{part}/{role}-{xxh3[:16]}{suffix}"
    store.create(path, data)
    return PartFile(path, len(data), xxh3, rows)


def split_payloads(rows: pa.Table) -> tuple[pa.Table, bytes]:
    """Take the payload column out of a table, to one blob; the rows keep where their bytes lie in it."""
    if PAYLOAD not in rows.column_names:
        return rows, b""
    column = rows[PAYLOAD].combine_chunks().cast(pa.large_binary())
    _, offsets, buffer = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    first, last = (int(ends[0]), int(ends[-1])) if len(column) else (0, 0)
    data = memoryview(buffer or b"")[first:last]
    places = [
        None if missing else {"offset": start, "size": end - start, "xxh3": bytes_digest(data[start:end])}
        for missing, (start, end) in zip(column.is_null().to_pylist(), pairwise((ends - first).tolist()), strict=True)
    ]
    place = rows.column_names.index(PAYLOAD)
    return rows.set_column(place, PAYLOAD, pa.array(places, PAYLOAD_PLACE)), bytes(data)
