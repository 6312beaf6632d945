"""Questions about a version, answered by DuckDB: a view per node, and `ledger` and `lineage` over all of them."""

import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from curation.errors import CurateError, StoreError
from curation.sql import identifier, literal
from curation.store.objects import Store
from curation.store.parts import PartFile, check_columns, read_part_table
from curation.store.versions import Version
from schemas.ledger import FORMER_NAMES, LEDGER, LINEAGE
from schemas.shards import SQL_NAMES
from schemas.views import VIEWS

SHARDS = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "part_path", "subset")),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("samples", pa.int64()),
    ]
)
OVER_ALL_NODES: Mapping[str, pa.Schema] = {"ledger": LEDGER, "lineage": LINEAGE}
FILES_OF_ROWS = ("rows", "table", "index")
"""Roles of the files that hold what a node saw or made."""
SETTINGS = (
    "enable_external_access = false",
    "python_enable_replacements = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "lock_configuration = true",
)
"""No files but those of the version, no network, no variables of this process, no extensions; locked comes last."""


class QueryError(CurateError):
    """SQL that DuckDB does not take. The message is DuckDB's."""

    exit_code = 2


def open_views(store: Store, version: Version) -> duckdb.DuckDBPyConnection:
    """A connection with the views of a version, which can read the tables of that version and nothing else.

    Views: `ledger`, `lineage`, `shards`, and one per node (`recordings`, `utterances`, `transcripts`, `samples`,
    `encoded`, …) with all rows that the node saw, kept or not (`verdict`). Those of `schemas.views` are there whatever
    the recipe left out: then without rows.

    Raises:
        StoreError: if a part is missing or damaged, or two nodes would have one view.
    """
    known = {**OVER_ALL_NODES, **VIEWS.get(str(version.recipe.get("pipeline")), {})}
    receipts = {node.name: version.receipts(node.name) for node in version.nodes}
    files = {
        role: [one.files[role] for node in version.nodes for one in receipts[node.name] if role in one.files]
        for role in OVER_ALL_NODES
    }
    taken = {name.casefold() for name in (*files, "shards")}
    for node in version.nodes:
        if node.name.casefold() in taken:
            raise StoreError(f"version {version.name} has two views named {node.name!r}; its manifest is damaged")
        taken.add(node.name.casefold())
        files[node.name] = [
            one.files[role] for one in receipts[node.name] for role in FILES_OF_ROWS if role in one.files
        ]
    connection = _closed(store, [file for some in files.values() for file in some])
    for name in dict.fromkeys([*files, *(name for name in known if name.casefold() not in taken)]):
        indexes = any("index" in one.files for one in receipts.get(name, ()))
        renamed = FORMER_NAMES if name == "ledger" else SQL_NAMES if indexes else {}
        _view(connection, store, name, files.get(name, []), known.get(name, pa.schema([])), renamed)
    connection.register("shards", pa.Table.from_pylist([vars(shard) for shard in version.shards], SHARDS))
    return connection


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer to a question in SQL: a `select`, which cannot write, and reads the version's tables alone.

    Raises:
        QueryError: with DuckDB's message.
    """
    if not _is_unicode(sql):
        raise QueryError(f"the question is not Unicode: {sql!a}")
    try:
        if any(statement.type != duckdb.StatementType.SELECT for statement in connection.extract_statements(sql)):
            raise QueryError("only queries are allowed: select, from, describe, summarize, show")
        answer = connection.sql(sql)
        return pa.table({}) if answer is None else answer.to_arrow_table()
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryError(str(error)) from error


def answer(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any] | None = None) -> pa.Table:
    """The answer to a question of our own, which fails only where a part of the version is damaged.

    Raises:
        StoreError: with DuckDB's message, which names the file.
    """
    try:
        return connection.sql(sql, params=None if values is None else list(values)).to_arrow_table()
    except (duckdb.Error, pa.ArrowException) as error:
        raise StoreError(f"a part of this version cannot be read; run `curate verify` for details: {error}") from error


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
    asked = [row_id] if _is_unicode(row_id) else []
    found = answer(connection, family, asked).to_pylist() if asked else []
    if not found:
        raise QueryError(f"no row {row_id!a} in this version; `select row_id from ledger` lists them")
    yield from found


def everything_about(connection: duckdb.DuckDBPyConnection, nodes: Sequence[str], row_id: str) -> dict[str, Any]:
    """What the last of the nodes that saw a row says of it; nothing if none did."""
    for node in reversed(nodes):
        if "row_id" not in columns_of(connection, node):
            continue  # a node without rows of its own, such as a reduce
        question = f"from {identifier(node)} where row_id = $1"
        found = answer(connection, question, [row_id]).to_pylist()
        if found:
            return {name: value for name, value in found[0].items() if value is not None}
    return {}


def columns_of(connection: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    """The columns of a view, in order; none if there is no such view."""
    question = "select column_name from duckdb_columns() where table_name = $1 order by column_index"
    return [row[0] for row in connection.execute(question, [view]).fetchall()]


def _is_unicode(text: str) -> bool:
    """What a shell hands on may not be."""
    return text.encode(errors="replace").decode() == text


def _closed(store: Store, listed: Sequence[PartFile]) -> duckdb.DuckDBPyConnection:
    """A connection that can open these objects of the store, a folder of its own to spill to, and no other file."""
    connection = duckdb.connect()
    spill = Path(tempfile.gettempdir()) / f"curate-audit-{secrets.token_hex(8)}"
    connection.execute("set temp_directory = $1", [str(spill)])
    if store.is_local:
        # A file that is missing would be worse than that: DuckDB reads a name with * or ? as a pattern then.
        for file in listed:
            store.check(file.path, file.xxh3)
            check_columns(store.read_schema(file.path), file.path)
        paths = sorted({str(store.local_path(file.path)) for file in listed})
        connection.execute("set allowed_paths = $1", [paths])
    for setting in SETTINGS:
        connection.execute(f"set {setting}")
    return connection


def _view(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    name: str,
    listed: Sequence[PartFile],
    known: pa.Schema,
    renamed: Mapping[str, str],
) -> None:
    """A view over the rows of some files, with all columns that are known of it; what they lack is null.

    Args:
        renamed: what columns are called here, by what they are called in the files, or in some of them.
    """
    known = pa.schema([one.with_name(renamed.get(one.name, one.name)).with_nullable(True) for one in known])
    if not listed:
        if len(known):
            connection.register(name, known.empty_table())
        return
    if not store.is_local:
        tables = [_with_names(read_part_table(store, file), renamed) for file in listed]
        connection.register(name, pa.concat_tables([*tables, known.empty_table()], promote_options="permissive"))
        return
    files = ", ".join(literal(str(store.local_path(file.path))) for file in listed)
    source = f"read_parquet([{files}], union_by_name = true)"
    try:
        connection.execute(f"create view {identifier(name)} as from {source}")
        here = columns_of(connection, name)
        if set(known.names) - set(here) or set(renamed) & set(here):
            chosen = _chosen(connection, here, known, renamed)
            connection.execute(f"create or replace view {identifier(name)} as select {chosen} from {source}")
    except duckdb.Error as error:
        raise StoreError(f"cannot read the {name} of {store.root}; run `curate verify` for details: {error}") from error


def _with_names(table: pa.Table, renamed: Mapping[str, str]) -> pa.Table:
    return table.rename_columns([renamed.get(name, name) for name in table.column_names])


def _chosen(
    connection: duckdb.DuckDBPyConnection, here: Sequence[str], known: pa.Schema, renamed: Mapping[str, str]
) -> str:
    """What to select so that a view has the columns that are here, under their names, and all that are known."""
    named: dict[str, list[str]] = {}
    for column in here:
        named.setdefault(renamed.get(column, column), []).append(identifier(column))
    values = {name: ours[0] if len(ours) == 1 else f"coalesce({', '.join(ours)})" for name, ours in named.items()}
    if lacking := [one for one in known if one.name not in values]:
        empty = connection.from_arrow(pa.schema(lacking).empty_table())
        types = map(str, empty.types)
        values |= {name: f"null::{type_}" for name, type_ in zip(empty.columns, types, strict=True)}
    return ", ".join(f"{value} as {identifier(name)}" for name, value in values.items())
