"""Bad documents, end to end: a broken node costs that node, a broken document itself, and the ledger says why."""

import io
import json
import os
import random
import shutil
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.documents import image_tar
from curation.engines.image_text_embedding import TinySiglip
from curation.media.places import read_place
from curation.proving.scene_files import encoded, scene_pixels
from curation.proving.scenes import draw_scene, write_caption
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.small_corpus import Answer, audit, curate, run

SETTINGS = ("clusters.clusters=2", "density.keep_fraction=1.0", "max_failed_share=1.0", "pairing.min_similarity=-1")
SCRIPT = "<script>alert(1)</script>"
HEADING = f"{SCRIPT}\n\n# Heading | `x`"

FAILED, REJECTED = "failed", "rejected"

DOCUMENTS: dict[str, tuple[str, str]] = {
    # what is wrong with a whole document: the reason, or what the error says
    "half": (FAILED, "not JSON"),
    "list": (FAILED, "not a JSON object"),
    "binary": (FAILED, "not JSON"),
    "latin-1": (FAILED, "'utf-8' codec can't decode byte 0xe9"),
    "lengths": (FAILED, "3 texts and 2 images"),
    "info": (FAILED, "image_info is no list"),
    "deep": (FAILED, "nested more than 100 deep"),
    "stranger": (FAILED, "no document: neither"),
    "remote": (REJECTED, "images_not_here"),
    "no text": (REJECTED, "no_text"),
    "no image": (REJECTED, "too_few_images"),
    "nothing": (REJECTED, "too_few_images"),
    "ten thousand": (REJECTED, "too_many_nodes"),
    "forty images": (REJECTED, "too_many_images"),
}

NODES: dict[str, tuple[str, str]] = {
    # what is wrong with one node of a good document
    "null node": (FAILED, "nodes[4] has neither text nor image: None"),
    "empty node": (FAILED, "nodes[4] has neither text nor image: {}"),
    "number": (FAILED, "nodes[4] has neither text nor image"),
    "half a name": (FAILED, "a name that UTF-8 cannot write"),
    "missing": (FAILED, "nope.jpg: cannot be opened: No such file"),
    "corrupt": (FAILED, "corrupt.jpg: jpeg that cannot be decoded"),
    "not an image": (FAILED, "text.png: begins with b'I am a poem"),
    "empty": (FAILED, "empty.png: empty file"),
    "small": (REJECTED, "image_too_small"),
    "long": (REJECTED, "aspect_ratio"),
    "bomb": (REJECTED, "too_many_pixels"),
    "root": (FAILED, "no file below"),
    "dots": (FAILED, "no file below"),
    "link": (FAILED, "no file below"),
    "percent": (FAILED, "%2e%2e/secret.jpg: cannot be opened"),
    "windows": (FAILED, "..\\secret.jpg: cannot be opened"),
    "drive": (FAILED, "C:\\secret.jpg: cannot be opened"),
    "scheme": (FAILED, "neither a path nor an address"),
    "pipe": (FAILED, "not a plain file"),
    "folder": (FAILED, "no file below"),
    "far": (FAILED, "the image is not here, only its address https://example.org/a.jpg"),
    "short": (REJECTED, "too_few_words"),
    "mail": (REJECTED, "personal_data"),
    "nulls of mmc4": (FAILED, "image_info[1] is no mapping: None"),
    "index of mmc4": (FAILED, "matched_text_index 99 of 2 texts"),
}

GOOD = ("good 0", "good 1", "good 2", "byte order mark", "script", "numbers", "twice", "half an emoji", "terms")

FILES = {
    "caf\\udce9.jsonl": "its name is not UTF-8",
    "empty.jsonl": "no document in it",
    "deep.html": "tags nested more than 2000 deep",
    "crowded.html": "more than 20000 texts and images",
    "nothing.parquet": "not parquet, or damaged",
    "long.html": "a page of more than 67108864 bytes",
}


