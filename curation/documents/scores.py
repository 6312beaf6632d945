"""What a document is worth, by measures that cost nothing more: they only say who of a cluster is kept."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.ranges import Positive
from curation.stage import Stage, with_column
from schemas.documents import IMAGE

REPETITION = ("text_character_repetition", "text_word_repetition", "text_looped_share")
"""Null where a text is too short for one."""


@dataclass(frozen=True)
class NodeQuality(Stage):
    """Measure how good a node is as material, in 0 to 1: `node_quality`.

    Of a picture the root of min(1, shorter side / `good_side`) · min(1, sharpness / `good_sharpness`); of a text
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
    """

    reads = ("concepts", "words")
    writes = ("knowledge",)

    def __call__(self, documents: pa.Table) -> pa.Table:
        named = pc.list_value_length(documents["concepts"]).cast(pa.float64())
        words = pc.max_element_wise(documents["words"], 1).cast(pa.float64())
        return with_column(documents, "knowledge", pc.divide(named, pc.sqrt(words)))


def _numbers(rows: pa.Table, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A column of numbers, with NaN for null."""
    return pc.cast(rows[column], pa.float64()).to_numpy()  # type: ignore[no-any-return]
