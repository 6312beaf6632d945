"""The same pairs, recipe and seed give the same shards: for any runner, any order of writing, any kind of store."""

import hashlib
import io
import random
import shutil
import tarfile
from pathlib import Path

import pytest

from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.small_corpus import Answer, audit, curate
from tests.support.small_pairs import pairs, write_tars

SMALL_UNITS = ("work.scan_pairs=20", "work.check_pairs=20", "work.match_pairs=10", "work.choose_pairs=20")
"""So that few pairs are units enough to be shared out."""
WHOLE = (
    *("pair_check.min_cosine=-1", "clusters.clusters=3", "resampling.thin_to=0.8", "concepts.limits.given.en=6"),
    "work.shard_bytes=50000",
)
PAIRS = 80


def run(source: Path, store: Path | str, *more: str) -> Answer:
    settings = [word for one in (f"source.path={source}", *WHOLE, *SMALL_UNITS) for word in ("--set", one)]
    return curate("run", "captions-embedded", *settings, "--store", str(store), *more)


def made(source: Path, store: Path | str, *more: str) -> Version:
    done = run(source, store, *more)
    assert done.code == 0, done.err
    return read_version(Store(store), "captions")


def shards(version: Version) -> list[tuple[str, str]]:
    assert len(version.shards) > 1
    return [(shard.path, shard.sha256) for shard in version.shards]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tars(tmp_path_factory.mktemp("pairs") / "in", pairs(PAIRS), shards=5)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Path]:
    store = tmp_path_factory.mktemp("undisturbed")
    return made(corpus, store, "--runner", "inline"), store


def test_the_run_of_these_tests_draws_and_rejects(undisturbed: tuple[Version, Path]) -> None:
    told = audit(undisturbed[1], "select verdict, count(distinct row_id) n from ledger where kind = 'pair' group by 1")
    assert {row["verdict"] for row in told} >= {"kept", "sampled_out"}
    assert 10 < audit(undisturbed[1], "select count(*) n from packed")[0]["n"] < PAIRS


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_workers_of_ray_make_the_shards_of_one_process(
    corpus: Path, undisturbed: tuple[Version, Path], tmp_path: Path, workers: str
) -> None:
    version = made(corpus, tmp_path, "--runner", "ray", "--workers", workers)
    assert shards(version) == shards(undisturbed[0])
    assert version.content() == undisturbed[0].content()


def samples(version: Version, store: Path) -> dict[str, bytes]:
    """The members of all shards, by their names."""
    found: dict[str, bytes] = {}
    for shard in version.shards:
        with tarfile.open(fileobj=io.BytesIO(Store(store).read(shard.path))) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return found


def test_tars_written_in_any_order_at_once_or_one_by_one_make_the_same_shards(corpus: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    shutil.copytree(corpus, source)
    whole = shards(made(source, tmp_path / "whole", "--runner", "inline"))
    shutil.rmtree(source)
    source.mkdir()
    tars = sorted(corpus.iterdir())
    random.Random(7).shuffle(tars)
    for tar in tars:
        shutil.copy(tar, source / tar.name)
        done = run(source, tmp_path / "grown", "--runner", "inline")
        assert done.code == 0, done.err
    grown = shards(read_version(Store(tmp_path / "grown"), "captions"))
    assert [(path.split("/", 2)[2], digest) for path, digest in grown] == [
        (path.split("/", 2)[2], digest) for path, digest in whole
    ]
    assert shards(made(source, tmp_path / "again", "--runner", "inline")) == whole


def test_a_source_that_lies_elsewhere_makes_the_same_shards(
    corpus: Path, undisturbed: tuple[Version, Path], tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "elsewhere")
    version = made(tmp_path / "elsewhere", tmp_path / "store", "--runner", "inline")
    assert samples(version, tmp_path / "store") == samples(*undisturbed)
    assert shards(version) == shards(undisturbed[0])


@pytest.mark.slow
def test_an_object_store_holds_the_shards_of_a_disk(corpus: Path, undisturbed: tuple[Version, Path], s3: str) -> None:
    url = f"{s3}/pairs"
    version = made(corpus, url, "--runner", "inline")
    assert shards(version) == shards(undisturbed[0])
    for shard in version.shards:
        assert hashlib.sha256(Store(url).read(shard.path)).hexdigest() == shard.sha256
    assert version.content() == undisturbed[0].content()
    again = run(corpus, url, "--runner", "inline")
    assert "nothing changed since version captions/1" in again.out
    assert curate("verify", "--store", url).code == 0
    question = "select node, verdict, reason, count(*) n from ledger group by all order by all"
    assert audit(url, question) == audit(undisturbed[1], question)
