"""A version without some rows and all that was made of them: parts and shards are copied without them.

No stage runs. What was found over the whole corpus (percentiles, clusters, quotas) stays as it was found.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.audit.views import open_views
from curation.errors import SourceError, StoreError
from curation.hashing import digest
from curation.runtime.chain import made_counts, verdict_counts
from curation.runtime.publishing import check_files, node_record, put_version, shard_records
from curation.sql import identifier
from curation.store.objects import Store
from curation.store.parts import (
    BLOB,
    PAYLOAD,
    PartFile,
    Receipt,
    find_receipt,
    put_bytes,
    put_part,
    put_table,
    read_part_table,
    split_payloads,
)
from curation.store.shard_index import index_table
from curation.store.tar_shards import write_shard
from curation.store.versions import NodeRecord, Version, read_version, void_claims
from curation.store.withdrawals import REASON, WithdrawnSince, record_withdrawal, withdrawal_records
from schemas.ledger import LEDGER, REJECTED, with_present_names
from schemas.shards import SHARD_INDEX


@dataclass(frozen=True)
class Withdrawal:
    """What is withdrawn from a version.

    Attributes:
        seeds: the rows that were asked for.
        ids: those, and all rows that were made of them.
    """

    source: str | None
    seeds: tuple[str, ...]
    ids: tuple[str, ...]


def find_withdrawal(
    views: duckdb.DuckDBPyConnection, version: Version, *, source: str | None = None, row_id: str | None = None
) -> Withdrawal:
    """The rows of a source, or one row, with everything that was made of them by the version's lineage.

    Args:
        source: a file as the ledger's `uri` has it, or where something was downloaded from (`url`).

    Raises:
        SourceError: the version has no such row.
    """
    if row_id is not None:
        seeds = _ids(views, "select row_id from ledger where row_id = $1", row_id)
    else:
        seeds = _ids(views, "select row_id from ledger where uri = $1", source)
        for node in version.nodes:
            columns = views.execute("select column_name from duckdb_columns() where table_name = $1", [node.name])
            if ("url",) in columns.fetchall():
                seeds += _ids(views, f"select row_id from {identifier(node.name)} where url = $1", source)
    if not seeds:
        asked = f"row {row_id!r}" if row_id is not None else f"source {source!r}, by its uri or url"
        raise SourceError(f"version {version.name} has no {asked}; the ledger (`curate audit`) lists rows and uris")
    family = """
        with recursive down(id) as (select unnest($1) union select child from down join lineage on parent = id)
        select id from down order by id
    """
    ids = [found[0] for found in views.execute(family, [sorted(set(seeds))]).fetchall()]
    # Rows that were made of others have their file's uri too; whoever goes with another was not asked for.
    made = set(_ids(views, "select child from lineage where list_contains($1, parent)", ids))
    return Withdrawal(source, tuple(sorted(set(seeds) - made)), tuple(ids))


def withdraw(store: Store, version: Version, withdrawal: Withdrawal) -> tuple[Version, list[str]]:
    """Make a version without these rows, and see to it that no run brings them back.

    The withdrawal is put on record first, then every claim of a run that may not have read it is made void: such a run
    begins to publish again, and reads it then. What was published until then is the version that is copied.

    Returns:
        The new version, and the paths of the shards that are another in it, or gone.
    """
    asked = withdrawal.source or withdrawal.seeds[0]
    record_withdrawal(store, version.dataset, source=withdrawal.source, ids=[asked, *withdrawal.ids])
    void_claims(store, version.dataset)
    while True:
        newest = read_version(store, version.dataset)
        found = withdrawal if newest == version else None
        try:
            return _version_without(store, newest, _outstanding(store, newest, found))
        except WithdrawnSince:
            continue


def _outstanding(store: Store, version: Version, known: Withdrawal | None) -> "_Outstanding":
    """All that is on record and not yet out of a version.

    Args:
        known: the one withdrawal whose rows in this version were found already.
    """
    records = [r for r in withdrawal_records(store, version.dataset) if r.asked not in version.withdrawn]
    asked, seeds, ids = set(version.withdrawn), set(known.seeds if known else ()), set(known.ids if known else ())
    views = open_views(store, version)
    for record in records:
        asked.add(record.asked)
        ids.update(record.ids)
        if known and record.asked == (known.source or known.seeds[0]):
            continue
        row_id = None if record.source else record.asked
        with suppress(SourceError):  # this version has nothing of it
            found = find_withdrawal(views, version, source=record.source, row_id=row_id)
            seeds.update(found.seeds)
            ids.update(found.ids)
    return _Outstanding(frozenset(asked), frozenset(seeds), frozenset(ids))


@dataclass(frozen=True)
class _Outstanding:
    """What a version shall be without: as it was asked for, the rows of that, and those with all made of them."""

    asked: frozenset[str]
    seeds: frozenset[str]
    ids: frozenset[str]


def _version_without(store: Store, version: Version, out: _Outstanding) -> tuple[Version, list[str]]:
    ids = pa.array(sorted(out.ids), pa.string())
    told: set[str] = set()
    nodes: list[NodeRecord] = []
    packs: list[Receipt] = []
    for node in version.nodes:
        receipts = []
        for receipt in version.receipts(node.name):
            left = _without(store, receipt, ids, set(out.seeds), told)
            receipts += [] if left is None else [left]
        packs += [receipt for receipt in receipts if "shard" in receipt.files]
        nodes.append(node_record(node.name, node.fingerprint, receipts, store))
        check_files(receipts, store)
    shards = shard_records(packs)
    before = {shard.sha256: shard.path for shard in version.shards}
    changed = sorted(path for sha256, path in before.items() if sha256 not in {shard.sha256 for shard in shards})
    draft = replace(
        version,
        number=0,
        parent=version.number,
        nodes=nodes,
        shards=shards,
        files=[],
        withdrawn=sorted(out.asked),
    )
    return put_version(draft, packs, store)[0], changed


def _without(store: Store, receipt: Receipt, ids: pa.Array, seeds: set[str], told: set[str]) -> Receipt | None:
    """A part without the rows; the part itself where it has none of them; None where nothing is left of it.

    Args:
        told: seeds that a ledger before has told of; grows.
    """
    parquet = [role for role, file in receipt.files.items() if file.path.endswith(".parquet")]
    tables = {role: read_part_table(store, receipt.files[role]) for role in parquet}
    if "ledger" in tables:
        tables["ledger"] = with_present_names(tables["ledger"])
    here = _present(tables, ids)
    if not here:
        return receipt
    folder, _, name = receipt.part.rpartition("/")
    part = f"{folder}/{digest([name, REASON, sorted(here)])}"
    first = seeds & set(here) - told if "ledger" in tables else set()
    told |= first
    if done := find_receipt(store, part):
        return done
    if "shard" in receipt.files:
        return _shard_without(store, replace(receipt, part=part), tables["index"], ids)
    files: dict[str, PartFile] = {}
    if "rows" in tables:
        rows, blob = _rows_without(store, receipt, tables["rows"], ids)
        files["rows"] = put_table(store, part, "rows", rows)
        if blob:
            files[BLOB] = put_bytes(store, part, BLOB, ".bin", blob)
    left = replace(receipt, part=part, timings={}, remarks=[])
    if "ledger" in tables:
        ledger = _ledger_without(tables["ledger"], ids, first)
        # Of a row that was asked for stays of whom it was made.
        edges, gone = tables["lineage"], pa.array(sorted(set(here) - first), pa.string())
        lineage = edges.filter(pc.invert(pc.or_(pc.is_in(edges["child"], gone), pc.is_in(edges["parent"], ids))))
        files["ledger"] = put_table(store, part, "ledger", ledger)
        files["lineage"] = put_table(store, part, "lineage", lineage)
        came = ledger.num_rows - pc.sum(ledger["made"]).as_py() if ledger.num_rows else 0
        left = replace(left, counts=verdict_counts(ledger), made=made_counts(ledger), rows_in=came)
    if "table" in tables:
        table = tables["table"]
        files["table"] = put_table(store, part, "table", table.filter(pc.invert(pc.is_in(table["row_id"], ids))))
    return put_part(store, replace(left, files=files))


def _present(tables: dict[str, pa.Table], ids: pa.Array) -> list[str]:
    """Which of the ids a part's tables name."""
    found: set[str] = set()
    for table in tables.values():
        for column in {"row_id", "parent"} & set(table.column_names):
            values = table[column]
            found.update(values.filter(pc.is_in(values, ids)).to_pylist())
    return sorted(found)


