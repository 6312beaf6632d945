"""Resampling of clusters: the tail stays whole, the head shrinks, poor clusters are thinned.

The aim is LongCat-Flash-Omni's (section 3.1.2), the formula is ours.

A cluster of n rows keeps n where n <= t, and t · (n / t)^α of them where it is larger: α = 1 changes nothing, α = 0 is
a cap at t, and between them sizes keep their order but come closer together. Each row is drawn on its own, by its id:
the same rows under any sharding, and a larger t, or α, only adds some.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.clusters import draws
from curation.stage import Stage, reject
from schemas.ledger import SAMPLED_OUT


def keep_probabilities(sizes: NDArray[np.integer[Any]], whole_until: float, alpha: float) -> NDArray[np.float64]:
    """The chance min(1, (t / n)^(1 − α)) of a row in a cluster of n rows, for clusters [K].

    Args:
        whole_until: t, the size up to which a cluster keeps all.
        alpha: the power of its size with which a larger one grows, 0 to 1.
    """
    if not 0 <= alpha <= 1 or whole_until <= 0:
        raise ValueError(f"alpha must be in 0 to 1 and whole_until above 0, not {alpha} and {whole_until}")
    chances: NDArray[np.float64] = np.minimum(whole_until / np.maximum(sizes, 1), 1.0) ** (1.0 - alpha)
    return chances


@dataclass(frozen=True)
class ClusterRates(Stage):
    """The probability with which a cluster's rows are kept; a reduce, one row a cluster, joined by `cluster`.

    Where more than `max_low_share` of a cluster is below `min_quality`, that probability is multiplied by `thin_to`.
    Rows of no known quality are not counted; without `quality`, the name of a column, no cluster is thinned.
    """

    whole_until: float = 1000.0
    alpha: float = 0.5
    quality: str | None = None
    min_quality: float = 0.5
    max_low_share: float = 0.5
    thin_to: float = 0.25

    writes = ("cluster", "cluster_size", "low_quality_share", "cluster_keep_probability")
    packages = ("numpy",)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("cluster", self.quality) if self.quality else ("cluster",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = rows.filter(pc.is_valid(rows["cluster"]))
        clusters, place = np.unique(rows["cluster"].to_numpy(), return_inverse=True)
        sizes = np.bincount(place, minlength=len(clusters))
        low_share = np.full(len(clusters), np.nan)
        if self.quality:
            quality = rows[self.quality].to_numpy().astype(np.float64)
            known = np.bincount(place, ~np.isnan(quality), len(clusters))
            low = np.bincount(place, quality < self.min_quality, len(clusters))
            np.divide(low, known, out=low_share, where=known > 0)
        chances = keep_probabilities(sizes, self.whole_until, self.alpha)
        chances[low_share > self.max_low_share] *= self.thin_to
        return pa.table(
            {
                "cluster": pa.array(clusters, pa.int32()),
                "cluster_size": sizes,
                "low_quality_share": pa.array(low_share, from_pandas=True),
                "cluster_keep_probability": chances,
            }
        )


@dataclass(frozen=True)
class Resample(Stage):
    """Sample out rows by the probability of their cluster; a row without a cluster is kept."""

    seed: int = 0

    reads = ("row_id", "cluster_keep_probability")

    def __call__(self, rows: pa.Table) -> pa.Table:
        chance = draws(rows["row_id"].to_pylist(), self.seed, "resampling")
        dropped = pc.less_equal(rows["cluster_keep_probability"], pa.array(chance))
        return reject(rows, dropped, "cluster_resampled", value=rows["cluster_keep_probability"], verdict=SAMPLED_OUT)
