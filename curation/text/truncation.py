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
from curation.text.paired_marks import open_mark

DANGLING_WORDS: dict[str, tuple[str, ...]] = {
    "": ("the", "of", "with", "from", "and"),
    "en": (
        *("a", "an", "the", "of", "and", "or", "with", "from", "into", "onto", "than"),
        *("its", "their", "our", "my", "your", "whose", "very", "&"),
    ),
    "de": ("der", "dem", "den", "einem", "und", "oder", "im", "vom", "zum", "zur"),
    "fr": ("le", "les", "des", "du", "et", "un", "une", "au", "aux"),
    "es": ("el", "los", "las", "un", "y", "del", "al", "con", "de"),
}
"""Words that end no phrase, by language; "" is for all others, as which a short English text may be taken.

Not among them: what may well end one, as in "kauft ein", "trinkt einen", "a friend of his", "houses in between", "cada
una", "jouer avec".
"""
STRANDED = frozenset({"of", "with", "from", "into", "onto", "than"})
"""Those that may end a phrase after one of `LEADING`: "a toy to play with", "the town that he comes from"."""
LEADING = frozenset(
    {
        "to",
        "who",
        "whom",
        "which",
        "that",
        "what",
        "where",
        "why",
        "how",
        "whose",
        "whatever",
        "being",
        "been",
        "we",
        "i",
    }
)
_LABEL = re.compile(
    r"\d|^(?:fig|figs|figure|panel|part|plan|option|type|grade|group|class|section|vitamin|hepatitis)\b"
)
"""Before "a" that is a letter: figure 2 a, vitamin a."""
_COUNTED = frozenset({"numéro", "n°", "nº", "no", "par", "et", "la", "à", "chapitre", "tome", "número", "uno"})
"""Before "un" that is a number, or a page: numéro un, vingt et un, à la une."""

_ELLIPSIS = re.compile(r"(?:\.\s?\.\s?\.+|…|。。+|⋯|\[\.\.\.\]|\(\.\.\.\)|\[…\])[\"'”’“»«›」』)\]]?$")
"""Two stops are one too many, not an ellipsis."""
_COMPLETE = re.compile(
    r"[\"“”„«»‹›(\[（「『](?P<inside>[^\"“”„«»‹›()\[\]（）「」『』]*\w[^\"“”„«»‹›()\[\]（）「」『』]*)[\"“”»«›)\]）」』]$"
)
"""A bracket or a quotation with words in it that ends where the text does: what trails off is what it holds."""
LONGEST_ASIDE = 400
LONGEST_SIGN = 16
"""Characters at the end of a text that an ellipsis may fill; of a longer run of stops the last ones are enough."""


@dataclass(frozen=True)
class CaptionTruncation(CaptionCheck):
    """Reject captions that were certainly cut: they end in an ellipsis, a broken character, within a bracket or a
    quotation, in a word that ends no phrase ("of", "the"), or in a word without a stop just where some database cuts.

    Words are of the text's language, from `language_column` where there is one (`CaptionLanguage` writes one).
    """

    measures: ClassVar[dict[str, pa.DataType]] = {"truncation": pa.string()}
    version = 2

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
    """What shows that a text was cut: "ellipsis", "broken_character", "open_bracket", "open_quote", "dangling_word",
    "cut_length".

    For brackets and quotation marks see `open_mark`. A dangling word counts in lower case only ("Vitamin A"), and only
    at the very end, without a stop; a preposition not where it may be stranded. None where nothing shows.
    """
    text = text.rstrip()
    if _ELLIPSIS.search(text[-LONGEST_SIGN:]) and not _COMPLETE.search(text[-LONGEST_ASIDE:]):
        return "ellipsis"
    if text.endswith("\ufffd"):
        return "broken_character"
    if opened := open_mark(text):
        return opened
    words = dangling_words.get(base_language(language), dangling_words.get("", ()))
    if _dangles(text, words):
        return "dangling_word"
    if text and text[-1].isalnum() and _is_cut_at(text, cut_lengths):
        return "cut_length"
    return None


def _dangles(text: str, words: Sequence[str]) -> bool:
    """Whether the last word of several is one of `words` and cannot end a phrase here."""
    last = text.rsplit(maxsplit=2)
    if len(last) < 2 or last[-1] not in words:
        return False
    before = last[-2].casefold()
    if last[-1] in ("un", "une"):
        return before not in _COUNTED
    if last[-1] == "a":
        return not _LABEL.search(before)
    if last[-1] in STRANDED:
        return LEADING.isdisjoint(text.casefold().split()[:-1])
    return True


def _is_cut_at(text: str, lengths: Sequence[int]) -> bool:
    """Whether a text is as long as a limit, in characters, or in bytes so that one more character was too many."""
    size = len(text.encode("utf-8", "replace"))
    widest = 1 if text.isascii() else 3
    return any(len(text) == limit or limit - widest < size <= limit for limit in lengths)
