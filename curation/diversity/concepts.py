"""Concept balance: captions of very common concepts are thinned, those of rare ones stay.

MetaCLIP (Xu et al. 2023, algorithm 1): an entry e that `count_e` captions name is drawn with min(1, t / count_e), and a
pair is kept if any of its entries is, here in one draw: P = 1 - Π(1 - min(1, t / count_e)). MetaCLIP 2 (Chuang et al.
2025, section 3.2) sets t for each language so that the tail holds the same share of matches in all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.diversity.concept_matching import ConceptMatcher
from curation.diversity.lexicon import lexicon_version, read_lexicon
from curation.diversity.starter_lexicon import LISTS, starter_lexicon
from curation.errors import RecipeError, ResourceMissing, SourceError, StageError
from curation.hashing import digest, draw, file_digest
from curation.paths import PathKey, RecipePath
from curation.stage import Stage, mark, reject, with_column
from schemas.concepts import CONCEPT_COUNTS, KEEP_PROBABILITY
from schemas.ledger import SAMPLED_OUT

STARTER = "starter"
"""The lexicon that ships with the package."""
LexiconPath = Annotated[str, PathKey(words=(STARTER,))]
"""The type of a key that names a lexicon: "starter", or the path of a Parquet file."""

UNDETERMINED = "und"
"""ISO 639-2 for texts whose language nobody knows."""


@dataclass(frozen=True)
class Limits:
    """t per language: how many captions an entry may have before its captions are drawn.

    A language that is not `given` gets the t whose tail holds `tail_share` of its matches; where that is None, the
    share that the tail of the `reference` language holds under its own t (MetaCLIP 2). A corpus without a match of the
    reference has no such tail: then the t of the reference is that of all.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    given: Mapping[str, float] = field(default_factory=lambda: {"en": 20_000.0})
    tail_share: float | None = None
    reference: str = "en"

    def __post_init__(self) -> None:
        if wrong := {language: t for language, t in self.given.items() if not t > 0}:
            raise RecipeError(f"t must be above 0: {wrong}")
        if self.tail_share is not None and not 0 <= self.tail_share <= 1:
            raise RecipeError(f"tail_share is a share, from 0 to 1: {self.tail_share}")

    def fingerprint(self) -> str:
        return digest([dict(self.given), self.tail_share, self.reference])

    def of(self, counts: pa.Table) -> dict[str, float]:
        """t of every language among the counts (`schemas.concepts.CONCEPT_COUNTS`), and of those given.

        Raises:
            RecipeError: a language has none, and no share to find it by.
        """
        languages = np.array(counts["language"].to_pylist(), dtype=object)
        numbers = counts["count"].to_numpy()
        t = {language: float(limit) for language, limit in self.given.items()}
        for language in sorted(set(languages) - set(t)):
            share = self.tail_share
            if share is None and self.reference in self.given and self.reference in languages:
                share = tail_share(numbers[languages == self.reference], self.given[self.reference])
            if share is None and self.reference not in self.given:
                raise RecipeError(
                    f"concepts.limits: no t for {language!r}, and none for the reference {self.reference!r} to take a "
                    f"tail share from: give {language!r} a t, or give tail_share"
                )
            own = numbers[languages == language]
            t[language] = t[self.reference] if share is None else float(tail_threshold(own, share))
        return t


@dataclass(frozen=True)
class LexiconStage(Stage):
    """A stage that reads a lexicon: one that cannot be read is missed when the run is planned."""

    lexicon: LexiconPath = STARTER

    def missing(self) -> str | None:
        """As for every stage; a lexicon is read as well, which its fingerprint asks for anyway."""
        if reason := super().missing():
            return reason
        try:
            version_of(self.lexicon)
        except ResourceMissing as error:
            return f"stage {self.name}: {error}"
        return None

    def fingerprint(self) -> str:
        return digest([super().fingerprint(), version_of(self.lexicon)])


@dataclass(frozen=True)
class MatchConcepts(LexiconStage):
    """Find which entries of a lexicon a caption names; each counts once, wherever and however often it appears.

    `lexicon` is "starter" or the path of a Parquet file (`curation.diversity.lexicon`), which every worker must see.
    """

    column: str = "caption"

    writes = ("concepts",)
    costly = True
    packages = ("pyahocorasick",)
    extra = "vision"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        return with_column(pairs, "concepts", concept_matcher(self.lexicon).match_all(pairs[self.column].to_pylist()))


@dataclass(frozen=True)
class ConceptCounts(LexiconStage):
    """How many pairs of the corpus name each entry; a reduce. Entries that no pair names are left out."""

    reads = ("concepts",)
    writes = tuple(CONCEPT_COUNTS.names)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        return concept_counts(pairs["concepts"], load_lexicon(self.lexicon))


