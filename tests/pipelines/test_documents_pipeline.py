"""The documents pipeline from pages on disk to a version: what goes and why, what is paired, what is not done twice."""

import base64
import io
import json
import random
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.documents.pairing import PairImages
from curation.documents.repeats import TextsDigest
from curation.documents.segments import text_segments
from curation.engines.image_text_embedding import TinySiglip
from curation.errors import RecipeError
from curation.proving.scene_files import encoded, scene_pixels
from curation.proving.scenes import Scene, draw_scene, write_caption
from curation.recipe import check_recipe, read_recipe
from curation.store.objects import Store
from curation.store.versions import Version
from pipelines.documents import DocumentsRecipe, documents
from tests.curation.store.test_shard_loaders import RAY_ON_ONE_CPU, printed_snippets, run_python
from tests.support.toy import run_toy

PAGES = 8
IMAGES = 3


@dataclass
class Corpus:
    """Pages with images of scenes, and what is true of them.

    Attributes:
        captions: by the image's bytes, the text that tells of it; None where no text of its page does.
    """

    folder: Path
    captions: dict[bytes, str | None] = field(default_factory=dict, repr=False)
    pages: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def image(self, name: str, data: bytes, caption: str | None) -> dict[str, Any]:
        (self.folder / name).write_bytes(data)
        self.captions[data] = caption
        return {"image": name}

    def write(self) -> None:
        lines = [json.dumps(page) for page in self.pages]
        (self.folder / "pages.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def rendered(self, name: str, scene: Scene, draw: random.Random, caption: str | None) -> dict[str, Any]:
        return self.image(name, encoded(scene_pixels(scene, draw, (160, 208)), "jpeg"), caption)


def told(scene: Scene, draw: random.Random) -> str:
    return f"Here is {write_caption(scene, draw).text}."


def make_corpus(folder: Path) -> Corpus:
    """Pages of three images and three texts that tell of them in another order; and pages with a fault."""
    draw, corpus = random.Random(7), Corpus(folder)
    for page in range(PAGES):
        scenes = [draw_scene(draw) for _ in range(IMAGES)]
        texts = [told(scene, draw) for scene in scenes]
        nodes = [
            corpus.rendered(f"{page}-{i}.jpg", scene, draw, text)
            for i, (scene, text) in enumerate(zip(scenes, texts, strict=True))
        ]
        nodes += [{"text": text} for text in draw.sample(texts, IMAGES)]
        corpus.pages.append({"nodes": nodes, "url": f"http://pages/{page}", "title": f"Page {page}", "page": page})
    first, second = corpus.pages[:2]
    blank = encoded(scene_pixels(draw_scene(draw), draw, (160, 160)) * 0 + 128, "png")
    first["nodes"].insert(1, corpus.image("blank.png", blank, None))
    first["nodes"].append({"image": "missing.jpg"})
    second["nodes"].append({"text": "Mail me@example.org for more of these images."})
    stray = corpus.rendered("stray.jpg", draw_scene(draw), draw, None)
    corpus.pages.append({"nodes": [stray, {"text": "We wrote nothing at all about images on this page of ours."}]})
    corpus.pages.append({"nodes": [{"text": "A page of words, and of nothing that is to be seen, ten at least."}]})
    corpus.write()
    return corpus


def recipe(corpus: Corpus, *sets: str) -> DocumentsRecipe:
    keys = [f"source.path={corpus.folder}", "source.licence=CC0-1.0", "source.language=en", "clusters.clusters=2"]
    return check_recipe(DocumentsRecipe, read_recipe("documents-embedded", [*keys, *sets]), "documents-embedded")


def run(corpus: Corpus, store: Store, *sets: str) -> tuple[Version, bool]:
    return run_toy(documents(recipe(corpus, *sets)), store)


def rows(store: Store, version: Version, node: str, role: str = "rows") -> list[dict[str, Any]]:
    tables = [store.read_table(receipt.files[role].path) for receipt in version.receipts(node)]
    found: list[dict[str, Any]] = pa.concat_tables(tables, promote_options="default").to_pylist()
    return found


@dataclass(frozen=True)
class Ran:
    corpus: Corpus
    store: Store
    version: Version

    def reasons(self, node: str, kind: str) -> Counter[str | None]:
        return Counter(row["reason"] for row in rows(self.store, self.version, node, "ledger") if row["kind"] == kind)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def ran(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """With every document kept, so that all can be looked at."""
    store = Store(tmp_path_factory.mktemp("store"))
    version, is_new = run(corpus, store, "density.keep_fraction=1.0")
    assert is_new
    return Ran(corpus, store, version)


def samples(ran: Ran) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """The JSON of each sample in the shards, and its images by their names."""
    parts: dict[str, dict[str, bytes]] = {}
    for shard in ran.version.shards:
        with tarfile.open(Path(ran.store.root) / shard.path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                parts.setdefault(key, {})[extension] = tar.extractfile(member).read()  # type: ignore[union-attr]
    found = []
    for part in parts.values():
        with tarfile.open(fileobj=io.BytesIO(part["images.tar"])) as tar:
            image_files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        found.append((json.loads(part["json"]), image_files))
    return found


def test_every_fault_is_named_and_the_ledger_balances(ran: Ran) -> None:
    assert ran.reasons("documents", "document") == {"too_few_images": 1, None: PAGES + 1}
    # Of 24 images and 3 more one is not there, one blank, and one that nobody tells of.
    assert ran.reasons("nodes", "node") == {"MediaError": 1, None: 6 * PAGES + 4}
    assert ran.reasons("checked", "node") == {"image_blank": 1, "personal_data": 1, None: 6 * PAGES + 2}
    assert ran.reasons("paired", "node")["unpaired_image"] >= 1
    assert ran.reasons("assembled", "sample") == {"no_image_left": 1, None: PAGES}
    for node in ran.version.nodes:
        booked = sum(sum(counts.values()) for counts in node.counts.values())
        assert not node.counts or node.rows_in + sum(node.made.values()) == booked


def test_images_are_paired_with_what_tells_of_them(ran: Ran) -> None:
    right = [
        node["paired_text"] == ran.corpus.captions[image_files[document["images"][node["image"]]["name"]]]
        for document, image_files in samples(ran)
        for node in document["nodes"]
        if node["type"] == "image"
    ]
    assert len(right) >= 0.9 * PAGES * IMAGES and sum(right) >= 0.9 * len(right)


def test_documents_are_whole_in_order_and_say_where_they_come_from(ran: Ran) -> None:
    found = {document["metadata"]["page"]: document for document, _ in samples(ran)}
    assert sorted(found) == list(range(PAGES))
    for page, document in found.items():
        ordinals = [node["ordinal"] for node in document["nodes"]]
        assert ordinals == sorted(ordinals)
        assert document["url"] == f"http://pages/{page}" and document["title"] == f"Page {page}"
        assert (document["language"], document["licence"]) == ("en", "CC0-1.0")
        told = [node["text"] for node in document["nodes"] if node["type"] == "text"]
        source = ran.corpus.pages[page]["nodes"]
        assert [source[i]["text"] for i in ordinals if "text" in source[i]] == told
        assert document["removed"] == len(source) - len(ordinals)
        assert document["checkpoint"].startswith("tiny-siglip") and document["similarity"] > 0.15
        for node in document["nodes"]:
            if node["type"] == "image":
                assert node["paired_text"] in document["nodes"][node["paired_node"]]["text"]
    assert found[0]["removed"] >= 2, "the blank one and the one that is not there"


def test_the_images_in_the_shards_are_those_on_disk_bit_by_bit(ran: Ran) -> None:
    packed = [data for _, image_files in samples(ran) for data in image_files.values()]
    assert len(packed) > PAGES and set(packed) <= set(ran.corpus.captions)


def test_a_second_run_does_nothing_and_gives_the_same_version(ran: Ran) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(ran.store.root).rglob("receipt.json")}
    version, is_new = run(ran.corpus, ran.store, "density.keep_fraction=1.0")
    assert not is_new and version.number == ran.version.number
    assert {path: path.stat().st_mtime_ns for path in Path(ran.store.root).rglob("receipt.json")} == before


def test_another_limit_of_the_pairing_embeds_nothing_again(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(TinySiglip, "embed_images", refused)
    monkeypatch.setattr(TinySiglip, "embed_texts", refused)
    version, is_new = run(ran.corpus, ran.store, "density.keep_fraction=1.0", "pairing.min_similarity=0.3")
    assert is_new
    ledger = rows(ran.store, version, "paired", "ledger")
    limits = {row["threshold"] for row in ledger if row["reason"] == "unpaired_image"}
    assert limits == {0.3} and not any(row["verdict"] == "failed" for row in ledger)
    same = [node.parts == was.parts for node, was in zip(version.nodes, ran.version.nodes, strict=True)]
    assert same == [True] * 8 + [False] * (len(same) - 8), "everything before the pairing is as it was"


def test_pruning_keeps_its_share_and_samples_the_others_out(corpus: Corpus, ran: Ran) -> None:
    version, _ = run(corpus, ran.store, "density.keep_fraction=0.5")
    verdicts = Counter((row["verdict"], row["reason"]) for row in rows(ran.store, version, "encoded", "ledger"))
    assert verdicts == {("kept", None): PAGES // 2, ("sampled_out", "density_pruned"): PAGES // 2}
    assert sum(shard.samples for shard in version.shards) == PAGES // 2


def test_a_new_page_embeds_only_what_is_new(corpus: Corpus, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    embed = TinySiglip.embed_texts

    def watched(self: TinySiglip, texts: Sequence[str]) -> Any:
        seen.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(TinySiglip, "embed_texts", watched)
    draw = random.Random(11)
    scene = draw_scene(draw)
    wider = replace(corpus, captions=dict(corpus.captions), pages=list(corpus.pages))
    text = "There is something new on this page. " + told(scene, draw)
    wider.pages.append({"nodes": [wider.rendered("new.jpg", scene, draw, text), {"text": text}]})
    wider.write()
    try:
        run(wider, ran.store, "density.keep_fraction=1.0")
    finally:
        corpus.write()
    assert sorted(seen) == sorted(text_segments(text))


def test_preserved_order_and_other_switches_are_recipe_keys(corpus: Corpus) -> None:
    pipeline = documents(recipe(corpus, "pairing.order=preserved", "clusters=null", "density=null"))
    assert [node.name for node in pipeline.nodes][-4:] == ["paired", "assembled", "encoded", "packed"]
    assert [stage.order for stage in pipeline.stages() if isinstance(stage, PairImages)] == ["preserved"]
    bare = documents(recipe(corpus, "repeats={documents: false, in_document: null, images: null}"))
    assert not {"duplicates", "spread"} & {node.name for node in bare.nodes}
    assert not any(isinstance(stage, TextsDigest) for stage in bare.stages())
    with pytest.raises(RecipeError, match="density: requires clusters"):
        recipe(corpus, "clusters=null")
    with pytest.raises(RecipeError, match="score_weights: beauty is not one of"):
        recipe(corpus, "density.score_weights.beauty=1")


def test_images_in_tables_and_pages_are_packed_bit_by_bit(tmp_path: Path) -> None:
    """A table in OBELICS' manner with the images in it, a page likewise, and a line in MMC4's manner."""
    draw, corpus = random.Random(3), Corpus(tmp_path / "in")
    corpus.folder.mkdir()
    scenes = [draw_scene(draw) for _ in range(6)]
    data = [
        encoded(scene_pixels(scene, draw, (160, 208)), "png" if i % 2 else "jpeg") for i, scene in enumerate(scenes)
    ]
    texts = [f"{told(scene, draw)} And nothing else is to be said here." for scene in scenes]
    rows = [
        {"texts": [None, text], "images": [{"bytes": image, "path": None}, None]}
        for text, image in zip(texts[:2], data[:2], strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), corpus.folder / "obelics.parquet")
    inside = [f"<img src='data:image/x;base64,{base64.b64encode(image).decode()}'>" for image in data[2:4]]
    page = f"<p>{texts[2]}{inside[0]}<p>{texts[3]}{inside[1]}"
    (corpus.folder / "page.html").write_text(page)
    info = [corpus.image(f"{i}.jpg", data[i], None)["image"] for i in (4, 5)]
    record = {
        "text_list": texts[4:],
        "image_info": [{"image_name": n, "matched_text_index": i} for i, n in enumerate(info)],
    }
    (corpus.folder / "mmc4.jsonl").write_text(json.dumps(record))
    store = Store(tmp_path / "store")
    version, _ = run(corpus, store, "density.keep_fraction=1.0", "pairing.min_similarity=-1")
    found = samples(Ran(corpus, store, version))
    assert len(found) == 4
    assert sorted(image for _, image_files in found for image in image_files.values()) == sorted(data)
    names = {name for _, image_files in found for name in image_files}
    assert names == {"000.jpg", "000.png", "001.png"}
    where = {Path(row["uri"]).name for row in rows_of_images(store, version)}
    assert {name.partition(":")[0] for name in where} == {"obelics.parquet", "page.html", "4.jpg", "5.jpg"}


def rows_of_images(store: Store, version: Version) -> list[dict[str, Any]]:
    return [row for row in rows(store, version, "checked") if row["node_kind"] == "image"]


# -- loaders -----------------------------------------------------------------------------------------------------------


def expected_lines(ran: Ran) -> list[str]:
    """What the card's snippets print: keys, and the lengths of their first parts."""
    index = ran.store.read_table(f"{ran.version.name}/index/documents.parquet").to_pylist()
    parts = [(row["key"], {part["extension"]: part["size"] for part in row["parts"]}) for row in index]
    return sorted(f"{key} {sizes['images.tar']}" for key, sizes in parts)


@pytest.mark.parametrize("library", ["webdataset", "datasets", "DuckDB, and one part out of a shard"])
def test_loaders_read_documents_by_the_snippet_of_the_card(ran: Ran, library: str, tmp_path: Path) -> None:
    folder = Path(ran.store.root) / ran.version.name
    lines = run_python(printed_snippets(folder)[library], folder, tmp_path)
    assert sorted(lines) == expected_lines(ran) and len(lines) == PAGES


@pytest.mark.ray
@pytest.mark.slow
def test_ray_reads_documents_by_the_snippet_of_the_card(ran: Ran, tmp_path: Path) -> None:
    folder = Path(ran.store.root) / ran.version.name
    assert sorted(run_python(RAY_ON_ONE_CPU + printed_snippets(folder)["Ray"], folder, tmp_path)) == expected_lines(ran)


def test_an_image_is_read_straight_from_a_shard(ran: Ran) -> None:
    """Its offset in the part, and the part's offset in the shard: no tar is unpacked."""
    folder = Path(ran.store.root) / ran.version.name
    index = ran.store.read_table(f"{ran.version.name}/index/documents.parquet").to_pylist()
    said = {document["row_id"]: (document, image_files) for document, image_files in samples(ran)}
    for row in index:
        document, image_files = said[row["row_id"]]
        (start,) = [part["offset"] for part in row["parts"] if part["extension"] == "images.tar"]
        with (folder / "documents" / row["shard"]).open("rb") as shard:
            for image in document["images"]:
                shard.seek(start + image["offset"])
                assert shard.read(image["size"]) == image_files[image["name"]]


def test_without_an_engine_documents_are_cleaned_and_images_stay_where_they_are(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("embedded without an engine")

    monkeypatch.setattr(TinySiglip, "load", refused)
    store = Store(tmp_path)
    version, _ = run(corpus, store, "embedder=null")
    cleaned = Ran(corpus, store, version)
    assert version.accepted and [record["engine"] for record in version.engines] == ["lexicon: starter"]
    assert cleaned.reasons("documents", "document") == {"too_few_images": 1, None: PAGES + 1}
    assert cleaned.reasons("checked", "node") == {"image_blank": 1, "personal_data": 1, None: 6 * PAGES + 2}
    found = samples(cleaned)
    assert len(found) == PAGES + 1
    for document, image_files in found:
        images = [node for node in document["nodes"] if node["type"] == "image"]
        assert images and image_files and {node["paired_text"] for node in images} == {None}
        assert document["similarity"] is None and document["checkpoint"] is None
