"""What a document is worth, by measures that cost nothing more: they only say who of a cluster is kept."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.diversity.concepts import STARTER, load_lexicon, version_of
from curation.diversity.coverage import Coverage
from curation.diversity.lexicon import lexicon_sources
from curation.hashing import digest
from curation.ranges import Count, Positive
from curation.stage import Reference, Stage, with_column
from curation.text.normalisation import base_language
from schemas.documents import IMAGE

REPETITION = ("text_character_repetition", "text_word_repetition", "text_looped_share")
"""Null where a text is too short for one."""


@dataclass(frozen=True)
class NodeQuality(Stage):
    """Measure how good a node is as material, in 0 to 1: `node_quality`.

    Of an image the root of min(1, shorter side / `good_side`) · min(1, sharpness / `good_sharpness`); of a text
    (1 − the greatest of its shares that repeat itself) · (1 − its share of noise). A proxy: it sees neither beauty nor
    style, nor errors of fact.
    """

    good_side: Positive = 512.0
    good_sharpness: Positive = 200.0

    reads = ("node_kind", "short_side", "sharpness", *REPETITION, "text_noisy_share")
    writes = ("node_quality",)

    def __call__(self, nodes: pa.Table) -> pa.Table:
        side = np.minimum(_numbers(nodes, "short_side") / self.good_side, 1)
        sharpness = np.minimum(_numbers(nodes, "sharpness") / self.good_sharpness, 1)
        repeated = np.max([np.nan_to_num(_numbers(nodes, name)) for name in REPETITION], axis=0)
        written = (1 - repeated) * (1 - _numbers(nodes, "text_noisy_share"))
        is_image = np.array(pc.equal(nodes["node_kind"], IMAGE), bool)
        quality = np.where(is_image, np.sqrt(side * sharpness), written)
        return with_column(nodes, "node_quality", pa.array(quality, from_pandas=True))


@dataclass(frozen=True)
class Knowledge(Stage):
    """Measure how much a document names, as a proxy for what there is to learn from it: `knowledge`.

    It is Guiraud's index of its concepts: different entries of the lexicon that its texts name, over the root of its
    words, so that length alone is no merit. Whether what is said of them is true, or new, it does not see.
    It is null for a document in a language that the lexicon does not cover: `min_entries` of its entries.
    """

    lexicon: str = STARTER
    min_entries: Count = Coverage.min_entries

    version = 2
    reads = ("concepts", "words", "language")
    writes = ("knowledge",)

    def fingerprint(self) -> str:
        return digest([super().fingerprint(), version_of(self.lexicon)])

    def references(self) -> list[Reference]:
        covered = ", ".join(self.languages())
        covers = f"measures knowledge of documents in {covered}; for those in other languages it does not count"
        sources = lexicon_sources(load_lexicon(self.lexicon))
        return [Reference(f"lexicon: {source}", terms or "not stated", covers) for source, terms, _ in sources]

    def languages(self) -> list[str]:
        """Those that the lexicon covers."""
        return list(Coverage(min_entries=self.min_entries).languages_of(load_lexicon(self.lexicon)))

    def __call__(self, documents: pa.Table) -> pa.Table:
        covered = {*self.languages(), ""}
        known = [base_language(code) in covered for code in documents["language"].to_pylist()]
        named = pc.list_value_length(documents["concepts"]).cast(pa.float64())
        named = pc.if_else(pa.array(known, pa.bool_()), named, pa.scalar(None, pa.float64()))
        words = pc.max_element_wise(documents["words"], 1).cast(pa.float64())
        return with_column(documents, "knowledge", pc.divide(named, pc.sqrt(words)))


def _numbers(rows: pa.Table, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A column of numbers, with NaN for null."""
    return pc.cast(rows[column], pa.float64()).to_numpy()  # type: ignore[no-any-return]
