"""Concepts: the lexicon's entries, how often a corpus names them, and what balancing does to each."""

import pyarrow as pa

from schemas.fields import field

ENTRY = (
    field("entry", pa.string(), "a word or phrase, normalised; see curation.diversity.lexicon", nullable=False),
    field("language", pa.string(), "ISO 639-1 code of the list that it comes from", nullable=False),
)

LEXICON = pa.schema(
    [
        *ENTRY,
        field("source", pa.string(), "the list that it comes from", nullable=False),
        field("licence", pa.string(), "of that list, as an SPDX identifier; empty where nobody said", nullable=False),
        field("forms", pa.list_(pa.string()), "other ways to write it, normalised: plurals, cases", nullable=False),
    ]
)

CONCEPT_COUNTS = pa.schema(
    [*ENTRY, field("count", pa.int64(), "texts that name it, each once", unit="texts", nullable=False)]
)

KEEP_PROBABILITY = pa.schema(
    [
        field("row_id", pa.string(), "the pair", nullable=False),
        field("keep_probability", pa.float64(), "P = 1 - Π(1 - min(1, t / count)) over its entries", nullable=False),
        field("balanced", pa.bool_(), "whether the lexicon covers its language; P is 1 where not", nullable=False),
    ]
)

CONCEPT_COVERAGE = pa.schema(
    [
        field("concept_language", pa.string(), "ISO 639-1, or und where nobody knows it", nullable=False),
        field("entries", pa.int64(), "entries of the lexicon in that language", nullable=False),
        field("captions", pa.int64(), "captions in that language", nullable=False),
        field("matched", pa.int64(), "of them, those that name an entry of any language", nullable=False),
        field("coverage", pa.float64(), "matched / captions", nullable=False),
        field("covered", pa.bool_(), "whether concept balance applies to them", nullable=False),
    ]
)

CONCEPT_BALANCE = pa.schema(
    [
        *CONCEPT_COUNTS,
        field("t", pa.float64(), "the limit of its language", unit="texts", nullable=False),
        field("expected", pa.float64(), "Σ P over the pairs that name it", unit="texts", nullable=False),
        field("deviation", pa.float64(), "standard deviation, √Σ P(1 - P)", unit="texts", nullable=False),
        field("kept", pa.int64(), "pairs that name it and were kept", unit="texts", nullable=False),
        field("excess", pa.float64(), "kept over t: brought by its pairs' other entries", unit="texts", nullable=False),
    ]
)

TAIL_COVERAGE = pa.schema(
    [
        ENTRY[1],
        field("t", pa.float64(), "the limit of the language", unit="texts", nullable=False),
        field("entries", pa.int64(), "entries that the corpus names", nullable=False),
        field("tail_entries", pa.int64(), "entries with count <= t", nullable=False),
        field("matches_before", pa.int64(), "Σ count over all entries", nullable=False),
        field("matches_after", pa.int64(), "the same over kept pairs", nullable=False),
        field("tail_share_before", pa.float64(), "share of matches that lie in the tail"),
        field("tail_share_after", pa.float64(), "the same over kept pairs"),
        field("entries_after", pa.int64(), "entries that a kept pair names", nullable=False),
        field("tail_entries_whole", pa.int64(), "tail entries that lost no pair", nullable=False),
    ]
)
