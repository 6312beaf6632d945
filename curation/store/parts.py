"""Parts: what a unit of work left behind. Data first, under names made from content; the receipt last, put if absent.

A unit whose receipt is there is done. Resume, retry and idempotence are this one rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curation.errors import StoreError
from curation.hashing import bytes_digest
from curation.sealing import seal, typed, unseal
from curation.store.objects import Store, content_name, damaged, object_name, parquet_bytes
from schemas.fields import field as column
from schemas.ledger import FORMER_NAMES, LEDGER, LINEAGE
from schemas.rows import ROW
from schemas.shards import SHARD_INDEX

PAYLOAD = "payload"
"""The column of a chain's last stage whose bytes go to the part's blob."""

BLOB = "blob"
"""The role of the object that payloads lie in."""

PAYLOAD_PLACE = pa.struct([pa.field("offset", pa.int64()), pa.field("size", pa.int64()), pa.field("xxh3", pa.string())])


@dataclass(frozen=True)
class PartFile:
    """One object of a part, or of a version's folder, with the xxh3-128 that it was written with, in hex."""

    path: str
    size: int
    xxh3: str
    rows: int = 0


COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "ledger": ("lineage",),
    "lineage": ("ledger",),
    "shard": ("index",),
    BLOB: ("rows",),
}
"""What a part has besides a file of some role."""

ROWS = pa.schema(
    [
        *(one.with_nullable(True) for one in ROW),  # what is read without them is a question's, which has its own error
        column("verdict", pa.string(), "what became of it"),
        column("digest", pa.string(), "hash of the row; null where it was not kept"),
    ]
)
EXPECTED: Mapping[str, pa.Schema] = {"ledger": LEDGER, "lineage": LINEAGE, "rows": ROWS, "index": SHARD_INDEX}
"""Columns that a part's tables have at least, by role. Whoever wrote a store may have left out, or put in, anything."""

ROW_IDS = pa.schema([column("row_id", pa.string(), "the row that it is about")])
"""Of all other tables, such as those of a reduce: these, if they are about rows."""

SHARD_DETAILS = {"subset": str, "sha256": str, "samples": int}
"""What the receipt of a shard says of it besides."""
INFORMATIVE = ("timings", "remarks")
"""Fields of a receipt that differ between runs which do the same."""


@dataclass(frozen=True)
class Receipt:
    """Says that a unit is done: its files with their hashes, and what became of its rows.

    Attributes:
        files: by role: rows, ledger, lineage, blob, shard, index.
        counts: ledger rows by kind and verdict.
        rows_in: rows that came in.
        made: rows that were made of them, by kind.
        timings: CPU seconds by stage; informative, no part of any version.
        remarks: what a person should know of how it was done (damage that was repaired); no part of any version.
    """

    node: str
    part: str
    files: dict[str, PartFile]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    rows_in: int = 0
    made: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        """What a version records of it: everything that is the same for every runner and every run."""
        return {name: value for name, value in asdict(self).items() if name not in INFORMATIVE}


def receipt_path(part: str) -> str:
    return f"{part}/receipt.json"


def find_receipt(store: Store, part: str) -> Receipt | None:
    """The receipt of a part, or None if the unit is not done."""
    path = receipt_path(part)
    return parse_receipt(store.read(path), path) if store.exists(path) else None


def parse_receipt(data: bytes, path: str) -> Receipt:
    """A receipt as it was put.

    Raises:
        StoreError: naming the receipt, if it is damaged, or lies elsewhere than its part.
    """
    value = unseal(data, path, f"delete {path.removesuffix('/receipt.json')} and run again to compute it again")
    receipt = checked_receipt(typed(Receipt, value, path), path)
    if receipt_path(receipt.part) != path:
        raise StoreError(f"{path} is damaged: it is the receipt of {receipt.part!r}")
    return receipt


