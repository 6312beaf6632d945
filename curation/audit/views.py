"""Questions about a version, answered by DuckDB: a view per node, and `ledger` and `lineage` over all of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from curation.errors import CurateError, StoreError
from curation.store.objects import Store
from curation.store.parts import PartFile, read_part_table
from curation.store.versions import Version


class QueryError(CurateError):
    """SQL that DuckDB does not take. The message is DuckDB's."""

    exit_code = 2


def open_views(store: Store, version: Version) -> duckdb.DuckDBPyConnection:
    """A connection with the views of a version, which can read nothing else.

    Views: `ledger`, `lineage`, `shards`, and one per node (`recordings`, `utterances`, `transcripts`, `samples`,
    `encoded`, …) with all rows that the node saw, kept or not (`verdict`).

    Raises:
        StoreError: if a part is missing or damaged.
    """
    connection = duckdb.connect()
    if store.is_local:
        connection.execute("set allowed_directories = $1", [[store.root]])
    connection.execute("set enable_external_access = false")
    for role in ("ledger", "lineage"):
        receipts = [receipt for node in version.nodes for receipt in version.receipts(node.name)]
        _view(connection, store, role, [receipt.files[role] for receipt in receipts if role in receipt.files])
    for node in version.nodes:
        receipts = version.receipts(node.name)
        roles = ("rows", "table", "index")
        files = [receipt.files[role] for receipt in receipts for role in roles if role in receipt.files]
        _view(connection, store, node.name, files)
    shards = pa.Table.from_pylist([vars(shard) for shard in version.shards])
    if shards.num_rows:
        connection.register("shards", shards)
    connection.execute("set lock_configuration = true")
    return connection


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer to a question in SQL: a `select`, which cannot write. (The store's own folder is open to DuckDB.)

    Raises:
        QueryError: with DuckDB's message.
    """
    try:
        if any(statement.type != duckdb.StatementType.SELECT for statement in connection.extract_statements(sql)):
            raise QueryError("only questions are answered: select, from, describe, summarize, show")
        answer = connection.sql(sql)
        return pa.table({}) if answer is None else answer.to_arrow_table()
    except duckdb.Error as error:
        raise QueryError(str(error)) from error


def why(connection: duckdb.DuckDBPyConnection, row_id: str) -> Iterator[dict[str, Any]]:
    """Everything that was decided about a row, about what it was made of, and about what was made of it.

    Raises:
        QueryError: if no such row is in the version.
    """
    family = """
        with recursive
        up(id, steps) as (select $1, 0 union select parent, steps - 1 from up join lineage on child = id),
        down(id, steps) as (select $1, 0 union select child, steps + 1 from down join lineage on parent = id),
        family as (select id, min(steps) as steps from (from up union from down) group by id)
        select steps, l.* from family join ledger l on l.row_id = id order by steps, l.row_id, verdict, node
    """
    found = connection.sql(family, params=[row_id]).to_arrow_table().to_pylist()
    if not found:
        raise QueryError(f"no row {row_id!r} in this version; `select row_id from ledger` lists them")
    yield from found


def everything_about(connection: duckdb.DuckDBPyConnection, nodes: Sequence[str], row_id: str) -> dict[str, Any]:
    """What the last of the nodes that saw a row says of it; nothing if none did."""
    for node in reversed(nodes):
        try:
            found = connection.sql(f'from "{node}" where row_id = $1', params=[row_id]).to_arrow_table().to_pylist()
        except duckdb.Error:
            continue  # a node without rows of its own, such as a reduce
        if found:
            return {name: value for name, value in found[0].items() if value is not None}
    return {}


def _view(connection: duckdb.DuckDBPyConnection, store: Store, name: str, listed: list[PartFile]) -> None:
    if not listed:
        return
    if not store.is_local:
        tables = [read_part_table(store, file) for file in listed]
        connection.register(name, pa.concat_tables(tables, promote_options="default"))
        return
    for file in listed:
        store.check(file.path, file.xxh3)
    files = ", ".join("'" + str(store.local_path(file.path)).replace("'", "''") + "'" for file in listed)
    try:
        connection.execute(f'create view "{name}" as from read_parquet([{files}], union_by_name = true)')
    except duckdb.Error as error:
        raise StoreError(f"cannot read the {name} of {store.root}; `curate verify` says more: {error}") from error
