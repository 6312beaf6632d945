"""The views that every version of a pipeline has, with the columns that they have at least, whatever its recipe.

A recipe may leave steps out. Questions need not know: a view of a step that was left out has no rows, and a column that
nobody wrote is null.
"""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from schemas.concepts import CONCEPT_BALANCE, CONCEPT_COVERAGE, KEEP_PROBABILITY, TAIL_COVERAGE
from schemas.document_samples import DOCUMENT_SAMPLE
from schemas.documents import DOCUMENT, DOCUMENT_ENTRY, DOCUMENT_LISTING, NODE
from schemas.fields import field
from schemas.pairs import ENTRY, PAIR, PAIR_LISTING
from schemas.shards import SHARD_INDEX
from schemas.speech import LISTING, RECORDING, SAMPLE, UTTERANCE

SAW = (
    field("verdict", pa.string(), "kept, rejected, sampled_out or failed"),
    field("digest", pa.string(), "hash of the row; null where it was not kept"),
)
ROW_ID = field("row_id", pa.string(), "the row that it is about")
MATCHED = (
    field("similarity", pa.float32(), "cosine of the pair"),
    field("match_probability", pa.float32(), "SigLIP's, where the checkpoint has one"),
    field("checkpoint", pa.string(), "the weights that these are of"),
)
CLUSTERED = (
    field("cluster", pa.int32(), "its cluster"),
    field("centroid_cosine", pa.float64(), "cosine to the cluster's centroid"),
)
CONCEPTS = (field("concepts", pa.list_(pa.string()), "entries of the lexicon that the text names"),)
BALANCED = (
    field("keep_probability", pa.float64(), "P of the concept balance"),
    field("concept_draw", pa.float64(), "the draw that it is compared with"),
)
RESAMPLED = (
    field("cluster_size", pa.int64(), "rows of its cluster", unit="rows"),
    field("cluster_keep_probability", pa.float64(), "the chance that its cluster gives"),
)
DENSE = (
    field("density_kept", pa.bool_(), "whether it is within its cluster's quota"),
    field("density_quota", pa.int64(), "that quota", unit="rows"),
    field("density_score", pa.float64(), "what it is ranked by"),
)
PAIRED = (
    field("paired_ordinal", pa.int64(), "of an image, the place of the text that it is paired with"),
    field("paired_text", pa.string(), "the segment of that text"),
    field("pair_similarity", pa.float64(), "cosine of the pair"),
)


def _duplicate(kind: str) -> tuple[pa.Field, ...]:
    return (field(f"{kind}_duplicate_of", pa.string(), "the row that stays in its place"),)


def _rows(schema: Iterable[pa.Field], *more: Iterable[pa.Field]) -> pa.Schema:
    """Rows that a node saw: parents are in `lineage` instead."""
    fields = [*(one for one in schema if one.name != "parents"), *(one for some in more for one in some), *SAW]
    return pa.schema({one.name: one for one in fields}.values())


def _table(*some: Iterable[pa.Field]) -> pa.Schema:
    return pa.schema({one.name: one for fields in ((ROW_ID,), *some) for one in fields}.values())


_MATCHED = (MATCHED, CONCEPTS, _duplicate("perceptual"))
_DISTINCT = (*_MATCHED, CLUSTERED, _duplicate("semantic"))
_RESAMPLED = (*_DISTINCT, RESAMPLED)
_BALANCED = (*_RESAMPLED, BALANCED)

VIEWS: Mapping[str, Mapping[str, pa.Schema]] = {
    "speech": {
        "listing": _rows(LISTING),
        "scan": _rows(LISTING),
        "recordings": _rows(RECORDING),
        "utterances": _rows(UTTERANCE),
        "transcripts": _rows(UTTERANCE),
        "pace_bounds": pa.schema([field("language", pa.string(), "of the utterances that it bounds")]),
        "samples": _rows(SAMPLE),
        "encoded": _rows(SAMPLE),
        "packed": SHARD_INDEX,
    },
    "captions": {
        "listing": _rows(PAIR_LISTING),
        "entries": _rows(ENTRY),
        "scan": _rows(one for one in PAIR if one.name not in ("occurrences", "source_caption")),
        "pairs": _rows(PAIR),
        "checked": _rows(PAIR),
        "concept_coverage": CONCEPT_COVERAGE,
        "duplicates": _table(_duplicate("perceptual")),
        "matched": _rows(PAIR, *_MATCHED),
        "clusters": _table(CLUSTERED),
        "semantic": _table(_duplicate("semantic")),
        "deduplicated": _rows(PAIR, *_DISTINCT),
        "rates": pa.schema([CLUSTERED[0], *RESAMPLED]),
        "resampled": _rows(PAIR, *_RESAMPLED),
        "concepts": KEEP_PROBABILITY,
        "concept_balance": CONCEPT_BALANCE,
        "tail_coverage": TAIL_COVERAGE,
        "balanced": _rows(PAIR, *_BALANCED),
        "density": _table(DENSE),
        "encoded": _rows(PAIR, *_BALANCED, DENSE),
        "packed": pa.schema([*SHARD_INDEX, *MATCHED, *CLUSTERED, *CONCEPTS]),
    },
    "documents": {
        "listing": _rows(DOCUMENT_LISTING),
        "entries": _rows(DOCUMENT_ENTRY),
        "documents": _rows(DOCUMENT),
        "facts": pa.schema([field("root", pa.string(), "the document")]),
        "duplicates": _table(_duplicate("exact")),
        "nodes": _rows(NODE),
        "checked": _rows(NODE),
        "spread": pa.schema([field("image_hash", pa.string(), "the image")]),
        "paired": _rows(NODE, MATCHED, PAIRED),
        "assembled": _rows(DOCUMENT_SAMPLE),
        "clusters": _table(CLUSTERED),
        "density": _table(DENSE),
        "encoded": _rows((one for one in DOCUMENT_SAMPLE if one.name != "embedding"), CLUSTERED, DENSE),
        "packed": SHARD_INDEX,
    },
}
"""By pipeline and view, in the order of the nodes."""