@dataclass
class Corpus:
    """Lines of a file of documents, by what they are called here, and images beside it."""

    folder: Path
    draw: random.Random = field(default_factory=lambda: random.Random(5))
    lines: dict[str, bytes] = field(default_factory=dict)
    images: int = 0

    def pair(self) -> tuple[str, str]:
        """An image's name, and a text that tells of it."""
        self.images += 1
        scene, name = draw_scene(self.draw), f"p{self.images}.jpg"
        (self.folder / name).write_bytes(encoded(scene_pixels(scene, self.draw, (160, 208)), "jpeg"))
        return name, f"Here is {write_caption(scene, self.draw).text}, and image {self.images}."

    def nodes(self, *more: Any) -> list[Any]:
        """Two images with their texts, and what else there is."""
        pairs = [self.pair(), self.pair()]
        return [node for name, text in pairs for node in ({"image": name}, {"text": text})] + list(more)

    def add(self, name: str, record: dict[str, Any] | bytes) -> None:
        written = record if isinstance(record, bytes) else json.dumps({"name": name} | record).encode()
        assert self.lines.setdefault(name, written) is written

    def with_node(self, name: str, node: Any) -> None:
        self.add(name, {"nodes": self.nodes(node)})

    def line(self, name: str) -> str:
        return f"docs.jsonl:{list(self.lines).index(name) + 1}"

    def write(self) -> None:
        (self.folder / "docs.jsonl").write_bytes(b"".join(line + b"\n" for line in self.lines.values()))


