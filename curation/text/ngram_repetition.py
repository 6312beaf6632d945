"""Captions that repeat themselves: the check; its rules are in `text.repetition`."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from curation.text.caption_checks import CaptionCheck
from curation.text.repetition import character_repetition, looped_share, word_repetition
from curation.text.scripts import text_units, unit_counts


@dataclass(frozen=True)
class CaptionRepetition(CaptionCheck):
    """Reject captions that repeat themselves, by n-grams of characters and of words, and by loops.

    The two ratios are those of ROOTS (Laurençon et al. 2022) at OBELICS' limits. They were made for pages: in a text
    of fewer than 400 characters one phrase said twice passes .1, so shorter texts are judged by their loops alone.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {
        "character_repetition": pa.float64(),
        "word_repetition": pa.float64(),
        "looped_share": pa.float64(),
    }

    character_ngram: int = 10
    word_ngram: int = 5
    unspaced_ngram: int = 10
    """Takes the place of `word_ngram` where most units are characters of unspaced scripts."""
    max_character_repetition: float = 0.1
    max_word_repetition: float = 0.1
    ratios_from_characters: int = 400
    max_looped_share: float = 0.3
    loop_longest_ngram: int = 40
    loop_min_repeats: int = 3
    loop_doubled_ngram: int = 4
    """From this size on, an n-gram that appears twice is a loop already."""
    loop_min_units: int = 3

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = self.measured(rows)
        rows = self.reject_over(rows, "looped_share", self.max_looped_share, "repetition_looped")
        rows = self.reject_over(rows, "character_repetition", self.max_character_repetition, "repetition_of_characters")
        return self.reject_over(rows, "word_repetition", self.max_word_repetition, "repetition_of_words")

    def measure(self, text: str) -> dict[str, Any]:
        units = text_units(text)
        by_character: float | None = None
        by_word: float | None = None
        if len(text) >= self.ratios_from_characters:
            spaced, unspaced = unit_counts(text)
            by_character = character_repetition(text, self.character_ngram)
            by_word = word_repetition(units, self.unspaced_ngram if unspaced > spaced else self.word_ngram)
        return {
            "character_repetition": by_character,
            "word_repetition": by_word,
            "looped_share": looped_share(
                units, self.loop_longest_ngram, self.loop_min_repeats, self.loop_doubled_ngram, self.loop_min_units
            ),
        }
