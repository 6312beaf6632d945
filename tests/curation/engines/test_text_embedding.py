"""Texts of one wording lie close, each by itself, with the same bits on every machine; captions become vectors."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import TypeAdapter, ValidationError

from curation.engines.text_embedding import AnyTextEmbedder, HashedNgrams, Model2Vec, TextEmbedder
from curation.errors import EngineMissing
from curation.text.text_embeddings import EmbedCaption

NEAR = [
    ("A dog runs on the beach", "Two dogs running on a beach"),
    ("Red car parked in front of a house", "A red car is parked in front of the house"),
    ("一位老渔夫在港口修补渔网", "老渔夫正在港口修补他的渔网"),
    ("年老いた漁師が港で網を直している", "港で網を直す年老いた漁師"),
    ("ชาวประมงชรากำลังซ่อมอวนที่ท่าเรือ", "ชาวประมงซ่อมอวนอยู่ที่ท่าเรือ"),
    ("Старый рыбак чинит сеть в гавани", "рыбаки чинят сети в старой гавани"),
    ("الصياد العجوز يصلح شبكته في الميناء", "صياد عجوز يصلح الشبكة في الميناء"),
]
WORDS = ["red", "dog", "beach", "old", "harbour", "net", "house", "snow"]


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of words, as model2vec saves it."""
    model2vec = pytest.importorskip("model2vec")
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(7).normal(size=(len(WORDS) + 1, 16)).astype(np.float32)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model2vec.StaticModel(vectors, tokenizer, {"normalize": True}).save_pretrained(folder)
    np.save(folder.parent / "vectors.npy", vectors)
    return folder


@pytest.fixture(params=["hashed-ngrams", "model2vec"])
def engine(request: pytest.FixtureRequest) -> TextEmbedder:
    if request.param == "hashed-ngrams":
        return HashedNgrams()
    return Model2Vec(model=f"local-dir:{request.getfixturevalue('static')}")


def captions(*texts: str | None) -> pa.Table:
    names = [f"/data/00000.tar/{number}.jpg" for number in range(len(texts))]
    return pa.table({"row_id": names, "uri": names, "caption": pa.array(texts, pa.string())})


def test_a_rows_vector_has_length_one_and_does_not_depend_on_its_neighbours(engine: TextEmbedder) -> None:
    texts = ["red dog", "old harbour net net", "snow", "red dog", "beach house dog red snow old"]
    together = engine.embed(texts)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.array_equal(engine.embed(texts[::-1]), together[::-1])
    assert np.array_equal(np.concatenate([engine.embed([text]) for text in texts]), together)
    assert np.array_equal(together[0], together[3])
    assert engine.embed([]).shape == (0, together.shape[1])


def test_texts_of_one_wording_are_nearer_than_any_others_in_every_script() -> None:
    firsts, seconds = (HashedNgrams().embed([pair[side] for pair in NEAR]) for side in (0, 1))
    cosines = firsts @ seconds.T
    others = cosines[~np.eye(len(NEAR), dtype=bool)]
    assert np.diag(cosines).min() > 0.35
    assert others.max() < 0.3


def test_cosines_are_those_of_the_counts_within_the_error_of_the_hash() -> None:
    texts = [text for pair in NEAR for text in pair]
    exact, hashed = HashedNgrams(dimensions=1 << 16).embed(texts), HashedNgrams(dimensions=1024).embed(texts)
    error = hashed @ hashed.T - exact @ exact.T
    assert np.sqrt(np.mean(error**2)) < 2 / np.sqrt(1024)


