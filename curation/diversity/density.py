"""Density-based pruning: how many rows each cluster keeps, and which.

Abbas et al. 2024, "Effective pruning of web-scale datasets based on complexity of concept clusters";
LongCat-Flash-Omni (section 3.1.2) kept 26 % of its documents with it.

A cluster that is far from others and wide is complex and keeps more. With d_inter, its centroid's mean cosine distance
to the nearest others, and d_intra, that of its members to their centroid:

    C = d_inter · d_intra        P = softmax(C / τ)        x = argmin ‖x − P·N‖²  with Σx = N, least <= x <= size

The minimum is clip(P·N + λ, least, size) with the λ that makes the sum N.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.clusters import id_ranks, places_in_runs
from curation.stage import Stage, reject
from schemas.ledger import SAMPLED_OUT

PRECISION = 1e-10
"""Of λ, in rows."""

WHOLE = 1e-6
"""What is nearer than this to a whole number, is one."""


def intra_distances(cluster: NDArray[np.integer[Any]], cosine: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """d_intra of clusters 0 to `count` − 1: mean(1 − cos) of members to their centroid; 0 where there are none.

    The sum is exactly rounded, so the order of rows does not matter.
    """
    order = np.argsort(cluster, kind="stable")
    borders = np.searchsorted(cluster[order], np.arange(count + 1))
    distances = np.maximum(1 - cosine[order], 0)
    members = [distances[start:end] for start, end in pairwise(borders)]
    return np.array([math.fsum(some.tolist()) / len(some) if len(some) else 0.0 for some in members])


def cluster_shares(complexity: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """P = softmax(C / τ) over clusters [K]; τ towards 0 gives all to the most complex, a large one to all the same."""
    if temperature <= 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    if not len(complexity):
        return np.zeros(0)
    # math.exp: numpy's differs in its last bit between processors.
    weights = [math.exp((value - complexity.max()) / temperature) for value in complexity]
    return np.array(weights) / math.fsum(weights)


def ideal_quotas(
    shares: NDArray[np.float64], sizes: NDArray[np.int64], total: int, least: int = 1
) -> NDArray[np.float64]:
    """The real-valued quotas nearest to shares · total in squares: clip(P·N + λ, lo, hi) with λ found by bisection.

    None of them falls when the total grows.

    Args:
        shares: P, summing to 1.
        sizes: rows of each cluster.
        total: N, at most the sum of sizes.
        least: rows that a cluster keeps, or all it has; where N is too small for that, what it keeps at most.
    """
    if not 0 <= total <= sizes.sum():
        raise ValueError(f"{total} rows of {sizes.sum()} cannot be kept")
    low, high = np.minimum(least, sizes).astype(np.float64), sizes.astype(np.float64)
    if total < low.sum():
        low, high = np.zeros(len(sizes)), low
    wanted = shares * total
    if not len(sizes):
        return wanted
    below, above = float((low - wanted).min()), float((high - wanted).max())
    while above - below > PRECISION and below < (middle := (below + above) / 2) < above:
        if np.clip(wanted + middle, low, high).sum() < total:
            below = middle
        else:
            above = middle
    quotas: NDArray[np.float64] = np.clip(wanted + above, low, high)
    return quotas


def quotas(shares: NDArray[np.float64], sizes: NDArray[np.int64], total: int, least: int = 1) -> NDArray[np.int64]:
    """`ideal_quotas` in whole rows, by largest remainder with ties to the first: their sum is exactly `total`.

    Each is its ideal rounded down or up. So with a total grown by one a quota may fall, but by no more than one (the
    Alabama paradox of that rounding).
    """
    ideal = ideal_quotas(shares, sizes, total, least)
    whole = np.floor(ideal + WHOLE).astype(np.int64)
    remainder = np.where(whole < sizes, ideal - whole, -np.inf)
    whole[np.argsort(-remainder, kind="stable")[: total - int(whole.sum())]] += 1
    return whole


def combined_score(columns: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """One score a row, in 0 to 1: the weighted mean of each column's share of rows below (half of those equal).

    So quality, knowledge and similarity need no common scale. A row has no part in a column where it is NaN: its mean
    is over the others, since what could not be judged is neither good nor bad. A row of NaN alone has 0.
    """
    names = [name for name in sorted(weights) if weights[name]]
    if not names or min(weights.values()) < 0:
        raise ValueError("score_weights must not be negative, and one must be above 0")
    score = np.zeros(len(columns[names[0]]))
    total = np.zeros(len(score))
    for name in names:
        judged = ~np.isnan(columns[name])
        values = np.nan_to_num(columns[name][judged], posinf=np.inf, neginf=-np.inf)
        ordered = np.sort(values)
        below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
        score[judged] += weights[name] * below / (2 * max(len(values), 1))
        total[judged] += weights[name]
    return np.divide(score, total, out=np.zeros(len(score)), where=total > 0)


def select(
    keep: NDArray[np.int64],
    cluster: NDArray[np.integer[Any]],
    cosine: NDArray[np.float64],
    score: NDArray[np.float64],
    row_ids: Sequence[str],
    strata: int = 10,
) -> NDArray[np.bool_]:
    """Which rows are kept: of each cluster as many as `keep` says, evenly over the distance to the centroid.

    A cluster's distances, from the least to the greatest, are split into `strata` of equal width. These give in turn
    their row of the best score, ties by row id, until the quota is full; a stratum that has no more is passed over. In
    the last turn, which not all may have, the better score goes first. A larger quota keeps what a smaller one kept.
    """
    stratum = distance_strata(cluster, cosine, len(keep), strata)
    ids = id_ranks(row_ids)
    inside = np.lexsort((ids, -score, stratum, cluster))
    turn = places_in_runs(inside, cluster.astype(np.int64) * strata + stratum)
    order = np.lexsort((ids, -score, turn, cluster))
    kept: NDArray[np.bool_] = places_in_runs(order, cluster) < keep[cluster]
    return kept


def distance_strata(
    cluster: NDArray[np.integer[Any]], cosine: NDArray[np.float64], count: int, strata: int
) -> NDArray[np.int64]:
    """Per row, which of `strata` equally wide parts of its cluster's range of distances it lies in, 0 the nearest."""
    if strata < 1:
        raise ValueError(f"strata must be at least 1, not {strata}")
    nearest, furthest = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(nearest, cluster, cosine)
    np.minimum.at(furthest, cluster, cosine)
    width = (nearest - furthest)[cluster]
    place = np.divide(nearest[cluster] - cosine, width, out=np.zeros(len(cosine)), where=width > 0)
    stratum: NDArray[np.int64] = np.minimum((place * strata).astype(np.int64), strata - 1)
    return stratum


