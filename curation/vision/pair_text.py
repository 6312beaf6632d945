"""The text that a pair is trained on."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Stage, with_column


@dataclass(frozen=True)
class PairText(Stage):
    """Choose the first of `columns` that a pair has as its `text`; its language, where no source says it, is measured.

    Without `measured_language` a pair's language stays what its source says.
    """

    columns: tuple[str, ...] = ("caption",)
    measured_language: str | None = "caption_language"

    writes = ("text", "language")

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.columns, "language", *([self.measured_language] if self.measured_language else []))

    def __call__(self, pairs: pa.Table) -> pa.Table:
        pairs = with_column(pairs, "text", pc.coalesce(*(pairs[name] for name in self.columns)))
        if self.measured_language:
            pairs = with_column(pairs, "language", pc.coalesce(pairs["language"], pairs[self.measured_language]))
        return pairs
