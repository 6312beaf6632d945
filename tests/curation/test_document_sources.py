"""Documents of every manner are read in order; what is broken in one of them fails alone, under its name."""

import base64
import json
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings, strategies as st
from PIL import Image

from curation.document_sources import DocumentSource, list_documents
from curation.documents.reading import (
    DocumentFacts,
    OneDocumentPerContent,
    ReadDocuments,
    ScanNodes,
    SplitNodes,
    first_look,
)
from curation.errors import SourceError
from curation.hashing import bytes_digest
from curation.media.document_records import ImageFolder
from curation.runtime.chain import Outcome, check_chain, run_chain
from schemas.documents import DOCUMENT, DOCUMENT_ENTRY, DOCUMENT_LISTING, NODE


def png(colour: int = 0) -> bytes:
    data = BytesIO()
    Image.new("RGB", (40, 30), (colour, 80, 160)).save(data, "PNG")
    return data.getvalue()


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return path


def kept(outcome: Outcome) -> pa.Table:
    rows = outcome.rows.filter(pc.equal(outcome.rows["verdict"], "kept")).drop_columns(["verdict", "digest"])
    return rows.sort_by([("root", "ascending"), ("ordinal", "ascending"), ("row_id", "ascending")])


def entries_of(path: Path, **settings_: Any) -> Outcome:
    return run_chain("entries", [ReadDocuments()], list_documents(DocumentSource(str(path), **settings_)))


def nodes_of(path: Path, **settings_: Any) -> Outcome:
    entries = kept(entries_of(path, **settings_))
    return run_chain("nodes", [OneDocumentPerContent(), SplitNodes(), ScanNodes()], entries, together="root")


def seen(outcome: Outcome) -> list[str]:
    """The nodes in order: texts as they are, images by the hash of their bytes."""
    return [node["text"] if node["node_kind"] == "text" else node["image_hash"] for node in kept(outcome).to_pylist()]


def errors(outcome: Outcome) -> list[str]:
    return [row["error"] for row in outcome.ledger.to_pylist() if row["verdict"] == "failed"]


def test_an_mmc4_document_has_each_image_before_its_text(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(png(ord(name[0])))
    info = [
        {"image_name": "b.png", "raw_url": "http://e.org/b", "matched_text_index": 2, "matched_sim": 0.3},
        {"image_name": "a.png", "raw_url": "http://e.org/a", "matched_text_index": 0, "matched_sim": 0.2},
        {"image_name": "c.png", "raw_url": "http://e.org/c", "matched_text_index": 2, "matched_sim": 0.1},
    ]
    record = {
        "text_list": ["one", "two", "three"],
        "image_info": info,
        "url": "http://e.org",
        "similarity_matrix": [[1]],
    }
    write_lines(tmp_path / "d.jsonl", [record])
    a, b, c = (bytes_digest(png(ord(name))) for name in "abc")
    assert seen(nodes_of(tmp_path)) == [a, "one", "two", b, c, "three"]
    entry = kept(entries_of(tmp_path)).to_pylist()[0]
    assert entry["url"] == "http://e.org"
    assert json.loads(entry["metadata"]) == {"image_info": info}
    assert [node["url"] for node in entry["nodes"]] == [
        "http://e.org/a",
        None,
        None,
        "http://e.org/b",
        "http://e.org/c",
        None,
    ]


def test_images_are_found_in_the_folder_that_the_source_names(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    write_lines(tmp_path / "texts" / "d.jsonl", [{"images": ["a.png", None], "texts": [None, "hello"]}])
    assert seen(nodes_of(tmp_path / "texts", images=str(tmp_path / "images"))) == [bytes_digest(png()), "hello"]
    assert seen(nodes_of(tmp_path / "texts")) == ["hello"]


OBELICS = [
    {"texts": [None, "one", None], "images": ["a.png", None, "https://e.org/x.jpg"], "metadata": "{}"},
    {"texts": ["two", None], "images": [None, "b.png"], "metadata": "{}"},
]


@pytest.mark.parametrize("format_", ["jsonl", "parquet", "arrow"])
def test_an_obelics_document_is_the_same_in_every_format(tmp_path: Path, format_: str) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2))
    if format_ == "jsonl":
        write_lines(tmp_path / "d.jsonl", OBELICS)
    elif format_ == "parquet":
        pq.write_table(pa.Table.from_pylist(OBELICS), tmp_path / "d.parquet")
    else:
        Dataset.from_list(OBELICS).save_to_disk(tmp_path / "d")
        (tmp_path / "d" / "a.png").write_bytes(png(1))
        (tmp_path / "d" / "b.png").write_bytes(png(2))
    outcome = nodes_of(tmp_path)
    documents = {tuple(sorted(seen_in)) for seen_in in _by_root(outcome)}
    assert documents == {tuple(sorted([bytes_digest(png(1)), "one"])), tuple(sorted(["two", bytes_digest(png(2))]))}
    assert len(errors(outcome)) == 1
    assert "the image is not here, only its address https://e.org/x.jpg" in errors(outcome)[0]


