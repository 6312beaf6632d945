"""Density quotas beside a quadratic-program solver, and what clusters, quotas and duplicates take over a corpus.

    python benchmarks/density.py [--json] [--rows 100000] [--dimensions 128] [--clusters 1000] [--seed 0]

The solver is a plain ADMM for quadratic programs with linear constraints (Stellato et al. 2020, OSQP, section 3), which
knows nothing of this problem's shape; where the package `osqp` is installed, it solves the same program too. All must
find the same minimum. A solver's answer is rounded as one would, to the nearest whole numbers, which need not sum to N.
Times are CPU seconds; memory is the process's peak over what it was with the embeddings made.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.diversity.clusters import Vectors, assign, fit_centroids, inter_distances
from curation.diversity.density import cluster_shares, ideal_quotas, intra_distances, quotas, select
from curation.diversity.duplicates import semantic_duplicates
from curation.diversity.near_hashes import stand_ins

KEEP_FRACTION, TEMPERATURE, EPSILON, HAMMING = 0.26, 0.1, 0.05, 4


def quadratic_program(
    shares: NDArray[np.float64], sizes: NDArray[np.int64], total: int, least: int = 1, tolerance: float = 1e-7
) -> NDArray[np.float64]:
    """argmin ‖x − P·N‖² with Σx = N and least <= x <= size, by ADMM; inside, all is in shares of N."""
    count = len(sizes)
    target, low, high = shares, np.minimum(least, sizes) / total, sizes / total
    # The rows of the constraints: the sum, scaled to unit length, and each x.
    scale, rho, relaxation = count**-0.5, 1.0, 1.6
    inner = np.linalg.inv((1 + rho) * np.eye(count) + rho * scale**2 * np.ones((count, count)))
    lower, upper = np.r_[scale, low], np.r_[scale, high]
    z, y = np.clip(np.r_[scale, target], lower, upper), np.zeros(count + 1)
    for _ in range(100_000):
        pull = rho * z - y
        x = inner @ (target + pull[1:] + scale * pull[0])
        constrained = np.r_[scale * x.sum(), x]
        mixed = relaxation * constrained + (1 - relaxation) * z
        before, z = z, np.clip(mixed + y / rho, lower, upper)
        y += rho * (mixed - z)
        if max(np.abs(constrained - z).max(), np.abs(z - before).max()) * total < tolerance:
            break
    solution: NDArray[np.float64] = z[1:] * total
    return solution


def with_osqp(
    shares: NDArray[np.float64], sizes: NDArray[np.int64], total: int, least: int = 1
) -> NDArray[np.float64] | None:
    """The same by the package `osqp`, which takes sparse matrices; None where it is not installed."""
    try:
        osqp: Any = import_module("osqp")
        from scipy import sparse
    except ImportError:
        return None
    count = len(sizes)
    target, low, high = shares, np.minimum(least, sizes) / total, sizes / total
    solver = osqp.OSQP()
    constraints = sparse.vstack([sparse.csc_matrix(np.ones((1, count))), sparse.eye(count)], format="csc")
    precise = {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iter": 100_000, "polishing": True, "verbose": False}
    solver.setup(sparse.eye(count, format="csc"), -target, constraints, np.r_[1, low], np.r_[1, high], **precise)
    solution: NDArray[np.float64] = solver.solve().x * total
    return solution


def beside_the_solver(clusters: int, seed: int) -> dict[str, Any]:
    """The quotas of a long-tailed corpus, ours and the solvers': their time, their gap, and how far sums miss N."""
    rng = np.random.default_rng(seed)
    sizes = 1 + (500 * rng.pareto(1.2, clusters)).astype(np.int64)
    total = int(KEEP_FRACTION * sizes.sum())
    shares = cluster_shares(rng.gamma(4, 0.02, clusters), TEMPERATURE)
    seconds, ideal = timed(lambda: ideal_quotas(shares, sizes, total))
    whole_seconds, whole = timed(lambda: quotas(shares, sizes, total))
    found: dict[str, Any] = {
        "clusters": clusters,
        "total": total,
        "sum": int(whole.sum()),
        "sum_to_total": int(whole.sum()) / total,
        "ours_s": seconds,
        "ours_whole_s": whole_seconds,
    }
    for name, solve in (("solver", quadratic_program), ("osqp", with_osqp)):
        solver_seconds, solved = timed(lambda solve=solve: solve(shares, sizes, total))  # type: ignore[misc]
        if solved is not None:
            found |= {
                f"{name}_s": solver_seconds,
                f"{name}_to_ours": solver_seconds / seconds,
                f"{name}_largest_gap_rows": float(np.abs(ideal - solved).max()),
                f"{name}_rounded_sum": int(np.rint(solved).sum()),
            }
    return found


