"""Duplicates and the rows that stay in their place: which column says whom a row is the duplicate of, and how near."""

from collections.abc import Sequence
from typing import Any

import duckdb

from curation.audit.views import answer, columns_of
from curation.sql import identifier

TWIN = "duplicate_of"
DISTANCE = "duplicate_distance"
URI = "duplicate_uri"


def twin_columns(columns: Sequence[str]) -> tuple[str, str]:
    """SQL over rows with these columns: the id of the row that stays (null for no duplicate), and the distance to it.

    A stage that rejects duplicates writes `duplicate_of` and `duplicate_distance`; the finders write theirs, such as
    `semantic_duplicate_of` with `semantic_distance` or `semantic_similarity`.
    """
    of = sorted((name for name in columns if name.endswith(TWIN)), key=lambda name: (name != TWIN, name))
    distances = []
    for name in of:
        kind = name.removesuffix(TWIN)
        for measured in (f"{kind}{DISTANCE}", f"{kind}distance"):
            if measured in columns:
                distances.append(identifier(measured))
        if f"{kind}similarity" in columns and kind:
            distances.append(f"1 - {identifier(f'{kind}similarity')}")
    return _first(map(identifier, of), "varchar"), _first(distances, "double")


def _first(names: Any, type_: str) -> str:
    return f"coalesce({', '.join([*names, 'null', 'null'])})::{type_}"


def with_twins(connection: duckdb.DuckDBPyConnection, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ledger entries, each with the row that stays where it is a duplicate: its id, its file, and the distance."""
    found = []
    for entry in entries:
        columns = columns_of(connection, entry["node"])
        twins: list[dict[str, Any]] = []
        if entry["verdict"] == "rejected" and "row_id" in columns:
            of, distance = twin_columns(columns)
            question = f"""
                with mine as (
                    select {of} as {TWIN}, {distance} as {DISTANCE} from {identifier(entry["node"])} where row_id = $1
                )
                select {TWIN}, any_value(uri) as {URI}, any_value({DISTANCE}) as {DISTANCE}
                from mine join ledger on row_id = {TWIN} group by 1
            """
            twins = answer(connection, question, [entry["row_id"]]).to_pylist()
        twin = twins[0] if twins else dict.fromkeys((TWIN, URI, DISTANCE))
        if twins and twin[DISTANCE] is None:
            twin[DISTANCE] = entry["value"]  # what the stage compared
        found.append(entry | twin)
    return found
