"""Links, packed tables, JSON, and what is skipped: how files of a source are found, and that none is lost silently."""

import bz2
import gzip
import json
import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from curation.document_sources import DocumentSource, list_documents
from curation.documents.reading import ReadDocuments
from curation.errors import MediaError, SourceError
from curation.media.json_records import json_records
from curation.media.source_folders import skipped_of
from curation.pair_sources import PairSource, list_pairs
from curation.runtime.chain import run_chain
from curation.sources import Source, list_source
from tests.curation.vision.test_entries import captions, entries_of, said
from tests.support.small_corpus import curate
from tests.support.small_pairs import QUIET, image_bytes, pairs, write_folder, write_tars


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)  # type: ignore[no-any-return]


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd}


def listed(path: Path, **known: Any) -> tuple[list[str], dict[str, int]]:
    """Names of what is read, and what is skipped."""
    table = list_pairs(PairSource(path=str(path), **known))
    return table["name"].to_pylist(), skipped_of(table)


def cached_repository(folder: Path) -> Path:
    """A dataset in a cache of Hugging Face's, with a table of bytes and one of paths; its snapshot."""
    repository = folder / "datasets--someone--pairs"
    snapshot = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123abc")
    table = pa.table({"image": [image_bytes(1), image_bytes(2)], "text": ["a dog", "a cat"]})
    pq.write_table(table, repository / "blobs/aaa")
    (repository / "blobs/bbb").write_text(json.dumps({"file_name": "3.jpg", "text": "a horse"}))
    (repository / "blobs/ccc").write_bytes(image_bytes(3))
    (snapshot / "data/train.parquet").symlink_to("../../../blobs/aaa")
    (snapshot / "metadata.jsonl").symlink_to("../../blobs/bbb")
    (snapshot / "3.jpg").symlink_to("../../blobs/ccc")
    return snapshot


def test_a_cache_of_hugging_face_is_read_by_the_names_of_its_links(tmp_path: Path) -> None:
    snapshot = cached_repository(tmp_path)
    for path in (snapshot, tmp_path / "datasets--someone--pairs", tmp_path):
        good, bad = entries_of(path)
        assert sorted(captions(good), key=str) == ["a cat", "a dog", "a horse"], path
        assert bad == []
    good, _ = entries_of(snapshot / "data/train.parquet")
    assert captions(good) == ["a dog", "a cat"]


def test_a_run_over_a_cache_keeps_its_pairs(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", pairs(6))
    repository = tmp_path / "hub/datasets--a--b"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots/1"
    for file in sorted((tmp_path / "in").rglob("*.*")):
        blob = repository / "blobs" / file.name.replace(".", "")
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(tmp_path / "in")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    shards = []
    for source in (tmp_path / "in", snapshot):
        store = tmp_path / f"store-{source.name}"
        words = [word for one in (f"source.path={source}", *QUIET) for word in ("--set", one)]
        assert curate("run", "captions-embedded", *words, "--store", str(store), "--runner", "inline").code == 0
        shards.append([path.read_bytes() for path in sorted(store.rglob("train-*.tar"))])
    assert shards[0] == shards[1] and shards[0]


def test_a_linked_folder_is_read_once_and_inside_the_source(tmp_path: Path) -> None:
    write_tars(tmp_path / "source/real/deep", pairs(2))
    write_tars(tmp_path / "elsewhere", pairs(2, 5))
    (tmp_path / "source/linked").symlink_to("real")
    (tmp_path / "source/again").symlink_to(tmp_path / "source/real/deep")
    (tmp_path / "source/real/circle").symlink_to(tmp_path / "source")
    (tmp_path / "source/out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/out.tar").symlink_to(tmp_path / "elsewhere/00000.tar")
    names, skipped = listed(tmp_path / "source")
    assert names == ["real/deep/00000.tar"]
    assert skipped["links that lead out of the source (source.roots allows more folders)"] == 2
    assert skipped["links to folders that are read already"] == 3
    names, skipped = listed(tmp_path / "source", roots=(str(tmp_path / "elsewhere"),))
    assert names == ["out.tar", "out/00000.tar", "real/deep/00000.tar"]
    assert list(skipped) == ["links to folders that are read already"]


def test_a_folder_that_only_a_link_leads_to_has_the_links_name(tmp_path: Path) -> None:
    write_tars(tmp_path / "data", pairs(1))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/shards").symlink_to(tmp_path / "data")
    assert listed(tmp_path / "source", roots=(str(tmp_path),))[0] == ["shards/00000.tar"]


def test_roots_that_are_no_folders_are_named(tmp_path: Path) -> None:
    write_tars(tmp_path, pairs(1))
    with pytest.raises(SourceError, match=r"source\.roots: the folder /nowhere does not exist"):
        listed(tmp_path, roots=("/nowhere",))


def test_a_table_names_no_image_that_lies_outside_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/1.jpg").write_bytes(image_bytes(1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.jpg").symlink_to(tmp_path / "outside/1.jpg")
    (tmp_path / "in/a.jsonl").write_text(json.dumps({"file_name": "1.jpg", "text": "a dog"}))
    good, bad = entries_of(tmp_path / "in")
    assert good == [] and "leads out of" in said(bad)[0]
    good, bad = entries_of(tmp_path / "in", roots=(str(tmp_path / "outside"),))
    assert captions(good) == ["a dog"]


