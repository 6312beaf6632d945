"""Do two recognisers agree on what was said? (LongCat-Flash-Omni, section 3.1.1)"""

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Stage, measure_each, reject
from curation.text.disagreement import transcript_disagreement

MEASURES = {
    "disagreement": pa.float64(),
    "substitutions": pa.int32(),
    "insertions": pa.int32(),
    "deletions": pa.int32(),
    "compared_units": pa.int32(),
    "unmatched_share": pa.float64(),
    "character_disagreement": pa.float64(),
    "edge_cer": pa.float64(),
}


@dataclass(frozen=True)
class CrossCheck(Stage):
    """Reject utterances whose two transcripts disagree: neither is the truth, so edits count over the longer one.

    Insertions are what the second opinion has besides, deletions what it lacks. Where both heard no word there is
    nothing to train on (`no_words`); where one heard none they disagree wholly. A limit of None is not applied.

    A recogniser that mishears puts one word for another; a transcript that lacks words, or has some that nobody said,
    shows as insertions and deletions. `max_unmatched_share` limits these alone, (insertions + deletions) / max length,
    and so can be much stricter than a limit of all edits at the same loss.
    """

    max_disagreement: float = 0.15
    max_unmatched_share: float | None = None
    max_character_disagreement: float | None = None
    max_edge_cer: float | None = None
    unit: Literal["auto", "word", "character"] = "auto"
    edge_words: int = 2
    ignore_spacing: bool = True

    reads = ("transcript", "second_opinion", "language")
    writes = tuple(MEASURES)
    version = 2
    packages = ("num2words", "opencc", "rapidfuzz")
    extra = "speech"

    def __call__(self, utterances: pa.Table) -> pa.Table:
        utterances = measure_each(utterances, MEASURES, self.measure)
        utterances = reject(utterances, pc.equal(utterances["compared_units"], 0), "no_words")
        for column, limit, reason in (
            ("disagreement", self.max_disagreement, "transcripts_disagree"),
            ("unmatched_share", self.max_unmatched_share, "words_missing"),
            ("character_disagreement", self.max_character_disagreement, "characters_disagree"),
            ("edge_cer", self.max_edge_cer, "edges_disagree"),
        ):
            if limit is not None:
                value = utterances[column]
                utterances = reject(utterances, pc.greater(value, limit), reason, value=value, limit=limit)
        return utterances

    def measure(self, row: dict[str, Any]) -> dict[str, Any]:
        """The measures of one utterance; a transcript that is null is one without words."""
        candidate, second = ((row[column] or {}).get("text") or "" for column in ("transcript", "second_opinion"))
        found = transcript_disagreement(
            candidate,
            second,
            row["language"],
            unit=self.unit,
            edge_words=self.edge_words,
            ignore_spacing=self.ignore_spacing,
        )
        return {
            "disagreement": found.value,
            "substitutions": found.substitutions,
            "insertions": found.insertions,
            "deletions": found.deletions,
            "compared_units": found.length,
            "unmatched_share": (found.insertions + found.deletions) / found.length if found.length else 0.0,
            "character_disagreement": found.characters,
            "edge_cer": found.edge_cer,
        }
