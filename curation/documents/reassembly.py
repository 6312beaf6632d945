"""From nodes back to documents: what is left of each, in order, as one sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.diversity.clusters import unit_vectors
from curation.documents.reading import DocumentFacts
from curation.ranges import Count, Positive
from curation.rows import derived_id
from curation.stage import Stage, reject
from schemas.document_samples import DOCUMENT_SAMPLE
from schemas.documents import IMAGE, TEXT

TASK = "documents"
_OF_NODES = (
    *("node_kind", "text", "place", "image_hash", "image_bytes", "url", "language", "licence", "consent"),
    *("image_format", "width", "height", "text_words", "node_quality"),
    *("paired_with", "paired_text", "pair_similarity", "match_probability", "checkpoint", "embedding"),
)
_OF_DOCUMENTS = tuple(f"document_{name}" for name in (*DocumentFacts.reads, "node_count"))


@dataclass(frozen=True)
class WholeDocuments(DocumentFacts):
    """`DocumentFacts`, and columns that were `measured` of the whole document."""

    measured: tuple[str, ...] = ("node_count",)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*DocumentFacts.reads, *self.measured)

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"document_{name}" for name in self.reads)


@dataclass(frozen=True)
class Reassemble(Stage):
    """Make one sample of what is left of a document; reject those with too few images or words left.

    Texts that come to stand beside each other stay nodes of their own. `min_words` is that of OBELICS (Laurençon et al.
    2023).

    Attributes:
        measured_language: the column with the language of a document of which no source says it.
    """

    min_images: Count = 1
    min_words: Positive = 10.0
    measured_language: str | None = None

    writes = tuple(name for name in DOCUMENT_SAMPLE.names if name != "parents")
    makes = "sample"

    @property
    def reads(self) -> tuple[str, ...]:
        measured = [self.measured_language] if self.measured_language else []
        return (*_OF_NODES, *_OF_DOCUMENTS, *measured)

    def __call__(self, nodes: pa.Table) -> pa.Table:
        wanted = list(dict.fromkeys(("row_id", "root", "ordinal", "uri", *self.reads)))
        vectors = dict(zip(nodes["row_id"].to_pylist(), nodes["embedding"], strict=True))
        rows = nodes.select([name for name in wanted if name != "embedding"]).to_pylist()
        samples = [self.sample(group, vectors) for group in documents(rows)]
        table = pa.Table.from_pylist(samples, DOCUMENT_SAMPLE)
        for name, least, reason in (
            ("image_count", self.min_images, "no_image_left"),
            ("words", self.min_words, "too_little_text_left"),
        ):
            table = reject(table, pc.less(table[name], least), reason, value=table[name], limit=least)
        return table

    def sample(self, group: list[dict[str, Any]], vectors: dict[str, pa.ListScalar]) -> dict[str, Any]:
        """The sample of one document's nodes."""
        texts = [row for row in group if row["node_kind"] == TEXT]
        images = [row for row in group if row["node_kind"] == IMAGE]
        of_images = [vectors[row["row_id"]] for row in images]
        first = (texts or group)[0]
        distinct: dict[str, dict[str, Any]] = {}
        for row in images:
            distinct.setdefault(row["image_hash"], row)
        parents = [row["row_id"] for row in group]
        language = first["language"] or (first[self.measured_language] if self.measured_language else None)
        return {
            **{name: first[name] for name in ("root", "uri", "licence", "consent")},
            **{
                name: first[f"document_{name}"] for name in ("name", "url", "title", "metadata", "occurrences", "split")
            },
            "row_id": derived_id(parents, "sample", TASK),
            "ordinal": 0,
            "kind": "sample",
            "parents": parents,
            "task": TASK,
            "language": language,
            "nodes": list(_kept_nodes(group, list(distinct))),
            "images": list(distinct.values()),
            "places": [row["place"] for row in distinct.values()],
            "image_bytes": sum(row["image_bytes"] for row in distinct.values()),
            "text": "\n\n".join(row["text"] for row in texts),
            "image_count": len(images),
            "words": fsum(row["text_words"] for row in texts),
            "removed": first["document_node_count"] - len(group),
            "similarity": _mean([row["pair_similarity"] for row in images]),
            "quality": _mean([_mean([row["node_quality"] for row in some]) for some in (texts, images)]),
            "checkpoint": images[0]["checkpoint"] if images else None,
            "embedding": mean_direction([vector.values for vector in of_images if vector.is_valid]),
        }


def documents(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The nodes of each document, in their order."""
    ordered = sorted(rows, key=lambda row: (row["root"], row["ordinal"], row["row_id"]))
    for _, group in groupby(ordered, key=lambda row: row["root"]):
        yield list(group)


def _kept_nodes(group: list[dict[str, Any]], distinct: list[str]) -> Iterator[dict[str, Any]]:
    at = {row["row_id"]: i for i, row in enumerate(group)}
    for row in group:
        node = {name: row[name] for name in ("node_kind", "ordinal", "text")}
        if row["node_kind"] == IMAGE:
            node |= {name: row[name] for name in ("url", "paired_text", "match_probability")}
            node |= {"similarity": row["pair_similarity"], "paired_node": at.get(row["paired_with"])}
            node["image"] = distinct.index(row["image_hash"])
        yield node


def mean_direction(vectors: Sequence[pa.FloatingPointArray]) -> list[float] | None:
    """The mean of vectors, brought to length 1; None where there are none, or where they cancel out."""
    if not vectors:
        return None
    total = unit_vectors(np.stack([vector.to_numpy() for vector in vectors])).sum(axis=0)
    return unit_vectors(total[None])[0].astype(np.float32).tolist() if total.any() else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None
