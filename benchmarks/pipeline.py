"""The whole speech pipeline against its own engines: what does everything around them cost?

A corpus of known speech is made, and a process of its own runs the recipe `speech-embedded` on it, in process, on one
thread. Before that it runs the same recipe on a minute of other speech, so that imports, models and tables are loaded:
start-up is told apart. The engines' methods are timed where they are called, in the same run; what an engine waits for
(the decoding of a recording that it is fed block by block) is not its own. All times are CPU seconds, so the ratio
holds on a busy machine too.

    python benchmarks/pipeline.py [--minutes 10] [--seed 0] [--json]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any

WARM_UP_H = 0.02
ENGINE_METHODS = ("probabilities", "transcribe", "align")


class Meter:
    """CPU seconds of engines, by engine and method, without what they wait for."""

    def __init__(self) -> None:
        self.own_s: defaultdict[str, float] = defaultdict(float)

    def attach(self, kind: type[Any], method: str) -> None:
        """Time a method of an engine's class wherever it is called."""
        plain = getattr(kind, method)

        def timed(engine: Any, *given: Any) -> Any:
            name = f"{engine.label}.{method}"
            given = tuple(self._apart(name, value) if isinstance(value, Iterator) else value for value in given)
            start = process_time()
            try:
                return plain(engine, *given)
            finally:
                self.own_s[name] += process_time() - start

        setattr(kind, method, timed)

    def _apart(self, name: str, values: Iterator[Any]) -> Iterator[Any]:
        while True:
            start = process_time()
            value = next(values, None)
            self.own_s[name] -= process_time() - start
            if value is None:
                return
            yield value


class NodeTimes:
    """Watches a run: CPU seconds by node."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}

    def node_starts(self, node: Any, tasks: Sequence[Any], found: Sequence[Any]) -> None:
        self.spent_s[node.name] = -process_time()

    def landed(self, task: Any, receipt: Any) -> None:
        """Units are not told apart."""

    def node_ends(self, node: Any, receipts: Sequence[Any]) -> None:
        self.spent_s[node.name] += process_time()


def measure(folder: Path) -> dict[str, Any]:
    """Run the pipeline here, on `folder/corpus`, after a warm-up on `folder/warm-up`."""
    from curation.proving.truth import read_truth
    from curation.runtime.inline import InlineRunner
    from curation.store.objects import Store
    from dags.dag import read_job, run_job

    corpus, store = folder / "corpus", Store(folder / "store")
    audio_h = sum(recording.duration_s for recording in read_truth(corpus).recordings) / 3600
    language = {
        "second_opinion.language_model_path": corpus / "domain.arpa",
        "second_opinion.dictionary_path": corpus / "domain.dict",
        "aligner.dictionary_path": corpus / "domain.dict",
    }

    def run(source: Path, into: Store, watcher: NodeTimes) -> Any:
        job = read_job("speech-embedded", [f"{k}={v}" for k, v in {"source.path": source, **language}.items()])
        run_job(job, into, InlineRunner(), watcher)
        return job

    job = run(folder / "warm-up", Store(folder / "warm-up-store"), NodeTimes())
    start_up_s = process_time()
    meter, nodes = Meter(), NodeTimes()
    for kind in {type(engine) for engine in job.pipeline.engines()}:
        for method in ENGINE_METHODS:
            if hasattr(kind, method):
                meter.attach(kind, method)
    start = process_time()
    run(corpus, store, nodes)
    whole_s = process_time() - start
    engines_s = sum(meter.own_s.values())
    nodes.spent_s["plan and publish"] = whole_s - sum(nodes.spent_s.values())

    def speeds(spent: dict[str, float]) -> dict[str, dict[str, float]]:
        return {
            name: {"cpu_s": s, "share": s / whole_s, "audio_hours_per_core_hour": audio_h * 3600 / max(s, 1e-6)}
            for name, s in spent.items()
        }

    return {
        "audio_s": audio_h * 3600,
        "start_up_cpu_s": start_up_s,
        "pipeline_cpu_s": whole_s,
        "engines_cpu_s": engines_s,
        "pipeline_over_engines": whole_s / engines_s,
        "audio_hours_per_core_hour": audio_h * 3600 / whole_s,
        "peak_memory_mb": peak_memory_bytes() / 1e6,
        "engines": speeds({**meter.own_s, "none: all else": whole_s - engines_s}),
        "nodes": speeds(nodes.spent_s),
        "stages": speeds(stage_seconds(store)),
    }


def stage_seconds(store: Any) -> dict[str, float]:
    """CPU seconds by node and stage, from the receipts of a store."""
    from curation.store.parts import parse_receipt

    spent: defaultdict[str, float] = defaultdict(float)
    for path in store.names("parts"):
        if path.endswith("receipt.json"):
            receipt = parse_receipt(store.read(path), path)
            for stage, cpu_s in receipt.timings.items():
                spent[f"{receipt.node}: {stage}"] += cpu_s
    return dict(spent)


def peak_memory_bytes() -> int:
    """The most memory that this process has held. `ru_maxrss` begins at the parent's, so Linux is asked otherwise."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_fresh_process(minutes: float, seed: int) -> dict[str, Any]:
    """Make the corpora, and measure in a process that has done nothing else.

    Raises:
        SystemExit: the run failed; it has said why.
    """
    from curation.proving.speech_corpus import make_corpus

    with tempfile.TemporaryDirectory(prefix="curate-benchmark-") as name:
        folder = Path(name)
        make_corpus(folder / "corpus", seed=seed, hours=minutes / 60)
        make_corpus(folder / "warm-up", seed=seed + 1, hours=WARM_UP_H, recordings=1)
        command = [sys.executable, __file__, "--measure", str(folder), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(f"the pipeline's process ended with {done.returncode}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name:40} {value:10.3f}")
    for part in ("engines", "nodes", "stages"):
        print(f"\n{part:40} {'cpu_s':>10} {'share':>8} {'audio hours per core hour':>28}")
        for name, row in sorted(figures[part].items(), key=lambda item: -item[1]["cpu_s"]):
            print(f"{name:40} {row['cpu_s']:10.3f} {row['share']:8.1%} {row['audio_hours_per_core_hour']:28.1f}")
    print("\ntarget: pipeline_over_engines <= 1.2")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=10, help="length of the corpus")
    arguments.add_argument("--seed", type=int, default=0, help="of the corpus")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments.add_argument("--measure", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    figures = measure(chosen.measure) if chosen.measure else in_fresh_process(chosen.minutes, chosen.seed)
    if chosen.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