def _by_root(outcome: Outcome) -> list[list[str]]:
    roots: dict[str, list[str]] = {}
    for node in kept(outcome).to_pylist():
        roots.setdefault(node["root"], []).append(node["image_hash"] or node["text"])
    return list(roots.values())


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_images_whose_bytes_stand_in_a_table_are_read_from_there(tmp_path: Path, format_: str) -> None:
    (tmp_path / "z.png").write_bytes(png(99))
    cell = [{"bytes": png(i), "path": f"{i}.png"} for i in range(60)]
    rows = [
        {"texts": [f"text {i}", None, None], "images": [None, cell[i], {"bytes": None, "path": "z.png"}]}
        for i in range(60)
    ]
    table = pa.Table.from_pylist(rows)
    if format_ == "parquet":
        pq.write_table(table, tmp_path / "d.parquet", row_group_size=7)
    else:
        with pa.ipc.new_stream(tmp_path / "d.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    outcome = nodes_of(tmp_path)
    assert errors(outcome) == []
    assert sorted(map(tuple, _by_root(outcome))) == sorted(
        (f"text {i}", bytes_digest(png(i)), bytes_digest(png(99))) for i in range(60)
    )


def test_a_list_of_nodes_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    nodes = [{"text": "one"}, {"image": "a.png", "text": "a square", "url": "http://e.org/a"}, {"text": "two"}]
    write_lines(tmp_path / "d.jsonl", [{"nodes": nodes, "title": "T", "license": "CC0", "language": "de"}])
    found = kept(nodes_of(tmp_path, licence="unknown")).to_pylist()
    assert [(node["text"], node["url"]) for node in found] == [
        ("one", None),
        ("a square", "http://e.org/a"),
        ("two", None),
    ]
    assert {(node["licence"], node["language"]) for node in found} == {("CC0", "de")}


def test_a_page_has_its_images_from_beside_it_and_from_within(tmp_path: Path) -> None:
    (tmp_path / "site" / "img").mkdir(parents=True)
    (tmp_path / "site" / "img" / "a lamp.png").write_bytes(png(1))
    (tmp_path / "root.png").write_bytes(png(2))
    inside = base64.b64encode(png(3)).decode()
    page = f"""<html lang=fr><title>Lampes</title><p>Une lampe
        <img src="img/a%20lamp.png?v=2#top" alt="Lampe"><img src="/root.png"><img src="data:image/png;base64,{inside}">
        <img src="data:image/png;base64,{inside}"><img src="data:image/svg+xml,%3Csvg%3E"><img src="//e.org/far.png">"""
    (tmp_path / "site" / "p.html").write_text(page)
    outcome = nodes_of(tmp_path)
    assert seen(outcome) == ["Une lampe", *(bytes_digest(png(i)) for i in (1, 2, 3, 3))]
    assert [node["text"] for node in kept(outcome).to_pylist()][1] == "Lampe"
    assert sorted(error.split(": ", 1)[1][:30] for error in errors(outcome)) == [
        "embedded in a way that cannot ",
        "far.png: the image is not here",
    ]
    entry = kept(entries_of(tmp_path)).to_pylist()[0]
    assert (entry["title"], entry["metadata"]) == ("Lampes", '{"lang": "fr"}')


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "/etc/passwd",
        "a/../../secret.png",
        "link.png",
        "folder/secret.png",
        "a\0.png",
        "",
        ".",
        "file:///x",
    ],
)
def test_a_path_that_leaves_the_source_has_no_place(tmp_path: Path, path: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "folder").symlink_to(tmp_path)
    node = ImageFolder(str(source), str(source)).find(path)
    assert node["place"] is None
    assert node["error"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "link", "up", "~", "%2e%2e", "\\.."]), max_size=8))
