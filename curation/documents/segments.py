"""Segments: the pieces of a text that an image is compared with, short enough for a model to read to the end."""

import re
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa

from curation.engines.image_text_embedding import ImageTextEmbedder
from curation.ranges import Count, check
from curation.stage import Stage, with_column
from curation.text.normalisation import UNSPACED
from curation.text.punctuation import SENTENCE_MARKS
from curation.text.scripts import text_units

SEGMENTS = pa.list_(pa.string())
VECTORS = pa.list_(pa.float32())
"""The vectors of a row's segments, one after the other."""

_CLOSERS = re.escape(")]}»\"'”’）］｝」』】》〉〗")
_MARKS = re.escape(SENTENCE_MARKS)
_END = re.compile(rf"(?<![{_MARKS}])(?:[{_MARKS}]++[{_CLOSERS}]*+(?:\s|$)|[。！？｡．]++[{_CLOSERS}]*+)|\n")
"""The end of a sentence. Periods of abbreviations count too: they cost nothing but a shorter segment."""
_UNSPACED = UNSPACED.pattern[1:-1]
_WORD = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")


def text_segments(text: str, min_units: int = 3, max_units: int = 24, max_segments: int = 64) -> list[str]:
    """The sentences of a text; what is below `min_units` goes with what follows, what is above `max_units` is cut.

    Units are words, or letters in scripts without spaces. Of a longer text the first `max_segments` segments are
    given. What has neither letter nor digit is left out.
    """
    found: list[str] = []
    waiting: list[str] = []
    held = 0
    for sentence in _sentences(text):
        units = len(text_units(sentence))
        if not units:
            continue
        waiting.append(sentence)
        held += units
        if held >= min_units:
            joined = " ".join(waiting)
            found += [joined] if held <= max_units else _cut(joined, max_units)
            waiting, held = [], 0
        if len(found) >= max_segments:
            return found[:max_segments]
    return [*found, " ".join(waiting)] if waiting else found


def _sentences(text: str) -> list[str]:
    borders = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    return [piece for start, end in pairwise(borders) if (piece := text[start:end].strip())]


def _cut(sentence: str, max_units: int) -> list[str]:
    """A sentence in as few pieces of at most `max_units` words or letters as it takes, as equal as can be."""
    words = _WORD.findall(sentence)
    pieces = -(-len(words) // max_units)
    borders = [len(words) * i // pieces for i in range(pieces + 1)]
    return ["".join(words[start:end]).strip() for start, end in pairwise(borders)]


@dataclass(frozen=True)
class Segments(Stage):
    """Split the texts of a document into segments (`text_segments`); an image has none.

    `max_units` should be no more than the model of the embeddings reads: a SigLIP has 64 tokens, some 40 English words.
    What lies beyond `max_characters` of a segment is compared with nothing.
    """

    min_units: Count = 3
    max_units: Count = 24
    max_segments: Count = 64
    max_characters: Count = 1000

    reads = ("text",)
    writes = ("segments",)

    def __post_init__(self) -> None:
        least, most = self.min_units, self.max_units
        check(least <= most, f"segments.min_units: {least} is above segments.max_units, {most}")

    def __call__(self, nodes: pa.Table) -> pa.Table:
        limits = (self.min_units, self.max_units, self.max_segments)
        texts = [text_segments(text, *limits) if text else [] for text in nodes["text"].to_pylist()]
        segments = [[segment[: self.max_characters] for segment in some] for some in texts]
        return with_column(nodes, "segments", segments, SEGMENTS)


@dataclass(frozen=True)
class EmbedSegments(Stage):
    """Measure the embedding of each segment of a text; they stand one after the other in `segment_embeddings`."""

    engine: ImageTextEmbedder

    reads = ("segments",)
    writes = ("segment_embeddings",)
    costly = True

    def __call__(self, nodes: pa.Table) -> pa.Table:
        segments: list[list[str]] = [some or [] for some in nodes["segments"].to_pylist()]
        flat = list(chain.from_iterable(segments))
        once = list(dict.fromkeys(flat))
        number = {segment: i for i, segment in enumerate(once)}
        vectors = self.engine.embed_texts(once)[[number[segment] for segment in flat]]
        offsets = np.concatenate([[0], np.cumsum([len(some) for some in segments])]) * vectors.shape[1]
        values = pa.array(vectors.reshape(-1), pa.float32())
        return with_column(
            nodes, "segment_embeddings", pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=VECTORS)
        )