def checked_receipt(receipt: Receipt, where: str) -> Receipt:
    """The receipt itself, if its part and files lie where parts lie.

    Raises:
        StoreError: naming what holds the receipt, and the path that leads elsewhere.
    """
    try:
        steps = object_name(receipt.part).split("/")
        if len(steps) != 3 or steps[0] != "parts":
            raise StoreError(f"{receipt.part!r} is no part")
        for role, file in receipt.files.items():
            if not object_name(file.path).startswith(f"{receipt.part}/{role}-"):
                raise StoreError(f"{file.path!r} is no {role} of {receipt.part}")
            if not file.xxh3:
                raise StoreError(f"{file.path} has no checksum")
        for role, others in COMPANIONS.items():
            if role in receipt.files and (lacking := [name for name in others if name not in receipt.files]):
                raise StoreError(f"{receipt.part} has a {role} without {lacking[0]}")
        for name, kind in SHARD_DETAILS.items() if "shard" in receipt.files else ():
            if not isinstance(receipt.details.get(name), kind):
                raise StoreError(f"the details of {receipt.part} have no {name}")
    except StoreError as error:
        raise StoreError(f"{where} is damaged: {error}") from error
    return receipt


def put_part(store: Store, receipt: Receipt) -> Receipt:
    """Say that a unit is done. All its files must be there. If another worker was first, its receipt stands and is
    returned."""
    path = receipt_path(receipt.part)
    return receipt if store.create(path, seal(asdict(receipt))) else parse_receipt(store.read(path), path)


def read_part_table(
    store: Store, file: PartFile, columns: list[str] | None = None, row_ids: Sequence[str] | None = None
) -> pa.Table:
    """A table of a part, compared with its checksum (see `Store.read_table`), its columns as its role has them."""
    table = store.read_table(file.path, columns, row_ids, xxh3=file.xxh3)
    check_columns(table.schema, file.path, columns)
    check_present(table, file.path)
    return table


def check_columns(schema: pa.Schema, path: str, columns: Sequence[str] | None = None, role: str = "") -> None:
    """Make sure that a part's table has the columns of its role, of their types.

    Args:
        columns: those that were read; all if None.
        role: of the table; as its name begins if it is not given.

    Raises:
        StoreError: naming the table and the column.
    """
    former = {new: old for old, new in FORMER_NAMES.items()}
    for one in EXPECTED.get(role or _role(path), ROW_IDS):
        name = one.name if one.name in schema.names else former.get(one.name, one.name)
        if name not in schema.names:
            if not one.nullable if columns is None else one.name in columns:
                raise StoreError(f"{path} is damaged: it has no column {one.name!r}")
        elif len(schema.get_all_field_indices(name)) > 1:
            raise StoreError(f"{path} is damaged: it has two columns {name!r}")
        elif not _alike(found := schema.field(name).type, one.type):
            raise StoreError(f"{path} is damaged: its column {name!r} is {found}, not {one.type}")


def check_present(table: pa.Table, path: str) -> None:
    """Make sure that no row of a part's table lacks what every row of its role has.

    Raises:
        StoreError: naming the table and the column.
    """
    for one in EXPECTED.get(_role(path), ()):
        if not one.nullable and one.name in table.column_names and table[one.name].null_count:
            raise StoreError(f"{path} is damaged: a row of it has no {one.name!r}")


def _role(path: str) -> str:
    return path.rpartition("/")[2].partition("-")[0]


def _alike(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether a column can be used as one of another type: equal, or both texts."""
    texts = (pa.types.is_string, pa.types.is_large_string)
    return bool(found == expected or all(any(is_text(type_) for is_text in texts) for type_ in (found, expected)))


def put_table(store: Store, part: str, role: str, table: pa.Table) -> PartFile:
    """Put a table beside its part."""
    return put_bytes(store, part, role, ".parquet", parquet_bytes(table), table.num_rows)


def put_bytes(store: Store, part: str, role: str, suffix: str, data: bytes, rows: int = 0) -> PartFile:
    """Put bytes beside a part, under a name made from their hash, so that no two workers write one name differently."""
    xxh3 = bytes_digest(data)
    path = content_name(part, role, suffix, xxh3)
    if not store.ensure(path, data):
        raise damaged(path, store.root)
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