def _rows_without(store: Store, receipt: Receipt, rows: pa.Table, ids: pa.Array) -> tuple[pa.Table, bytes]:
    left = rows.filter(pc.invert(pc.is_in(rows["row_id"], ids)))
    if BLOB not in receipt.files or PAYLOAD not in left.column_names:
        return left, b""
    path = receipt.files[BLOB].path
    places = left[PAYLOAD].to_pylist()
    payloads = [p and store.read_range(path, p["offset"], p["size"], p["xxh3"]) for p in places]
    column = left.column_names.index(PAYLOAD)
    return split_payloads(left.set_column(column, PAYLOAD, pa.array(payloads, pa.large_binary())))


def _ledger_without(ledger: pa.Table, ids: pa.Array, told_here: set[str]) -> pa.Table:
    """Entries of other rows, and of those that were asked for, where they come first, that they were withdrawn."""
    others = ledger.filter(pc.invert(pc.is_in(ledger["row_id"], ids)))
    rows = ledger.filter(pc.is_in(ledger["row_id"], pa.array(sorted(told_here), pa.string()))).to_pylist()
    decided = {"stage": REASON, "verdict": REJECTED, "reason": REASON, "value": None, "threshold": None, "error": None}
    told = pa.Table.from_pylist([row | decided for row in rows], LEDGER)
    return pa.concat_tables([others, told]).sort_by("row_id")