def bomb() -> bytes:
    """A PNG of 20 KB that claims 2.5 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        + chunk(b"IEND", b"")
    )


def make_corpus(folder: Path) -> Corpus:
    (folder / "in").mkdir()
    corpus = Corpus(folder / "in")
    for number in range(3):
        corpus.add(f"good {number}", {"nodes": corpus.nodes(), "licence": "CC0-1.0"})
    bad_documents(corpus)
    bad_images(corpus)
    bad_paths(corpus)
    for name, node in (("null node", None), ("empty node", {}), ("number", {"text": 5})):
        corpus.with_node(name, node)
    corpus.with_node("short", {"text": "Read more"})
    corpus.with_node("mail", {"text": "Please write to me@example.org about these images."})
    image, text = corpus.pair()
    info = [{"image_name": image, "matched_text_index": 0}, None]
    corpus.add("nulls of mmc4", {"text_list": [text, None], "image_info": info})
    image, text = corpus.pair()
    stray = {"image_name": "p1.jpg", "matched_text_index": 99}
    texts = [text, "Nothing of this is to be seen anywhere."]
    corpus.add(
        "index of mmc4",
        {"text_list": texts, "image_info": [stray, {"image_name": image, "matched_text_index": 0}]},
    )
    odd_but_good(corpus)
    corpus.write()
    bad_files(corpus)
    return corpus


def bad_documents(corpus: Corpus) -> None:
    record = json.dumps({"nodes": corpus.nodes()})
    image, text = corpus.pair()
    corpus.add("half", b"{half")
    corpus.add("list", b"[1, 2]")
    corpus.add("binary", b"\x00\x01\xff")
    corpus.add("latin-1", record[:-1].encode() + b', "title": "caf\xe9"}')
    corpus.add("lengths", {"texts": [text, None, None], "images": [None, image]})
    corpus.add("info", {"text_list": [text], "image_info": {"image_name": image}})
    corpus.add("deep", record[:-1].encode() + b', "deep": ' + b"[" * 900 + b"]" * 900 + b"}")
    corpus.add("stranger", {"caption": text, "image": image})
    corpus.add("remote", {"texts": [None, text], "images": ["https://example.org/a.jpg", None]})
    corpus.add("no text", {"nodes": [{"image": image}]})
    corpus.add("no image", {"nodes": [{"text": text}]})
    corpus.add("nothing", {"nodes": []})
    many = [{"text": f"Text number {number} says something of its own."} for number in range(9999)]
    corpus.add("ten thousand", {"nodes": [*many, {"image": image}]})
    corpus.add("forty images", {"nodes": [{"text": text}, *[{"image": image}] * 40]})


def bad_images(corpus: Corpus) -> None:
    folder = corpus.folder
    whole, _ = corpus.pair()
    (folder / "corrupt.jpg").write_bytes((folder / whole).read_bytes()[:1500])
    (folder / "text.png").write_text("I am a poem, and no image.")
    (folder / "empty.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    Image.new("RGB", (2000, 160)).save(folder / "long.png")
    os.mkfifo(folder / "pipe.jpg")
    for name, file in (("corrupt", "corrupt.jpg"), ("not an image", "text.png"), ("pipe", "pipe.jpg")):
        corpus.with_node(name, {"image": file})
    for name in ("empty", "bomb", "small", "long"):
        corpus.with_node(name, {"image": f"{name}.png"})
    corpus.with_node("missing", {"image": "nope.jpg"})
    corpus.with_node("far", {"image": "https://example.org/a.jpg"})


def bad_paths(corpus: Corpus) -> None:
    secret = corpus.folder.parent / "secret.jpg"
    shutil.copy(corpus.folder / "p1.jpg", secret)
    (corpus.folder / "link.jpg").symlink_to(secret)
    corpus.with_node("half a name", {"image": "a\udcff.jpg"})
    corpus.with_node("root", {"image": str(secret)})
    corpus.with_node("dots", {"image": "../secret.jpg"})
    corpus.with_node("link", {"image": "link.jpg"})
    corpus.with_node("percent", {"image": "%2e%2e/secret.jpg"})
    corpus.with_node("windows", {"image": "..\\secret.jpg"})
    corpus.with_node("drive", {"image": "C:\\secret.jpg"})
    corpus.with_node("scheme", {"image": f"file://{secret}"})
    corpus.with_node("folder", {"image": "."})


def odd_but_good(corpus: Corpus) -> None:
    marked = json.dumps({"nodes": corpus.nodes(), "name": "byte order mark"}).encode()
    corpus.add("byte order mark", b"\xef\xbb\xbf" + marked)
    words = "between two words of a long and friendly paragraph, on one of very many pages of the whole wide web"
    told = {"text": f"Somebody wrote {SCRIPT} {words}."}
    terms = {"url": "javascript:alert(1)", "licence": f"<b>CC</b>\n# {SCRIPT}", "consent": SCRIPT, "title": HEADING}
    corpus.add("script", {"nodes": corpus.nodes(told), **terms})
    numbers = json.dumps({"name": "numbers", "nodes": corpus.nodes()})
    corpus.add("numbers", numbers[:-1].encode() + b', "score": NaN, "high": 1e999, "low": -Infinity}')
    nodes = corpus.nodes()
    corpus.add("twice", {"nodes": nodes, "url": "https://example.org/1"})
    corpus.add("the same", {"nodes": nodes[1:], "url": "https://example.org/2"})
    corpus.add("half an emoji", {"nodes": corpus.nodes({"text": "Here is half an emoji \ud83d in a text."})})
    corpus.add("terms", {"nodes": corpus.nodes(), "language": ["en"], "url": {"a": 1}, "title": 7})
    image, text = corpus.pair()
    corpus.add("ten times", {"nodes": [{"text": text}, *[{"image": image}] * 10]})
    german = "Das ist ein Absatz über etwas ganz anderes, das hier niemand erwartet hat, und er geht noch weiter."
    corpus.add("two languages", {"nodes": corpus.nodes({"text": german})})


def bad_files(corpus: Corpus) -> None:
    folder = corpus.folder
    shutil.copy(folder / "docs.jsonl", folder.parent / "docs.jsonl")
    (folder / "copy.jsonl").write_bytes(corpus.lines["good 0"])
    (folder / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(corpus.lines["good 1"])
    (folder / "empty.jsonl").write_bytes(b"\n\n")
    (folder / "deep.html").write_bytes(b"<div>" * 5000)
    (folder / "crowded.html").write_bytes(b"<img src=a>" * 30_000)
    (folder / "nothing.parquet").write_bytes(b"PAR1")
    with (folder / "long.html").open("wb") as file:
        file.truncate(100_000_000)
    told = "".join(f"<p>{text}</p><img src={name}>" for name, text in (corpus.pair(), corpus.pair()))
    out = ("%2e%2e/secret.jpg", "/../secret.jpg", "..%2fsecret.jpg", f"file://{folder.parent}/secret.jpg", "a%00.jpg")
    page = f"<title>{SCRIPT.replace('<', '&lt;')}</title>{told}" + "".join(f"<img src='{path}'>" for path in out)
    (folder / "page.html").write_text(page)
    (folder / "wide.html").write_text(told.replace("Here is", "There is"), encoding="utf-16")


def settings(*more: str) -> list[str]:
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


@dataclass(frozen=True)
class Ran:
    corpus: Corpus
    store: Path

    def run(self, *more: str) -> Answer:
        return run(self.corpus.folder, self.store, *settings(*more), recipe="documents-embedded")

    def version(self) -> Version:
        """What the first run made; later ones of a test make others."""
        return read_version(Store(self.store), "documents", 1)

    def audit(self, sql: str) -> list[dict[str, Any]]:
        return audit(self.store, sql, "--version", "1")

    def verdicts(self, node: str) -> dict[str, list[dict[str, Any]]]:
        """What was not kept at a node, by the document's name in the corpus."""
        sql = f'select n.name, l.* from ledger l join "{node}" n using (row_id) '
        rows = self.audit(sql + f"where l.node = '{node}' and l.verdict <> 'kept'")
        names = {self.corpus.line(name): name for name in self.corpus.lines}
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            line = row["name"].split(": ")[0]
            found.setdefault(names.get(line, line), []).append(row)
        return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("bad documents")
    done = Ran(make_corpus(folder), folder / "store")
    answer = done.run()
    assert answer.code == 0, answer.err
    return done


