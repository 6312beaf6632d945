"""Checks of a caption's text, before its picture is looked at (LongCat-Flash-Omni, section 3.1.2).

Every check measures, then compares; limits are fields. They start from DataComp (Gadre et al. 2023: more than two words
and more than five characters) and OBELICS (Laurençon et al. 2023, appendix A), whose figures are for paragraphs of web
pages: where a caption is too short for one, the stage says what it does instead.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.engines.language_identification import Identified, LangId, LanguageIdentifier
from curation.hashing import digest, file_digest
from curation.stage import Stage, reject, with_column
from curation.text.boilerplate import boilerplate
from curation.text.flagged_words import flagged_words_share, read_flagged_words
from curation.text.normalisation import base_language
from curation.text.scripts import (
    LATIN,
    latin_is_names,
    mixes_scripts_within_words,
    script_units,
    special_share,
    text_units,
    unit_counts,
)


@dataclass(frozen=True)
class CaptionCheck(Stage):
    """A check of one column of text. Its measures are columns named after it: `caption_words`, `recaption_words`.

    A null text is measured as an empty one. No more than `max_measured_characters` of a text are looked at.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {}

    column: str = "caption"
    max_measured_characters: int = 20_000

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(f"{self.column}_{measure}" for measure in self.measures)

    def measure(self, text: str) -> dict[str, Any]:
        """The measures of one text."""
        raise NotImplementedError

    def texts(self, rows: pa.Table) -> list[str]:
        """The texts, "" for null, cut where measuring ends."""
        column = rows[self.column].cast(pa.large_string())
        return [text or "" for text in pc.utf8_slice_codeunits(column, 0, self.max_measured_characters).to_pylist()]

    def measured(self, rows: pa.Table) -> pa.Table:
        """The rows with the measures of their texts."""
        return self.with_measures(rows, [self.measure(text) for text in self.texts(rows)])

    def with_measures(self, rows: pa.Table, values: Sequence[dict[str, Any]]) -> pa.Table:
        """The rows with these values, one mapping a row, in columns of their own."""
        for name, type_ in self.measures.items():
            rows = with_column(rows, f"{self.column}_{name}", [value[name] for value in values], type_)
        return rows

    def reject_over(self, rows: pa.Table, measure: str, limit: float | None, reason: str) -> pa.Table:
        """Reject rows whose measure is greater than the limit; None is no limit."""
        value = rows[f"{self.column}_{measure}"]
        return rows if limit is None else reject(rows, pc.greater(value, limit), reason, value=value, limit=limit)


@dataclass(frozen=True)
class CaptionLength(CaptionCheck):
    """Reject captions that are empty, too short to say anything, or too long to be captions.

    Words are counted where scripts are spaced, letters where they are not (Han, kana, Thai, Lao, Burmese, Khmer); a
    text with both is long enough where its words and letters together reach `min_unspaced`.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {
        "characters": pa.int64(),
        "words": pa.int64(),
        "unspaced_letters": pa.int64(),
    }

    min_words: int = 3
    min_characters: int = 6
    min_unspaced: int = 4
    max_words: int = 1000
    max_unspaced: int = 2000
    max_characters: int = 10_000

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = self.measured(rows)
        characters = pc.fill_null(pc.utf8_length(rows[self.column].cast(pa.large_string())), 0).cast(pa.int64())
        rows = with_column(rows, f"{self.column}_characters", characters)
        words, unspaced = (rows[f"{self.column}_{name}"] for name in ("words", "unspaced_letters"))
        units = pc.add(words, unspaced)
        spaced = pc.equal(unspaced, 0)
        rows = self.reject_over(rows, "characters", self.max_characters, "caption_too_long")
        rows = reject(rows, pc.equal(units, 0), "caption_empty")
        for short, value, limit in (
            (pc.and_(spaced, pc.less(words, self.min_words)), words, self.min_words),
            (pc.and_(spaced, pc.less(characters, self.min_characters)), characters, self.min_characters),
            (pc.and_(pc.invert(spaced), pc.less(units, self.min_unspaced)), units, self.min_unspaced),
        ):
            rows = reject(rows, short, "caption_too_short", value=value, limit=limit)
        rows = self.reject_over(rows, "words", self.max_words, "caption_too_long")
        return self.reject_over(rows, "unspaced_letters", self.max_unspaced, "caption_too_long")

    def measure(self, text: str) -> dict[str, Any]:
        words, unspaced = unit_counts(text)
        return {"characters": len(text), "words": words, "unspaced_letters": unspaced}


@dataclass(frozen=True)
class CaptionBoilerplate(CaptionCheck):
    """Reject captions that are mostly a file name, an address, markup, a date, a placeholder or a site's phrases."""

    measures: ClassVar[dict[str, pa.DataType]] = {"boilerplate": pa.string(), "boilerplate_share": pa.float64()}

    max_share: float = 0.5
    phrases: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()

    def __call__(self, rows: pa.Table) -> pa.Table:
        return self.reject_over(self.measured(rows), "boilerplate_share", self.max_share, "boilerplate")

    def measure(self, text: str) -> dict[str, Any]:
        found = boilerplate(text, self.phrases, self.placeholders)
        return {"boilerplate": found.kind, "boilerplate_share": found.share}


