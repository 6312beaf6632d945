"""Duplicates: the banded index equals brute force, groups have one winner, and SemDeDup equals its plain loop."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.diversity import clusters as clusters_module, duplicates as module
from curation.diversity.clusters import unit_vectors
from curation.diversity.duplicates import (
    ExactDuplicates,
    PerceptualDuplicates,
    RejectDuplicates,
    SemanticDuplicates,
    connected_groups,
    exact_groups,
    hamming_pairs,
    perceptual_groups,
    semantic_duplicates,
    winners,
)


def ids(count: int) -> list[str]:
    return [f"row {i}" for i in range(count)]


@st.composite
def hashes(draw: st.DrawFn) -> NDArray[np.uint64]:
    """Hashes with near ones among them: some are others with a few bits flipped."""
    values = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12))
    for _ in range(draw(st.integers(0, 25))):
        flipped = draw(st.sampled_from(values))
        for bit in draw(st.sets(st.integers(0, 63), max_size=8)):
            flipped ^= 1 << bit
        values.append(flipped)
    return np.array(values, np.uint64)


def brute_force(values: NDArray[np.uint64], distance: int) -> list[list[int]]:
    plain = values.tolist()
    count = len(plain)
    return [[i, j] for i in range(count) for j in range(i + 1, count) if (plain[i] ^ plain[j]).bit_count() <= distance]


@settings(max_examples=300, deadline=None)
@given(hashes(), st.sampled_from([0, 1, 3, 4, 8, 10, 31, 63]))
def test_the_banded_index_finds_what_brute_force_finds(values: NDArray[np.uint64], distance: int) -> None:
    assert hamming_pairs(values, distance).tolist() == brute_force(values, distance)


@given(hashes(), st.integers(0, 8))
def test_groups_of_hashes_are_those_that_all_pairs_connect(values: NDArray[np.uint64], distance: int) -> None:
    pairs = np.array(brute_force(values, distance), np.int64).reshape(-1, 2)
    assert perceptual_groups(values, distance).tolist() == connected_groups(len(values), pairs).tolist()


def test_equal_hashes_are_grouped_without_comparing_their_pairs() -> None:
    values = np.zeros(200_000, np.uint64)
    values[-1] = 2**64 - 1
    assert np.bincount(perceptual_groups(values, 4))[[0, -1]].tolist() == [199_999, 1]


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_the_connected_parts_named_by_their_first(count: int, drawn: list[tuple[int, int]]) -> None:
    pairs = [(a % count, b % count) for a, b in drawn]
    groups = connected_groups(count, np.array(pairs, np.int64).reshape(-1, 2)).tolist()
    reached = [{i} for i in range(count)]
    for _ in range(count):
        for a, b in pairs:
            reached[a] |= reached[b]
            reached[b] |= reached[a]
    assert groups == [min(some) for some in reached]


def test_exact_groups_leave_rows_without_a_key_alone() -> None:
    assert exact_groups(["a", None, "b", "a", None]).tolist() == [0, 1, 2, 0, 4]


def test_the_best_quality_wins_then_the_least_id() -> None:
    groups = np.array([0, 0, 2, 2, 2, 5])
    quality = np.array([1.0, 2.0, 3.0, np.nan, 3.0, np.nan])
    assert winners(groups, quality, ["f", "e", "d", "c", "b", "a"]).tolist() == [1, 1, 4, 4, 4, 5]
    assert winners(groups, None, ["f", "e", "d", "c", "b", "a"]).tolist() == [1, 1, 4, 4, 4, 5]


@given(hashes(), st.randoms(use_true_random=False))
def test_winners_do_not_depend_on_the_order_of_rows(values: NDArray[np.uint64], chance: Any) -> None:
    quality = [chance.choice([0.0, 0.5, None]) for _ in values]
    columns = {"row_id": ids(len(values)), "perceptual_hash": values, "quality": pa.array(quality, pa.float64())}
    rows = pa.table(columns)
    places = list(range(len(values)))
    chance.shuffle(places)
    stage = PerceptualDuplicates(distance=4, quality="quality")
    assert stage(rows.take(places)).sort_by("row_id") == stage(rows).sort_by("row_id")


def test_exact_duplicates_need_every_key_and_name_their_winner() -> None:
    rows = pa.table(
        {
            "row_id": ["a", "b", "c", "d", "e"],
            "image": ["x", "x", "x", None, None],
            "caption": ["one", "one", "two", "one", "one"],
            "quality": [0.1, 0.2, 0.3, 0.4, 0.5],
        }
    )
    found = ExactDuplicates(("image", "caption"), quality="quality")(rows)
    assert found.to_pylist() == [{"row_id": "a", "exact_duplicate_of": "b"}]


def test_captions_of_one_picture_stay_together_and_a_hashless_row_is_alone() -> None:
    rows = pa.table(
        {
            "row_id": ["a", "b", "c", "d", "e"],
            "perceptual_hash": pa.array([-1, -1, -2, None, None], pa.int64()),
            "image": ["x", "x", "y", "z", "z"],
        }
    )
    assert PerceptualDuplicates(same="image")(rows).to_pylist() == [{"row_id": "c", "perceptual_duplicate_of": "a"}]
    assert PerceptualDuplicates()(rows)["row_id"].to_pylist() == ["b", "c"]


def test_what_a_reduce_found_is_rejected_by_its_kind() -> None:
    rows = pa.table({"row_id": ["a", "b"], "exact_duplicate_of": ["b", None]})
    decisions = RejectDuplicates("exact")(rows)["decision"].to_pylist()
    assert [d and (d["verdict"], d["reason"]) for d in decisions] == [("rejected", "exact_duplicate"), None]


def near_copies(seed: int, count: int = 60) -> tuple[Any, Any, Any]:
    """Vectors with near copies of others, chains of them too; clusters, and cosines with ties."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 16))
    for i in range(count // 3, count):
        vectors[i] = vectors[rng.integers(i)] + 0.08 * rng.normal(size=16)
    return vectors.astype(np.float32), rng.integers(0, 3, count), np.round(rng.random(count), 1)


def plain_semdedup(
    vectors: Any, cluster: Any, cosine: Any, epsilon: float, keep: str, against: str
) -> tuple[list[int], list[float]]:
    units = unit_vectors(vectors)
    order = sorted(range(len(units)), key=lambda i: (cosine[i] if keep == "hard" else -cosine[i], f"row {i}"))
    nearest, highest = [-1] * len(units), [float("nan")] * len(units)
    for place, i in enumerate(order):
        earlier = [j for j in order[:place] if cluster[j] == cluster[i] and (against == "seen" or nearest[j] < 0)]
        best = max(earlier, key=lambda j: float(units[i] @ units[j]), default=None)
        if best is not None and float(units[i] @ units[best]) > 1 - epsilon:
            nearest[i], highest[i] = best, min(float(units[i] @ units[best]), 1.0)
    return nearest, highest


@pytest.mark.parametrize("rows_at_once", [1, 5, 1024])
@pytest.mark.parametrize("keep", ["hard", "easy"])
@pytest.mark.parametrize("against", ["kept", "seen"])
def test_semantic_duplicates_are_those_of_the_plain_loop_in_any_blocks(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int, keep: Literal["hard", "easy"], against: Literal["kept", "seen"]
) -> None:
    monkeypatch.setattr(module, "SIMILARITY_ROWS", rows_at_once)
    monkeypatch.setattr(clusters_module, "BLOCK_CELLS", 40 if rows_at_once < 9 else 1 << 21)
    for seed in range(12):
        planted = near_copies(seed)
        found = semantic_duplicates(*planted, ids(60), epsilon=0.1, keep=keep, against=against)
        nearest, highest = plain_semdedup(*planted, 0.1, keep, against)
        assert found[0].tolist() == nearest
        assert np.array_equal(found[1], highest, equal_nan=True)
        assert (found[0] >= 0).any()


def test_every_semantic_duplicate_is_near_to_a_row_that_stays() -> None:
    vectors, cluster, cosine = near_copies(3, 200)
    nearest, similarity = semantic_duplicates(vectors, cluster, cosine, ids(200), epsilon=0.1)
    gone = np.flatnonzero(nearest >= 0)
    assert len(gone) and (nearest[nearest[gone]] == -1).all() and (similarity[gone] > 0.9).all()


def test_the_hard_one_of_two_stays_and_other_clusters_are_not_looked_at() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.02]], np.float16)
    cluster, cosine = np.array([0, 0, 1]), np.array([0.9, 0.8, 0.7])
    assert semantic_duplicates(vectors, cluster, cosine, ids(3), epsilon=0.01)[0].tolist() == [1, -1, -1]
    easy = semantic_duplicates(vectors, cluster, cosine, ids(3), epsilon=0.01, keep="easy")
    assert easy[0].tolist() == [-1, 0, -1]
    with pytest.raises(ValueError, match="epsilon"):
        semantic_duplicates(vectors, cluster, cosine, ids(3), epsilon=0.0)


def test_the_semantic_reduce_gives_duplicates_alone_in_any_order_of_rows() -> None:
    vectors, cluster, cosine = near_copies(5)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16)
    columns = {"row_id": ids(60), "embedding": column, "cluster": pa.array(cluster, pa.int32())}
    rows = pa.table(columns | {"centroid_cosine": cosine})
    found = SemanticDuplicates(epsilon=0.1)(rows)
    assert tuple(found.column_names) == SemanticDuplicates.writes and 0 < found.num_rows < 60
    shuffled = rows.take(np.random.default_rng(0).permutation(60))
    assert SemanticDuplicates(epsilon=0.1)(shuffled).sort_by("row_id") == found.sort_by("row_id")
