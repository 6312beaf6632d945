"""Files that are small on disk and large once they are read cost themselves, named; what lies beside them is kept.

Memory is measured of a process of its own, and of those that it starts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks.bomb_files import BOMBS, good_file
from curation.audit.views import ask, open_views
from curation.document_sources import DocumentSource, list_documents
from curation.documents.reading import ReadDocuments
from curation.errors import SourceError
from curation.media import html_walk
from curation.media.decoded import MAX_FILE_BYTES, MAX_ROW_BYTES, bounded_slices, row_bytes
from curation.media.parquet_batches import parquet_batches, rows_at_once
from curation.media.places import read_place
from curation.pair_sources import PairSource, list_pairs
from curation.runtime.chain import run_chain
from curation.sources import Source, list_source
from curation.store.objects import Store
from curation.store.versions import read_version
from curation.vision.entries import read_entries
from tests.support.small_corpus import speak_corpus
from tests.support.small_pairs import QUIET, caption, image_bytes, pairs, write_tars

ROOT = Path(__file__).parents[2]
SLOT_BYTES = 2_000_000_000
QUICK = (
    *("dictionary", "nested_captions", "nested_deep", "runs", "views", "nulls"),
    *("deep_json", "wide_json", "long_line", "quotes", "tar_members", "tar_holes", "tar_names", "tar_claim"),
    *("html_nested", "html_attributes", "html_text", "document_dictionary", "document_nested", "document_runs"),
    *("document_json", "document_deep"),
    *("packed_table", "coco_texts", "json_wide", "html_lines", "html_paragraphs", "document_lines"),
)
PAGES = ("html_attributes", "html_words", "html_lines", "html_unspaced", "html_title", "html_broken")
"""Large, and pages like any other."""
NOT_TOGETHER = (
    *("nulls", "many_columns", "json_records", "tar_samples"),
    *("html_lines", "html_unspaced", "html_title", "html_broken"),
)
"""Left out of whole runs: they take long; or are honest texts of 60 MB, of which a unit of documents holds copies."""


@pytest.mark.parametrize("name", QUICK)
def test_a_bomb_costs_its_file_named_and_the_good_one_beside_it_is_kept(tmp_path: Path, name: str) -> None:
    code = "import json, sys, benchmarks.bombs as b; print(json.dumps(b.read_one(*sys.argv[1:])))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, name, str(tmp_path)]
    done = subprocess.run(command, env=env, timeout=300, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["peak"] < SLOT_BYTES
    failed = [row for row in found["ledger"] if row["verdict"] == "failed"]
    kept = [row for row in found["ledger"] if row["verdict"] == "kept" and row["kind"] == "entry"]
    assert any(Path(row["uri"]).name.startswith("good") for row in kept)
    if name in PAGES:
        assert not failed
        return
    assert failed and all(BOMBS[name].file in row["error"] for row in failed)
    assert not any(BOMBS[name].file in row["uri"] for row in kept)
    if name != "tar_names":
        assert len(failed) == 1


def bombs_beside_good_files(pipeline: str, folder: Path) -> list[str]:
    """The settings of a run over bombs of a pipeline and files that are good."""
    folder.mkdir()
    for bomb in BOMBS.values():
        if bomb.pipeline == pipeline and bomb.write.__name__ not in NOT_TOGETHER:
            bomb.write(folder / bomb.file)
    sets = [f"source.path={folder}", "max_failed_share=1.0"]
    match pipeline:
        case "captions":
            write_tars(folder / "good", pairs(6))
            return [*sets, *QUIET]
        case "documents":
            for number in range(3):
                (folder / f"{number}.jpg").write_bytes(image_bytes(number))
            images = [f"<img src={number}.jpg>" for number in range(3)] + [""] * 17
            page = "".join(f"<p>{caption(number)}{image}" for number, image in enumerate(images))
            (folder / "good.html").write_text(page)
            return [*sets, "embedder=null"]
        case _:
            speak_corpus(folder)
            return [*sets, "second_opinion={engine: sidecar}"]


MEASURE = """
import pathlib, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
pathlib.Path(sys.argv[1]).write_text(str(peak))
sys.exit(done.returncode)
"""
"""Between a test and a command: a process that is started keeps the peak of the one that it was forked from."""


def run_over_bombs(pipeline: str, folder: Path, store: Path, *more: str) -> tuple[int, str, int]:
    """The exit code of the whole command, what it says, and the most memory of its own process."""
    sets = bombs_beside_good_files(pipeline, folder)
    options = [word for one in sets for word in ("--set", one)]
    command = [sys.executable, "-c", "from dags.cli import main; main()", "run", f"{pipeline}-embedded", *options]
    said, peak = store.with_suffix(".txt"), store.with_suffix(".peak")
    between = [sys.executable, "-c", MEASURE, str(peak), *command, "--store", str(store), *more]
    with said.open("wb") as sink:
        done = subprocess.run(between, cwd=ROOT, stdout=sink, stderr=sink, check=False)
    return done.returncode, said.read_text(), int(peak.read_text())


def check_every_bomb_is_named(pipeline: str, folder: Path, store: Store) -> None:
    """Each has rows that failed or were rejected, and none that was kept; what is good is kept to the end."""
    version = read_version(store, pipeline)
    views = open_views(store, version)
    ledger = ask(views, "SELECT verdict, kind, reason, error, uri FROM ledger").to_pylist()
    for bomb in BOMBS.values():
        if not (folder / bomb.file).exists() or bomb.write.__name__ in PAGES:
            continue
        of_it = [row for row in ledger if bomb.file in f"{row['uri']} {row['error']}"]
        assert {"failed", "rejected"} & {row["verdict"] for row in of_it}, bomb.file
        assert "crashed" not in {row["reason"] for row in of_it}, bomb.file
    samples = ask(views, "SELECT * FROM shards").to_pylist()
    assert sum(shard["samples"] for shard in samples) >= (6 if pipeline == "captions" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["captions", "documents", "speech"])
def test_a_run_over_bombs_goes_on_and_keeps_what_is_good(tmp_path: Path, pipeline: str) -> None:
    """The whole command, inline; its process takes 2 GB at most."""
    folder, store = tmp_path / "in", tmp_path / "store"
    code, said, peak = run_over_bombs(pipeline, folder, store, "--runner", "inline")
    assert code == 0 and "Traceback" not in said, said
    assert peak < SLOT_BYTES
    check_every_bomb_is_named(pipeline, folder, Store(str(store)))


def test_a_file_that_unfolds_to_more_than_the_source_says_fails_and_a_larger_limit_reads_it(tmp_path: Path) -> None:
    copies = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"caption": copies, "image_path": ["good.png"] * 1000}), tmp_path / "copies.parquet")
    good_file("captions", tmp_path)
    for limit, verdict in ((1_000_000, "failed"), (20_000_000, "kept")):
        source = PairSource(path=str(tmp_path / "copies.parquet"), max_decoded_bytes=limit)
        listing = list_pairs(source)
        outcome = run_chain("read", [read_entries(source)], listing, together="root")
        assert {row["verdict"] for row in outcome.ledger.to_pylist() if row["kind"] != "listing" or limit < 2e6} == {
            verdict
        }


def test_holes_of_a_file_do_not_count_as_what_it_has_on_disk(tmp_path: Path) -> None:
    from curation.media.decoded import file_budget

    with (tmp_path / "holes").open("wb") as file:
        file.truncate(10**12)
    assert file_budget(str(tmp_path / "holes"), MAX_FILE_BYTES, "").max_bytes == MAX_FILE_BYTES


def test_one_image_of_many_copies_is_read_without_them(tmp_path: Path) -> None:
    value = b"x" * 1_000_000
    copies = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array([value]))
    path = str(tmp_path / "images.parquet")
    pq.write_table(pa.table({"image": copies}), path, store_schema=False)
    place = {"path": path, "format": "parquet", "offset": 700, "size": None, "column": "image"}
    before = pa.total_allocated_bytes()
    assert read_place(place) == value
    assert pa.total_allocated_bytes() - before < 300_000_000


def test_a_manifest_that_unfolds_too_far_is_named(tmp_path: Path) -> None:
    copies = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"path": copies}), tmp_path / "list.parquet", store_schema=False)
    with pytest.raises(SourceError, match=r"list\.parquet: it unfolds to more than"):
        list_source(Source(path=str(tmp_path / "list.parquet")))


def test_a_packed_arrow_file_is_read_forwards_and_backwards(tmp_path: Path) -> None:
    path = str(tmp_path / "packed.arrow")
    batches = [pa.record_batch({"image": [bytes([n]) * 40_000_000]}) for n in range(6)]
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    place = {"path": path, "format": "arrow", "size": None, "column": "image"}
    for row in (0, 5, 1, 4, 4, 0):
        assert read_place(place | {"offset": row}) == bytes([row]) * 40_000_000


VALUES = st.lists(st.one_of(st.none(), st.text(max_size=300)), min_size=1, max_size=60)


@given(VALUES, st.integers(1, 20), st.integers(100, 5000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_slices_are_all_rows_in_order_and_within_the_bound(
    values: list[str | None], at_once: int, max_bytes: int, encoded: bool
) -> None:
    texts = pa.array(values, pa.string())
    lists = pa.array([None if value is None else [value, value] for value in values], pa.list_(pa.string()))
    columns = [texts.dictionary_encode() if encoded else texts, lists]
    batch = pa.RecordBatch.from_arrays(columns, ["text", "list"])
    slices = list(bounded_slices(batch, at_once, max_bytes))
    assert [row for part, _ in slices for row in part.to_pylist()] == batch.to_pylist()
    for part, size in slices:
        assert 1 <= part.num_rows <= at_once
        assert size <= max_bytes or part.num_rows == 1
        written = sum(len(row["text"] or "") + sum(map(len, row["list"] or ())) for row in part.to_pylist())
        assert size >= written


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None, "x" * 100]),
        pa.array(["a", None, "x" * 100], pa.string_view()),
        pa.array(["a", None, "x" * 100]).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), pa.array(["a", None, "x" * 100])),
    ],
    ids=["plain", "view", "dictionary", "runs"],
)
def test_what_a_value_takes_does_not_depend_on_how_it_is_encoded(values: Any) -> None:
    for sliced, sizes in ((values, (65, 64, 164)), (values.slice(1), (64, 164))):
        found = np.asarray(row_bytes(sliced)).tolist()
        assert all(0 <= size - least <= 1 for size, least in zip(found, sizes, strict=True))  # a null may count as one


def test_ordinary_parquet_is_read_as_many_rows_at_once_as_before(tmp_path: Path) -> None:
    path = str(tmp_path / "plain.parquet")
    captions = [f"An old bridge stands beside the road at mile {n}." for n in range(100_000)]
    pq.write_table(pa.table({"caption": captions, "language": ["en"] * len(captions)}), path)
    with pq.ParquetFile(path) as file:
        assert rows_at_once(file, path, 0, None, 1000, 1 << 26) == 1000
        read = pa.Table.from_batches(list(parquet_batches(file, path, 0, None, 1000)))
    assert pc.all(pc.equal(read["caption"], pa.chunked_array([captions]))).as_py()


def test_a_row_of_a_list_that_is_too_large_is_named_and_its_neighbours_are_read(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 300_002, pa.int32()), pa.array(["x" * 1000]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 300_001, 300_002], pa.int32()), words)
    table = pa.table(
        {"texts": lists, "images": pa.ListArray.from_arrays(lists.offsets, pa.nulls(300_002, pa.string()))}
    )
    pq.write_table(table, tmp_path / "rows.parquet", store_schema=False)
    listing = list_documents(DocumentSource(path=str(tmp_path / "rows.parquet")))
    ledger = run_chain("read", [ReadDocuments()], listing, together="root").ledger.to_pylist()
    (failed,) = [row for row in ledger if row["verdict"] == "failed"]
    assert "rows.parquet:1: a row of 3" in failed["error"] and f"more than {MAX_ROW_BYTES}" in failed["error"]
    assert sum(row["verdict"] == "kept" and row["kind"] == "entry" for row in ledger) == 2


@given(st.text(alphabet="a b\t\n\r\f\v\u00a0\u5b57.", max_size=200))
def test_a_long_text_of_a_page_is_read_as_a_short_one(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        short = html_walk._lines(text), html_walk.plain(text)
        patch.setattr(html_walk, "LONG_TEXT", 0)
        assert (html_walk._lines(text), html_walk.plain(text)) == short


def test_a_first_look_too_fails_a_file_that_unfolds_too_far_as_a_whole(tmp_path: Path) -> None:
    BOMBS["dictionary"].write(tmp_path / "dictionary.parquet")
    good_file("captions", tmp_path)
    source = PairSource(path=str(tmp_path), max_decoded_bytes=1_000_000)
    listing = list_pairs(source, 500)
    ledger = run_chain("read", [read_entries(source, 500)], listing, together="kind").ledger.to_pylist()
    (failed,) = [row for row in ledger if row["verdict"] == "failed"]
    assert failed["kind"] == "listing" and "dictionary.parquet: it unfolds to more than" in failed["error"]
    assert [Path(row["uri"]).name for row in ledger if row["kind"] == "entry"] == ["good.png"]


def test_a_file_with_holes_is_read_as_far_as_one_of_its_size_on_disk(tmp_path: Path) -> None:
    with (tmp_path / "holes.jsonl").open("wb") as file:
        file.write(b'{"path": "a.wav"}\n')
        file.truncate(10**12)
    with pytest.raises(SourceError, match=r"holes\.jsonl: it unfolds to more than"):
        list_source(Source(path=str(tmp_path / "holes.jsonl")))
