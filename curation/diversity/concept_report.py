"""What balancing did to each concept, and to the tail: expected and realised counts, before and after."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.concepts import (
    KeepProbability,
    LexiconStage,
    Limits,
    concept_counts,
    concept_draws,
    entry_limits,
    is_drawn,
    load_lexicon,
    places_of,
)
from curation.hashing import digest
from schemas.concepts import CONCEPT_BALANCE, TAIL_COVERAGE


@dataclass(frozen=True)
class ConceptReport(LexiconStage):
    """What the draw of `ConceptBalance` of the same seed does to each entry (CONCEPT_BALANCE); a reduce to look at.

    It reads the probabilities that `KeepProbability` of the same lexicon and limits has found. Pairs that are not
    balanced, since the lexicon does not cover their language, have no part in it.
    """

    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    version = 2
    reads = ("concepts", "keep_probability", "balanced")
    writes = tuple(CONCEPT_BALANCE.names)

    def fingerprint(self) -> str:
        return digest([super().fingerprint(), KeepProbability(self.lexicon, self.limits).fingerprint()])

    def __call__(self, pairs: pa.Table) -> pa.Table:
        pairs = pairs.filter(pairs["balanced"])
        counts = concept_counts(pairs["concepts"], load_lexicon(self.lexicon))
        probabilities = pairs["keep_probability"].to_numpy()
        kept = is_drawn(probabilities, concept_draws(pairs["row_id"].to_pylist(), self.seed))
        return concept_balance(pairs["concepts"], probabilities, kept, counts, self.limits.of(counts))


@dataclass(frozen=True)
class TailReport(ConceptReport):
    """How much of each language lies in the tail, before that draw and after it (TAIL_COVERAGE); a reduce."""

    writes = tuple(TAIL_COVERAGE.names)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        return tail_coverage(super().__call__(pairs))


def concept_balance(
    concepts: pa.Array | pa.ChunkedArray,
    probabilities: NDArray[np.float64],
    kept: NDArray[np.bool_],
    counts: pa.Table,
    t: float | Mapping[str, float],
) -> pa.Table:
    """Per entry: its count, how many of its pairs were expected to stay, and how many did (CONCEPT_BALANCE).

    `excess` is what was kept over t: a pair of a common entry stays for the sake of a rare one that it also names.

    Args:
        concepts: sets of entries, one per pair.
        probabilities, kept: P of each pair, and whether it was kept.
        counts: of these pairs (CONCEPT_COUNTS).
        t: as for `curation.diversity.concepts.keep_probability`.
    """
    places = places_of(concepts, counts)
    pairs = pc.list_parent_indices(concepts).to_numpy().astype(np.int64)
    known = places >= 0
    places, pairs = places[known], pairs[known]
    p = probabilities[pairs]
    stayed = np.bincount(places, kept[pairs], counts.num_rows)
    limits = entry_limits(counts, t)
    found = {
        "t": limits,
        "expected": np.bincount(places, p, counts.num_rows),
        "deviation": np.sqrt(np.bincount(places, p * (1 - p), counts.num_rows)),
        "kept": stayed.astype(np.int64),
        "excess": np.maximum(stayed - limits, 0),
    }
    columns = [*counts.columns, *(pa.array(values) for values in found.values())]
    return pa.table(dict(zip(CONCEPT_BALANCE.names, columns, strict=True))).cast(CONCEPT_BALANCE)


def tail_coverage(balance: pa.Table) -> pa.Table:
    """Per language: how much of what was matched lay in the tail (count <= t) before and after (TAIL_COVERAGE)."""
    languages = np.array(balance["language"].to_pylist(), dtype=object)
    count, t, kept = (balance[name].to_numpy() for name in ("count", "t", "kept"))
    rows = []
    for language in sorted(set(languages)):
        own = languages == language
        tail = own & (count <= t)
        rows.append(
            {
                "language": language,
                "t": float(t[own][0]),
                "entries": int(own.sum()),
                "tail_entries": int(tail.sum()),
                "matches_before": int(count[own].sum()),
                "matches_after": int(kept[own].sum()),
                "tail_share_before": _share(count, tail, own),
                "tail_share_after": _share(kept, tail, own),
                "entries_after": int((kept[own] > 0).sum()),
                "tail_entries_whole": int((kept == count)[tail].sum()),
            }
        )
    return pa.Table.from_pylist(rows, TAIL_COVERAGE)


def _share(matches: NDArray[np.int64], part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float | None:
    total = int(matches[whole].sum())
    return float(matches[part].sum()) / total if total else None
