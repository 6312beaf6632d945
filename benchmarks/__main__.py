"""All benchmarks, each in a process of its own, one after the other, and one table of what they found.

    python -m benchmarks [--json] [--quick] [--daft-python PATH] [--data-juicer-python PATH]

The exit code says whether they ran, not whether targets are met.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.page_sets import SETS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder that prints one JSON object; `quick` is what shortens it."""

    script: str
    quick: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A figure of a benchmark: where in its JSON the two values and their ratio stand, and what is aimed at.

    Attributes:
        ours, other, ratio: keys, with points between.
        at_least, at_most: of the ratio.
    """

    script: str
    figure: str
    ours: str
    other: str
    unit: str
    ratio: str
    at_least: float | None = None
    at_most: float | None = None
    ours_at_most: float | None = None

    def judge(self, ours: float, ratio: float) -> tuple[str, bool | None]:
        """What is aimed at, and whether it is met."""
        if self.at_least is not None and self.at_least == self.at_most:
            return f"ratio = {self.at_least:g}", ratio == self.at_least
        if self.at_least is not None:
            return f"ratio >= {self.at_least:g}", ratio >= self.at_least
        if self.at_most is not None:
            return f"ratio <= {self.at_most:g}", ratio <= self.at_most
        if self.ours_at_most is not None:
            return f"ours <= {self.ours_at_most:g}", ours <= self.ours_at_most
        return "", None


@dataclass(frozen=True)
class Line:
    """One line of the table. `met` is None where nothing is aimed at."""

    figure: str
    ours: float | None
    other: float | None
    unit: str
    ratio: float | None
    target: str
    met: bool | None


BENCHMARKS = (
    Benchmark("voice_activity", ("--seconds", "120", "--rounds", "3")),
    Benchmark("alignment", ("--seconds", "120", "--rounds", "1")),
    Benchmark("pipeline", ("--minutes", "4")),
    Benchmark("long_recording", ("--hours", "0.5", "--short-minutes", "6")),
    Benchmark("images", ("--sizes", "2000", "6000", "--peer-sizes", "1000", "3000")),
    Benchmark("concepts", ("--captions", "4000", "--rounds", "3")),
    Benchmark("density", ("--rows", "20000")),
    Benchmark("duplicates", ("--sizes", "100000", "300000", "--brute", "20000", "--crowds", "even", "templates")),
    Benchmark("checked_reads", ("--pairs", "400", "--times", "3")),
    Benchmark("million_pairs", ("--sizes", "20000", "100000")),
    Benchmark("pages", ("--at-most", "60")),
)

COMPARISONS = (
    Comparison(
        "voice_activity", "voice activity: silero's streaming wrapper over ours", "ours_cpu_s",
        "streaming_wrapper_cpu_s", "CPU s", "wrapper_over_ours", at_least=2,
    ),
    Comparison(
        "voice_activity", "voice activity: ours over silero's sequence model", "ours_cpu_s",
        "sequence_model_cpu_s", "CPU s", "ours_over_sequence", at_most=1.1,
    ),
    Comparison(
        "alignment", "CTC alignment: plain trellis over ours, time", "banded.cpu_s", "plain.cpu_s", "CPU s",
        "times_faster", at_least=1,
    ),
    Comparison(
        "alignment", "CTC alignment: plain trellis over ours, memory", "banded.peak_mb", "plain.peak_mb", "MB",
        "times_smaller", at_least=1,
    ),
    Comparison(
        "pipeline", "whole pipeline over its engines' own", "pipeline_cpu_s", "engines_cpu_s", "CPU s",
        "pipeline_over_engines", at_most=1.2,
    ),
    Comparison(
        "long_recording", "an hour of a long recording over one of a short", "long.cpu_s_per_audio_hour",
        "short.cpu_s_per_audio_hour", "CPU s", "cost_ratio", at_most=1.2,
    ),
    Comparison(
        "long_recording", "peak memory of a long recording over a short", "long.peak_memory_mb",
        "short.peak_memory_mb", "MB", "memory_ratio", ours_at_most=600,
    ),
    Comparison(
        "images", "10,000 images: ours over a script by hand, same measures", "ours.cpu_s_per_10000",
        "floor.cpu_s_per_10000", "CPU s", "ours_over_floor", at_most=2,
    ),
    Comparison(
        "images", "10,000 images: ours over a lean script", "ours.cpu_s_per_10000",
        "lean_floor.cpu_s_per_10000", "CPU s", "ours_over_lean_floor", at_most=2,
    ),
    Comparison(
        "images", "10,000 images: Daft over ours", "ours.cpu_s_per_10000", "daft.cpu_s_per_10000", "CPU s",
        "daft_over_ours", at_least=1,
    ),
    Comparison(
        "images", "10,000 images: Data-Juicer over ours", "ours.cpu_s_per_10000",
        "data_juicer.cpu_s_per_10000", "CPU s", "data_juicer_over_ours", at_least=1,
    ),
    Comparison(
        "concepts", "concepts: ours over a bare automaton scan", "ours_captions_per_s", "bare_captions_per_s",
        "captions per CPU s", "ours_over_bare", at_least=0.9,
    ),
    Comparison(
        "concepts", "concepts: ours over a loop of substrings", "ours_captions_per_s", "naive_captions_per_s",
        "captions per CPU s", "ours_over_naive", at_least=1,
    ),
    Comparison(
        "density", "density quotas: a solver of quadratic programs over ours", "quotas.ours_s", "quotas.solver_s",
        "CPU s", "quotas.solver_to_ours", at_least=1,
    ),
    Comparison(
        "density", "density quotas: their sum over N", "quotas.sum", "quotas.total", "rows", "quotas.sum_to_total",
        at_least=1, at_most=1,
    ),
    Comparison(
        "duplicates", "near hashes: pairs found over those of brute force", "brute.ours_pairs", "brute.pairs", "pairs",
        "brute.same_pairs", at_least=1, at_most=1,
    ),
    Comparison(
        "duplicates", "near hashes: one band of five over combined bands", "single.ours_cpu_s", "single.single_cpu_s",
        "CPU s", "single.single_over_ours", at_least=1,
    ),
    Comparison(
        "duplicates", "perceptual duplicates: many images over few, time over linear", "growth_of_even.many_cpu_s",
        "growth_of_even.few_cpu_s", "CPU s", "growth_of_even.over_linear", at_most=1.5,
    ),
    Comparison(
        "checked_reads", "a run that finds everything done: checks over all of it", "checks_cpu_s", "cached_cpu_s",
        "CPU s", "share_of_process", at_most=0.02,
    ),
    Comparison(
        "million_pairs", "many pairs over few: CPU time", "many.cpu_s", "few.cpu_s", "CPU s", "cpu_s_ratio",
    ),
    Comparison(
        "million_pairs", "many pairs over few: peak memory", "many.peak_mb", "few.peak_mb", "MB", "peak_mb_ratio",
        ours_at_most=4000,
    ),
    Comparison(
        "pages", "pages: F1 of the body's words, ours over the better of trafilatura and readability", "ours_f1",
        "better_peer_f1", "", "f1_over_better_peer", at_least=1,
    ),
    Comparison(
        "pages", "pages: images of the body that are kept", "images_read_of_gold", "images", "images", "images_kept",
        at_least=0.95,
    ),
    Comparison(
        "pages", "pages: trafilatura over ours, time a page", "ours_ms", "trafilatura_ms", "CPU ms",
        "trafilatura_ms_over_ours", at_least=1,
    ),
)  # fmt: skip

SPEED = "audio h per core h"
PLAIN_WIDTH = 132
"""Of the table where there is no terminal."""
LEAST_SHARE = 0.001
"""Stages with less than this of the pipeline's time are not in the table."""