def test_no_path_ever_leaves_the_source(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    root = tmp_path_factory.getbasetemp() / "paths"
    (root / "source" / "a").mkdir(parents=True, exist_ok=True)
    for name, target in (("link", root), ("up", Path(".."))):
        if not (root / "source" / name).is_symlink():
            (root / "source" / name).symlink_to(target)
    node = ImageFolder(str(root / "source"), str(root / "source" / "a")).find("/".join(parts))
    if node["place"] is not None:
        assert os.path.realpath(node["place"]["path"]).startswith(f"{os.path.realpath(root)}/source/")


def test_every_broken_line_fails_alone_with_its_file_and_line(tmp_path: Path) -> None:
    good = {"texts": ["good"], "images": [None]}
    broken = [
        "{",
        "[1, 2]",
        "[" * 100_000,
        '{"a":' * 100_000,
        {"texts": ["a", "b"], "images": [None]},
        {"caption": "no document"},
        {"nodes": [{"text": "a"}] * 20_001},
        {"texts": ["a"], "images": [None], "deep": json.loads("[" * 100 + "]" * 100)},
        {"text_list": ["a"], "image_info": 5},
        '{"texts": ["\x80"], "images": [nul]}',
        {"texts": ["x" * 3_000_000], "images": [None]},
    ]
    lines: list[Any] = []
    for record in broken:
        lines += [record, good | {"n": len(lines)}, ""]
    write_lines(tmp_path / "d.jsonl", lines)
    stage = ReadDocuments(max_document_bytes=1_000_000)
    outcome = run_chain("entries", [stage], list_documents(DocumentSource(str(tmp_path))))
    assert outcome.counts == {"entry": {"failed": len(broken), "kept": len(broken)}, "listing": {"kept": 1}}
    wanted = {f"{tmp_path}/d.jsonl:{1 + 3 * i}" for i in range(len(broken))}
    assert {error.split(": ")[0] for error in errors(outcome)} == wanted


BROKEN_NODES: list[tuple[dict[str, Any], str]] = [
    ({"texts": ["one", 1, {"a": 1}], "images": [None, None, 7]}, "images.2 texts[1] texts[2]"),
    ({"nodes": [{"text": "one"}, None, {}, {"text": 5}, 7]}, "nodes[1] nodes[2] nodes[3] nodes[4]"),
    ({"text_list": ["one", 2], "image_info": [None, "no mapping"]}, "image_info[0] image_info[1] text_list[1]"),
    ({"nodes": [{"text": "one"}, {"image": "a\udcff.jpg"}]}, "a\ufffd.jpg"),
]


@pytest.mark.parametrize(("record", "wanted"), BROKEN_NODES)
def test_a_broken_node_fails_alone(tmp_path: Path, record: dict[str, Any], wanted: str) -> None:
    write_lines(tmp_path / "d.jsonl", [record])
    outcome = nodes_of(tmp_path)
    assert seen(outcome) == ["one"]
    assert all(error.startswith("d.jsonl:1: ") for error in errors(outcome))
    assert sorted(error.split(": ")[1].split()[0] for error in errors(outcome)) == wanted.split()


def test_half_an_emoji_costs_its_character(tmp_path: Path) -> None:
    write_lines(tmp_path / "d.jsonl", [{"nodes": [{"text": "cut \ud83d"}], "title": "T\ud83d", "x": ["\ud83d"]}])
    entry = kept(entries_of(tmp_path)).to_pylist()[0]
    assert (entry["title"], entry["metadata"], entry["nodes"][0]["text"]) == (
        "T\ufffd",
        '{"x": ["\ufffd"]}',
        "cut \ufffd",
    )


def test_metadata_is_json_for_everyone(tmp_path: Path) -> None:
    line = '{"nodes": [{"text": "one"}], "score": NaN, "more": {"high": Infinity, "low": [-1e999, 1.5]}}'
    (tmp_path / "d.jsonl").write_text(line)
    (entry,) = kept(entries_of(tmp_path)).to_pylist()
    assert entry["metadata"] == '{"more": {"high": null, "low": [null, 1.5]}, "score": null}'


def test_what_is_no_term_stays_in_the_metadata(tmp_path: Path) -> None:
    record = {"nodes": [{"text": "one"}], "language": ["en"], "url": 7, "title": "T", "licence": None, "license": "CC0"}
    write_lines(tmp_path / "d.jsonl", [record, record | {"language": "<i>en</i>"}, record | {"language": "zh-Hans"}])
    first, second, third = (entry for entry in kept(entries_of(tmp_path)).sort_by("ordinal").to_pylist())
    assert (first["language"], first["url"], first["title"], first["licence"]) == (None, None, "T", "CC0")
    assert json.loads(first["metadata"]) == {"language": ["en"], "url": 7}
    assert second["language"] is None and json.loads(second["metadata"])["language"] == "<i>en</i>"
    assert third["language"] == "zh-Hans" and json.loads(third["metadata"]) == {"url": 7}


def test_a_page_of_too_many_images_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text("<img src=a>" * 500_000)
    outcome = entries_of(tmp_path)
    assert outcome.counts == {"listing": {"failed": 1}}
    assert errors(outcome) == [f"{tmp_path}/p.html: more than 20000 texts and images"]


def test_a_node_says_where_its_image_lies(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    rows = [
        {
            "texts": [None, "one", None],
            "images": [{"bytes": png(1), "path": None}, None, {"bytes": None, "path": "a.png"}],
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    uris = kept(nodes_of(tmp_path))["uri"].to_pylist()
    assert uris == [f"{tmp_path}/d.parquet:0:images.0.bytes", f"{tmp_path}/d.parquet", f"{tmp_path}/a.png"]


def test_an_image_matched_with_no_text_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    info = [{"image_name": "a.png", "matched_text_index": index} for index in (0, 2, -1, None, True, "1", 1.0)]
    write_lines(tmp_path / "d.jsonl", [{"text_list": ["one", "two"], "image_info": [*info, {"raw_url": "u"}, {}]}])
    outcome = nodes_of(tmp_path)
    assert seen(outcome) == [bytes_digest(png()), "one", "two"]
    assert len(errors(outcome)) == 8
    assert sum("matched_text_index" in error for error in errors(outcome)) == 8


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_a_damaged_file_fails_by_name_and_its_neighbours_are_read(tmp_path: Path, format_: str) -> None:
    write_lines(tmp_path / "good.jsonl", OBELICS)
    (tmp_path / f"bad.{format_}").write_bytes(b"PAR1 nothing of the kind")
    (tmp_path / f"empty.{format_}").write_bytes(b"")
    outcome = entries_of(tmp_path)
    assert outcome.counts == {"entry": {"kept": 2}, "listing": {"failed": 2, "kept": 1}}
    assert {Path(error.split(":")[0]).name for error in errors(outcome)} == {f"bad.{format_}", f"empty.{format_}"}


def test_a_table_that_breaks_off_keeps_what_stands_before(tmp_path: Path) -> None:
    rows = [{"texts": [f"text {i} " + os.urandom(200).hex()], "images": [None]} for i in range(1000)]
    table = pa.Table.from_pylist(rows, pa.schema({"texts": pa.list_(pa.string()), "images": pa.list_(pa.string())}))
    with pa.ipc.new_stream(tmp_path / "d.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    data = (tmp_path / "d.arrow").read_bytes()
    (tmp_path / "d.arrow").write_bytes(data[: len(data) * 55 // 100])
    outcome = entries_of(tmp_path)
    assert outcome.counts["entry"] == {"failed": 1, "kept": 500}
    assert "cannot be read from row 500 on" in errors(outcome)[0]


def test_a_text_that_is_not_utf8_leaves_its_neighbours_in_the_table(tmp_path: Path) -> None:
    texts = pa.array([b"one", b"\xff\xfe", b"three"], pa.binary())
    bad = pa.StringArray.from_buffers(3, texts.buffers()[1], texts.buffers()[2])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), bad)
    none = pa.array([[None], [None], [None]], pa.list_(pa.string()))
    pq.write_table(pa.table({"texts": lists, "images": none}), tmp_path / "d.parquet")
    outcome = entries_of(tmp_path)
    assert outcome.counts["entry"] == {"failed": 1, "kept": 2}
    assert f"{tmp_path}/d.parquet:1: " in errors(outcome)[0]


def test_files_that_hold_no_document_are_failed_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "long.html").write_bytes(b"<p>" + b"x" * 2_000_000)
    (tmp_path / "deep.html").write_bytes(b"<div>" * 10_000)
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "pipe.html").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.html")
    listing = list_documents(DocumentSource(str(tmp_path)))
    outcome = run_chain("entries", [ReadDocuments(max_document_bytes=1_000_000)], listing)
    reasons = {Path(error.split(":")[0]).name: error.split(": ")[1] for error in errors(outcome)}
    assert reasons == {
        "empty.jsonl": "no document in it",
        "long.html": "a page of more than 1000000 bytes",
        "deep.html": "tags nested more than 2000 deep",
        "gone.jsonl": "not found",
        "pipe.html": "not a plain file",
    }


def test_an_empty_page_is_a_document_without_nodes_which_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text("<html><body><nav>menu</nav></body></html>")
    outcome = nodes_of(tmp_path)
    assert outcome.counts["document"] == {"rejected": 1}
    assert [row["reason"] for row in outcome.ledger.to_pylist() if row["verdict"] == "rejected"] == ["no_nodes"]


def test_one_content_in_many_files_is_one_document_with_all_its_terms(tmp_path: Path) -> None:
    for folder in ("b", "a", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.jsonl").write_text(json.dumps({"texts": ["hello"], "images": [None], "x": 1}))
    listing = list_documents(DocumentSource(str(tmp_path))).to_pylist()
    for row in listing:
        row["licence"] = {"a": "CC0", "b": "CC BY"}.get(row["name"][0])
    entries = kept(run_chain("entries", [ReadDocuments()], pa.Table.from_pylist(listing, DOCUMENT_LISTING)))
    assert len(set(entries["root"].to_pylist())) == 1
    outcome = run_chain("documents", [OneDocumentPerContent()], entries, together="root")
    document = kept(outcome).to_pylist()[0]
    assert document["row_id"] == document["root"] == entries["root"][0].as_py()
    assert document["occurrences"] == ["a/p.jsonl:1", "b/p.jsonl:1", "c/p.jsonl:1"]
    assert document["licence"] == "CC BY; CC0"
    assert outcome.lineage.num_rows == 3


def test_one_page_with_other_images_is_another_document(tmp_path: Path) -> None:
    for folder, data in (("a", png(1)), ("b", png(1) + b"more"), ("c", png(1))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.html").write_text("<p>same<img src=x.png>")
        (tmp_path / folder / "x.png").write_bytes(data)
    roots = dict(kept(entries_of(tmp_path)).select(["name", "root"]).to_pandas().to_numpy().tolist())
    assert roots["a/p.html"] == roots["c/p.html"] != roots["b/p.html"]


def test_ids_do_not_depend_on_where_the_files_lie_or_how_they_are_cut(tmp_path: Path) -> None:
    ids = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        records = [{"texts": [f"text {i}", None], "images": [None, "a.png"]} for i in range(20)]
        (tmp_path / folder / "a.png").write_bytes(png())
        write_lines(tmp_path / folder / "d.jsonl", records)
        ids.append(kept(nodes_of(tmp_path / folder))["row_id"].to_pylist())
    assert ids[0] == ids[1]
    entries = kept(entries_of(tmp_path / "here"))
    halves = [entries.slice(0, 7), entries.slice(7)]
    cut = [run_chain("n", [OneDocumentPerContent(), SplitNodes()], half, together="root") for half in halves]
    assert sorted(row for outcome in cut for row in kept(outcome)["row_id"].to_pylist()) == sorted(ids[0])


def test_a_first_look_takes_some_of_each_file_and_always_the_same(tmp_path: Path) -> None:
    write_lines(tmp_path / "d.jsonl", [{"texts": [f"text {i}"], "images": [None]} for i in range(200)])
    listing = list_documents(DocumentSource(str(tmp_path)))
    few, more = (
        {row["name"] for row in kept(run_chain("e", [ReadDocuments(at_most=count)], listing)).to_pylist()}
        for count in (10, 40)
    )
    assert (len(few), len(more)) == (10, 40)
    assert few < more
    assert first_look(ReadDocuments(), 7).at_most == 7
    assert few != {f"d.jsonl:{i}" for i in range(1, 11)}


def test_the_stages_follow_each_other_and_write_their_schemas(tmp_path: Path) -> None:
    stages = [ReadDocuments(), OneDocumentPerContent(), SplitNodes(), ScanNodes()]
    assert set(check_chain("documents", DOCUMENT_LISTING.names, stages)) == set(NODE.names) - {"parents"}
    write_lines(tmp_path / "d.jsonl", OBELICS)
    entries = entries_of(tmp_path)
    for rows, schema in ((entries.rows, DOCUMENT_ENTRY), (nodes_of(tmp_path).rows, NODE)):
        for name in set(schema.names) - {"parents"}:
            assert rows.schema.field(name).type == schema.field(name).type
    documents = run_chain("documents", [OneDocumentPerContent()], kept(entries), together="root")
    assert set(DOCUMENT.names) - {"parents"} <= set(documents.rows.column_names)
    facts = DocumentFacts()(kept(documents))
    assert set(facts["document_name"].to_pylist()) == {"d.jsonl:1", "d.jsonl:2"}
    assert facts["root"].to_pylist() == kept(documents)["row_id"].to_pylist()


def test_a_changed_image_is_seen_in_the_listing_and_in_its_document(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text("<p>same<img src=x.png>")
    (tmp_path / "x.png").write_bytes(png(1))
    before = list_documents(DocumentSource(str(tmp_path))), kept(entries_of(tmp_path))
    (tmp_path / "x.png").write_bytes(png(2))
    os.utime(tmp_path / "x.png", ns=(1, 1))
    after = list_documents(DocumentSource(str(tmp_path))), kept(entries_of(tmp_path))
    assert before[0]["beside"] != after[0]["beside"]
    assert before[1]["image_files"] != after[1]["image_files"]


def test_a_listing_opens_no_file_and_says_what_it_misses(tmp_path: Path) -> None:
    for name in ("a.html", "b.HTM", "c.jsonl", "cache-1.arrow", "d.arrow", "e.txt"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0)
    listing = list_documents(DocumentSource(str(tmp_path)))
    assert listing["name"].to_pylist() == ["a.html", "b.HTM", "c.jsonl", "d.arrow"]
    assert list_documents(DocumentSource(f"{tmp_path}/*.htm*"))["name"].to_pylist() == ["a.html"]
    assert list_documents(DocumentSource(str(tmp_path)), limit=2).num_rows == 2
    for path, message in (
        ("", "is empty"),
        (f"{tmp_path}/none", "no documents"),
        (f"{tmp_path}/e.txt", "no documents"),
    ):
        with pytest.raises(SourceError, match=message):
            list_documents(DocumentSource(path))
    with pytest.raises(SourceError, match="not a folder"):
        list_documents(DocumentSource(str(tmp_path), images=f"{tmp_path}/none"))
