"""The card's lines for `datasets` load what is in the tars, whatever its cache has of stores and versions before."""

import hashlib
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.curation.store.test_shard_loaders import printed_snippets, run_python
from tests.support.small_corpus import curate
from tests.support.small_pairs import QUIET, pairs, write_tars

DIGESTS = """
import hashlib
for sample in samples:
    print(sample["__key__"], hashlib.sha256(sample["jpg"]).hexdigest(), sample["txt"], sep="|")
"""


def publish(folder: Path, store: Path, dataset: str, first: int, count: int = 6) -> Path:
    """The folder of the newest version of a dataset, made of images that no other number has."""
    source = write_tars(folder / f"in-{dataset}-{first}", pairs(count, first))
    settings = [word for one in (f"source.path={source}", f"dataset={dataset}", *QUIET) for word in ("--set", one)]
    done = curate("run", "captions-embedded", *settings, "--store", str(store), "--runner", "inline")
    assert done.code == 0, done.err
    return max((path for path in (store / dataset).iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def in_the_tars(version: Path) -> list[str]:
    """Key, image and text of every sample, from the tars' bytes."""
    parts: dict[str, dict[str, bytes]] = {}
    for shard in sorted(version.glob("*/train-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                parts.setdefault(key, {})[extension] = file.read()
    return sorted(f"{k}|{hashlib.sha256(p['jpg']).hexdigest()}|{p['txt'].decode()}" for k, p in parts.items())


def loaded(version: Path, scratch: Path, streaming: bool = False) -> list[str]:
    """What the printed lines load; the cache is the scratch folder's."""
    code = printed_snippets(version)["datasets"]
    if streaming:
        code = re.sub(r"(load_dataset\(.*)\)", r"\1, streaming=True)", code)
        assert "streaming=True" in code
    lines = run_python(code + DIGESTS, version, scratch)
    assert sorted(line for line in lines if "|" not in line) == sorted(
        f"{key} {size}" for key, size in ((line.split("|")[0], _size(version, line)) for line in in_the_tars(version))
    )
    return sorted(line for line in lines if "|" in line)


def _size(version: Path, line: str) -> int:
    for shard in version.glob("*/train-*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name == f"{line.split('|', maxsplit=1)[0]}.jpg":
                    return member.size
    raise AssertionError(line)


@pytest.mark.parametrize("streaming", [False, True])
def test_every_dataset_and_version_loads_its_own_content_from_one_cache(tmp_path: Path, streaming: bool) -> None:
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    first = publish(tmp_path, store, "cats", 0)
    other = publish(tmp_path, store, "dogs", 100)
    assert first.name == other.name == "1"
    assert loaded(first, scratch, streaming) == in_the_tars(first)
    assert loaded(other, scratch, streaming) == in_the_tars(other) != in_the_tars(first)

    shutil.rmtree(store)
    again = publish(tmp_path, store, "cats", 200)
    assert again == first
    assert loaded(again, scratch, streaming) == in_the_tars(again)

    newer = publish(tmp_path, store, "cats", 300)
    assert newer.name == "2"
    assert loaded(newer, scratch, streaming) == in_the_tars(newer)
    assert loaded(again, scratch, streaming) == in_the_tars(again)


def test_the_same_content_is_loaded_once(tmp_path: Path) -> None:
    """Made again from the same source, in another store: the card is the same, and so is the cache."""
    scratch = tmp_path / "scratch"
    version = publish(tmp_path, tmp_path / "store", "cats", 0)
    loaded(version, scratch)
    cached = sorted(path.name for path in (scratch / "hf").rglob("*.arrow"))
    assert cached
    again = publish(tmp_path, tmp_path / "store-2", "cats", 0)
    assert (again / "README.md").read_bytes() == (version / "README.md").read_bytes()
    assert loaded(again, scratch) == in_the_tars(again)
    assert sorted(path.name for path in (scratch / "hf").rglob("*.arrow")) == cached
