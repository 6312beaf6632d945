"""Captions of other images are rejected, a changed limit embeds nothing again, and what was not compared fails."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from curation.diversity.clusters import embedding_matrix
from curation.engines.image_text_embedding import ImageTextEmbedder, Pixels, TinySiglip, Vectors, cosines
from curation.errors import EngineMissing, RecipeError
from curation.proving.scenes import contrasts
from curation.runtime.chain import check_chain, run_chain
from curation.stage import Stage, with_column
from curation.store.measures import Measures
from curation.store.objects import Store
from curation.vision.image_checks import ImageQuality
from curation.vision.pair_check import EmbedImage, EmbedText, JointEmbedding, PairCheck
from schemas.places import PLACE
from tests.support.image_rows import image_rows

TINY = TinySiglip()
LIMIT = 0.15
CASES = list(contrasts("test", 8))


@dataclass(frozen=True)
class Brightness(ImageTextEmbedder):
    """A space of two dimensions, in which a text is the number that it says; remembers what it was asked."""

    engine: Literal["brightness"] = "brightness"
    asked: ClassVar[list[int]] = []

    @property
    def checkpoint(self) -> str:
        return "brightness-1"

    @property
    def logit_scale(self) -> float:
        return 1.0

    @property
    def logit_bias(self) -> float | None:
        return None

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        self.asked.append(len(images))
        return self.at([float(image.mean()) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(len(texts))
        return self.at([float(text) for text in texts])

    @staticmethod
    def at(values: Sequence[float]) -> Vectors:
        angles = np.array(values) * np.pi / 255
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def asked() -> list[int]:
    """How many things each call of `Brightness` was given."""
    Brightness.asked.clear()
    return Brightness.asked


def png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def grey(value: int, side: int = 16) -> bytes:
    return png(np.full((side, side, 3), value, np.uint8))


def pairs(folder: Path, images: Sequence[bytes | None], captions: Sequence[str | None]) -> pa.Table:
    return image_rows(folder, images, caption=pa.array(captions, pa.string()))


def stages(engine: ImageTextEmbedder = TINY, **limits: Any) -> list[Stage]:
    return [EmbedImage(engine), EmbedText(engine), PairCheck(engine, **limits), JointEmbedding()]


def through(rows: pa.Table, some: Sequence[Stage]) -> pa.Table:
    for stage in some:
        rows = stage(rows)
    return rows


def outcomes(rows: pa.Table) -> list[str | None]:
    if "decision" not in rows.column_names:
        return [None] * rows.num_rows
    return [decision and decision["reason"] for decision in rows["decision"].to_pylist()]


def test_captions_of_other_images_are_rejected_with_their_cosine(tmp_path: Path) -> None:
    images = [png(case.image) for case in CASES]
    rows = pairs(tmp_path, images * 2, [case.true.text for case in CASES] + [case.false.text for case in CASES])
    out = through(rows, stages(min_cosine=LIMIT))
    assert outcomes(out) == [None] * 8 + ["pair_mismatch"] * 8
    assert set(out["checkpoint"].to_pylist()) == {TINY.checkpoint}
    for row in out.to_pylist()[8:]:
        assert row["decision"]["value"] == row["similarity"] < row["decision"]["threshold"] == LIMIT
    by_probability = through(rows, stages(min_cosine=None, min_probability=0.1))
    decision = by_probability["decision"].to_pylist()[-1]
    assert decision["value"] == by_probability["match_probability"].to_pylist()[-1] < decision["threshold"] == 0.1
    assert outcomes(through(rows, stages(min_cosine=None))) == [None] * 16


def test_vectors_are_those_of_the_engine_of_float32_and_of_length_one(tmp_path: Path) -> None:
    captions = [case.true.text for case in CASES]
    rows = pairs(tmp_path, [png(case.image) for case in CASES], captions)
    out = through(rows, stages())
    images, texts = (embedding_matrix(out[name]) for name in ("image_embedding", "text_embedding"))
    assert np.array_equal(images, TINY.embed_images([case.image for case in CASES]))
    assert np.array_equal(texts, TINY.embed_texts(captions))
    assert np.array_equal(out["similarity"].to_numpy(), cosines(images, texts))
    assert np.array_equal(out["match_probability"].to_numpy(), TINY.match_probability(cosines(images, texts)))
    assert {out.schema.field(name).type for name in ("image_embedding", "text_embedding", "embedding")} == {
        pa.list_(pa.float32())
    }
    assert np.allclose(np.linalg.norm(embedding_matrix(out["embedding"]), axis=1), 1, atol=1e-6)


def test_an_image_that_rows_share_and_a_text_are_embedded_once(tmp_path: Path, asked: list[int]) -> None:
    rows = pairs(tmp_path, [grey(9), grey(200), grey(9), grey(9)], ["9", "200", "10", "200"])
    out = through(rows, stages(Brightness()))
    assert asked == [2, 3]
    assert out["similarity"].to_pylist() == pytest.approx([1, 1, np.cos(np.pi / 255), np.cos(np.pi * 191 / 255)])


def test_a_pair_that_cannot_be_embedded_fails_alone(tmp_path: Path) -> None:
    rows = pairs(tmp_path, [grey(9), b"no image", None, grey(8), grey(7)], ["9", "9", "9", None, "7"])
    outcome = run_chain("n", stages(Brightness(), min_cosine=0.5), rows)
    ledger = {row["row_id"][6]: row for row in outcome.ledger.to_pylist()}
    found = {number: (row["verdict"], row["stage"], row["error"]) for number, row in ledger.items()}
    assert found["0"] == found["4"] == ("kept", None, None)
    assert found["1"][:2] == found["2"][:2] == ("failed", "EmbedImage")
    assert found["1"][2].startswith("image 1.jpg: begins with b'no image'")
    assert found["2"][2] == "image 2.jpg: no image"
    assert found["3"] == ("failed", "EmbedText", "no text in caption")


def test_what_was_not_compared_does_not_pass(tmp_path: Path) -> None:
    out = through(pairs(tmp_path, [grey(9)] * 3, ["9"] * 3), stages(Brightness())[:2])
    vectors = out["text_embedding"].to_pylist()
    out = with_column(out, "text_embedding", [vectors[0], None, vectors[2]], pa.list_(pa.float32()))
    for stage in (PairCheck(Brightness(), min_cosine=None), JointEmbedding()):
        done = stage(out)
        assert outcomes(done) == [None, "MediaError", None]
        assert done[stage.writes[0]].is_valid().to_pylist() == [True, False, True]


def test_an_engine_that_gives_no_number_fails_that_row(tmp_path: Path) -> None:
    out = EmbedText(Brightness())(pairs(tmp_path, [None] * 3, ["9", "nan", "8"]))
    assert outcomes(out) == [None, "MediaError", None]
    assert out["text_embedding"].is_valid().to_pylist() == [True, False, True]


def test_a_checkpoint_without_bias_has_no_probability(tmp_path: Path) -> None:
    rows = through(pairs(tmp_path, [grey(9)], ["9"]), stages(Brightness())[:2])
    out = PairCheck(Brightness())(rows)
    assert out["match_probability"].to_pylist() == [None]
    assert (out.schema.field("match_probability").type, out["checkpoint"].to_pylist()) == (
        pa.float32(),
        ["brightness-1"],
    )
    with pytest.raises(EngineMissing, match="brightness-1 has no bias"):
        PairCheck(Brightness(), min_probability=0.5)(rows)


def test_another_limit_embeds_nothing_again_and_new_rows_alone_are_embedded(tmp_path: Path, asked: list[int]) -> None:
    measures = Measures(Store(tmp_path / "store"))
    images, captions = [grey(value) for value in (10, 200, 90)], ["10", "20", "90"]
    rows = pairs(tmp_path, images, captions)
    first = run_chain("n", stages(Brightness(), min_cosine=-1.0), rows, measures=measures)
    assert asked == [3, 3]
    second = run_chain("n", stages(Brightness(), min_cosine=0.5), rows, measures=measures)
    assert asked == [3, 3]
    assert first.counts == {"pair": {"kept": 3}}
    assert second.counts == {"pair": {"kept": 2, "rejected": 1}}
    wide = pairs(tmp_path, [*images, grey(30)], [*captions, "40"])
    run_chain("n", stages(Brightness(), min_cosine=0.5), wide, measures=measures)
    assert asked == [3, 3, 1, 1]


def test_few_images_are_decoded_at_a_time_with_the_same_result(tmp_path: Path, asked: list[int]) -> None:
    rows = pairs(tmp_path, [grey(value) for value in range(10)], ["1"] * 10)
    one, whole = EmbedImage(Brightness(), decoded_bytes=3 * 16 * 16 * 3), EmbedImage(Brightness())
    assert one(rows).equals(whole(rows))
    assert asked == [3, 3, 3, 1, 10]
    assert EmbedImage(Brightness(), decoded_bytes=1)(rows).equals(whole(rows))
    assert one.fingerprint() == whole.fingerprint() != EmbedImage(Brightness(), side=64).fingerprint()


def test_a_result_does_not_depend_on_neighbours_or_order(tmp_path: Path) -> None:
    rows = pairs(tmp_path, [*(png(case.image) for case in CASES), b"broken"], [*(c.true.text for c in CASES), "x"])
    together = through(rows, stages())
    columns = [name for stage in stages() for name in stage.writes]
    back = through(rows.take(list(range(8, -1, -1))), stages())
    assert together.select(columns).to_pylist() == back.select(columns).to_pylist()[::-1]
    alone = [through(rows.slice(i, 1), stages()[:2]).select(columns[:2]).to_pylist()[0] for i in range(9)]
    assert together.select(columns[:2]).to_pylist() == alone


vectors = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(lambda v: np.linalg.norm(v) > 1e-3)


@given(st.lists(vectors, min_size=4, max_size=4), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_the_cosine_of_joint_embeddings_is_the_weighted_mean_of_both(four: list[list[float]], weight: float) -> None:
    units = np.array(four) / np.linalg.norm(four, axis=1, keepdims=True)
    columns = {"image_embedding": units[:2].tolist(), "text_embedding": units[2:].tolist()}
    rows = pa.table({name: pa.array(values, pa.list_(pa.float32())) for name, values in columns.items()})
    joint = embedding_matrix(JointEmbedding(weight)(rows)["embedding"]).astype(float)
    expected = weight * (units[0] @ units[1]) + (1 - weight) * (units[2] @ units[3])
    assert joint.shape == (2, 6)
    assert joint[0] @ joint[1] == pytest.approx(expected, abs=1e-6)
    assert np.linalg.norm(joint, axis=1) == pytest.approx(1, abs=1e-6)


def test_no_rows_and_rows_that_all_fail_have_the_columns_too(tmp_path: Path) -> None:
    rows = pairs(tmp_path, [b"broken"], [None])
    for table in (rows, rows.slice(0, 0)):
        out = through(table, stages())
        assert out.schema.field("embedding").type == pa.list_(pa.float32())
        assert outcomes(out) == ["MediaError"] * table.num_rows
    some = [ImageQuality(), *stages()]
    assert {"embedding", "checkpoint"} <= set(check_chain("n", ["caption", "image_hash", *ImageQuality.locators], some))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: PairCheck(TINY, min_cosine=1.5), "min_cosine"),
        (lambda: PairCheck(TINY, min_probability=-0.1), "min_probability"),
        (lambda: JointEmbedding(2.0), "image_weight"),
        (lambda: EmbedImage(TINY, side=0), "side"),
    ],
)
def test_invalid_recipes_are_refused(make: Any, key: str) -> None:
    with pytest.raises(RecipeError, match=key):
        make()


def test_a_stage_knows_its_engine_and_another_place_changes_nothing(tmp_path: Path) -> None:
    assert all(stage.engines() == [TINY] for stage in stages()[:3])
    assert PairCheck(TINY).fingerprint() != replace(PairCheck(TINY), min_cosine=0.1).fingerprint()
    rows = pairs(tmp_path, [png(CASES[0].image)], ["a red circle"])
    moved = tmp_path / "moved"
    Path(rows["place"][0]["path"].as_py()).rename(moved)
    there = with_column(rows, "place", [{"path": str(moved), "format": "file"}], PLACE)
    assert outcomes(EmbedImage(TINY)(rows)) == ["MediaError"]
    assert outcomes(EmbedImage(TINY)(there)) == [None]


def test_pairs_in_languages_that_the_checkpoint_does_not_read_are_not_judged() -> None:
    unit = pa.array([[1.0, 0.0]] * 5, pa.list_(pa.float32()))
    away = pa.array([[0.0, 1.0]] * 5, pa.list_(pa.float32()))
    rows = pa.table(
        {
            "image_embedding": unit,
            "text_embedding": away,
            "language": ["en", "th", None, None, None],
            "caption_language": ["en", "en", "th", "th", None],
            "caption_language_confidence": [1.0, 1.0, 0.99, 0.4, 0.0],
        }
    )
    out = PairCheck(Brightness(), languages=("en",), measured="caption")(rows)
    judged = [decision is not None for decision in out["decision"].to_pylist()]
    assert judged == [True, False, False, True, True]
    assert [value is not None for value in out["similarity"].to_pylist()] == judged
    everything = PairCheck(Brightness())(rows)
    assert everything["decision"].null_count == 0
