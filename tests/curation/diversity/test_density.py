"""Density-based pruning and resampling: exact sums, laws of quotas, even spread, and draws that only add."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.diversity.density import (
    DensityPruning,
    KeepDense,
    cluster_shares,
    combined_score,
    distance_strata,
    ideal_quotas,
    intra_distances,
    quotas,
    select,
)
from curation.diversity.resampling import ClusterRates, Resample, keep_probabilities

Budget = tuple[NDArray[np.float64], NDArray[np.int64], int, int]


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    """Shares, sizes, a total that they can give, and the least of each."""
    sizes = np.array(draw(st.lists(st.integers(0, 50), min_size=1, max_size=12)), np.int64)
    weights = [draw(st.integers(0, 1000)) for _ in sizes]
    shares = np.array(weights, np.float64) + (0 if any(weights) else 1)
    return shares / shares.sum(), sizes, draw(st.integers(0, int(sizes.sum()))), draw(st.integers(0, 3))


def ids(count: int) -> list[str]:
    return [f"row {i}" for i in range(count)]


@settings(max_examples=400)
@given(budgets())
def test_quotas_sum_to_the_budget_within_their_clusters(budget: Budget) -> None:
    shares, sizes, total, least = budget
    kept = quotas(shares, sizes, total, least)
    floor = np.minimum(least, sizes)
    assert kept.sum() == total
    assert (kept >= 0).all() and (kept <= sizes).all()
    assert (kept >= floor).all() if total >= floor.sum() else (kept <= floor).all()


@settings(max_examples=400)
@given(budgets())
def test_ideal_quotas_grow_with_the_budget_and_whole_ones_fall_by_one_at_most(budget: Budget) -> None:
    shares, sizes, total, least = budget
    if total == sizes.sum():
        return
    assert (ideal_quotas(shares, sizes, total + 1, least) >= ideal_quotas(shares, sizes, total, least) - 1e-7).all()
    assert (quotas(shares, sizes, total + 1, least) >= quotas(shares, sizes, total, least) - 1).all()


@settings(max_examples=200)
@given(budgets())
def test_quotas_are_the_nearest_of_their_sum(budget: Budget) -> None:
    """The optimality condition: no row moved from one cluster to another comes nearer to P·N."""
    shares, sizes, total, least = budget
    kept = quotas(shares, sizes, total, least)
    floor = np.minimum(least, sizes)
    low, high = (floor, sizes) if total >= floor.sum() else (0 * floor, floor)
    gap = kept - shares * total
    for giver in np.flatnonzero(kept > low):
        for taker in np.flatnonzero(kept < high):
            assert giver == taker or gap[giver] - 1 <= gap[taker] + 1e-5


def test_a_budget_beyond_the_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="4 rows of 3 cannot be kept"):
        quotas(np.ones(1), np.array([3]), 4)


def test_shares_follow_complexity_and_the_temperature() -> None:
    complexity = np.array([0.1, 0.2, 0.4])
    assert cluster_shares(complexity, 1e-3).tolist() == pytest.approx([0, 0, 1])
    assert cluster_shares(complexity, 1e6).tolist() == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert cluster_shares(complexity, 0.1).sum() == pytest.approx(1)


def test_intra_distances_are_of_members_and_none_is_zero() -> None:
    found = intra_distances(np.array([2, 0, 2]), np.array([0.5, 1.0, 0.7]), 4)
    assert found.tolist() == pytest.approx([0, 0, 0.4, 0])


def test_selection_is_even_over_distance_and_takes_the_best_of_each_stratum() -> None:
    cosine = np.r_[np.linspace(0.9, 0.82, 90), np.linspace(0.1, 0.0, 10)]
    score = np.arange(100) % 10 / 10
    kept = select(np.array([10]), np.zeros(100, int), cosine, score, ids(100), strata=2)
    assert kept[:90].sum() == kept[90:].sum() == 5
    assert score[:90][kept[:90]].min() == 0.9
    assert score[90:][kept[90:]].min() == 0.5


def test_strata_that_run_out_leave_their_turns_to_others() -> None:
    cosine = np.r_[np.full(8, 0.9), 0.1]
    assert select(np.array([9]), np.zeros(9, int), cosine, np.zeros(9), ids(9), strata=4).all()
    assert distance_strata(np.zeros(3, int), np.array([0.9, 0.5, 0.1]), 1, 4).tolist() == [0, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_a_larger_quota_only_adds_and_order_does_not_matter(seed: int, chance: Any) -> None:
    rng = np.random.default_rng(seed)
    cluster, cosine = rng.integers(0, 4, 60), np.round(rng.random(60), 1)
    score, row_ids = np.round(rng.random(60), 1), ids(60)
    sizes = np.bincount(cluster, minlength=4)
    small = rng.integers(0, sizes + 1)
    large = rng.integers(small, sizes + 1)
    kept = select(small, cluster, cosine, score, row_ids, 3)
    assert np.array_equal(np.bincount(cluster[kept], minlength=4), small)
    assert (select(large, cluster, cosine, score, row_ids, 3) >= kept).all()
    places = list(range(60))
    chance.shuffle(places)
    shuffled = select(small, cluster[places], cosine[places], score[places], [row_ids[i] for i in places], 3)
    assert np.array_equal(shuffled, kept[places])


def test_scores_of_different_scales_count_by_their_weights_and_none_does_not_count() -> None:
    columns = {"quality": np.array([1e6, 2e6, np.nan, 3e6]), "similarity": np.array([0.3, 0.2, 0.2, 0.1])}
    assert combined_score(columns, {"quality": 1.0}).tolist() == pytest.approx([1 / 6, 3 / 6, 0, 5 / 6])
    both = combined_score(columns, {"quality": 1.0, "similarity": 3.0}).tolist()
    assert both == pytest.approx([(1 / 6 + 3 * 0.875) / 4, (0.5 + 3 * 0.5) / 4, 0.5, (5 / 6 + 3 * 0.125) / 4])
    with pytest.raises(ValueError, match="weights"):
        combined_score(columns, {"quality": -1.0})


def corpus() -> pa.Table:
    """A tight cluster beside others, and a wide one far away, of the same size."""
    rng = np.random.default_rng(0)
    cluster = np.repeat([3, 7], 500)
    cosine = np.where(cluster == 3, 1 - 0.05 * rng.random(1000), 1 - 0.6 * rng.random(1000))
    return pa.table(
        {
            "row_id": ids(1000),
            "cluster": pa.array(cluster, pa.int32()),
            "centroid_cosine": cosine,
            "d_inter": np.where(cluster == 3, 0.2, 0.8),
            "quality": rng.random(1000),
        }
    )


def test_the_wide_far_cluster_keeps_more_and_the_sum_is_the_fraction() -> None:
    chosen = DensityPruning(keep_fraction=0.26, score_weights={"quality": 1.0})(corpus())
    kept = np.array(chosen["density_kept"].to_pylist())
    assert tuple(chosen.column_names) == DensityPruning.writes
    assert kept.sum() == 260 and kept[500:].sum() > 1.5 * kept[:500].sum() > 0
    decided = KeepDense()(chosen)["decision"].to_pylist()
    assert sum(d is None for d in decided) == 260
    assert {(d["verdict"], d["reason"]) for d in decided if d} == {("sampled_out", "density_pruned")}


def test_pruning_does_not_depend_on_the_order_of_rows() -> None:
    rows, stage = corpus(), DensityPruning(score_weights={"quality": 1.0, "centroid_cosine": 0.5})
    shuffled = rows.take(np.random.default_rng(1).permutation(1000))
    assert stage(shuffled).sort_by("row_id") == stage(rows).sort_by("row_id")


def test_a_row_of_no_cluster_is_left_alone() -> None:
    rows = corpus().slice(0, 3)
    rows = rows.set_column(1, "cluster", pa.array([3, None, 3], pa.int32()))
    assert DensityPruning(keep_fraction=1.0)(rows)["row_id"].to_pylist() == ["row 0", "row 2"]
    assert ClusterRates()(rows)["cluster_size"].to_pylist() == [2]
    unknown = pa.table({"row_id": ["a"], "cluster_keep_probability": pa.array([None], pa.float64())})
    assert Resample()(unknown)["decision"].to_pylist() == [None]


def test_the_tail_is_whole_and_the_head_shrinks_in_order() -> None:
    sizes = np.array([1, 100, 10_000])
    assert (keep_probabilities(sizes, 100, 0.5) * sizes).tolist() == pytest.approx([1, 100, 1000])
    assert (keep_probabilities(sizes, 100, 0.0) * sizes).tolist() == pytest.approx([1, 100, 100])
    assert (keep_probabilities(sizes, 1, 0.5) * sizes).tolist() == pytest.approx([1, 10, 100])
    assert keep_probabilities(sizes, 100, 1.0).tolist() == [1, 1, 1]


def resampled(cluster: NDArray[np.int64], rates: pa.Table) -> set[str]:
    """The rows that stay, drawn in blocks of 7."""
    chance = dict(zip(rates["cluster"].to_pylist(), rates["cluster_keep_probability"].to_pylist(), strict=True))
    rows = pa.table({"row_id": ids(len(cluster)), "cluster_keep_probability": [chance[c] for c in cluster.tolist()]})
    whole = Resample()(rows)["decision"].to_pylist()
    parts = [Resample()(rows.slice(start, 7))["decision"].to_pylist() for start in range(0, len(cluster), 7)]
    assert [d for part in parts for d in part] == whole
    return {row_id for row_id, decision in zip(ids(len(cluster)), whole, strict=True) if decision is None}


def test_draws_are_the_same_in_any_shards_and_a_larger_target_only_adds() -> None:
    cluster = np.repeat([0, 1, 2], [20, 400, 4000])
    rows = pa.table({"cluster": pa.array(cluster, pa.int32())})
    small, large, flat = (
        resampled(cluster, ClusterRates(whole_until=t, alpha=a)(rows)) for t, a in ((50, 0.5), (100, 0.5), (50, 0.7))
    )
    assert set(ids(20)) <= small < large and small < flat
    # 20 + 50 √8 + 50 √80, within four standard deviations
    assert abs(len(small) - 609) < 4 * np.sqrt(609)


def test_a_cluster_mostly_of_low_quality_is_thinned() -> None:
    cluster = np.repeat([0, 1, 2], 10)
    quality = pa.array([0.1] * 6 + [0.9] * 4 + [0.1] * 5 + [0.9] * 5 + [None] * 9 + [0.1])
    rates = ClusterRates(quality="quality")(pa.table({"cluster": pa.array(cluster, pa.int32()), "quality": quality}))
    assert rates["low_quality_share"].to_pylist() == [0.6, 0.5, 1.0]
    assert rates["cluster_keep_probability"].to_pylist() == [0.25, 1.0, 0.25]
    assert ClusterRates()(pa.table({"cluster": cluster}))["low_quality_share"].to_pylist() == [None] * 3
