"""What a page says that an image shows (`alt`): it goes to the shards, so it is looked at as any other text is."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.documents.filters import NodeLength
from curation.stage import Stage, with_column


@dataclass(frozen=True)
class CheckAltTexts(Stage):
    """Take away texts of images that a check rejects, and say why in `alt_removed`; the image stays.

    Attributes:
        checks: stages for texts, in order; columns that they measure are not kept.
    """

    checks: tuple[Stage, ...] = (NodeLength(min_words=0),)

    reads = ("text",)
    writes = ("text", "alt_removed")

    def __call__(self, images: pa.Table) -> pa.Table:
        there = pc.is_valid(images["text"])
        texts = images.select(["row_id", "text"]).filter(there)
        for check in self.checks:
            texts = check(texts)
        reasons = pa.nulls(images.num_rows, pa.string())
        if "decision" in texts.column_names:
            found = pc.struct_field(texts["decision"].combine_chunks(), "reason")
            reasons = pc.replace_with_mask(reasons, there.combine_chunks(), found)
        left = pc.if_else(pc.is_valid(reasons), pa.scalar(None, pa.string()), images["text"])
        return with_column(with_column(images, "text", left), "alt_removed", reasons)
