"""Images checked, freed of duplicates and packed: the pipeline beside a script by hand, and beside its peers.

The job: JPEGs of tars as img2dataset writes them; 256 on the shorter side, at most 3 : 1, not blank, not blurred; of
images that look alike (4 bits of 64) one; what is left in tars with an index, and a ledger of every image.

- *Ours* is the pipeline `captions` without text checks, embeddings and clusters, in process, with everything that it
  always does: hashes, units, receipts, lineage, a version.
- The *floor* is `image_floor.py`, one script and one process, with the very measures of the pipeline: both must keep
  the same images. The *lean floor* is that script with measures of its own, for this job alone.
- Daft and Data-Juicer (`image_peers.py`) do what they have operators for, which is less, and take part where a Python
  that has them is named.

Each runs in a process of its own at two sizes. Figures are CPU seconds (user and system, with all that a process
starts) per 10,000 images between the sizes; what is left is start-up. A corpus of 60,000 takes 3 GB, and the results
as much again for a while; the peers are given files, whose unpacking is not counted.

    python benchmarks/images.py [--sizes 20000 60000] [--peer-sizes 2000 6000] [--daft-python PATH]
                                [--data-juicer-python PATH] [--folder FOLDER] [--json]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.image_corpus import PER_TAR, make_corpus, unpack
from benchmarks.pipeline import NodeTimes, peak_memory_bytes, stage_seconds

HERE = Path(__file__).parent
PEER_LIMIT_S = 3600


def ours(tars: Sequence[Path], out: Path) -> dict[str, Any]:
    """The pipeline over tars of one folder, in this process; into `out` go a store and the ids that are kept."""
    from curation.recipe import check_recipe
    from curation.runtime.inline import InlineRunner
    from curation.store.objects import Store
    from dags.dag import Job, run_job
    from pipelines.captions import CaptionsRecipe, captions

    off = ("text", "embedder", "clusters", "semantic", "resampling", "concepts")
    keys = {"pipeline": "captions", "dataset": "images", "source": {"path": str(tars[0].parent)}}
    recipe = check_recipe(CaptionsRecipe, keys | dict.fromkeys(off) | {"size": {"min_side": 256}}, "images")
    store, nodes = Store(out / "store"), NodeTimes()
    started = process_time()
    version, _ = run_job(Job("images", recipe, captions(recipe)), store, InlineRunner(), nodes)
    whole_s = process_time() - started
    nodes.spent_s["plan and publish"] = whole_s - sum(nodes.spent_s.values())
    index = store.read_table(f"images/{version.number}/index/jpg.parquet", ["row_id"])
    (out / "kept.json").write_text(json.dumps(sorted(index["row_id"].to_pylist())))
    return {
        "kept": index.num_rows,
        "peak_memory_mb": peak_memory_bytes() / 1e6,
        "nodes": {name: s * 1e4 / (len(tars) * PER_TAR) for name, s in nodes.spent_s.items()},
        "stages": {name: s * 1e4 / (len(tars) * PER_TAR) for name, s in stage_seconds(store).items()},
    }


def spent(command: Sequence[str | Path], out: Path) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a process and all its own, and the JSON in the last line that it prints.

    Raises:
        SystemExit: it failed; it has said why.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as printed:
        child = subprocess.Popen([*map(str, command)], stdout=printed, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        lines = printed.read().strip().splitlines()
    if child.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(lines[-1])
    return usage.ru_utime + usage.ru_stime, found


def measure(
    folder: Path, sizes: Sequence[int], peer_sizes: Sequence[int], pythons: dict[str, str | None], seed: int
) -> dict[str, Any]:
    """Everyone at two sizes, one after the other, all of a size before the next."""
    make_corpus(folder / "corpus", max(*sizes, *peer_sizes), seed)
    runs: dict[str, list[tuple[int, float, dict[str, Any]]]] = {}

    def run(name: str, count: int, command: Sequence[str | Path]) -> None:
        out = folder / "out" / f"{name}-{count}"
        cpu_s, found = spent([*command, "--out", out], out)
        runs.setdefault(name, []).append((count, cpu_s, found))
        if name in ("ours", "floor"):
            shutil.copy(out / "kept.json", folder / f"kept-{name}.json")
        shutil.rmtree(out)

    for count in sizes:
        tars = _first(folder, count)
        run("floor", count, [sys.executable, HERE / "image_floor.py", *tars])
        run("ours", count, [sys.executable, __file__, "--ours", *tars])
        run("lean_floor", count, [sys.executable, HERE / "image_floor.py", *tars, "--measures", "lean"])
        if (folder / "kept-ours.json").read_text() != (folder / "kept-floor.json").read_text():
            sys.exit(f"of {count} images, ours keeps others than the floor")
    for count in peer_sizes if any(pythons.values()) else ():
        shutil.rmtree(folder / f"files-{count}", ignore_errors=True)
        listed = unpack(_first(folder, count), folder / f"files-{count}")
        for name, python in pythons.items():
            if python:
                run(name, count, [python, HERE / "image_peers.py", name.replace("_", "-"), listed])
        shutil.rmtree(listed.parent)
    return figures(runs, pythons)


def _first(folder: Path, count: int) -> list[Path]:
    """The tars of the first images, in a folder of their own."""
    part = folder / f"first-{count}"
    part.mkdir(exist_ok=True)
    tars = []
    for path in sorted((folder / "corpus").glob("*.tar"))[: count // PER_TAR]:
        link = part / path.name
        if not link.exists():
            os.link(path, link)
        tars.append(link)
    return tars


def figures(runs: dict[str, list[tuple[int, float, dict[str, Any]]]], pythons: dict[str, str | None]) -> dict[str, Any]:
    """Marginal costs, start-up, and the ratios."""
    found: dict[str, Any] = {"skipped": [f"{name}_over_ours" for name, python in pythons.items() if not python]}
    for name, [(few, few_s, _), (many, many_s, last)] in runs.items():
        per_10_000 = (many_s - few_s) / (many - few) * 1e4
        found[name] = {
            "cpu_s_per_10000": per_10_000,
            "start_up_cpu_s": few_s - per_10_000 * few / 1e4,
            "sizes": [few, many],
            "cpu_s": [few_s, many_s],
            **last,
        }
    cost = {name: found[name]["cpu_s_per_10000"] for name in runs}
    found["ours_over_floor"] = cost["ours"] / cost["floor"]
    found["ours_over_lean_floor"] = cost["ours"] / cost["lean_floor"]
    for name in ("daft", "data_juicer"):
        if name in cost:
            found[f"{name}_over_ours"] = cost[name] / cost["ours"]
    return found


def show(found: dict[str, Any]) -> None:
    print(f"{'':12} {'CPU s per 10,000':>18} {'start-up CPU s':>16} {'kept':>8}  sizes")
    for name in ("floor", "lean_floor", "ours", "daft", "data_juicer"):
        if name in found:
            row = found[name]
            sizes = " and ".join(f"{size:,}" for size in row["sizes"])
            print(f"{name:12} {row['cpu_s_per_10000']:18.2f} {row['start_up_cpu_s']:16.2f} {row['kept']:8}  {sizes}")
    for part in ("nodes", "stages"):
        print(f"\n{'ours, ' + part:36} {'CPU s per 10,000':>18}")
        for name, cpu_s in sorted(found["ours"][part].items(), key=lambda item: -item[1]):
            print(f"{name:36} {cpu_s:18.3f}")
    print()
    for name, value in found.items():
        if "_over_" in name:
            print(f"{name:24} {value:8.3f}")
    for figure in found["skipped"]:
        option = figure.removesuffix("_over_ours").replace("_", "-")
        print(f"{figure}: skipped; name a Python that has it with --{option}-python")
    print("targets: ours over both floors <= 2; both peers over ours >= 1")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs=2, default=(20_000, 60_000), help="of the corpus, whole tars")
    arguments.add_argument("--peer-sizes", type=int, nargs=2, default=(2_000, 6_000), help="for the peers")
    arguments.add_argument("--daft-python", help="a Python with daft and pillow")
    arguments.add_argument("--data-juicer-python", help="a Python with py-data-juicer and imagededup")
    arguments.add_argument("--folder", type=Path, help="where to work; a corpus that is there is used again")
    arguments.add_argument("--seed", type=int, default=0, help="of the corpus")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments.add_argument("--ours", type=Path, nargs="+", metavar="TAR", help=argparse.SUPPRESS)
    arguments.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.ours:
        chosen.out.mkdir(parents=True)
        print(json.dumps(ours(chosen.ours, chosen.out)))
        return
    pythons = {"daft": chosen.daft_python, "data_juicer": chosen.data_juicer_python}
    with ExitStack() as stack:
        place = chosen.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="curate-benchmark-"))
        found = measure(Path(place), chosen.sizes, chosen.peer_sizes, pythons, chosen.seed)
    if chosen.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