def _shard_without(store: Store, receipt: Receipt, index: pa.Table, ids: pa.Array) -> Receipt | None:
    """A shard's other samples, copied in their order."""
    left = index.filter(pc.invert(pc.is_in(index["row_id"], ids))).sort_by("offset")
    if not left.num_rows:
        return None
    shard = receipt.files["shard"].path
    samples = (
        (row["key"], {p["extension"]: store.read_range(shard, p["offset"], p["size"], p["xxh3"]) for p in row["parts"]})
        for row in left.select(["key", "parts"]).to_pylist()
    )
    extensions = [part["extension"] for part in left["parts"][0].as_py()]
    with store.writing_content(receipt.part, "shard", ".tar") as file:
        written = write_shard(cast(BinaryIO, file), samples, extensions)
    own = [name for name in left.column_names if name not in SHARD_INDEX.names or name == "row_id"]
    table = index_table("", written.rows, left.select(own))
    files = {
        "shard": PartFile(file.name, written.size, file.xxh3, left.num_rows),
        "index": put_table(store, receipt.part, "index", table),
    }
    details = receipt.details | {"sha256": written.sha256, "samples": left.num_rows}
    left_over = replace(receipt, files=files, rows_in=left.num_rows, details=details, timings={}, remarks=[])
    return put_part(store, left_over)


def _ids(views: duckdb.DuckDBPyConnection, question: str, value: str | list[str] | None) -> list[str]:
    try:
        return [row[0] for row in views.execute(question, [value]).fetchall()]
    except duckdb.Error as error:
        raise StoreError(f"a part of this version cannot be read; run `curate verify` for details: {error}") from error
