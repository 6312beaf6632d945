"""Truncation: what shows that a text was cut before its end, and the check of captions for it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import reject
from curation.text.caption_checks import CaptionCheck
from curation.text.normalisation import base_language

DANGLING_WORDS: dict[str, tuple[str, ...]] = {
    "": ("the", "of", "with", "from", "and"),
    "en": (
        *("a", "an", "the", "of", "and", "or", "with", "from", "into", "onto", "than", "because", "while", "his"),
        *("its", "their", "our", "my", "your", "which", "whose", "very", "between", "&"),
    ),
    "de": ("der", "dem", "den", "ein", "eine", "einen", "einem", "einer", "und", "oder", "im", "vom", "zum", "zur"),
    "fr": ("le", "les", "des", "du", "et", "un", "une", "au", "aux", "avec"),
    "es": ("el", "los", "las", "un", "una", "y", "del", "al", "con", "de"),
}
"""Words that end no phrase, by language; "" is for all others, as which a short English text may be taken."""

_ELLIPSIS = re.compile(r"(?:\.\s?\.\s?\.+|…|\.\.|。。+|⋯|\[\.\.\.\]|\(\.\.\.\)|\[…\])[\"'”’»)\]]?$")
LONGEST_SIGN = 16
"""Characters at the end of a text that an ellipsis may fill; of a longer run of stops the last ones are enough."""
_BRACKETS = dict(zip("([{（【「『《〈“", ")]}）】」』》〉”", strict=True))


@dataclass(frozen=True)
class CaptionTruncation(CaptionCheck):
    """Reject captions that were cut: they end in an ellipsis, a broken character, an open bracket, a word that ends
    no phrase ("of", "the"), or in a word without a stop just where some database cuts.

    Words are of the text's language, from `language_column` where there is one (`CaptionLanguage` writes one).
    """

    measures: ClassVar[dict[str, pa.DataType]] = {"truncation": pa.string()}

    language_column: str | None = None
    dangling_words: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DANGLING_WORDS))
    cut_lengths: tuple[int, ...] = (255, 256, 511, 512, 1023, 1024, 2048, 4096)
    """In bytes of UTF-8 or in characters."""

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column, self.language_column) if self.language_column else (self.column,)

    def __call__(self, rows: pa.Table) -> pa.Table:
        languages = rows[self.language_column].to_pylist() if self.language_column else [None] * rows.num_rows
        values = []
        for text, language in zip(self.texts(rows), languages, strict=True):
            values.append({"truncation": truncation_sign(text, language, self.cut_lengths, self.dangling_words)})
        rows = self.with_measures(rows, values)
        return reject(rows, pc.is_valid(rows[f"{self.column}_truncation"]), "caption_truncated")


def truncation_sign(
    text: str,
    language: str | None,
    cut_lengths: Sequence[int] = (),
    dangling_words: Mapping[str, Sequence[str]] = DANGLING_WORDS,
) -> str | None:
    """What shows that a text was cut: "ellipsis", "broken_character", "open_bracket", "dangling_word", "cut_length".

    An open bracket is one that nothing closes, smileys apart. A dangling word counts in lower case only ("Vitamin A"),
    and only at the very end, without a stop. None where nothing shows.
    """
    text = text.rstrip()
    if _ELLIPSIS.search(text[-LONGEST_SIGN:]):
        return "ellipsis"
    if text.endswith("\ufffd"):
        return "broken_character"
    if _has_open_bracket(text):
        return "open_bracket"
    last = text.rsplit(maxsplit=1)
    words = dangling_words.get(base_language(language), dangling_words.get("", ()))
    if len(last) == 2 and last[1] in words:
        return "dangling_word"
    if text and text[-1].isalnum() and _is_cut_at(text, cut_lengths):
        return "cut_length"
    return None


def _has_open_bracket(text: str) -> bool:
    """Whether the last opening of some bracket has no closing after it."""
    for opening, closing in _BRACKETS.items():
        at = text.rfind(opening)
        if at >= 0 and closing not in text[at:] and not (at and text[at - 1] in ":;='-"):
            return True
    return False


def _is_cut_at(text: str, lengths: Sequence[int]) -> bool:
    """Whether a text is as long as a limit, in characters, or in bytes so that one more character was too many."""
    size = len(text.encode("utf-8", "replace"))
    widest = 1 if text.isascii() else 3
    return any(len(text) == limit or limit - widest < size <= limit for limit in lengths)
