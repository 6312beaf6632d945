"""Spherical k-means: planted clusters are found, and no bit depends on blocks, order or neighbours' whims."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.diversity import clusters as module
from curation.diversity.clusters import (
    Centroids,
    CheckEmbedding,
    Clusters,
    assign,
    embedding_matrix,
    fit_centroids,
    inter_distances,
    ranks_in_clusters,
    unit_vectors,
)
from curation.diversity.density import DensityPruning, KeepDense
from curation.diversity.duplicates import RejectDuplicates, SemanticDuplicates
from curation.diversity.resampling import ClusterRates, Resample
from curation.runtime.nodes import Listing, Map, Pipeline, Reduce, Unit
from curation.store.objects import Store
from schemas.rows import ROW
from tests.support.toy import run_toy


def planted(sizes: list[int], noise: float = 0.05, dimensions: int = 32, seed: int = 0) -> tuple[Any, list[int]]:
    """Float16 vectors around random directions, shuffled, and the direction that each was made of."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(sizes), dimensions))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = directions[truth] + noise * rng.normal(size=(len(truth), dimensions))
    return vectors.astype(np.float16), truth.tolist()


def ids(count: int) -> list[str]:
    return [f"row {i}" for i in range(count)]


def table(vectors: NDArray[Any], row_ids: list[str]) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table({"row_id": row_ids, "embedding": column})


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(module, "BLOCK_CELLS", 300)
    yield monkeypatch


def test_planted_clusters_are_found() -> None:
    for seed in range(5):
        vectors, truth = planted([200, 190, 180, 150, 140], seed=seed)
        found = assign(vectors, fit_centroids(vectors, ids(len(vectors)), clusters=5, share=0.3, seed=seed))
        assert len({(a, b) for a, b in zip(truth, found.cluster.tolist(), strict=True)}) == 5
        assert found.cosine.min() > 0.8


def test_with_clusters_to_spare_no_cluster_mixes_two_planted_ones_however_small() -> None:
    vectors, truth = planted([800, 400, 200, 50, 30])
    found = assign(vectors, fit_centroids(vectors, ids(len(vectors)), clusters=15, share=0.3))
    assert len({(a, b) for a, b in zip(truth, found.cluster.tolist(), strict=True)}) == len(set(found.cluster.tolist()))


def test_blocks_change_no_bit(small_blocks: pytest.MonkeyPatch) -> None:
    vectors, _ = planted([150, 60, 7])
    centroids = fit_centroids(vectors, ids(217), clusters=9, rows_per_cluster=5)
    found, distances = assign(vectors, centroids), inter_distances(centroids, 3)
    small_blocks.undo()
    assert np.array_equal(fit_centroids(vectors, ids(217), clusters=9, rows_per_cluster=5), centroids)
    again = assign(vectors, centroids)
    assert np.array_equal(again.cluster, found.cluster) and np.array_equal(again.cosine, found.cosine)
    assert np.array_equal(inter_distances(centroids, 3), distances)


def test_each_row_alone_gets_what_it_gets_among_others() -> None:
    vectors, _ = planted([100, 100, 23])
    centroids = fit_centroids(vectors, ids(223), clusters=17)
    found = assign(vectors, centroids)
    alone = [assign(vectors[i : i + 1], centroids) for i in range(223)]
    assert [a.cosine[0] for a in alone] == found.cosine.tolist()
    assert [a.cluster[0] for a in alone] == found.cluster.tolist()


def test_neither_the_threads_nor_the_kernels_of_blas_change_a_bit() -> None:
    script = (
        "import sys, hashlib; sys.path[:0] = sys.argv[1:]; from tests.curation.diversity import test_clusters as t\n"
        "rows = t.table(t.planted([900, 300, 100], dimensions=61)[0], t.ids(1300))\n"
        "print(hashlib.sha256(repr(t.Clusters(clusters=33, share=1.0)(rows).to_pydict()).encode()).hexdigest())"
    )
    places = [str(Path(__file__).parents[3])]
    environments: list[dict[str, str]] = [{}, {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Nehalem"}]
    found = {
        subprocess.run(
            [sys.executable, "-c", script, *places], env=os.environ | env, capture_output=True, text=True, check=True
        ).stdout
        for env in environments
    }
    assert len(found) == 1


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_bit(chance: Any) -> None:
    vectors, _ = planted([80, 30, 10])
    rows = table(vectors, ids(120))
    places = list(range(120))
    chance.shuffle(places)
    stage = Clusters(clusters=6, share=0.5)
    assert stage(rows.take(places)).sort_by("row_id") == stage(rows).sort_by("row_id")


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7), min_size=2, max_size=6))
def test_cosines_of_grid_vectors_are_exact(rows: list[list[float]]) -> None:
    usable = np.array([row for row in rows if np.linalg.norm(row) > 1e-3], np.float32).reshape(-1, 7)
    units = unit_vectors(usable)
    exact = [[math.fsum(a * b for a, b in zip(x, y, strict=True)) for y in units.tolist()] for x in units.tolist()]
    assert (units @ units.T).tolist() == exact
    assert np.allclose(np.linalg.norm(units, axis=1), 1, atol=1e-5)


def test_a_vector_without_direction_is_named() -> None:
    for bad in (0.0, np.nan, np.inf):
        vectors = np.ones((3, 4), np.float32)
        vectors[1] = bad
        with pytest.raises(ValueError, match="row 1 is zero or not finite"):
            unit_vectors(vectors)


