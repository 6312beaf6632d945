"""Pace: seconds of speech over length of text, and a corpus's bounds of it (LongCat-Flash-Omni, section 3.1.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Stage, measure_each, reject
from curation.text.romanisation import LANGUAGE_PACKAGES, PACKAGES, romanised_length


@dataclass(frozen=True)
class Pace(Stage):
    """Measure seconds of speech per letter. Letters are counted after romanisation, which brings languages together."""

    reads = ("text", "language", "speech_s")
    writes = ("letters", "pace_s")
    costly = True
    version = 2
    packages = PACKAGES
    optional_packages = LANGUAGE_PACKAGES
    extra = "speech"

    def __call__(self, utterances: pa.Table) -> pa.Table:
        utterances = measure_each(utterances, {"letters": pa.int64(), "pace_s": pa.float64()}, self.measure)
        return reject(utterances, pc.equal(utterances["letters"], 0), "no_letters")

    def measure(self, row: dict[str, Any]) -> dict[str, Any]:
        """Letters of one utterance, and its seconds of speech for each."""
        letters = romanised_length(row["text"], row["language"])
        return {"letters": letters, "pace_s": row["speech_s"] / letters if letters else None}


@dataclass(frozen=True)
class PaceBounds(Stage):
    """The percentiles of pace, per language, over the whole corpus; a reduce.

    A language with fewer than `min_count` utterances gets no bounds: percentiles of a handful say nothing.
    """

    lower_percentile: float = 0.5
    upper_percentile: float = 99.5
    min_count: int = 1000

    reads = ("language", "pace_s")
    writes = ("language", "pace_low_s", "pace_high_s", "pace_count")

    def __call__(self, utterances: pa.Table) -> pa.Table:
        paces: dict[str, list[float]] = {}
        for row in utterances.select(["language", "pace_s"]).to_pylist():
            paces.setdefault(row["language"], []).append(row["pace_s"])
        bounds = []
        for language, values in sorted(paces.items()):
            enough = len(values) >= self.min_count
            low, high = np.percentile(np.sort(values), [self.lower_percentile, self.upper_percentile])
            bounds.append(
                {
                    "language": language,
                    "pace_low_s": float(low) if enough else None,
                    "pace_high_s": float(high) if enough else None,
                    "pace_count": len(values),
                }
            )
        fields = [("language", pa.string()), ("pace_low_s", pa.float64()), ("pace_high_s", pa.float64())]
        return pa.Table.from_pylist(bounds, pa.schema([*fields, ("pace_count", pa.int64())]))


@dataclass(frozen=True)
class WithinPace(Stage):
    """Reject utterances that are spoken faster or slower than the bounds of their language allow."""

    reads = ("pace_s", "pace_low_s", "pace_high_s")

    def __call__(self, utterances: pa.Table) -> pa.Table:
        rows = utterances.select(list(self.reads)).to_pylist()
        for bound, reason in (("pace_low_s", "too_fast"), ("pace_high_s", "too_slow")):
            for limit in sorted({row[bound] for row in rows if row[bound] is not None}):
                over = [
                    row[bound] == limit and (row["pace_s"] < limit if reason == "too_fast" else row["pace_s"] > limit)
                    for row in rows
                ]
                utterances = reject(utterances, over, reason, value=[row["pace_s"] for row in rows], limit=limit)
        return utterances