@dataclass(frozen=True)
class KeepProbability(LexiconStage):
    """The probability to keep each pair of the corpus; a reduce whose table is joined to the pairs by `row_id`.

    Pairs in a language that the lexicon does not cover (`covered`, of the reduce `ConceptCoverage`) are not counted and
    have probability 1; so do those of unknown language that name no entry. Without `by_language` all are balanced.
    """

    limits: Limits = field(default_factory=Limits)
    by_language: bool = True

    version = 2

    @property
    def reads(self) -> tuple[str, ...]:
        return ("concepts", "concept_language", "covered") if self.by_language else ("concepts",)

    writes = tuple(KEEP_PROBABILITY.names)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        named = _lengths(pairs["concepts"]) > 0
        balanced = np.full(pairs.num_rows, True)
        if self.by_language:
            known = np.array(pc.not_equal(pairs["concept_language"], UNDETERMINED), bool)
            balanced = np.array(pc.fill_null(pairs["covered"], False), bool) & (named | known)
        concepts = pairs["concepts"].filter(pa.array(balanced))
        counts = concept_counts(concepts, load_lexicon(self.lexicon))
        probabilities = np.ones(pairs.num_rows)
        probabilities[balanced] = keep_probability(concepts, counts, self.limits.of(counts))
        columns = [pairs["row_id"], pa.array(probabilities), pa.array(balanced)]
        return pa.Table.from_arrays(columns, schema=KEEP_PROBABILITY)


@dataclass(frozen=True)
class ConceptBalance(Stage):
    """Draw the pairs to keep; a pair that is not drawn is `sampled_out` (`concept_over_represented`), value draw, limit
    P.

    A pair that names no entry is rejected (`no_concept`), as MetaCLIP does, unless `keep_unmatched`. The draw depends
    on the seed and the pair alone: no sharding changes it, and a higher t only adds pairs. Pairs that are not
    `balanced`, since the lexicon does not cover their language, are kept and have no draw.

    P comes as the column `keep_probability` (of the reduce `KeepProbability`, with `balanced`), or, where `counts` is
    the path of a Parquet file of `ConceptCounts`, from it and `limits`: then all pairs are balanced, so they must be in
    languages that its lexicon covers. The file's content is part of the fingerprint.
    """

    seed: int = 0
    keep_unmatched: bool = False
    counts: RecipePath = ""
    limits: Limits = field(default_factory=Limits)

    version = 2

    @property
    def reads(self) -> tuple[str, ...]:
        return ("row_id", "concepts") if self.counts else ("row_id", "concepts", "keep_probability", "balanced")

    @property
    def writes(self) -> tuple[str, ...]:
        return ("concept_draw", "keep_probability") if self.counts else ("concept_draw",)

    def fingerprint(self) -> str:
        return digest([super().fingerprint(), file_digest(Path(self.counts)) if self.counts else None])

    def __call__(self, pairs: pa.Table) -> pa.Table:
        unmatched = _lengths(pairs["concepts"]) == 0
        if self.counts:
            counts = _counts_of(self.counts, file_digest(Path(self.counts)))
            probabilities = keep_probability(pairs["concepts"], counts, self.limits.of(counts))
            pairs = with_column(pairs, "keep_probability", probabilities)
        if absent := pairs.filter(pc.is_null(pairs["keep_probability"])).num_rows:
            raise StageError(f"{absent} pairs have no keep_probability: it was made for other pairs")
        balanced = np.full(pairs.num_rows, True) if self.counts else np.array(pairs["balanced"], bool)
        draws = concept_draws(pairs["row_id"].to_pylist(), self.seed)
        pairs = with_column(pairs, "concept_draw", pa.array(draws, mask=~balanced))
        if not self.keep_unmatched:
            pairs = reject(pairs, unmatched & balanced, "no_concept")
        probabilities = pairs["keep_probability"].to_numpy()
        out = ~is_drawn(probabilities, draws) & ~unmatched & balanced
        # Each row has a limit of its own, which `reject` cannot write.
        return mark(pairs, [_sampled_out(*pair) for pair in zip(out, draws, probabilities, strict=True)])


def concept_counts(concepts: pa.Array | pa.ChunkedArray, lexicon: pa.Table) -> pa.Table:
    """How many of the sets of concepts hold each entry (`schemas.concepts.CONCEPT_COUNTS`), in order of entries.

    Raises:
        StageError: a concept is not in the lexicon: the sets were found with another one.
    """
    counted = pc.value_counts(pc.list_flatten(concepts))
    entries = counted.field("values")
    languages = pc.take(lexicon["language"], pc.index_in(entries, lexicon["entry"].combine_chunks()))
    if languages.null_count:
        unknown = entries.filter(pc.is_null(languages))[0].as_py()
        raise StageError(f"concept {unknown!r} is not in the lexicon: match and count with the same one")
    columns = [entries, languages, counted.field("counts")]
    table = pa.table(dict(zip(CONCEPT_COUNTS.names, columns, strict=True)))
    return table.sort_by("entry").cast(CONCEPT_COUNTS).combine_chunks()