def test_fewer_different_vectors_than_clusters_give_fewer_centroids() -> None:
    vectors = np.tile(np.eye(3, dtype=np.float32), (20, 1))
    centroids = fit_centroids(vectors, ids(60), clusters=10, share=1.0)
    assert sorted(centroids.tolist()) == sorted(np.eye(3).tolist())


def test_a_cluster_that_lost_its_members_is_given_the_furthest_row() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], np.float64)
    moved = module._moved(vectors, unit_vectors(np.array([[1.0, 0.0], [-1.0, 0.0]])))
    assert np.array_equal(moved[1], [0.0, 1.0])


def test_members_that_cancel_out_leave_no_centroid_without_a_direction() -> None:
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(fit_centroids(vectors, ids(3), clusters=1, share=1.0)).all()


def test_the_fit_reads_its_share_of_rows_alone() -> None:
    vectors, _ = planted([3000, 1000])
    chance = module.draws(ids(4000), 0, "clusters.sample")
    fitted = fit_centroids(vectors, ids(4000), clusters=2, share=0.1)
    vectors[chance >= 0.1] = 1.0
    assert 300 < np.count_nonzero(chance < 0.1) < 500
    assert np.array_equal(fit_centroids(vectors, ids(4000), clusters=2, share=0.1), fitted)


def test_inter_distances_are_means_over_the_nearest_other_centroids() -> None:
    centroids = unit_vectors(np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [-1, 0, 0]], np.float64))
    half = 1 - math.sqrt(0.5)
    assert inter_distances(centroids, 1) == pytest.approx([half, half, half, 1], abs=1e-5)
    assert inter_distances(centroids, 20)[0] == pytest.approx((half + 1 + 2) / 3, abs=1e-5)
    assert inter_distances(centroids[:1]).tolist() == [0.0]


def test_ranks_run_outwards_and_ties_go_by_id() -> None:
    found = module.Assignment(np.array([1, 0, 1, 1], np.int32), np.array([0.5, 0.9, 0.8, 0.5]))
    assert ranks_in_clusters(found, ["b", "a", "c", "aa"]).tolist() == [2, 0, 0, 1]


def test_the_stage_writes_what_it_says_and_the_centroids_are_those_it_used() -> None:
    vectors, _ = planted([50, 20])
    rows = table(vectors, ids(70))
    found, kept = Clusters(clusters=2)(rows), Centroids(clusters=2)(rows)
    assert tuple(found.column_names) == Clusters.writes and tuple(kept.column_names) == Centroids.writes
    centroids = np.asarray(embedding_matrix(kept["centroid"]), np.float64)
    assert found["centroid_cosine"].to_pylist() == assign(vectors, centroids).cosine.tolist()
    assert sorted(found["cluster_rank"].to_pylist()) == sorted([*range(20), *range(50)])


def test_embeddings_of_different_lengths_or_nulls_are_refused() -> None:
    for lists in ([[1.0, 2.0], [1.0]], [[1.0], None], [[1.0], [None]]):
        with pytest.raises(ValueError, match="of one length"):
            embedding_matrix(pa.array(lists, pa.list_(pa.float32())))


def test_sliced_and_chunked_columns_read_the_same() -> None:
    column = pa.array([[float(i), 1.0] for i in range(6)], pa.list_(pa.float32(), 2))
    chunked = pa.chunked_array([column.slice(1, 2), column.slice(3, 3)])
    assert embedding_matrix(chunked).tolist() == [[float(i), 1.0] for i in range(1, 6)]


def test_only_the_rows_without_a_usable_embedding_fail() -> None:
    lists = [[1.0, 0.0], None, [0.0, 0.0], [float("nan"), 1.0], [None, 1.0], [0.0, -2.0]]
    decided = CheckEmbedding()(pa.table({"embedding": pa.array(lists, pa.list_(pa.float32()))}))
    assert [d and d["verdict"] for d in decided["decision"].to_pylist()] == [None, *["failed"] * 4, None]


def test_the_parts_run_as_nodes_and_every_row_is_accounted_for(tmp_path: Path) -> None:
    vectors, _ = planted([60, 40, 20])
    vectors[1] = vectors[0]
    vectors[2] = 0
    names = ids(120)
    columns = {"row_id": names, "root": names, "ordinal": [0] * 120, "kind": ["pair"] * 120, "uri": names}
    rows = pa.table(columns, ROW).append_column("embedding", table(vectors, names)["embedding"])
    unit = Unit(target=30.0)
    nodes = (
        Listing("listing", rows),
        Map("embedded", "listing", (CheckEmbedding(),), unit),
        Reduce("clusters", "embedded", Clusters(clusters=3)),
        Map("clustered", "embedded", (), unit, joins=("clusters",)),
        Reduce("repeats", "clustered", SemanticDuplicates(epsilon=1e-4)),
        Map("different", "clustered", (RejectDuplicates("semantic"),), unit, joins=("repeats",)),
        Reduce("rates", "different", ClusterRates(whole_until=10)),
        Map("resampled", "different", (Resample(),), unit, joins=("rates",)),
        Reduce("density", "resampled", DensityPruning(keep_fraction=0.5)),
        Map("dense", "resampled", (KeepDense(),), unit, joins=("density",)),
    )
    version, _ = run_toy(Pipeline("toy", nodes), Store(tmp_path))
    counts = {node.name: node.counts["pair"] for node in version.nodes if node.counts}
    assert counts["embedded"] == {"failed": 1, "kept": 119}
    assert counts["different"] == {"kept": 118, "rejected": 1}
    stayed = counts["resampled"]["kept"]
    assert counts["resampled"] == {"kept": stayed, "sampled_out": 118 - stayed}
    assert counts["dense"]["kept"] == math.floor(stayed / 2 + 0.5)