@dataclass(frozen=True)
class DensityPruning(Stage):
    """Choose `keep_fraction` of the rows by the complexity of their clusters; a reduce that is joined by row id.

    `score_weights` names columns of numbers, and how much each counts for who is kept inside a cluster; a null does not
    count. Without any, rows of a stratum are taken in order of their ids. Rows of no cluster have no part in it.
    """

    keep_fraction: float = 0.26
    temperature: float = 0.1
    least: int = 1
    strata: int = 10
    score_weights: Mapping[str, float] = field(default_factory=dict)

    version = 2
    writes = ("row_id", "density_kept", "density_quota", "density_score")
    packages = ("numpy",)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("cluster", "centroid_cosine", "d_inter", *sorted(self.score_weights))

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = rows.filter(pc.is_valid(rows["cluster"]))
        row_ids = rows["row_id"].to_pylist()
        # Clusters without rows here are left out: softmax would give them a share that they cannot fill.
        present, first, cluster = np.unique(rows["cluster"].to_numpy(), return_index=True, return_inverse=True)
        cosine = rows["centroid_cosine"].to_numpy()
        complexity = rows["d_inter"].to_numpy()[first] * intra_distances(cluster, cosine, len(present))
        sizes = np.bincount(cluster, minlength=len(present))
        total = math.floor(self.keep_fraction * len(row_ids) + 0.5)
        keep = quotas(cluster_shares(complexity, self.temperature), sizes, total, self.least)
        scores = {name: rows[name].to_numpy().astype(np.float64) for name in self.score_weights}
        score = combined_score(scores, self.score_weights) if scores else np.zeros(len(row_ids))
        return pa.table(
            {
                "row_id": pa.array(row_ids, pa.string()),
                "density_kept": select(keep, cluster, cosine, score, row_ids, self.strata),
                "density_quota": keep[cluster],
                "density_score": score,
            }
        )


@dataclass(frozen=True)
class KeepDense(Stage):
    """Sample out the rows that `DensityPruning` did not choose."""

    reads = ("density_kept", "density_score")

    def __call__(self, rows: pa.Table) -> pa.Table:
        pruned = [kept is False for kept in rows["density_kept"].to_pylist()]
        return reject(rows, pruned, "density_pruned", value=rows["density_score"], verdict=SAMPLED_OUT)
