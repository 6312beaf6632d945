"""A million pairs through everything that looks at a whole corpus: time and memory, and how both grow.

The pairs are made up: captions of concepts from the starter lexicon whose frequencies follow Zipf's law, unit vectors
of topics of very different sizes, and a quality. There are no images. They go through the nodes of a pipeline with
the stages of `pipelines.captions`: concepts matched, clusters, semantic duplicates, resampling, concept balance,
density. Each size runs in a process of its own that starts the runner: in process, or Ray with two workers.

Told are CPU seconds by node, wall seconds, and the peak of the resident memory of all processes together (shared pages
are counted once, as /proc's PSS does), sampled four times a second. With Ray, CPU seconds leave out its workers, which
are no children of the process when it ends: go by wall seconds there.

    python benchmarks/million_pairs.py [--sizes 100000 1000000] [--dimensions 64] [--clusters 1000] [--ray] [--json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pipeline import stage_seconds
from curation.diversity.clusters import Clusters
from curation.diversity.concept_report import ConceptReport
from curation.diversity.concepts import STARTER, ConceptBalance, KeepProbability, Limits, MatchConcepts
from curation.diversity.density import DensityPruning, KeepDense
from curation.diversity.duplicates import RejectDuplicates, SemanticDuplicates
from curation.diversity.resampling import ClusterRates, Resample
from curation.diversity.starter_lexicon import starter_lexicon
from curation.hashing import digest
from curation.rows import derived_id
from curation.runtime.nodes import Listing, Map, Pipeline, Reduce, Unit
from curation.runtime.run import Run
from curation.stage import Forget, Stage
from curation.store.objects import Store
from schemas.rows import ROW

FILE_ROWS = 50_000
CHOOSE = Unit(target=100_000.0)
"""As `work.choose_pairs` of the pipeline of captions."""
SAMPLE_S = 0.25
FILE = pa.schema([*ROW, pa.field("path", pa.string()), pa.field("size", pa.int64())])
PAIR = pa.schema(
    [
        *ROW,
        pa.field("parents", pa.list_(pa.string())),
        pa.field("caption", pa.string()),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("similarity", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ReadPairs(Stage):
    """The made-up pairs of listed files."""

    reads = ("path", "size")
    writes: ClassVar[tuple[str, ...]] = tuple(name for name in PAIR.names if name != "parents")
    makes = "pair"

    def __call__(self, files: pa.Table) -> pa.Table:
        return pa.concat_tables([pq.read_table(path) for path in files["path"].to_pylist()])


def write_pairs(folder: Path, count: int, dimensions: int, seed: int) -> None:
    """The pairs as Parquet, file by file; the first ones are the same whatever the count."""
    folder.mkdir()
    entries = np.array(starter_lexicon()["entry"].to_pylist(), dtype=object)
    np.random.default_rng([seed, 1]).shuffle(entries)
    frequency = 1 / np.arange(1, len(entries) + 1)
    directions = np.random.default_rng([seed, 2]).normal(size=(2000, dimensions)).astype(np.float32)
    for number, start in enumerate(range(0, count, FILE_ROWS)):
        rng = np.random.default_rng([seed, 3, number])
        rows = min(FILE_ROWS, count - start)
        named = rng.choice(entries, (rows, 3), p=frequency / frequency.sum())
        captions = [f"{a} near {b} and {c}, number {start + i}" for i, (a, b, c) in enumerate(named)]
        topic = (len(directions) * rng.random(rows) ** 2).astype(np.int64)
        vectors = directions[topic] + rng.normal(scale=0.7, size=(rows, dimensions)).astype(np.float32)
        vectors[20::20] = vectors[19:-1:20] + rng.normal(scale=0.01, size=vectors[20::20].shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        listed = file_id(number)
        ids = [derived_id([listed], "pair", i) for i in range(rows)]
        borders = np.arange(0, rows * dimensions + 1, dimensions, dtype=np.int32)
        columns = {
            "row_id": ids,
            "root": ids,
            "ordinal": np.zeros(rows, np.int64),
            "kind": pa.repeat("pair", rows),
            "uri": pa.repeat(f"{number}.parquet", rows),
            "parents": pa.array([[listed]] * rows, pa.list_(pa.string())),
            "caption": captions,
            "embedding": pa.ListArray.from_arrays(borders, vectors.reshape(-1)),
            "similarity": rng.beta(2, 8, rows),
        }
        pq.write_table(pa.table(columns, schema=PAIR), folder / f"{number:04d}.parquet")


def file_id(number: int) -> str:
    return digest(["file", number])


def pipeline(folder: Path, clusters: int) -> Pipeline:
    """The nodes of `pipelines.captions` behind the embedding, on pairs that are there."""
    paths = sorted(folder.glob("*.parquet"))
    ids = [file_id(number) for number in range(len(paths))]
    columns: dict[str, Any] = {
        "row_id": ids,
        "root": ids,
        "ordinal": [0] * len(paths),
        "kind": ["listing"] * len(paths),
        "uri": [path.name for path in paths],
        "path": [str(path) for path in paths],
        "size": [path.stat().st_size for path in paths],
    }
    limits = Limits({"en": 2000.0})
    nodes = (
        Listing("listing", pa.table(columns, schema=FILE)),
        Map("matched", "listing", (ReadPairs(), MatchConcepts()), Unit(target=1.0)),
        Reduce("clusters", "matched", Clusters(clusters=clusters)),
        Reduce("semantic", "matched", SemanticDuplicates(), ("clusters",)),
        Map(
            "distinct",
            "matched",
            (RejectDuplicates("semantic"), Forget(("embedding",))),
            CHOOSE,
            ("semantic", "clusters"),
        ),
        Reduce("rates", "distinct", ClusterRates(quality="similarity", min_quality=0.1)),
        Map("resampled", "distinct", (Resample(),), CHOOSE, ("rates",)),
        Reduce("concepts", "resampled", KeepProbability(STARTER, limits, by_language=False)),
        Reduce("concept_balance", "resampled", ConceptReport(STARTER, limits), ("concepts",)),
        Map("balanced", "resampled", (ConceptBalance(),), CHOOSE, ("concepts",)),
        Reduce("density", "balanced", DensityPruning(score_weights={"similarity": 1.0})),
        Map("kept", "balanced", (KeepDense(),), CHOOSE, ("density",)),
    )
    return Pipeline("pairs", nodes)


class NodeMemory:
    """Watches a run: wall seconds by node, and says which node is at work, for whoever samples the memory."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks
        self.wall_s: dict[str, float] = {}

    def node_starts(self, node: Any, tasks: Sequence[Any], found: Sequence[Any]) -> None:
        self.marks.write_text(node.name)
        self.wall_s[node.name] = -time.perf_counter()

    def landed(self, task: Any, receipt: Any) -> None:
        """Units are not told apart."""

    def node_ends(self, node: Any, receipts: Sequence[Any]) -> None:
        self.wall_s[node.name] += time.perf_counter()


