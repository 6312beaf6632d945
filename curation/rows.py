"""Rows: their ids, and the making of children.

Every row has `row_id`, `kind` and `uri`. A row that a stage makes also has `parents`; the chain turns these to
lineage edges.
"""

from collections.abc import Sequence
from typing import Any

from curation.hashing import digest


def source_id(parts: Sequence[str | None]) -> str:
    """The id of a source row: from the hashes of all its parts (media, sidecar, …), None where one is absent."""
    return digest(["source", *parts])


def unreadable_id(uri: str) -> str:
    """The id of a source whose bytes cannot be read."""
    return digest(["unreadable", uri])


def derived_id(parents: Sequence[str], kind: str, key: Any) -> str:
    """The id of a row made of others: from its parents (in any order), its kind and its place among its siblings."""
    return digest([sorted(parents), kind, key])
