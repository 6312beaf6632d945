"""One folder of shards loads, as it is, in the libraries that trainers use; and the card's snippets run as printed."""

import base64
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from glob import glob
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from curation.store.dataset_card import Subset, dataset_card, loading_snippets
from curation.store.shard_index import energon_files, index_bytes, index_table, subset_index
from curation.store.tar_shards import shard_name, write_shard

EXTENSIONS = ("flac", "json", "txt")
SAMPLES_PER_SHARD = 7
"""More than the five from which `datasets` infers types."""
RATE_HZ = 16_000
RAY_ON_ONE_CPU = "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False)\n"


@dataclass(frozen=True)
class Written:
    """A version on disk, and what was put into it: the parts of each sample by subset, split and key."""

    folder: Path
    subsets: dict[str, Subset]
    samples: dict[str, dict[str, dict[str, dict[str, bytes]]]]

    def lengths(self, subset: str, split: str) -> list[str]:
        """What the card's snippets print."""
        return [f"{key} {len(parts['flac'])}" for key, parts in self.samples[subset][split].items()]


def flac(seconds: float, tone_hz: float) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE_HZ, layout="mono")
        ticks = np.arange(int(seconds * RATE_HZ))
        wave = (8000 * np.sin(2 * np.pi * tone_hz * ticks / RATE_HZ)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[np.newaxis], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def sample(subset: str, split: str, number: int) -> tuple[str, dict[str, bytes]]:
    """Parts whose JSON differs in shape from sample to sample, and every third without text."""
    key = f"{subset[0]}-{split}-{number:03d}"
    extra = {"score": 0.5} if number == SAMPLES_PER_SHARD - 1 else {}
    words = [{"text": "wört", "start": number, "untimed": None if number % 2 else "no match"}] * (number % 3)
    value = {"id": key, "language": None if number % 2 else "de", "words": words} | extra
    parts = {"flac": flac(0.05 + number / 200, 300 + number), "json": json.dumps(value, ensure_ascii=False).encode()}
    return key, parts | ({} if number % 3 == 2 else {"txt": f"wört {number}".encode()})


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("store") / "speech" / "3"
    subsets: dict[str, Subset] = {}
    samples: dict[str, dict[str, dict[str, dict[str, bytes]]]] = {}
    for name, splits in {"interleaved": {"train": 2}, "asr": {"train": 2, "validation": 1}}.items():
        samples[name] = {split: {} for split in splits}
        tables = []
        size = 0
        for split, count in splits.items():
            for number in range(count):
                shard = shard_name(split, number)
                numbers = range(number * SAMPLES_PER_SHARD, (number + 1) * SAMPLES_PER_SHARD)
                content = [sample(name, split, n) for n in numbers]
                samples[name][split] |= {key: {"txt": b""} | parts for key, parts in content}
                path = folder / name / shard
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    written = write_shard(file, content, EXTENSIONS)
                size += written.size
                seconds = [0.05 + n / 200 for n in numbers]
                columns = pa.table({"row_id": [key for key, _ in content], "duration_s": seconds})
                tables.append(index_table(shard, written.rows, columns))
        index = subset_index(tables)
        (folder / "index").mkdir(exist_ok=True)
        (folder / "index" / f"{name}.parquet").write_bytes(index_bytes(index))
        for path_in_subset, data in energon_files(index, subflavors={"subset": name}).items():
            path = folder / name / path_in_subset
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        counts = {"samples": index.num_rows, "hours": 0.01}
        subsets[name] = Subset(name, f"{name} samples", EXTENSIONS, splits, size, counts, {"de": counts}, str(size))
    shown = list(subsets.values())
    text = dataset_card(title="Test", version="3", subsets=shown, sources=[], engines=[], funnel=[], recipe="")
    (folder / "README.md").write_text(text)
    return Written(folder, subsets, samples)


def run_python(code: str, folder: Path, scratch: Path) -> list[str]:
    """Lines that code prints, run in a folder by a fresh interpreter without network."""
    offline = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "hf")}
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | offline | quiet,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def printed_snippets(folder: Path) -> dict[str, str]:
    """The Python of the card on disk, by heading."""
    text = (folder / "README.md").read_text()
    return dict(re.findall(r"^### (.+?)\n\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_the_card_prints_a_snippet_for_every_loader(version: Written) -> None:
    snippets = printed_snippets(version.folder)
    assert snippets == loading_snippets(version.subsets["interleaved"])
    assert len(snippets) == 5


def test_webdataset_reads_every_part_of_every_shard(version: Written) -> None:
    import webdataset as wds

    for subset, splits in version.samples.items():
        for split, expected in splits.items():
            shards = sorted(glob(str(version.folder / subset / f"{split}-*.tar")))
            raw = {s["__key__"]: {e: s[e] for e in EXTENSIONS} for s in wds.WebDataset(shards, shardshuffle=False)}
            assert raw == expected
            assert list(raw) == list(expected)
            for decoded in wds.WebDataset(shards, shardshuffle=False).decode():
                assert decoded["json"] == json.loads(expected[decoded["__key__"]]["json"])
                assert decoded["txt"] == expected[decoded["__key__"]]["txt"].decode()


def test_the_webdataset_snippet_runs_as_printed(version: Written, tmp_path: Path) -> None:
    code = printed_snippets(version.folder)["webdataset"]
    assert run_python(code, version.folder, tmp_path) == version.lengths("interleaved", "train")


def test_the_datasets_snippet_runs_as_printed(version: Written, tmp_path: Path) -> None:
    code = printed_snippets(version.folder)["datasets"]
    assert run_python(code, version.folder, tmp_path) == version.lengths("interleaved", "train")


def test_datasets_loads_the_folder_with_every_part_of_every_split(version: Written, tmp_path: Path) -> None:
    code = """
import base64, json, os
from datasets import load_dataset
rows = []
for subset in ("interleaved", "asr"):
    for streaming in (False, True):
        for split, samples in load_dataset(os.getcwd(), subset, streaming=streaming).items():
            for s in samples:
                audio = base64.b64encode(s["flac"]).decode()
                rows.append([subset, streaming, split, s["__key__"], audio, s["json"], s["txt"]])
default = load_dataset(os.getcwd())
print(json.dumps({"rows": rows, "default": {k: len(v) for k, v in default.items()}}))
"""
    found = json.loads(run_python(code, version.folder, tmp_path)[-1])
    expected = [
        [subset, streaming, split, key, base64.b64encode(p["flac"]).decode(), json.loads(p["json"]), p["txt"].decode()]
        for subset, splits in version.samples.items()
        for streaming in (False, True)
        for split, samples in splits.items()
        for key, p in samples.items()
    ]
    assert found["rows"] == expected
    assert found["default"] == {"train": 2 * SAMPLES_PER_SHARD}


def test_ray_runs_the_snippet_as_printed_and_reads_whole_folders(version: Written, tmp_path: Path) -> None:
    folders = """
for subset in ("interleaved", "asr"):
    for row in ray.data.read_webdataset(subset, file_extensions=["tar"]).iter_rows():
        print(subset, row["__key__"], len(row["flac"]), row["json"]["id"], row["txt"], sep="|")
"""
    code = RAY_ON_ONE_CPU + printed_snippets(version.folder)["Ray"] + folders
    lines = run_python(code, version.folder, tmp_path)
    assert sorted(line for line in lines if "|" not in line) == version.lengths("interleaved", "train")
    assert sorted(line for line in lines if "|" in line) == sorted(
        f"{subset}|{key}|{len(parts['flac'])}|{key}|{parts['txt'].decode()}"
        for subset, splits in version.samples.items()
        for samples in splits.values()
        for key, parts in samples.items()
    )


@pytest.mark.parametrize("subset", ["interleaved", "asr"])
def test_duckdb_finds_parts_that_are_read_by_offset(version: Written, subset: str, tmp_path: Path) -> None:
    import duckdb

    snippet = loading_snippets(version.subsets[subset])["DuckDB, and one part out of a shard"]
    expected = [line for split in version.samples[subset] for line in version.lengths(subset, split)]
    assert run_python(snippet, version.folder, tmp_path) == sorted(expected)
    index = str(version.folder / "index" / f"{subset}.parquet")
    query = "select key, shard, p.extension, p.offset, p.size from (select *, unnest(parts) as p from read_parquet(?))"
    parts = {key: part for split in version.samples[subset].values() for key, part in split.items()}
    rows = duckdb.execute(query, [index]).fetchall()
    assert len(rows) == 3 * len(parts)
    for key, shard, extension, offset, size in rows:
        with (version.folder / subset / shard).open("rb") as tar:
            tar.seek(offset)
            assert tar.read(size) == parts[key][extension]
    [(seconds,)] = duckdb.execute("select sum(duration_s) from read_parquet(?)", [index]).fetchall()
    assert seconds > 0


@pytest.mark.skipif(importlib.util.find_spec("megatron") is None, reason="megatron-energon is not installed")
def test_the_energon_snippet_runs_as_printed(version: Written, tmp_path: Path) -> None:
    lines = run_python(printed_snippets(version.folder)["Energon"], version.folder, tmp_path)
    assert sorted(lines) == version.lengths("interleaved", "train")
