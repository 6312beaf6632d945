"""Duplicates: the banded index equals brute force, what goes is near to what stays, SemDeDup equals its plain loop."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.diversity import clusters as clusters_module, duplicates as module
from curation.diversity.clusters import unit_vectors
from curation.diversity.duplicates import (
    ExactDuplicates,
    PerceptualDuplicates,
    RejectDuplicates,
    SemanticDuplicates,
    exact_groups,
    semantic_duplicates,
    winners,
)
from curation.vision.colour_signature import SIGNATURE_BYTES


def ids(count: int) -> list[str]:
    return [f"row {i}" for i in range(count)]


def signatures(greens: list[int]) -> pa.Array:
    """Signatures of plain colours: one value of Cb throughout, and of all else the same."""
    return pa.array([bytes([90] * 16 + [green] * 16 + [128] * 16) for green in greens], pa.binary(SIGNATURE_BYTES))


def test_exact_groups_leave_rows_without_a_key_alone() -> None:
    assert exact_groups(["a", None, "b", "a", None]).tolist() == [0, 1, 2, 0, 4]


def test_the_best_quality_wins_then_the_least_id() -> None:
    groups = np.array([0, 0, 2, 2, 2, 5])
    quality = np.array([1.0, 2.0, 3.0, np.nan, 3.0, np.nan])
    assert winners(groups, quality, ["f", "e", "d", "c", "b", "a"]).tolist() == [1, 1, 4, 4, 4, 5]
    assert winners(groups, None, ["f", "e", "d", "c", "b", "a"]).tolist() == [1, 1, 4, 4, 4, 5]


@given(st.lists(st.sampled_from([0, 1, 3, 255, 2**40 - 1, 2**63]), min_size=1), st.randoms(use_true_random=False))
def test_who_stays_does_not_depend_on_the_order_of_rows(values: list[int], chance: Any) -> None:
    count = len(values)
    columns = {
        "row_id": ids(count),
        "perceptual_hash": pa.array(values, pa.uint64()),
        "colour_signature": signatures([chance.choice([100, 110, 200]) for _ in values]),
        "quality": pa.array([chance.choice([0.0, 0.5, None]) for _ in values], pa.float64()),
        "detail": pa.array([chance.choice([3, 4]) for _ in values], pa.int32()),
    }
    rows = pa.table(columns)
    places = list(range(count))
    chance.shuffle(places)
    stage = PerceptualDuplicates(distance=4, quality=("quality", "detail"))
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


def test_captions_of_one_image_stay_together_and_a_hashless_row_is_alone() -> None:
    rows = pa.table(
        {
            "row_id": ["a", "b", "c", "d", "e"],
            "perceptual_hash": pa.array([-1, -1, -2, None, None], pa.int64()),
            "image": ["x", "x", "y", "z", "z"],
        }
    )
    grey = PerceptualDuplicates(max_colour_distance=None)
    found = [{"row_id": "c", "perceptual_duplicate_of": "a", "perceptual_distance": 1, "colour_distance": None}]
    assert PerceptualDuplicates(max_colour_distance=None, same="image")(rows).to_pylist() == found
    assert grey(rows)["row_id"].to_pylist() == ["b", "c"]


def test_one_hash_in_two_colours_is_two_images_and_the_distances_are_told() -> None:
    rows = pa.table(
        {
            "row_id": ["a", "b", "c", "d"],
            "perceptual_hash": pa.array([7, 7, 6, 7], pa.uint64()),
            "colour_signature": signatures([100, 200, 110, 184]),
        }
    )
    assert PerceptualDuplicates()(rows).to_pylist() == [
        {"row_id": "c", "perceptual_duplicate_of": "a", "perceptual_distance": 1, "colour_distance": 10.0},
        {"row_id": "d", "perceptual_duplicate_of": "b", "perceptual_distance": 0, "colour_distance": 16.0},
    ]
    assert PerceptualDuplicates(max_colour_distance=9.0)(rows)["row_id"].to_pylist() == []
    assert PerceptualDuplicates(max_colour_distance=None)(rows)["row_id"].to_pylist() == ["b", "c", "d"]


def test_of_a_group_the_largest_stays_then_what_says_more_then_the_least_id_with_all_its_captions() -> None:
    rows = pa.table(
        {
            "row_id": ["a", "b", "c", "d", "e", "f"],
            "perceptual_hash": pa.array([1] * 6, pa.uint64()),
            "colour_signature": signatures([100] * 6),
            "short_side": pa.array([200, 400, 400, 400, 400, None], pa.int32()),
            "caption_detail": pa.array([50, 3, 9, 8, 8, 50], pa.int32()),
            "image": ["small", "x", "x", "y", "z", "unknown"],
        }
    )
    stage = PerceptualDuplicates(quality=("short_side", "caption_detail"), same="image")
    gone = dict(zip(*(stage(rows)[name].to_pylist() for name in ("row_id", "perceptual_duplicate_of")), strict=True))
    assert gone == dict.fromkeys(["a", "d", "e", "f"], "c"), "b and c are captions of the best image"


def test_ends_of_a_chain_are_not_duplicates_of_each_other() -> None:
    """Steps of 4 bits, from the best on: each second one stays, and whatever goes is near to one that stays."""
    hashes = [(1 << 4 * i) - 1 for i in range(12)]
    rows = pa.table({"row_id": [f"{i:02}" for i in range(12)], "perceptual_hash": pa.array(hashes, pa.uint64())})
    found = PerceptualDuplicates(max_colour_distance=None)(rows)
    assert found["row_id"].to_pylist() == [f"{i:02}" for i in range(1, 12, 2)]
    assert found["perceptual_distance"].to_pylist() == [4] * 6


@pytest.mark.parametrize(
    ("kind", "columns", "distances"),
    [
        ("exact", {}, (0.0, None)),
        ("perceptual", {"perceptual_distance": [3, None], "colour_distance": [2.5, None]}, (3.0, 2.5)),
        ("semantic", {"semantic_distance": [0.01, None]}, (0.01, None)),
    ],
)
def test_a_duplicate_is_rejected_with_its_twin_and_the_distance_to_it(
    kind: Literal["exact", "perceptual", "semantic"], columns: dict[str, list[Any]], distances: tuple[Any, Any]
) -> None:
    rows = pa.table({"row_id": ["a", "b"], f"{kind}_duplicate_of": ["b", None], **columns})
    stage = RejectDuplicates(kind, None if kind == "exact" else 4.0)
    assert set(stage.reads) <= set(rows.column_names)
    decided = stage(rows)
    found = decided["decision"].to_pylist()
    told = (found[0]["verdict"], found[0]["reason"], found[0]["value"], found[0]["threshold"])
    assert told == ("rejected", f"{kind}_duplicate", distances[0], 0.0 if kind == "exact" else 4.0)
    assert found[1] is None
    assert decided["duplicate_of"].to_pylist() == ["b", None]
    assert decided["duplicate_distance"].to_pylist() == [distances[0], None]
    assert decided["duplicate_colour_distance"].to_pylist() == [distances[1], None]


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
