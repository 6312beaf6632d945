"""The same documents give the same shards: for any runner, any order of files and lines, after kills, on any store."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.pipelines.test_documents_bad_input import FAILED, Corpus
from tests.support.small_corpus import run

DOCUMENTS = 30
FILES = 3
SETTINGS = (
    *("clusters.clusters=3", "density.keep_fraction=0.5", "max_failed_share=0.5", "pairing.min_similarity=0"),
    *("work.check_documents=5", "work.scan_documents=5", "work.check_nodes=20", "work.pair_nodes=20"),
    *("work.assemble_nodes=20", "work.encode_bytes=50e3", "work.shard_bytes=200e3"),
)
"""Units are small, so that there are enough to be shared out, and to lose."""


def write_files(corpus: Corpus, lines: Sequence[bytes], files: int) -> None:
    for number in range(files):
        data = b"".join(line + b"\n" for line in lines[number::files])
        (corpus.folder / f"part-{number}.jsonl").write_bytes(data)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Documents in several files, some of them broken, some twice, with an image that many of them show."""
    corpus = Corpus(tmp_path_factory.mktemp("documents"))
    logo, _ = corpus.pair()
    for number in range(DOCUMENTS):
        more = [{"image": logo}, {"image": "nowhere.jpg"}][: number % 3]
        corpus.add(f"document {number}", {"nodes": corpus.nodes(*more), "url": f"https://example.org/{number}"})
    nodes = json.loads(corpus.lines["document 4"])["nodes"]
    corpus.add("again", {"nodes": nodes, "url": "https://example.org/again"})
    corpus.add("half", b"{half")
    write_files(corpus, list(corpus.lines.values()), FILES)
    told = "".join(f"<p>{text}<img src={name}>" for name, text in (corpus.pair(), corpus.pair()))
    (corpus.folder / "page.html").write_text(f"<title>A page</title>{told}")
    return corpus


def command(folder: Path, store: Path | str, *options: str) -> list[str]:
    settings = [part for setting in (f"source.path={folder}", *SETTINGS) for part in ("--set", setting)]
    return [sys.executable, "-m", "dags.cli", "run", "documents-embedded", "--store", str(store), *settings, *options]


def run_away(folder: Path, store: Path, *options: str) -> Version:
    done = subprocess.run(command(folder, store, *options), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_version(Store(store), "documents")


def run_here(folder: Path, store: Path | str) -> Version:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    answer = run(folder, store, *settings, recipe="documents-embedded")
    assert answer.code == 0, answer.err
    return read_version(Store(store), "documents")


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Path]:
    store = tmp_path_factory.mktemp("undisturbed")
    return run_here(corpus.folder, store), store


def shards(version: Version) -> list[tuple[str, str]]:
    assert len(version.shards) > 1
    return [(shard.path.split("/", 2)[2], shard.sha256) for shard in version.shards]


def records(version: Version, store: Path) -> list[dict[str, Any]]:
    """The JSON of every sample, but for what says where it was found, and the hash of its images."""
    found = []
    for row in Store(store).read_table(f"{version.name}/index/documents.parquet").to_pylist():
        parts = {part["extension"]: part for part in row["parts"]}
        shard = next(shard.path for shard in version.shards if shard.path.endswith("/" + row["shard"]))
        text = Store(store).read_range(shard, parts["json"]["offset"], parts["json"]["size"])
        known = json.loads(text) | {"images_hash": parts["images.tar"]["xxh3"]}
        found.append({key: value for key, value in known.items() if key not in ("name", "occurrences")})
    return sorted(found, key=lambda record: str(record["row_id"]))


