"""The same input, recipe and seed give the same bytes: for any runner, any order, any neighbours, with a node lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.proving.speech_corpus import make_corpus
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from dags.proof import speech_settings

RECORDINGS = 4
SMALL_UNITS = ("--set", "work.listen_s=40", "--set", "work.transcribe_s=12", "--set", "work.encode_s=40")
"""So that a small corpus has units enough to be shared out, and to lose."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "spoken"
    make_corpus(folder, seed=3, hours=0.04, recordings=RECORDINGS)
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    return curate_run(corpus, tmp_path_factory.mktemp("undisturbed"), "--runner", "inline")


def curate_run(corpus: Path, store: Path, *options: str) -> Version:
    finished = subprocess.run(run_command(corpus, store, *options), check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return read_version(Store(store), "speech")


def run_command(corpus: Path, store: Path, *options: str) -> list[str]:
    wanted = [setting for setting in speech_settings(corpus) if not setting.startswith("dataset=")]
    settings = [part for setting in wanted for part in ("--set", setting)]
    curate = [sys.executable, "-m", "dags.cli", "run", "speech-embedded", "--store", str(store)]
    return [*curate, *settings, *SMALL_UNITS, *options]


def shards(version: Version) -> list[tuple[str, str]]:
    assert version.shards
    return [(shard.path.split("/", 2)[2], shard.sha256) for shard in version.shards]


def part_names(version: Version) -> set[str]:
    return {part["part"] for node in version.nodes for part in node.parts if node.name != "listing"}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ray_gives_the_bytes_of_the_inline_runner(
    corpus: Path, undisturbed: Version, workers: str, tmp_path: Path
) -> None:
    version = curate_run(corpus, tmp_path, "--runner", "ray", "--workers", workers)
    assert shards(version) == shards(undisturbed)
    assert version.nodes == undisturbed.nodes


def test_the_order_of_the_input_does_not_matter(corpus: Path, undisturbed: Version, tmp_path: Path) -> None:
    manifest = tmp_path / "shuffled.jsonl"
    media = [file for file in sorted(corpus.iterdir()) if file.suffix in (".wav", ".flac", ".opus", ".mp3")]
    lines = []
    for file in reversed(media):
        sidecar = next(f for f in corpus.glob(f"{file.stem}.*") if f.suffix in (".srt", ".vtt", ".json"))
        lines.append(json.dumps({"path": str(file), "sidecar": str(sidecar)}))
    manifest.write_text("\n".join(lines))
    folder = tmp_path / "store"
    version = curate_run(corpus, folder, "--runner", "inline", "--set", f"source.path={manifest}")
    kept = {record["row_id"]: record | {"name": ""} for record in sample_records(folder, version)}
    original = {record["row_id"]: record | {"name": ""} for record in sample_records(None, undisturbed)}
    assert kept == original


def test_rows_do_not_depend_on_their_neighbours(corpus: Path, undisturbed: Version, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(corpus, fewer)
    gone = sorted(fewer.glob("recording-0001.*"))
    assert len(gone) == 2
    for file in gone:
        file.unlink()
    version = curate_run(fewer, tmp_path / "store", "--runner", "inline")
    expected = [r for r in sample_records(None, undisturbed) if "recording-0001" not in r["name"]]
    assert expected
    assert sample_records(tmp_path / "store", version) == expected


def test_killed_five_times_at_random_moments_it_ends_with_the_same_shards(
    corpus: Path, undisturbed: Version, tmp_path: Path
) -> None:
    chance = random.Random(5)
    done: dict[str, int] = {}
    for _ in range(5):
        run = subprocess.Popen(
            run_command(corpus, tmp_path, "--runner", "ray"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(chance.uniform(3, 12))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in done.items())
        done = {str(p.relative_to(tmp_path)): p.stat().st_mtime_ns for p in tmp_path.rglob("receipt.json")}
    version = curate_run(corpus, tmp_path, "--runner", "ray")
    assert shards(version) == shards(undisturbed)
    assert version.nodes == undisturbed.nodes
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in done.items())
    for node in version.nodes:
        if node.counts:
            assert sum(map(sum_of, node.counts.values())) == node.rows_in + sum_of(node.made)


def sum_of(counts: dict[str, int]) -> int:
    return sum(counts.values())


def sample_records(store: Path | None, version: Version) -> list[dict[str, object]]:
    """Every sample of a version as it lies in its shards: JSON, text, and the audio's bytes by their hash."""
    root = STORES[version.content()] if store is None else store
    found = []
    for shard in version.shards:
        index = Store(root).read_table(f"{version.name}/index/{shard.subset}.parquet").to_pylist()
        for row in (row for row in index if row["shard"] == shard.path.rsplit("/", 1)[1]):
            parts = {part["extension"]: part for part in row["parts"]}
            text = Store(root).read_range(shard.path, parts["json"]["offset"], parts["json"]["size"])
            found.append({**json.loads(text), "audio": parts["flac"]["xxh3"], "subset": shard.subset})
    return sorted(found, key=lambda record: str(record["row_id"]))


STORES: dict[str, Path] = {}


@pytest.fixture(autouse=True)
def remembered(undisturbed: Version, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = next(tmp_path_factory.getbasetemp().glob("undisturbed*"))
    STORES[undisturbed.content()] = root


@pytest.fixture
def two_nodes() -> Iterator[object]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
    yield cluster
    cluster.shutdown()


@pytest.mark.ray
def test_a_lost_node_of_a_cluster_costs_no_row(
    corpus: Path, undisturbed: Version, two_nodes: object, tmp_path: Path
) -> None:
    cluster: object = two_nodes
    second = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)  # type: ignore[attr-defined]
    cluster.wait_for_nodes()  # type: ignore[attr-defined]
    command = run_command(corpus, tmp_path, "--runner", "ray", "--address", cluster.address)  # type: ignore[attr-defined]
    environment = dict(os.environ)
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    measured = tmp_path / "measures"
    deadline = time.monotonic() + 120
    while not list(measured.glob("Transcribe*/*.parquet")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.05)
    assert run.poll() is None, "the run ended before a node could be taken from it"
    cluster.remove_node(second, allow_graceful=False)  # type: ignore[attr-defined]
    output, _ = run.communicate(timeout=240)
    assert run.returncode == 0, output
    version = read_version(Store(tmp_path), "speech")
    assert shards(version) == shards(undisturbed)
    assert version.nodes == undisturbed.nodes