def test_every_file_that_is_not_read_is_counted(tmp_path: Path) -> None:
    write_tars(tmp_path, pairs(1))
    for name in ("a.docx", "b.DOCX", "c.pdf", "README", "loose/1.jpg", "loose/2.png", ".hidden", "00000_stats.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "00000.parquet").write_bytes(b"")
    names, skipped = listed(tmp_path)
    assert names == ["00000.tar"]
    assert skipped == {
        ".docx": 2,
        ".pdf": 1,
        "files without an extension": 1,
        "hidden files and folders": 1,
        "images without a text beside them, unless a table names them": 2,
        "notes of img2dataset and datasets": 2,
    }


@given(
    names=st.lists(
        st.from_regex(r"[a-d]{1,2}/[a-c]\.(tar|jpg|txt|pdf|jsonl|json|parquet)", fullmatch=True), unique=True
    )
)
@settings(deadline=None, max_examples=60)
def test_what_is_read_and_what_is_skipped_are_all_files(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    (folder / "z.tar").write_bytes(b"")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    read, skipped = listed(folder)
    rows = list_pairs(PairSource(path=str(folder)))
    formats = dict(zip(rows["name"].to_pylist(), rows["format"].to_pylist(), strict=True))
    by_tables = {
        name
        for name in names
        if any(
            formats.get(other) in ("jsonl", "csv", "json") and os.path.dirname(other) == os.path.dirname(name)
            for other in read
        )
    }
    of_samples = {name for name in names if formats.get(os.path.dirname(name)) == "files"}
    single = [name for name in read if formats[name] != "files"]
    left = [name for name in names if name not in single]
    unread = [
        name
        for name in left
        if not (name in of_samples and name.endswith((".jpg", ".txt", ".json")))
        and not (name in by_tables and name.endswith(".jpg"))
    ]
    assert sum(skipped.values()) >= len(unread) - len([name for name in unread if name in by_tables])
    assert sum(skipped.values()) <= len(left)


def test_plan_and_run_say_what_is_skipped(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(3))
    (tmp_path / "in/notes.docx").write_bytes(b"")
    words = [word for one in (f"source.path={tmp_path}/in", *QUIET) for word in ("--set", one)]
    more = ("captions-embedded", *words, "--store", str(tmp_path / "store"))
    assert "skipped: 1 .docx" in curate("plan", *more).out
    assert "skipped: 1 .docx" in curate("run", *more, "--runner", "inline").out


def test_recordings_follow_the_same_rules(tmp_path: Path) -> None:
    for folder in ("in", "outside"):
        (tmp_path / folder).mkdir()
        with wave.open(str(tmp_path / folder / "a.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(800))
    (tmp_path / "in/b.docx").write_bytes(b"")
    (tmp_path / "in/a.srt").write_bytes(b"")
    (tmp_path / "in/other.srt").write_bytes(b"")
    (tmp_path / "in/linked").symlink_to(tmp_path / "outside")
    (tmp_path / "in/circle").symlink_to(tmp_path / "in")
    listing = list_source(Source(path=str(tmp_path / "in")))
    assert listing["name"].to_pylist() == ["a.wav"]
    assert skipped_of(listing) == {
        ".docx": 1,
        "links that lead out of the source (source.roots allows more folders)": 1,
        "links to folders that are read already": 1,
        "texts of no recording": 1,
    }
    listing = list_source(Source(path=str(tmp_path / "in"), roots=(str(tmp_path / "outside"),)))
    assert listing["name"].to_pylist() == ["a.wav", "linked/a.wav"]
    manifest = tmp_path / "list.jsonl.gz"
    manifest.write_bytes(gzip.compress(json.dumps({"path": "in/a.wav"}).encode()))
    assert list_source(Source(path=str(manifest)))["name"].to_pylist() == ["in/a.wav"]


# Packed tables, and JSON


def lines() -> bytes:
    return b"".join(json.dumps({"file_name": f"{n}.jpg", "text": f"text {n}"}).encode() + b"\n" for n in range(5))


def with_images(folder: Path, count: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"{n}.jpg").write_bytes(image_bytes(n))
    return folder


@pytest.mark.parametrize("end", PACKERS)
def test_packed_tables_are_read(tmp_path: Path, end: str) -> None:
    with_images(tmp_path)
    rows = "".join(f"{n}.jpg\t text {n}\n" for n in range(5)).encode()
    tables = {
        "a.jsonl": lines(),
        "b.csv": b"file_name,text\n" + rows.replace(b"\t ", b","),
        "c.tsv": b"file_name\ttext\n" + rows.replace(b"\t ", b"\t"),
        "d.json": json.dumps([json.loads(line) for line in lines().splitlines()]).encode(),
    }
    for name, data in tables.items():
        (tmp_path / f"{name}.{end}").write_bytes(PACKERS[end](data))
        good, bad = entries_of(tmp_path / f"{name}.{end}")
        assert captions(good) == [f"text {n}" for n in range(5)], (name, said(bad))
        assert bad == []


def test_a_packed_file_of_several_parts_is_read_to_its_end(tmp_path: Path) -> None:
    with_images(tmp_path)
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(gzip.compress(line + b"\n") for line in lines().splitlines()))
    assert len(entries_of(tmp_path)[0]) == 5


def test_a_packed_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    with_images(tmp_path)
    for name, data in {"a.jsonl.gz": gzip.compress(lines())[:-20], "b.csv.gz": b"no gzip at all"}.items():
        (tmp_path / name).write_bytes(data)
    _, bad = entries_of(tmp_path)
    assert len(bad) == 2
    assert all("cannot be read" in one for one in said(bad))


def coco(folder: Path) -> Path:
    with_images(folder / "val2014", 3)
    known = {
        "info": {"year": 2014},
        "images": [{"id": 10 + n, "file_name": f"{n}.jpg", "coco_url": f"http://x/{n}", "height": 1} for n in range(3)],
        "licenses": [],
        "annotations": [
            {"image_id": 10 + n, "id": 100 + 2 * n + i, "caption": f"caption {n} {i}\n"}
            for i in range(2)
            for n in range(3)
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations/captions_val2014.json").write_text(json.dumps(known))
    return folder


def test_cocos_captions_are_pairs(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    wanted = [f"caption {n} {i}" for n in range(3) for i in range(2)]
    good, bad = entries_of(tmp_path / "coco")
    assert sorted(captions(good), key=str) == wanted and not bad
    assert [row["name"] for row in good[::2]] == [f"val2014/{n}.jpg" for n in range(3)]
    file = tmp_path / "coco/annotations/captions_val2014.json"
    good, bad = entries_of(file, image_folder=str(tmp_path / "coco/val2014"))
    assert sorted(captions(good), key=str) == wanted and not bad


CONVERSATION = [
    {"from": "human", "value": "<image>\nWhat is in the image?"},
    {"from": "gpt", "value": "A dog on a beach."},
    {"from": "human", "value": "What does it do?"},
    {"from": "gpt", "value": "It runs."},
]


def test_conversations_are_pairs_by_their_first_answer(tmp_path: Path) -> None:
    with_images(tmp_path)
    records = [
        {"id": "1", "image": "0.jpg", "conversations": CONVERSATION},
        {
            "messages": [{"role": "user", "content": "<image>Say."}, {"role": "assistant", "content": "A cat."}],
            "images": ["1.jpg"],
        },
        {"id": "2", "image": ["0.jpg", "1.jpg"], "conversations": CONVERSATION},
    ]
    (tmp_path / "llava.json").write_text(json.dumps(records))
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["A dog on a beach.", "A cat."]
    told = json.loads(good[0]["metadata"])
    assert told == {"id": "1", "question": "What is in the image?", "answers": 2}
    assert "about 2 images, which is no pair" in said(bad)[0]


@pytest.mark.parametrize("name", ["llava.json", "llava.jsonl", "llava.json.gz"])
def test_conversations_are_documents_with_their_images_in_place(tmp_path: Path, name: str) -> None:
    with_images(tmp_path)
    record = {"id": "1", "image": "0.jpg", "conversations": CONVERSATION}
    data = json.dumps([record] if ".jsonl" not in name else record).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    listing = list_documents(DocumentSource(path=str(tmp_path / name)))
    (entry,) = run_chain("entries", [ReadDocuments()], listing).rows.to_pylist()
    assert [(node["node_kind"], node["text"]) for node in entry["nodes"]] == [
        ("image", None),
        ("text", "What is in the image?"),
        ("text", "A dog on a beach."),
        ("text", "What does it do?"),
        ("text", "It runs."),
    ]


def test_a_record_that_is_no_document_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": "a", "image": "b"}))
    listing = list_documents(DocumentSource(path=str(tmp_path)))
    ledger = run_chain("entries", [ReadDocuments()], listing).ledger.to_pylist()
    assert "among its keys: caption, image" in str([row["error"] for row in ledger])


def test_pages_and_images_of_a_cache_are_found(tmp_path: Path) -> None:
    repository = tmp_path / "datasets--a--b"
    snapshot = repository / "snapshots/1"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs/x").write_text(json.dumps({"texts": ["A kite.", None], "images": [None, "1.jpg"]}))
    (repository / "blobs/y").write_bytes(image_bytes(1))
    (snapshot / "a.jsonl").symlink_to("../../blobs/x")
    (snapshot / "1.jpg").symlink_to("../../blobs/y")
    listing = list_documents(DocumentSource(path=str(snapshot)))
    (entry,) = run_chain("entries", [ReadDocuments()], listing).rows.to_pylist()
    assert [node["error"] for node in entry["nodes"]] == [None, None]


# JSON is read a piece at a time


@given(st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=90_000), st.none()))))
@settings(deadline=None, max_examples=40)
def test_a_list_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1), errors="surrogatepass")
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        return
    assert [record for _, record in json_records(str(path), 1 << 24)] == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"b"', "not JSON"),
        ("nothing", "neither a list nor an object"),
        ("", "it ends early"),
        ("[" * 100_000, "nested deeper"),
        ('[{"a": "' + "1" * 200_000, "more than 1000 characters"),
    ],
)
def test_json_that_breaks_off_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(MediaError, match=message):
        list(json_records(str(path), 1000))


def test_json_that_is_no_table_has_no_pairs(tmp_path: Path) -> None:
    write_tars(tmp_path, pairs(1))
    (tmp_path / "config.json").write_text('{"model": "x", "layers": [1, 2]}')
    (tmp_path / "labels.json").write_text(json.dumps(list(range(100))))
    (tmp_path / "classes.json").write_text(json.dumps([{"id": n, "name": "dog"} for n in range(100)]))
    good, bad = entries_of(tmp_path)
    assert len(good) == 1
    assert said(bad) == ["no_pairs"] * 3


def test_json_beside_pages_is_no_document_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>One.</p>")
    (tmp_path / "page.json").write_text('[{"url": "http://x"}]')
    listing = list_documents(DocumentSource(path=str(tmp_path)))
    assert listing["name"].to_pylist() == ["page.html"]
    assert sum(skipped_of(listing).values()) == 1
    assert list_documents(DocumentSource(path=str(tmp_path / "*.json")))["format"].to_pylist() == ["json"]