def keep_probability(
    concepts: pa.Array | pa.ChunkedArray, counts: pa.Table, t: float | Mapping[str, float]
) -> NDArray[np.float64]:
    """P = 1 - Π(1 - min(1, t / count_e)) of each set of concepts; 0 for an empty set.

    An entry without a count is in the tail. P never falls as t rises, to the last bit.

    Args:
        counts: entry, language and count (`schemas.concepts.CONCEPT_COUNTS`).
        t: one for all, or one per language.
    """
    numbers = np.maximum(counts["count"].to_numpy(), 1)
    not_drawn = np.append(1 - np.minimum(1, entry_limits(counts, t) / numbers), 0.0)
    places = places_of(concepts, counts)
    lengths = _lengths(concepts)
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    probabilities = np.zeros(len(lengths))
    if len(starts):
        probabilities[lengths > 0] = 1 - np.multiply.reduceat(not_drawn[places], starts)
    return probabilities


def entry_limits(counts: pa.Table, t: float | Mapping[str, float]) -> NDArray[np.float64]:
    """t of each entry among the counts."""
    if not isinstance(t, Mapping):
        return np.full(counts.num_rows, float(t))
    return np.array([t[language] for language in counts["language"].to_pylist()], np.float64)


def places_of(concepts: pa.Array | pa.ChunkedArray, counts: pa.Table) -> NDArray[np.int64]:
    """Where each concept of each set stands among the counts, one after the other; -1 for one without a count."""
    places = pc.index_in(pc.list_flatten(concepts), counts["entry"].combine_chunks())
    found: NDArray[np.int64] = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def concept_draws(row_ids: Sequence[str], seed: int) -> NDArray[np.float64]:
    """One number in [0, 1] per pair, from its id and the seed alone."""
    return np.fromiter((draw(seed, row_id, "concepts") for row_id in row_ids), np.float64, len(row_ids))


def is_drawn(probabilities: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs are kept. A draw can round to 1, and whoever is certain is kept all the same."""
    drawn: NDArray[np.bool_] = (draws < probabilities) | (probabilities >= 1)
    return drawn


def tail_share(counts: NDArray[np.int64], t: float) -> float:
    """The share of all matches that lies in entries with count <= t; 0 where there are none."""
    return float(counts[counts <= t].sum() / max(counts.sum(), 1))


def tail_threshold(counts: NDArray[np.int64], share: float) -> int:
    """The smallest t for which at least this share of all matches lies in entries with count <= t (MetaCLIP 2)."""
    ordered = np.sort(counts[counts > 0])
    if not len(ordered):
        return 1
    matches = np.cumsum(ordered)
    # A share that was a quotient may come back one bit above the sum that it was made of.
    place = int(np.searchsorted(matches, share * matches[-1] * (1 - 1e-12)))
    return int(ordered[min(place, len(ordered) - 1)])


def load_lexicon(lexicon: str) -> pa.Table:
    """The lexicon of a recipe: "starter", or the path of a Parquet file."""
    return _lexicon(lexicon, _file_version(lexicon))


def concept_matcher(lexicon: str) -> ConceptMatcher:
    """The automaton of a lexicon, built once in a process."""
    return _matcher(lexicon, _file_version(lexicon))


def version_of(lexicon: str) -> str:
    """The name of what a lexicon finds, by which results are found again."""
    return _lexicon_version(lexicon, _file_version(lexicon))


def _file_version(lexicon: str) -> str:
    paths = LISTS.values() if lexicon == STARTER else [Path(lexicon)]
    try:
        return digest([file_digest(path) for path in paths])
    except OSError as error:
        raise ResourceMissing(f"lexicon {lexicon} cannot be read: {error}") from error


@lru_cache(maxsize=2)
def _lexicon(lexicon: str, version: str) -> pa.Table:
    try:
        return starter_lexicon() if lexicon == STARTER else read_lexicon(Path(lexicon))
    except SourceError as error:
        raise ResourceMissing(str(error)) from error


@lru_cache(maxsize=2)
def _lexicon_version(lexicon: str, version: str) -> str:
    return lexicon_version(_lexicon(lexicon, version))


@lru_cache(maxsize=2)
def _matcher(lexicon: str, version: str) -> ConceptMatcher:
    return ConceptMatcher(_lexicon(lexicon, version))


@lru_cache(maxsize=2)
def _counts_of(path: str, version: str) -> pa.Table:
    return pq.read_table(path).select(CONCEPT_COUNTS.names).cast(CONCEPT_COUNTS)


def _lengths(concepts: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.fill_null(pc.list_value_length(concepts), 0).to_numpy().astype(np.int64)
    return lengths


def _sampled_out(out: bool, value: float, limit: float) -> dict[str, Any] | None:
    if not out:
        return None
    reason = "concept_over_represented"
    return {"verdict": SAMPLED_OUT, "reason": reason, "value": float(value), "threshold": float(limit), "error": None}
