"""Which languages a lexicon covers: concept balance leaves captions in any other as they are.

A caption that names no entry is rejected, as MetaCLIP does. That says something of the caption only where the lexicon
covers its language: a list of English nouns finds nothing in a Spanish caption, however good.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.diversity.concepts import STARTER, UNDETERMINED, load_lexicon, version_of
from curation.diversity.lexicon import lexicon_languages, lexicon_sources
from curation.errors import RecipeError
from curation.hashing import digest
from curation.ranges import Count, Share
from curation.stage import Reference, Stage, with_column
from curation.text.languages import known_language
from schemas.concepts import CONCEPT_COVERAGE


@dataclass(frozen=True)
class Coverage:
    """When a lexicon covers a language: it has entries of it, and enough captions of the corpus name an entry.

    A lexicon has a language where it has `min_entries` of it, or `languages` lists it. If fewer than `min_coverage` of
    the captions in such a language name an entry, the run stops; but a language with fewer than `min_captions`, or less
    than `min_share` of all, is left as it is: so few may not be in that language at all. Captions of unknown language
    are balanced where `min_coverage` of them name an entry, and none of them is rejected for naming none.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    languages: tuple[str, ...] | None = None
    """The only ones to balance, by ISO 639-1; null for all that the lexicon has."""
    min_entries: Count = 10
    min_coverage: Share = 0.8
    min_captions: Count = 100
    min_share: Share = 0.01

    def fingerprint(self) -> str:
        return digest(asdict(self))

    def languages_of(self, lexicon: pa.Table) -> dict[str, int]:
        """The languages that can be balanced, with their entries.

        Raises:
            RecipeError: one that is asked for has too few.
        """
        entries = lexicon_languages(lexicon)
        if self.languages is None:
            return {language: count for language, count in entries.items() if count >= self.min_entries}
        for language in self.languages:
            if entries.get(language, 0) < self.min_entries:
                raise RecipeError(
                    f"concepts.coverage.languages: the lexicon has {entries.get(language, 0)} entries of {language!r}, "
                    f"fewer than concepts.coverage.min_entries {self.min_entries}; {how_to_build(language)}"
                )
        return {language: entries[language] for language in self.languages}


@dataclass(frozen=True)
class ConceptLanguage(Stage):
    """Say which language a text is in, for its concepts: what its source says, else what was measured, if surely.

    A short text is often taken for another language, but seldom with confidence; below `min_confidence` its language
    is unknown ("und"). The text is the first of `columns` that is not null. Of a text that did not come from the
    source (any but "caption") only the measured language counts.
    """

    columns: tuple[str, ...] = ("caption",)
    measured: bool = True
    """Whether `CaptionLanguage` has measured those columns."""
    min_confidence: Share = 0.9

    writes = ("concept_language",)

    @property
    def reads(self) -> tuple[str, ...]:
        measures = [f"{name}_{what}" for name in self.columns for what in ("language", "language_confidence")]
        return ("language", *self.columns, *(measures if self.measured else ()))

    def __call__(self, rows: pa.Table) -> pa.Table:
        found = pa.array([UNDETERMINED] * rows.num_rows, pa.string())
        for name in reversed(self.columns):
            said = "language" if name == "caption" else None
            known = known_language(rows, said, name if self.measured else None, self.min_confidence)
            found = pc.if_else(pc.is_valid(rows[name]), pc.fill_null(known, UNDETERMINED), found)
        return with_column(rows, "concept_language", found)


@dataclass(frozen=True)
class ConceptCoverage(Stage):
    """How many captions of each language name an entry, and which languages are balanced; a reduce.

    Raises:
        RecipeError: the lexicon has a language, but does not cover the corpus's captions in it.
    """

    lexicon: str = STARTER
    coverage: Coverage = field(default_factory=Coverage)

    reads = ("concept_language", "concepts")
    writes = tuple(CONCEPT_COVERAGE.names)

    def fingerprint(self) -> str:
        return digest([super().fingerprint(), version_of(self.lexicon)])

    def references(self) -> list[Reference]:
        lexicon = load_lexicon(self.lexicon)
        languages = self.coverage.languages_of(lexicon)
        counts = ", ".join(f"{language} ({count} entries)" for language, count in languages.items()) or "no language"
        covers = f"balances {counts}; captions in other languages keep probability 1"
        return [
            Reference(
                f"lexicon {Path(self.lexicon).name}: {source}", licence or "not stated", f"{count} entries; {covers}"
            )
            for source, licence, count in lexicon_sources(lexicon)
        ]

    def __call__(self, rows: pa.Table) -> pa.Table:
        languages = self.coverage.languages_of(load_lexicon(self.lexicon))
        named = pc.greater(pc.fill_null(pc.list_value_length(rows["concepts"]), 0), 0).cast(pa.int64())
        counted = pa.table({"concept_language": rows["concept_language"], "named": named})
        groups = counted.group_by("concept_language").aggregate([("named", "count"), ("named", "sum")])
        table = []
        for row in groups.sort_by("concept_language").to_pylist():
            language, captions, matched = row["concept_language"], row["named_count"], row["named_sum"]
            share = matched / captions
            has = language in languages or (language == UNDETERMINED and bool(languages))
            covered = has and share >= self.coverage.min_coverage
            counts = captions >= self.coverage.min_captions and captions >= self.coverage.min_share * rows.num_rows
            if language in languages and not covered and counts:
                raise RecipeError(self.too_little(language, captions, share, languages))
            entries = languages.get(language, 0)
            table.append(dict(zip(self.writes, (language, entries, captions, matched, share, covered), strict=True)))
        return pa.Table.from_pylist(table, CONCEPT_COVERAGE)

    def too_little(self, language: str, captions: int, share: float, languages: dict[str, int]) -> str:
        """What is wrong, and the ways out."""
        others = ", ".join(code for code in languages if code != language)
        return (
            f"concepts.lexicon: {self.lexicon} names something in {share:.1%} of {captions} captions in {language!r}, "
            f"less than concepts.coverage.min_coverage {self.coverage.min_coverage:g}, and the rest would be rejected "
            f"as no_concept; {how_to_build(language)}. Or leave captions in {language!r} as they are: "
            f"--set 'concepts.coverage.languages=[{others}]'; or keep those that name nothing: "
            "--set concepts.keep_unmatched=true"
        )


def how_to_build(language: str) -> str:
    """The command that makes a lexicon of a language."""
    package = "--package jieba" if language == "zh" else f"--package wordfreq={language}"
    return (
        f"build a lexicon that covers it: curate lexicon lexicon.parquet {package} (or --titles {language}=FILE, a "
        "dump of Wikipedia's titles), then --set concepts.lexicon=lexicon.parquet"
    )