def measure(folder: Path, clusters: int, ray: bool) -> dict[str, Any]:
    """The pipeline, in this process."""
    from curation.runtime.inline import InlineRunner
    from curation.runtime.ray_runner import RayRunner

    store, watcher = Store(folder / "store"), NodeMemory(folder / "node")
    runner = RayRunner(workers=2) if ray else InlineRunner()
    run = Run(pipeline(folder / "pairs", clusters), store)
    run.check()
    try:
        receipts = run.run(runner, watcher)
    finally:
        runner.close()
    verdicts = {}
    for name, parts in receipts.items():
        counts: dict[str, int] = {}
        for part in parts:
            for verdict, number in part.counts.get("pair", {}).items():
                counts[verdict] = counts.get(verdict, 0) + number
        if counts:
            verdicts[name] = counts
    return {"node_wall_s": watcher.wall_s, "stage_cpu_s": stage_seconds(store), "verdicts": verdicts}


def watched(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a process; its figures, with CPU seconds of it and all its own, and their peak of memory, by node.

    Raises:
        SystemExit: it failed; it has said why.
    """
    peaks: dict[str, float] = {}
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        node = (folder / "node").read_text() if (folder / "node").exists() else "start"
        peaks[node] = max(peaks.get(node, 0.0), memory_mb(child.pid))
        time.sleep(SAMPLE_S)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.stdout is not None
    printed = child.stdout.read()
    if child.returncode:
        sys.exit(f"the process of {folder.name} ended with {child.returncode}")
    figures: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    figures |= {"wall_s": time.perf_counter() - started, "cpu_s": usage.ru_utime + usage.ru_stime}
    return figures | {"node_peak_mb": peaks, "peak_mb": max(peaks.values())}


def memory_mb(root: int) -> float:
    """What a process and all below it hold, where a page that several share counts once."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has just ended
            continue
        # The name, between brackets, may hold anything.
        parents.setdefault(int(text.rsplit(") ", 1)[1].split()[1]), []).append(int(path.parent.name))
    family, total = [root], 0
    for pid in family:
        family += parents.get(pid, [])
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e3


def in_fresh_processes(sizes: Sequence[int], dimensions: int, clusters: int, ray: bool, seed: int) -> dict[str, Any]:
    """Each size in a process that has done nothing else."""
    found: dict[str, Any] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="curate-benchmark-") as place:
            folder = Path(place)
            write_pairs(folder / "pairs", size, dimensions, seed)
            command = [sys.executable, __file__, "--measure", str(folder), "--clusters", str(clusters)]
            found[str(size)] = watched([*command, *(["--ray"] if ray else [])], folder)
    few, many = (found[str(size)] for size in (min(sizes), max(sizes)))
    found["size_ratio"] = max(sizes) / min(sizes)
    for name in ("cpu_s", "wall_s", "peak_mb"):
        found[f"{name}_ratio"] = many[name] / few[name]
    return found | {"few": few, "many": many}


def show(found: dict[str, Any]) -> None:
    few, many = found["few"], found["many"]
    print(f"{'':28} {'few':>10} {'many':>10} {'ratio':>8}")
    rows = {name: (few[name], many[name]) for name in ("cpu_s", "wall_s", "peak_mb")}
    for part, unit in (("node_wall_s", "wall s"), ("node_peak_mb", "peak MB"), ("stage_cpu_s", "CPU s")):
        rows |= {f"{name}, {unit}": (few[part].get(name, 0.0), value) for name, value in many[part].items()}
    for name, (before, after) in rows.items():
        ratio = f"{after / before:8.2f}" if before else ""
        print(f"{name:44} {before:10.2f} {after:10.2f} {ratio}")
    print(f"pairs: {found['size_ratio']:g} times as many; target: peak_mb <= 4000")
    for name, counts in many["verdicts"].items():
        print(f"{name}: {', '.join(f'{verdict} {count:,}' for verdict, count in counts.items())}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs=2, default=(100_000, 1_000_000), help="how many pairs")
    arguments.add_argument("--dimensions", type=int, default=64, help="of the embeddings")
    arguments.add_argument("--clusters", type=int, default=1000)
    arguments.add_argument("--ray", action="store_true", help="on Ray with two workers, not in process")
    arguments.add_argument("--seed", type=int, default=0, help="of the pairs")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments.add_argument("--measure", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure, chosen.clusters, chosen.ray)))
        return
    found = in_fresh_processes(chosen.sizes, chosen.dimensions, chosen.clusters, chosen.ray, chosen.seed)
    if chosen.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