def corpus(rows: int, dimensions: int, topics: int, seed: int) -> Vectors:
    """Float16 vectors of topics of very different sizes, every twentieth a near copy of the one before."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(topics, dimensions)).astype(np.float32)
    topic = np.minimum(topics * rng.random(rows) ** 2, topics - 1).astype(np.int64)
    vectors = np.empty((rows, dimensions), np.float16)
    for start in range(0, rows, 10_000):
        some = directions[topic[start : start + 10_000]]
        vectors[start : start + 10_000] = some + rng.normal(scale=0.7, size=some.shape)
    vectors[20::20] = vectors[19:-1:20] + rng.normal(scale=0.02, size=vectors[20::20].shape)
    return vectors


def over_a_corpus(rows: int, dimensions: int, clusters: int, seed: int) -> dict[str, Any]:
    """CPU seconds of each step over `rows` embeddings, and the peak of memory."""
    vectors = corpus(rows, dimensions, clusters, seed)
    row_ids = [f"{i:032x}" for i in range(rows)]
    hashes = np.random.default_rng(seed).integers(0, 2**64, rows, np.uint64)
    hashes[20::20] = hashes[19:-1:20] ^ np.uint64(1 << 40)
    before = peak_mib()
    seconds: dict[str, float] = {}
    seconds["fit"], centroids = timed(lambda: fit_centroids(vectors, row_ids, clusters=clusters))
    seconds["assign"], found = timed(lambda: assign(vectors, centroids))

    def prune() -> NDArray[np.bool_]:
        count = len(centroids)
        complexity = inter_distances(centroids) * intra_distances(found.cluster, found.cosine, count)
        sizes = np.bincount(found.cluster, minlength=count)
        keep = quotas(cluster_shares(complexity, TEMPERATURE), sizes, round(KEEP_FRACTION * rows))
        return select(keep, found.cluster, found.cosine, np.zeros(rows), row_ids)

    seconds["density"], kept = timed(prune)
    seconds["semantic_duplicates"], near = timed(
        lambda: semantic_duplicates(vectors, found.cluster, found.cosine, row_ids, epsilon=EPSILON)
    )
    seconds["perceptual_duplicates"], stands = timed(lambda: stand_ins(hashes, HAMMING))
    return {
        "rows": rows,
        "cpu_s": seconds,
        "peak_mib_over_embeddings": peak_mib() - before,
        "kept": int(kept.sum()),
        "semantic_duplicates": int((near[0] >= 0).sum()),
        "perceptual_duplicates": int((stands >= 0).sum()),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def peak_mib() -> float:
    """The process's peak of memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--rows", type=int, default=100_000, help="embeddings of the corpus")
    parser.add_argument("--dimensions", type=int, default=128, help="of each")
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    results = {
        "quotas": beside_the_solver(asked.clusters, asked.seed),
        "corpus": over_a_corpus(asked.rows, asked.dimensions, asked.clusters, asked.seed),
    }
    if asked.json:
        print(json.dumps(results))
        return
    for part, figures in results.items():
        for name, value in flat(figures):
            print(f"{part}: {name:32} {value:16,.6g}")
    print("targets: sum is total, solver_to_ours > 1")


def flat(figures: dict[str, Any]) -> list[tuple[str, float]]:
    """Figures, and those below them."""
    found = []
    for name, value in figures.items():
        found += [(f"{name} {key}", one) for key, one in value.items()] if isinstance(value, dict) else [(name, value)]
    return found


if __name__ == "__main__":
    main()
