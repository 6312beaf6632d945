"""What it costs to check whatever is read back: the share of a run that finds everything done.

A corpus of captions is made and run once; then the same run is made again, several times, each in a process of its own
as the command does it. The CPU time that goes to comparing checksums (of tables, receipts, manifests, records) is
counted inside that process, so noise of the machine is on both sides. The share is told of the whole process, imports
included, and of the run alone.

    python benchmarks/checked_reads.py [--pairs 2000] [--times 5] [--folder FOLDER] [--json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


class Stopwatch:
    """CPU seconds that functions take, the outermost of them counted once."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.calls = 0
        self._depth = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            self._depth += 1
            started = process_time()
            try:
                return function(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.spent_s += process_time() - started
                    self.calls += 1

        return timed


def run(folder: Path) -> dict[str, Any]:
    """One run over a corpus to a store, both in `folder`, with what it spends on checks."""
    from rich.console import Console

    from curation import sealing
    from curation.runtime.inline import InlineRunner
    from curation.runtime.progress import LiveProgress
    from curation.store import objects
    from curation.store.objects import Store
    from dags.dag import read_job, run_job
    from dags.proof import proof_of

    proof = proof_of("captions")
    job = read_job(proof.recipe, proof.settings(folder / "corpus"))
    watch = Stopwatch()
    Store.check = watch.around(Store.check)  # type: ignore[method-assign]
    sealing.bytes_digest = watch.around(sealing.bytes_digest)
    objects.bytes_digest = watch.around(objects.bytes_digest)
    started = process_time()
    with Path(os.devnull).open("w") as nowhere, LiveProgress(Console(file=nowhere)) as progress:
        run_job(job, Store(folder / "store"), InlineRunner(), progress)
    ended = process_time()
    return {"process_s": ended, "run_s": ended - started, "checks_s": watch.spent_s, "checks": watch.calls}


def measure(pairs: int, times: int, folder: Path) -> dict[str, Any]:
    """Make a corpus, run it once, and again `times` times."""
    from curation.store.objects import Store
    from dags.proof import proof_of

    proof_of("captions").ensure(folder / "corpus", 0, pairs)
    command = [sys.executable, __file__, "--folder", str(folder), "--run"]
    first, *again = (
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(times + 1)
    )
    middle = sorted(again, key=lambda one: float(one["checks_s"] / one["process_s"]))[times // 2]
    tables = sum(found.size for found in Store(folder / "store").objects("parts") if found.name.endswith(".parquet"))
    return {
        "pairs": pairs,
        "tables_mb": tables / 1e6,
        "first_cpu_s": first["process_s"],
        "cached_cpu_s": middle["process_s"],
        "checks": middle["checks"],
        "checks_cpu_s": middle["checks_s"],
        "share_of_process": middle["checks_s"] / middle["process_s"],
        "share_of_run": middle["checks_s"] / middle["run_s"],
    }


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=2000)
    arguments.add_argument("--times", type=int, default=5)
    arguments.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.run:
        print(json.dumps(run(asked.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(asked.pairs, asked.times, asked.folder or Path(temporary))
    if asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


if __name__ == "__main__":
    main()