def test_case_width_and_punctuation_make_no_difference() -> None:
    vectors = HashedNgrams().embed(["A dog, on the beach!", "a DOG on the beach", "ａ ｄｏｇ on the\tbeach"])
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_a_letter_that_is_wrong_changes_little_and_another_seed_changes_all() -> None:
    text = "Portrait of a smiling woman with glasses"
    right, wrong = HashedNgrams().embed([text, text.replace("glasses", "glases")])
    (other,) = HashedNgrams(seed=1).embed([text])
    assert right @ wrong > 0.85
    assert abs(right @ other) < 0.3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_text_has_a_vector(texts: list[str]) -> None:
    vectors = HashedNgrams(dimensions=8).embed(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_caption_of_a_megabyte_is_judged_by_its_start() -> None:
    start = "an old fisherman mends his net " * 100
    assert np.array_equal(HashedNgrams().embed([start + "x" * 1_000_000]), HashedNgrams().embed([start]))


def test_the_bits_are_those_of_every_machine() -> None:
    """A change here is a change of results: raise `version`."""
    texts = [text for pair in NEAR for text in pair]
    code = (
        "import hashlib; from curation.engines.text_embedding import HashedNgrams; "
        f"print(hashlib.sha256(HashedNgrams().embed({texts!r}).astype('<f4').tobytes()).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == hashlib.sha256(HashedNgrams().embed(texts).astype("<f4").tobytes()).hexdigest()
    assert ran.stdout.strip()[:16] == "8c5c4ddcf8080fbf"


def test_a_static_model_averages_its_tokens(static: Path) -> None:
    vectors = np.load(static.parent / "vectors.npy").astype(np.float64)
    mean = vectors[[1 + WORDS.index(word) for word in ("red", "dog", "dog")]].mean(axis=0)
    found = Model2Vec(model=f"local-dir:{static}").embed(["red dog unheard dog"])
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_static_model_of_sentence_transformers_is_read_too(static: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    nested = tmp_path / "0_StaticEmbedding"
    nested.mkdir()
    save_file({"embedding.weight": load_file(static / "model.safetensors")["embeddings"]}, nested / "model.safetensors")
    (nested / "tokenizer.json").write_bytes((static / "tokenizer.json").read_bytes())
    (tmp_path / "config_sentence_transformers.json").write_text("{}")
    one, other = (Model2Vec(model=f"local-dir:{folder}") for folder in (static, tmp_path))
    assert np.array_equal(one.embed(["old net"]), other.embed(["old net"]))


def test_the_fingerprint_follows_the_weights_not_their_path(static: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in static.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    engine, copied = (Model2Vec(model=f"local-dir:{folder}") for folder in (static, copy))
    assert engine.fingerprint() == copied.fingerprint()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"seq_length": 1}))
    assert engine.fingerprint() != copied.fingerprint()
    assert HashedNgrams().fingerprint() != HashedNgrams(seed=1).fingerprint()


def test_a_model_that_is_not_here_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    pytest.importorskip("model2vec")
    for model in ("someone/something", f"local-dir:{tmp_path / 'nowhere'}", f"local-dir:{tmp_path}"):
        reason = Model2Vec(model=model).missing()
        assert reason and "hf download" in reason and "local-dir:DIR" in reason
    with pytest.raises(EngineMissing, match="hf download someone/something --local-dir DIR"):
        Model2Vec(model="someone/something").embed(["red"])


def test_a_folder_with_another_kind_of_model_is_named(static: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"encoder.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((static / name).read_bytes())
    with pytest.raises(EngineMissing, match="is no static embedding"):
        Model2Vec(model=f"local-dir:{tmp_path}").embed(["red"])


def test_a_recipe_names_an_engine_and_no_stranger() -> None:
    engines: TypeAdapter[Any] = TypeAdapter(AnyTextEmbedder)
    assert engines.validate_python({"engine": "hashed-ngrams", "dimensions": 64}) == HashedNgrams(dimensions=64)
    assert engines.validate_python({"engine": "model2vec", "licence": "MIT"}).weights_licence == "MIT"
    for wrong in ({"engine": "word2vec"}, {"engine": "hashed-ngrams", "seed": -1}, {"engine": "model2vec", "x": 1}):
        with pytest.raises(ValidationError):
            engines.validate_python(wrong)


def test_captions_become_unit_vectors_and_rows_without_a_text_fail_alone() -> None:
    texts = ["a dog on the beach", None, "  ", "一位老渔夫"]
    rows = EmbedCaption()(captions(*texts))
    vectors = rows["embedding"].to_pylist()
    assert rows["embedding"].type == pa.list_(pa.float32())
    assert vectors[1] is None and vectors[2] is None
    assert np.array_equal(np.array([vectors[0], vectors[3]], np.float32), HashedNgrams().embed([texts[0], texts[3]]))
    decisions = rows["decision"].to_pylist()
    reasons = [decision and decision["reason"] for decision in decisions]
    assert reasons == [None, "NothingToEmbed", "NothingToEmbed", None]
    assert "/data/00000.tar/1.jpg" in decisions[1]["error"]


def test_a_text_without_a_known_token_fails_and_says_so(static: Path) -> None:
    rows = EmbedCaption(Model2Vec(model=f"local-dir:{static}"))(captions("red dog", "Quetzalcoatl"))
    assert rows["embedding"].to_pylist()[1] is None
    assert "knows nothing of 'Quetzalcoatl'" in rows["decision"].to_pylist()[1]["error"]


def test_another_column_can_be_embedded() -> None:
    stage = EmbedCaption(column="recaption")
    assert stage.reads == ("recaption",)
    rows = stage(captions("x").append_column("recaption", pa.array(["a red dog"])))
    assert np.array_equal(np.array(rows["embedding"].to_pylist(), np.float32), HashedNgrams().embed(["a red dog"]))
    assert "decision" not in rows.column_names


def test_no_rows_are_no_vectors() -> None:
    assert EmbedCaption()(captions())["embedding"].to_pylist() == []