def samples(ran: Ran) -> dict[str, tuple[dict[str, Any], dict[str, bytes]]]:
    """By name, the JSON of each sample, read as strict JSON, and its images."""
    parts: dict[str, dict[str, bytes]] = {}
    for shard in ran.version().shards:
        with tarfile.open(ran.store / shard.path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                parts.setdefault(key, {})[extension] = tar.extractfile(member).read()  # type: ignore[union-attr]
    found = {}
    for part in parts.values():
        document = json.loads(part["json"], parse_constant=_refused)
        with tarfile.open(fileobj=io.BytesIO(part["images.tar"])) as tar:
            images = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        found[(document["metadata"] or {}).get("name", document["name"])] = (document, images)
    return found


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_every_bad_document_fails_or_is_rejected_alone(ran: Ran) -> None:
    found = ran.verdicts("entries") | ran.verdicts("documents")
    for name, (verdict, why) in DOCUMENTS.items():
        (row,) = found.pop(name)
        assert row["verdict"] == verdict and why in (row["error"] or row["reason"]), name
        assert ran.corpus.line(name) in f"{row['name']} {row['error']}" and "\n" not in (row["error"] or "")
    assert set(found) <= set(FILES), "nothing else was lost"


def test_every_bad_file_is_named(ran: Ran) -> None:
    rows = ran.audit("select * from ledger where kind = 'listing' and verdict <> 'kept'")
    found = {Path(row["uri"]).name: row["error"] for row in rows}
    assert sorted(found) == sorted(FILES)
    assert all(says in found[name] for name, says in FILES.items())


def test_every_bad_node_costs_that_node(ran: Ran) -> None:
    found = ran.verdicts("nodes") | ran.verdicts("checked")
    kept = samples(ran)
    for name, (verdict, why) in NODES.items():
        (row,) = found.pop(name)
        assert row["verdict"] == verdict and why in (row["error"] or row["reason"]), name
        assert kept[name][0]["removed"] == 1, name
    assert {name for name, rows in found.items() if any(row["kind"] == "node" for row in rows)} == {
        "ten times",
        "page.html",
    }


def test_a_bad_image_is_named_by_its_file(ran: Ran) -> None:
    rows = ran.audit("select uri from ledger where node = 'checked' and kind = 'node' and verdict <> 'kept'")
    names = Counter(Path(row["uri"]).name for row in rows)
    assert names.keys() >= {"corrupt.jpg", "text.png", "empty.png", "bomb.png", "small.png", "long.png"}


def test_good_documents_are_whole(ran: Ran) -> None:
    kept = samples(ran)
    for name in GOOD:
        document, images = kept[name]
        assert document["removed"] == 0 and len(images) == 2, name
        assert [node["type"] for node in document["nodes"]][:4] == ["image", "text", "image", "text"]
    told = [node["text"] for node in kept["half an emoji"][0]["nodes"] if node["type"] == "text"]
    assert told[-1] == "Here is half an emoji \ufffd in a text."
    assert kept["numbers"][0]["metadata"] == {"name": "numbers", "score": None, "high": None, "low": None}
    terms = kept["terms"][0]
    assert (terms["language"], terms["url"], terms["title"]) == (None, None, None)
    assert terms["metadata"] == {"name": "terms", "language": ["en"], "url": {"a": 1}, "title": 7}


def test_an_image_that_comes_ten_times_comes_once(ran: Ran) -> None:
    rows = ran.verdicts("checked")["ten times"]
    assert Counter(row["reason"] for row in rows) == {"repeated_image": 9}
    document, images = samples(ran)["ten times"]
    assert (document["image_count"], document["removed"], len(images)) == (1, 9, 1)


def test_the_same_texts_at_another_address_are_one_document(ran: Ran) -> None:
    (row,) = ran.verdicts("nodes")["the same"]
    assert (row["kind"], row["reason"]) == ("document", "exact_duplicate")
    assert "the same" not in samples(ran)


def test_a_document_in_two_files_is_one_with_both_names(ran: Ran) -> None:
    assert samples(ran)["good 0"][0]["occurrences"] == ["copy.jsonl:1", "docs.jsonl:1"]


def test_nothing_from_outside_the_folder_is_in_the_shards(ran: Ran) -> None:
    """Were the secret read, it would be there once more than the image that it is a copy of."""
    secret = (ran.corpus.folder.parent / "secret.jpg").read_bytes()
    holders = [name for name, (_, images) in samples(ran).items() if secret in images.values()]
    assert holders == ["good 0"]
    own = {file.read_bytes() for file in ran.corpus.folder.glob("*.*g") if file.is_file()}
    assert {data for _, images in samples(ran).values() for data in images.values()} <= own


def test_scripts_are_text_everywhere(ran: Ran, tmp_path: Path) -> None:
    document, _ = samples(ran)["script"]
    assert document["title"] == HEADING and SCRIPT in document["nodes"][4]["text"]
    card = (ran.store / ran.version().name / "README.md").read_text()
    body = card.split("---", 2)[2]
    assert "<script>" not in body and "\n# Heading" not in body and "CC" in body
    sheet = tmp_path / "sheet.png"
    answer = curate("sheet", "--store", str(ran.store), "--out", str(sheet), "--version", "1")
    assert answer.code == 0, answer.err
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG"


def test_the_ledger_balances_by_node_and_kind(ran: Ran) -> None:
    assert ran.audit("select row_id, node from ledger group by all having count(*) > 1") == []
    kept: Counter[str] = Counter()
    for node in ran.version().nodes:
        if not node.counts:
            continue
        booked = {kind: sum(counts.values()) for kind, counts in node.counts.items()}
        assert sum(booked.values()) == node.rows_in + sum(node.made.values())
        if kept:
            assert {kind: count for kind, count in booked.items() if kind not in node.made} == {
                kind: count for kind, count in kept.items() if count
            }
        # A row that others were made of is kept, and goes no further.
        made = [kind for kind in node.made if node.counts[kind].get("kept")]
        kept = Counter({kind: node.counts[kind].get("kept", 0) for kind in made or node.counts})
    assert curate("verify", "--store", str(ran.store)).code == 0


def test_too_many_failures_are_told_by_the_exit_code(ran: Ran) -> None:
    answer = ran.run("max_failed_share=0.01")
    assert answer.code != 0 and "not accepted" in answer.err and "max_failed_share" in answer.err


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refused(*_: Any) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(TinySiglip, "embed_images", refused)
    monkeypatch.setattr(TinySiglip, "embed_texts", refused)
    yield


def test_a_second_run_computes_nothing(ran: Ran, no_model: None) -> None:
    ran.run()
    answer = ran.run()
    assert answer.code == 0 and "nothing changed since version" in answer.out
    done = [line for line in answer.out.splitlines() + answer.err.splitlines() if " computed, " in line]
    assert done and all(": 0 units computed" in line for line in done)


@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("pairing.min_similarity=0.3", "paired"),
        ("repeats.images.max_documents=1", "paired"),
        ("density.keep_fraction=0.5", "density"),
    ],
)
def test_a_changed_limit_decides_again_and_embeds_nothing(ran: Ran, no_model: None, setting: str, again: str) -> None:
    answer = ran.run(setting)
    assert answer.code == 0, answer.err
    done = [line for line in answer.out.splitlines() + answer.err.splitlines() if " computed, " in line]
    computed = [line.split(":")[0] for line in done if ": 0 units computed" not in line]
    assert computed and computed[0] == again


