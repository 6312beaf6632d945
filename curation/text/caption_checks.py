"""Checks of a caption's text, before its image is looked at (LongCat-Flash-Omni, section 3.1.2).

Every check measures, then compares; limits are fields. They start from DataComp (Gadre et al. 2023: more than two words
and more than five characters) and OBELICS (Laurençon et al. 2023, appendix A), whose figures are for paragraphs of web
pages: where a caption is too short for one, the stage says what it does instead.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.engines.language_identification import AnyLanguageIdentifier, Identified, LangId
from curation.errors import RecipeError
from curation.hashing import digest, file_digest
from curation.paths import RecipePath
from curation.stage import Stage, reject, with_column
from curation.text.boilerplate import boilerplate
from curation.text.flagged_words import flagged_words_share, read_flagged_words
from curation.text.languages import known_language
from curation.text.normalisation import base_language
from curation.text.scripts import (
    LATIN,
    latin_is_names,
    mixes_scripts_within_words,
    script_units,
    special_share,
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
    version = 2

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
    are names alone, recognised by their capitals; nor do fewer than `min_minor_units` of the rest.
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
class CaptionLanguage(CaptionCheck):
    """Reject captions in an unwanted language, and captions of which a part is in another language.

    A few words, names above all, leave any identifier unsure. So a caption is rejected for what it surely is, not for
    what it is not surely: where one unwanted language has more than `max_unwanted`. Clauses of at least
    `min_clause_letters` that are in another language than the whole, at `min_clause_confidence`, make it mixed.
    OBELICS keeps paragraphs of which fastText is sure to .8; that is `min_confidence`, off by default.

    An identifier takes a text in a language that it does not know for one that it knows. So where the source says such
    a language (`source_language`), its word stands, and nothing is measured.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {
        "language": pa.string(),
        "language_confidence": pa.float64(),
        "unwanted_language": pa.float64(),
        "other_language_share": pa.float64(),
    }

    identifier: AnyLanguageIdentifier = LangId()
    languages: tuple[str, ...] = ()
    """Wanted ones, by ISO 639-1; empty where any is."""
    max_unwanted: float = 0.5
    min_confidence: float | None = None
    max_other_share: float = 0.3
    min_clause_letters: int = 24
    min_clause_confidence: float = 0.95
    source_language: str | None = None
    """The column with what the source says, where there is one."""

    @property
    def reads(self) -> tuple[str, ...]:
        return (*super().reads, *([self.source_language] if self.source_language else []))

    def __call__(self, rows: pa.Table) -> pa.Table:
        texts = self.texts(rows)
        codes = rows[self.source_language].to_pylist() if self.source_language else [None] * rows.num_rows
        strange = {code for code in set(codes) if code and not self.identifier.knows(base_language(code))}
        found = self.identifier.identify(texts)
        found = [
            Identified({base_language(code): 1.0}) if code in strange else one
            for one, code in zip(found, codes, strict=True)
        ]
        clauses = [[] if code in strange else self.clauses(text) for text, code in zip(texts, codes, strict=True)]
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

    def require_known(self, key: str) -> None:
        """Refuse to look for languages of which the identifier knows none: everything would be rejected.

        Raises:
            RecipeError: naming the key of the recipe.
        """
        if not self.languages or self.identifier.missing() or any(map(self.identifier.knows, self.languages)):
            return
        raise RecipeError(
            f"{key}: {self.identifier.label} cannot find {', '.join(self.languages)}, so every text would be rejected; "
            "say with source.language which language the source is in, or leave the list empty"
        )

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
    rejected. A word of one language may be harmless in another: where `languages` says what the list is of, texts that
    are known to be in another are not judged, and have no share.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {"flagged_share": pa.float64()}

    max_share: float = 0.01
    words: tuple[str, ...] = ()
    words_path: RecipePath | None = None
    languages: tuple[str, ...] = ()
    measured_column: str | None = None
    """The column of texts whose language `CaptionLanguage` has measured, for texts of which no source says it."""
    min_confidence: float = 0.9

    @property
    def reads(self) -> tuple[str, ...]:
        measured = [f"{self.measured_column}_{what}" for what in ("language", "language_confidence")]
        known = ["language", *(measured if self.measured_column else [])]
        return (*super().reads, *(known if self.languages else []))

    def __call__(self, rows: pa.Table) -> pa.Table:
        words = (*self.words, *(read_flagged_words(self.words_path) if self.words_path else ()))
        shares: list[float | None] = [flagged_words_share(text, words) for text in self.texts(rows)]
        if self.languages:
            known = known_language(rows, "language", self.measured_column, self.min_confidence).to_pylist()
            judged = [code is None or code in self.languages for code in known]
            shares = [share if ours else None for share, ours in zip(shares, judged, strict=True)]
        rows = self.with_measures(rows, [{"flagged_share": share} for share in shares])
        return self.reject_over(rows, "flagged_share", self.max_share, "flagged_words")

    def missing(self) -> str | None:
        if self.words_path and not Path(self.words_path).is_file():
            return f"stage {self.name}: words_path {self.words_path} is not a file; give one with one word a line"
        return super().missing()

    def fingerprint(self) -> str:
        """With the content of the file, since that decides."""
        content = file_digest(Path(self.words_path)) if self.words_path else None
        return digest([super().fingerprint(), content])


_CLAUSE_END = re.compile(r"[.!?](?=\s|$)|[。！？।|\n\r;；•]|\s[-–—/]\s")


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
