"""A pair in a shard: `<row id>.jpg`, `<row id>.json`, `<row id>.txt`."""

import json
from dataclasses import dataclass
from typing import Any

from curation.store.layout import Amount, Layout

KNOWN = (
    *("row_id", "text", "caption", "source_caption", "language", "licence", "consent", "url", "name", "occurrences"),
    *("image_hash", "image_format", "width", "height"),
)
FORMATS = ("jpg", "png", "webp", "gif", "bmp", "avif", "tif", "jp2", "heic")
INDEXED = ("language", "licence", "consent", "url", "name", "image_hash", "width", "height")


@dataclass(frozen=True)
class PairLayout(Layout):
    """The image, everything that is known of the pair as JSON, and its text.

    Images of each format are a subset of their own, since all samples of a subset have the same parts. An image with
    three captions is three samples.

    Attributes:
        scores: columns that go to the JSON besides.
    """

    amounts = (Amount("images", "image_hash"),)
    origins = (Amount("files", "root"),)

    extensions: tuple[str, ...] = ("jpg", "json", "txt")
    index: tuple[str, ...] = INDEXED
    subset: str = "image_type"
    scores: tuple[str, ...] = ()

    version = 2

    @property
    def reads(self) -> tuple[str, ...]:
        split = [self.split] if self.split else []
        return tuple(dict.fromkeys([*KNOWN[1:], "metadata", "image_type", *split, *self.scores]))

    @property
    def subsets(self) -> dict[str, str]:
        return {name: f"images ({name}) and their texts" for name in FORMATS}

    def extensions_in(self, subset: str) -> tuple[str, ...]:
        return (subset, *self.extensions[1:])

    def parts(self, row: dict[str, Any], payload: bytes) -> dict[str, bytes]:
        known = {name: row[name] for name in (*KNOWN, *([self.split] if self.split else []), *self.scores)}
        known["metadata"] = json.loads(row["metadata"]) if row["metadata"] else None
        text = json.dumps(known, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return {row["image_type"]: payload, "json": text.encode(), "txt": (row["text"] or "").encode()}