def run(
    benchmark: Benchmark, quick: bool, peers: Sequence[str] = (), pages: Sequence[str] = ()
) -> dict[str, Any] | None:
    """What it printed; None if it crashed, which it has said why.

    Args:
        peers: options that name the Pythons of peers, for the benchmark that has some.
        pages: options that name the folders of sets of pages, likewise.
    """
    command = [sys.executable, str(HERE / f"{benchmark.script}.py"), "--json", *(benchmark.quick if quick else ())]
    command += peers if benchmark.script == "images" else pages if benchmark.script == "pages" else ()
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def lines(found: Mapping[str, dict[str, Any]]) -> list[Line]:
    """The table: comparisons first, then how fast the pipeline's engines and stages are."""
    result = []
    for comparison in COMPARISONS:
        if comparison.script not in found:
            continue
        figures = found[comparison.script]
        if comparison.ratio in figures.get("skipped", ()):
            continue
        ours, other, ratio = (_at(figures, key) for key in (comparison.ours, comparison.other, comparison.ratio))
        target, met = comparison.judge(ours, ratio)
        result.append(Line(comparison.figure, ours, other, comparison.unit, ratio, target, met))
    pipeline = found.get("pipeline")
    if pipeline is None:
        return result
    result.append(_speed("whole pipeline", pipeline))
    for part, kind in (("engines", "engine"), ("stages", "stage")):
        for name, figures in sorted(pipeline[part].items(), key=lambda item: -item[1]["cpu_s"]):
            if figures["share"] >= LEAST_SHARE:
                result.append(_speed(f"{kind} {name}", figures))
    return result


