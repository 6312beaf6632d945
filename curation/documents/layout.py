"""A document in a shard: `<row id>.json`, its nodes in order, and `<row id>.images.tar`, its images."""

import json
from dataclasses import dataclass
from typing import Any

from curation.documents.reassembly import TASK
from curation.store.layout import Amount, Layout
from schemas.documents import IMAGE

KNOWN = (
    *("root", "name", "url", "title", "occurrences", "language", "licence", "consent"),
    *("words", "image_count", "removed", "checkpoint"),
)
SCORES = ("similarity", "quality", "knowledge")
INDEXED = ("task", "language", "licence", "consent", "name", "url", "image_count", "words")
SUBSETS = {
    TASK: "texts and images in their order, each image paired with a text: `nodes` of the JSON, in which `image`"
    " counts in `images`; these are files of `images.tar`, by `name`, or by `offset` and `size`"
}
_OF_IMAGES = ("image", "url", "paired_node", "paired_text", "similarity", "match_probability")


@dataclass(frozen=True)
class DocumentLayout(Layout):
    """The images as one tar, and everything that is known of the document as JSON.

    In the JSON `nodes` are texts and images in order; an image has its number among `images`, and that of
    the text that it is paired with among `nodes`. An image is read by its name in the tar, or as `size` bytes at
    `offset` of it. `ordinal` is a node's place in the source: where one is missing, the ledger says why.

    Attributes:
        scores: columns that go to the JSON besides.
    """

    amounts = (Amount("images", "image_count", per=1), Amount("words", "words", per=1))
    origins = (Amount("documents", "root"),)

    extensions: tuple[str, ...] = ("images.tar", "json")
    index: tuple[str, ...] = INDEXED
    scores: tuple[str, ...] = SCORES

    subsets = SUBSETS
    version = 1

    @property
    def reads(self) -> tuple[str, ...]:
        known = (*KNOWN, *([self.split] if self.split else []), *self.scores)
        return tuple(dict.fromkeys([*known, "task", "metadata", "nodes", "images", "image_files"]))

    def parts(self, row: dict[str, Any], payload: bytes) -> dict[str, bytes]:
        scores = (*([self.split] if self.split else []), *self.scores)
        text = json.dumps(document_json(row, scores), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return {"images.tar": payload, "json": text.encode()}


def document_json(row: dict[str, Any], scores: tuple[str, ...] = SCORES) -> dict[str, Any]:
    """What the JSON part of a sample says."""
    files = zip(row["images"], row["image_files"], strict=True)
    return {
        **{name: row[name] for name in ("row_id", *KNOWN, *scores)},
        "metadata": json.loads(row["metadata"]) if row["metadata"] else None,
        "nodes": [_node(node) for node in row["nodes"]],
        "images": [image | file for image, file in files],
    }


def _node(node: dict[str, Any]) -> dict[str, Any]:
    known = {"type": node["node_kind"], "ordinal": node["ordinal"], "text": node["text"]}
    return known | ({name: node[name] for name in _OF_IMAGES} if node["node_kind"] == IMAGE else {})