@pytest.mark.parametrize(("change", "says"), [("deleted", "No such file"), ("changed", "changed since it was scanned")])
def test_an_image_that_changes_after_the_scan_costs_its_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, says: str
) -> None:
    (tmp_path / "in").mkdir()
    corpus = Corpus(tmp_path / "in")
    for number in range(3):
        corpus.add(f"good {number}", {"nodes": corpus.nodes()})
    corpus.write()
    file = corpus.folder / "p1.jpg"

    def read_too_late(place: dict[str, Any], **known: Any) -> bytes:
        if change == "deleted":
            file.unlink(missing_ok=True)
        else:
            file.write_bytes((corpus.folder / "p2.jpg").read_bytes())
        return read_place(place, **known)

    monkeypatch.setattr(image_tar, "read_place", read_too_late)
    done = Ran(corpus, tmp_path / "store")
    assert done.run().code == 0
    ((name, rows),) = done.verdicts("encoded").items()
    assert name == "good 0" and [(row["stage"], row["reason"]) for row in rows] == [("GatherImages", "MediaError")]
    assert f"{file}: " in rows[0]["error"] and says in rows[0]["error"]
    assert sorted(samples(done)) == ["good 1", "good 2"]


@pytest.mark.parametrize("path", ["", "nowhere", "*.txt"])
def test_nothing_to_read_is_said_before_anything_is_done(tmp_path: Path, path: str) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / path if path else tmp_path / "in"
    answer = run(source, tmp_path / "store", *settings(), recipe="documents-embedded")
    assert answer.code != 0 and "no documents in" in answer.err
    assert not (tmp_path / "store" / "documents").exists()