def test_the_corpus_has_what_can_go_wrong(undisturbed: tuple[Version, Path]) -> None:
    counts = {node.name: node.counts for node in undisturbed[0].nodes}
    assert counts["entries"]["entry"][FAILED] == 1 and counts["nodes"]["node"][FAILED] >= DOCUMENTS // 3
    assert counts["nodes"]["document"]["rejected"] == 1, "the copy"
    assert counts["paired"]["node"]["rejected"] >= DOCUMENTS // 2, "the logo"
    assert counts["encoded"]["sample"]["sampled_out"] > 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ray_gives_the_shards_of_the_inline_runner(
    corpus: Corpus, undisturbed: tuple[Version, Path], workers: str, tmp_path: Path
) -> None:
    version = run_away(corpus.folder, tmp_path, "--runner", "ray", "--workers", workers)
    assert shards(version) == shards(undisturbed[0])
    assert version.nodes == undisturbed[0].nodes


def test_the_order_of_files_and_lines_does_not_matter(
    corpus: Corpus, undisturbed: tuple[Version, Path], tmp_path: Path
) -> None:
    other = Corpus(tmp_path / "in")
    shutil.copytree(corpus.folder, other.folder)
    for file in other.folder.glob("part-*.jsonl"):
        file.unlink()
    lines = list(corpus.lines.values())
    random.Random(3).shuffle(lines)
    write_files(other, lines, FILES + 2)
    (other.folder / "page.html").rename(other.folder / "a page.html")
    version = run_here(other.folder, tmp_path / "store")
    assert records(version, tmp_path / "store") == records(*undisturbed)


def test_a_document_does_not_depend_on_its_neighbours_up_to_the_pruning(
    corpus: Corpus, undisturbed: tuple[Version, Path], tmp_path: Path
) -> None:
    """Without one file, samples of the others are as they were, as far as they come."""
    fewer = tmp_path / "in"
    shutil.copytree(corpus.folder, fewer)
    (fewer / "part-1.jsonl").unlink()
    version = run_here(fewer, tmp_path / "store")
    known = {row["row_id"]: row for row in assembled(*undisturbed)}
    left = assembled(version, tmp_path / "store")
    # The logo is in fewer documents now than the limit, so those that show it have other samples.
    same = [row for row in left if row["row_id"] in known]
    assert len(same) >= DOCUMENTS // FILES // 2
    assert all(row == known[row["row_id"]] for row in same)


def assembled(version: Version, store: Path) -> list[dict[str, Any]]:
    rows = [Store(store).read_table(receipt.files["rows"].path) for receipt in version.receipts("assembled")]
    skipped = ("uri", "places", "digest")
    found = [row for table in rows for row in table.to_pylist() if row["verdict"] == "kept"]
    return [{key: value for key, value in row.items() if key not in skipped} for row in found]


@pytest.mark.ray
@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_shards(
    corpus: Corpus, undisturbed: tuple[Version, Path], tmp_path: Path
) -> None:
    chance = random.Random(2)
    done: dict[str, int] = {}
    for _ in range(2):
        started = subprocess.Popen(
            command(corpus.folder, tmp_path, "--runner", "ray", "--workers", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wanted = len(done) + chance.randint(1, 12)
        deadline = time.monotonic() + 60
        while started.poll() is None and time.monotonic() < deadline:
            if len(list(tmp_path.rglob("receipt.json"))) >= wanted:
                break
            time.sleep(0.02)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in done.items())
        done = {str(p.relative_to(tmp_path)): p.stat().st_mtime_ns for p in tmp_path.rglob("receipt.json")}
    assert 0 < len(done) < len(list(undisturbed[1].rglob("receipt.json"))), "it was killed at work"
    version = run_here(corpus.folder, tmp_path)
    assert shards(version) == shards(undisturbed[0])
    assert version.nodes == undisturbed[0].nodes
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in done.items())


def test_a_run_on_an_object_store_gives_the_shards_of_a_run_on_disk(
    corpus: Corpus, undisturbed: tuple[Version, Path], s3: str
) -> None:
    url = f"{s3}/documents"
    version = run_here(corpus.folder, url)
    assert shards(version) == shards(undisturbed[0])
    assert version.content() == undisturbed[0].content()
    for shard in version.shards:
        assert hashlib.sha256(Store(url).read(shard.path)).hexdigest() == shard.sha256