def _speed(name: str, figures: dict[str, Any]) -> Line:
    return Line(name, figures["audio_hours_per_core_hour"], None, SPEED, None, "", None)


def _at(figures: Any, key: str) -> float:
    for name in key.split("."):
        figures = figures[name]
    return float(figures)


def table(found: list[Line]) -> Table:
    shown = Table()
    for name in ("figure", "ours", "other", "unit", "ratio", "target", "met"):
        shown.add_column(name, justify="right" if name in ("ours", "other", "ratio") else "left", overflow="fold")
    for line in found:
        numbers = [_rounded(value) for value in (line.ours, line.other, line.ratio)]
        met = "" if line.met is None else "yes" if line.met else "no"
        shown.add_row(line.figure, *numbers[:2], line.unit, numbers[2], line.target, met)
    return shown


def _rounded(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments.add_argument("--quick", action="store_true", help="shorter inputs; figures are rougher")
    arguments.add_argument("--daft-python", help="a Python with daft, for images.py")
    arguments.add_argument("--data-juicer-python", help="a Python with py-data-juicer, for images.py")
    for name in SETS:
        arguments.add_argument(f"--{name}", help="a folder of pages, for pages.py")
    chosen = arguments.parse_args()
    pages = [word for name in SETS if (path := vars(chosen)[name.replace("-", "_")]) for word in (f"--{name}", path)]
    named = {"--daft-python": chosen.daft_python, "--data-juicer-python": chosen.data_juicer_python}
    peers = [word for option, python in named.items() if python for word in (option, python)]
    console = Console(stderr=True)
    found: dict[str, dict[str, Any]] = {}
    crashed = []
    for benchmark in BENCHMARKS:
        console.print(f"{benchmark.script} …", highlight=False)
        figures = run(benchmark, chosen.quick, peers, pages)
        if figures is None:
            crashed.append(benchmark.script)
        else:
            found[benchmark.script] = figures
    if chosen.json:
        print(json.dumps({"lines": [asdict(line) for line in lines(found)], "benchmarks": found, "crashed": crashed}))
    else:
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table(lines(found)))
    if crashed:
        sys.exit(f"crashed: {', '.join(crashed)}")


if __name__ == "__main__":
    main()