@dataclass(frozen=True)
class CaptionSpecialCharacters(CaptionCheck):
    """Reject captions of which too much is punctuation, symbols and emoji (OBELICS: .3 for a paragraph)."""

    measures: ClassVar[dict[str, pa.DataType]] = {"special_share": pa.float64()}

    max_share: float = 0.3

    def __call__(self, rows: pa.Table) -> pa.Table:
        return self.reject_over(self.measured(rows), "special_share", self.max_share, "special_characters")

    def measure(self, text: str) -> dict[str, Any]:
        return {"special_share": special_share(text)}


@dataclass(frozen=True)
class CaptionScripts(CaptionCheck):
    """Reject captions written in two scripts: the rest besides the main script is too large to be a name.

    Shares are of words where scripts are spaced and of characters where they are not, so that the brand of "耐克 Nike
    Air Max 90 运动鞋" does not outweigh its sentence. Latin words beside another script do not count at all where they
    are names alone, told by their capitals; nor do fewer than `min_minor_units` of the rest.
    A word of Latin and Cyrillic letters is a forgery, whatever its share.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {
        "script": pa.string(),
        "minor_script_share": pa.float64(),
        "minor_script_units": pa.int64(),
        "mixes_within_words": pa.bool_(),
    }

    max_minor_share: float = 0.3
    min_minor_units: int = 3
    reject_mixed_words: bool = True

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = self.measured(rows)
        share, units, within = (rows[f"{self.column}_{name}"] for name in list(self.measures)[1:])
        mixed = pc.and_(pc.greater(share, self.max_minor_share), pc.greater_equal(units, self.min_minor_units))
        rows = reject(rows, mixed, "mixed_script", value=share, limit=self.max_minor_share)
        return reject(rows, within, "mixed_script_in_word") if self.reject_mixed_words else rows

    def measure(self, text: str) -> dict[str, Any]:
        units = script_units(text)
        if len(units) > 1 and latin_is_names(text):
            units = {script: count for script, count in units.items() if script != LATIN}
        total, main = sum(units.values()), next(iter(units), None)
        minor = total - units[main] if main else 0
        return {
            "script": main,
            "minor_script_share": minor / total if total else 0.0,
            "minor_script_units": minor,
            "mixes_within_words": mixes_scripts_within_words(text),
        }


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
    """From this size on, an n-gram that stands twice is a loop already."""
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


@dataclass(frozen=True)
class CaptionLanguage(CaptionCheck):
    """Reject captions in a language that is not wanted, and those of which a part is in another language.

    A few words, names above all, leave any identifier unsure. So a caption is rejected for what it surely is, not for
    what it is not surely: where one unwanted language has more than `max_unwanted`. Clauses of at least
    `min_clause_letters` that are in another language than the whole, at `min_clause_confidence`, make it mixed.
    OBELICS keeps paragraphs of which fastText is sure to .8; that is `min_confidence`, off by default.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {
        "language": pa.string(),
        "language_confidence": pa.float64(),
        "unwanted_language": pa.float64(),
        "other_language_share": pa.float64(),
    }

    identifier: LanguageIdentifier = LangId()
    languages: tuple[str, ...] = ()
    """Wanted ones, by ISO 639-1; empty where any is."""
    max_unwanted: float = 0.5
    min_confidence: float | None = None
    max_other_share: float = 0.3
    min_clause_letters: int = 24
    min_clause_confidence: float = 0.95

    def __call__(self, rows: pa.Table) -> pa.Table:
        texts = self.texts(rows)
        found = self.identifier.identify(texts)
        clauses = [self.clauses(text) for text in texts]
        flat = iter(self.identifier.identify([clause for several in clauses for clause in several]))
        parts = [[(clause, next(flat)) for clause in several] for several in clauses]
        rows = self.with_measures(rows, [self.compare(*pair) for pair in zip(found, parts, strict=True)])
        rows = self.reject_over(rows, "unwanted_language", self.max_unwanted, "wrong_language")
        rows = self.reject_over(rows, "other_language_share", self.max_other_share, "mixed_language")
        if self.min_confidence is None:
            return rows
        confidence = rows[f"{self.column}_language_confidence"]
        unsure = pc.less(confidence, self.min_confidence)
        return reject(rows, unsure, "language_uncertain", value=confidence, limit=self.min_confidence)

    def clauses(self, text: str) -> list[str]:
        """The clauses of a text that are long enough to be told alone; none where there is but one clause."""
        clauses = [clause for clause in _CLAUSE_END.split(text) if clause.strip()]
        return [clause for clause in clauses if _letters(clause) >= self.min_clause_letters] if len(clauses) > 1 else []

    def compare(self, whole: Identified, parts: Sequence[tuple[str, Identified]]) -> dict[str, Any]:
        """The measures of one text, from what it and its clauses were taken for."""
        unwanted = {name: p for name, p in whole.probabilities.items() if self.languages and name not in self.languages}
        letters: Counter[str] = Counter()
        for clause, found in parts:
            if found.language is not None and found.confidence >= self.min_clause_confidence:
                letters[found.language] += _letters(clause)
        total = letters.total()
        return {
            "language": whole.language,
            "language_confidence": whole.confidence,
            "unwanted_language": max(unwanted.values(), default=0.0),
            "other_language_share": 1 - max(letters.values()) / total if total else 0.0,
        }


