"""Captions as vectors, for clusters of texts without their images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curation.engines.text_embedding import AnyTextEmbedder, HashedNgrams
from curation.errors import CurateError
from curation.stage import Stage, fail, with_column

EMBEDDING = pa.list_(pa.float32())


class NothingToEmbed(CurateError):
    """A row has no text, or one of which the engine knows nothing."""


@dataclass(frozen=True)
class EmbedCaption(Stage):
    """Write each text's unit vector to `embedding`; rows without a text, or with one that says nothing to the engine,
    fail."""

    engine: AnyTextEmbedder = HashedNgrams()
    column: str = "caption"

    writes = ("embedding",)
    costly = True

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def __call__(self, rows: pa.Table) -> pa.Table:
        texts = rows[self.column].to_pylist()
        vectors = self.engine.embed([text or "" for text in texts])
        said = np.array([bool(text and text.strip()) for text in texts], bool)
        known = said & vectors.any(axis=1)
        rows = with_column(rows, "embedding", _lists(vectors, known))
        if known.all():
            return rows
        errors = [
            None if good else NothingToEmbed(f"{uri}: {self._reason(text)}")
            for good, uri, text in zip(known, rows["uri"].to_pylist(), texts, strict=True)
        ]
        return fail(rows, errors)

    def _reason(self, text: str | None) -> str:
        if text and text.strip():
            return f"{self.engine.label} knows nothing of {text[:80]!r}"
        return f"no text in {self.column!r}"


def _lists(vectors: np.ndarray[Any, np.dtype[np.float32]], known: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    """A list per row; null where it is not known."""
    lengths = np.where(known, vectors.shape[1], 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.array(vectors[known].reshape(-1), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=EMBEDDING, mask=pa.array(~known))
