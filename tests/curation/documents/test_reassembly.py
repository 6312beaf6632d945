"""Documents put together again: what is left in order, what is rejected, images bit by bit, and what a shard says."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.diversity.density import combined_score
from curation.documents.image_tar import GatherImages
from curation.documents.layout import DocumentLayout, document_json
from curation.documents.reassembly import Reassemble, WholeDocuments
from curation.documents.scores import Knowledge, NodeQuality
from curation.hashing import bytes_digest
from curation.runtime.chain import run_chain
from curation.vision.encoding import EncodeImage
from schemas.places import PLACE

TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("row_id", "root", "kind", "uri", "node_kind", "text", "image_hash", "url"), pa.string()),
    **dict.fromkeys([f"document_{name}" for name in ("name", "url", "title", "metadata", "split")], pa.string()),
    "document_nodes_language": pa.string(),
    "document_occurrences": pa.list_(pa.string()),
    **dict.fromkeys(("language", "licence", "consent", "image_format", "paired_with", "paired_text"), pa.string()),
    **dict.fromkeys(("ordinal", "document_node_count", "image_bytes"), pa.int64()),
    **dict.fromkeys(("width", "height"), pa.int32()),
    **dict.fromkeys(("pair_similarity", "match_probability", "node_quality", "text_words"), pa.float64()),
    "checkpoint": pa.string(),
    "embedding": pa.list_(pa.float32()),
    "place": PLACE,
}
WORDS = "one two three four five six seven eight nine ten"


def node(document: str, ordinal: int, **known: Any) -> dict[str, Any]:
    row = dict.fromkeys(TYPES) | {
        "row_id": f"{document}-{ordinal}", "root": document, "ordinal": ordinal, "kind": "node", "uri": "/pages.jsonl",
        "document_name": document, "document_node_count": 9, "language": "en", "licence": "CC0-1.0",
        "node_quality": 0.5,
    }  # fmt: skip
    return row | known


def text(document: str, ordinal: int, words: str = WORDS, **known: Any) -> dict[str, Any]:
    return node(document, ordinal, node_kind="text", text=words, text_words=float(len(words.split()))) | known


def image(document: str, ordinal: int, path: Path, paired_with: str, **known: Any) -> dict[str, Any]:
    data = path.read_bytes()
    found = {
        "node_kind": "image", "image_hash": bytes_digest(data), "image_bytes": len(data), "image_format": "png",
        "width": 8, "height": 6, "place": {"path": str(path), "format": "file"}, "paired_with": paired_with,
        "paired_text": "two three", "pair_similarity": 0.25, "checkpoint": "toy", "embedding": [1.0, 0.0],
    }  # fmt: skip
    return node(document, ordinal) | found | known


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), pa.schema(list(TYPES.items())))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{name}.png" for name in "abc"]
    for shade, path in enumerate(paths):
        Image.fromarray(np.full((6, 8, 3), 60 * shade + 9, np.uint8)).save(path)
    return paths


def assembled(*rows: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Reassemble(**fields)(table(*rows)).to_pylist()
    return found


def test_a_document_is_its_nodes_in_order_whatever_the_order_of_rows(images: list[Path]) -> None:
    rows = [
        text("d", 1, "one two"),
        image("d", 2, images[0], "d-4", url="http://a"),
        text("d", 4),
        image("d", 6, images[1], "d-1", pair_similarity=0.75, embedding=[0.0, 1.0], node_quality=1.0),
        text("d", 7, "Ende"),
    ]
    (sample,) = assembled(*rows)
    assert sample["decision"] is None and sample["kind"] == "sample" and sample["root"] == "d"
    assert [node["ordinal"] for node in sample["nodes"]] == [1, 2, 4, 6, 7]
    assert [node["node_kind"] for node in sample["nodes"]] == ["text", "image", "text", "image", "text"]
    assert [(n["image"], n["paired_node"]) for n in sample["nodes"]] == [
        (None, None), (0, 2), (None, None), (1, 0), (None, None)
    ]  # fmt: skip
    assert (sample["words"], sample["image_count"], sample["removed"]) == (13, 2, 4)
    assert sample["text"] == f"one two\n\n{WORDS}\n\nEnde"
    assert (sample["similarity"], sample["quality"]) == (0.5, (0.5 + 0.75) / 2)
    assert sample["embedding"] == pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-6)
    assert sample["parents"] == [row["row_id"] for row in rows]
    assert assembled(*reversed(rows)) == [sample]


def test_an_image_that_is_shown_twice_is_stored_once(images: list[Path]) -> None:
    again = image("d", 3, images[1], "d-0", place={"path": "/elsewhere", "format": "file"})
    (sample,) = assembled(text("d", 0), *(image("d", i, images[i % 2], "d-0") for i in (1, 2)), again)
    assert [node["image"] for node in sample["nodes"]] == [None, 0, 1, 0]
    assert [p["image_hash"] for p in sample["images"]] == [bytes_digest(images[i].read_bytes()) for i in (1, 0)]
    assert [place["path"] for place in sample["places"]] == [str(images[i]) for i in (1, 0)]
    assert sample["image_bytes"] == sum(path.stat().st_size for path in images[:2]) and sample["image_count"] == 3


def test_documents_without_images_or_words_are_rejected_as_what_they_would_have_been(images: list[Path]) -> None:
    rows = [
        text("bare", 0),
        text("mute", 0, "one two three"),
        image("mute", 1, images[0], "mute-0"),
        text("good", 0),
        image("good", 1, images[0], "good-0"),
    ]
    outcome = run_chain("documents", [Reassemble()], table(*rows), together="root")
    said = {r["row_id"]: (r["verdict"], r["reason"], r["value"], r["threshold"]) for r in outcome.ledger.to_pylist()}
    verdicts = {row["root"]: said[row["row_id"]] for row in outcome.rows.to_pylist()}
    assert verdicts == {
        "bare": ("rejected", "no_image_left", 0, 1),
        "mute": ("rejected", "too_little_text_left", 3, 10),
        "good": ("kept", None, None, None),
    }
    assert outcome.counts == {"node": {"kept": 5}, "sample": {"kept": 1, "rejected": 2}}
    assert outcome.lineage.num_rows == 5


def test_a_language_that_no_source_says_is_the_measured_one(images: list[Path]) -> None:
    rows = [text("d", 0, language=None, document_nodes_language="de"), image("d", 1, images[0], "d-0")]
    assert [sample["language"] for sample in assembled(*rows)] == [None]
    assert [sample["language"] for sample in assembled(*rows, measured_language="document_nodes_language")] == ["de"]
    rows = [text("d", 0, document_nodes_language="de"), image("d", 1, images[0], "d-0")]
    assert [sample["language"] for sample in assembled(*rows, measured_language="document_nodes_language")] == ["en"]


def test_vectors_that_cancel_out_give_no_embedding(images: list[Path]) -> None:
    rows = (image("d", i, images[0], "d-0", embedding=[sign, 0.0]) for i, sign in ((1, 1.0), (2, -1.0)))
    (sample,) = assembled(text("d", 0), *rows)
    assert sample["embedding"] is None


def test_facts_of_whole_documents_are_joined_by_their_root() -> None:
    columns = {name: [None] for name in ("url", "title", "metadata", "occurrences", "split")}
    documents = pa.table({"row_id": ["d"], "root": ["d"], "name": ["page"], "node_count": [7], **columns})
    stage = WholeDocuments()
    (fact,) = stage(documents.select(["row_id", "root", *stage.reads])).to_pylist()
    assert (fact["root"], fact["document_name"], fact["document_node_count"]) == ("d", "page", 7)
    assert set(stage.writes) == set(fact) - {"root"}


# -- payload and layout ------------------------------------------------------------------------------------------------


def test_the_images_come_back_bit_by_bit_by_name_and_by_offset(images: list[Path]) -> None:
    samples = Reassemble()(table(text("d", 0), *(image("d", i + 1, path, "d-0") for i, path in enumerate(images))))
    (row,) = GatherImages()(samples).to_pylist()
    assert row["payload_bytes"] == len(row["payload"])
    with tarfile.open(fileobj=io.BytesIO(row["payload"])) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert list(members) == ["000.png", "001.png", "002.png"]
    assert list(members.values()) == [path.read_bytes() for path in images]
    for file in row["image_files"]:
        assert row["payload"][file["offset"] :][: file["size"]] == members[file["name"]]


def test_a_recipe_may_ask_for_another_format(images: list[Path]) -> None:
    samples = Reassemble()(table(text("d", 0), image("d", 1, images[0], "d-0")))
    (row,) = GatherImages(EncodeImage(format="jpeg", max_side=4))(samples).to_pylist()
    with tarfile.open(fileobj=io.BytesIO(row["payload"])) as tar:
        opened = Image.open(tar.extractfile("000.jpg"))  # type: ignore[arg-type]
        assert opened.format == "JPEG" and max(opened.size) == 4


def test_a_document_of_which_an_image_changed_fails_alone(images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    path.write_bytes(images[0].read_bytes())
    rows = [text("d", 0), image("d", 1, path, "d-0"), text("e", 0), image("e", 1, images[0], "e-0")]
    path.write_bytes(images[1].read_bytes())
    samples = GatherImages()(Reassemble()(table(*rows))).to_pylist()
    by_root = {sample["root"]: sample for sample in samples}
    assert by_root["d"]["decision"]["verdict"] == "failed" and "gone.png: changed" in by_root["d"]["decision"]["error"]
    assert by_root["e"]["decision"] is None and by_root["e"]["payload"]


def test_a_shard_says_what_each_image_is_paired_with(images: list[Path]) -> None:
    samples = Reassemble()(table(text("d", 0), image("d", 2, images[0], "d-0", url="http://a", text="a red dot")))
    (row,) = GatherImages()(samples.append_column("knowledge", pa.array([1.5]))).to_pylist()
    parts = DocumentLayout().parts(row, row["payload"])
    assert list(parts) == ["images.tar", "json"] and parts["images.tar"] == row["payload"]
    said = json.loads(parts["json"])
    assert said == document_json(row)
    assert said["nodes"][0] == {"type": "text", "ordinal": 0, "text": WORDS}
    assert said["nodes"][1] == {
        "type": "image", "ordinal": 2, "text": "a red dot", "image": 0, "url": "http://a", "paired_node": 0,
        "paired_text": "two three", "similarity": 0.25, "match_probability": None,
    }  # fmt: skip
    assert said["images"][0]["name"] == "000.png" and said["images"][0]["offset"] == 512
    assert (said["removed"], said["knowledge"], said["checkpoint"], said["licence"]) == (7, 1.5, "toy", "CC0-1.0")


def test_the_layout_reads_what_reassembly_and_gathering_write() -> None:
    made = {*Reassemble().writes, *GatherImages().writes, "knowledge"}
    assert set(DocumentLayout().reads) <= made and set(DocumentLayout().index) <= made


# -- scores ------------------------------------------------------------------------------------------------------------


def test_a_large_sharp_image_and_a_text_without_repetition_are_good_nodes() -> None:
    nodes = pa.table(
        {
            "node_kind": ["image", "image", "image", "text", "text"],
            "short_side": pa.array([1024, 256, 512, None, None], pa.int32()),
            "sharpness": pa.array([900.0, 50.0, 0.0, None, None]),
            "text_character_repetition": pa.array([None, None, None, None, 0.25]),
            "text_word_repetition": pa.array([None, None, None, None, 0.0]),
            "text_looped_share": pa.array([None, None, None, 0.0, 0.1]),
            "text_noisy_share": pa.array([None, None, None, 0.0, 0.2]),
        }
    )
    found = NodeQuality(good_side=512, good_sharpness=200)(nodes)["node_quality"].to_pylist()
    assert found == pytest.approx([1, (0.5 * 0.25) ** 0.5, 0, 1, 0.75 * 0.8])


def test_knowledge_does_not_grow_by_saying_the_same_again() -> None:
    concepts = [["cat", "dog"], ["cat", "dog"], [], None]
    documents = pa.table({"concepts": concepts, "words": [16, 64, 9, 0], "language": ["en", "en-GB", None, "en"]})
    assert Knowledge()(documents)["knowledge"].to_pylist() == [0.5, 0.25, 0.0, None]


def test_documents_in_a_language_that_the_lexicon_does_not_cover_have_no_knowledge_and_lose_nothing_by_it() -> None:
    concepts = [["cat", "dog"], ["cat"], [], []]
    documents = pa.table({"concepts": concepts, "words": [16, 16, 16, 16], "language": ["en", "zh", "es", "en"]})
    knowledge = Knowledge()(documents)["knowledge"]
    assert knowledge.to_pylist() == [0.5, 0.25, None, 0.0]
    columns = {"knowledge": knowledge.to_numpy(), "quality": np.array([0.9, 0.9, 0.9, 0.9])}
    score = combined_score(columns, {"knowledge": 1.0, "quality": 1.0})
    assert score[2] == 0.5 > score[3]