@dataclass(frozen=True)
class FlaggedWords(CaptionCheck):
    """Reject captions with words of a list that the recipe gives, as values or as a file of one word a line.

    OBELICS' limit of .01 means, in a caption, any flagged word. The project ships no list: without one nothing is
    rejected.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {"flagged_share": pa.float64()}

    max_share: float = 0.01
    words: tuple[str, ...] = ()
    words_path: str | None = None

    def __call__(self, rows: pa.Table) -> pa.Table:
        words = (*self.words, *(read_flagged_words(self.words_path) if self.words_path else ()))
        rows = self.with_measures(rows, [{"flagged_share": flagged_words_share(t, words)} for t in self.texts(rows)])
        return self.reject_over(rows, "flagged_share", self.max_share, "flagged_words")

    def missing(self) -> str | None:
        if self.words_path and not Path(self.words_path).is_file():
            return f"stage {self.name}: words_path {self.words_path} is not a file; give one with one word a line"
        return super().missing()

    def fingerprint(self) -> str:
        """With the content of the file, since that decides."""
        content = file_digest(Path(self.words_path)) if self.words_path else None
        return digest([super().fingerprint(), content])


def character_repetition(text: str, n: int = 10) -> float:
    """ROOTS' ratio: Σ counts of the √N most frequent of the N distinct character n-grams, those that stand once left
    out, over all n-grams. 0 to 1; 0 for a text of fewer characters.
    """
    counts = sorted(Counter(text[i : i + n] for i in range(len(text) - n + 1)).values(), reverse=True)
    repeated = sum(1 for count in counts if count > 1)
    return sum(counts[: min(isqrt(len(counts)), repeated)]) / sum(counts) if counts else 0.0


def word_repetition(units: Sequence[str], n: int = 5) -> float:
    """ROOTS' ratio: Σ counts of the word n-grams that stand more than once, over all n-grams. 0 to 1."""
    counts = Counter(tuple(units[i : i + n]) for i in range(len(units) - n + 1))
    return sum(count for count in counts.values() if count > 1) / counts.total() if counts else 0.0


def looped_share(
    units: Sequence[str], longest_ngram: int = 40, min_repeats: int = 3, doubled_ngram: int = 4, min_units: int = 3
) -> float:
    """Share of units beyond the first standing of the n-gram that stands back to back over the longest stretch.

    An n-gram has at most `longest_ngram` units, or half of all, so time is linear in their number.

    Args:
        min_repeats: fewer standings are no loop ("New York, New York"),
        doubled_ngram: save for n-grams of at least this size (a sentence doubled).
        min_units: fewer units beyond the first standing are none ("row, row, row your boat").
    """
    if len(set(units)) == len(units):
        return 0.0
    best, half = 0, len(units) // 2
    for n in sorted({*range(1, min(longest_ngram, half) + 1), half}):
        run = longest = 0
        for unit, later in zip(units, units[n:], strict=False):
            run = run + 1 if unit == later else 0
            longest = max(longest, run)
        repeats = longest // n + 1
        looped = (repeats - 1) * n
        if looped >= min_units and repeats >= (2 if n >= doubled_ngram else min_repeats):
            best = max(best, looped)
    return best / len(units)


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
    if _ELLIPSIS.search(text):
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


_ELLIPSIS = re.compile(r"(?:\.\s?\.\s?\.+|…|\.\.|。。+|⋯|\[\.\.\.\]|\(\.\.\.\)|\[…\])[\"'”’»)\]]?$")
_BRACKETS = dict(zip("([{（【「『《〈“", ")]}）】」』》〉”", strict=True))
_CLAUSE_END = re.compile(r"[.!?](?=\s|$)|[。！？।|\n\r;；•]|\s[-–—/]\s")


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
