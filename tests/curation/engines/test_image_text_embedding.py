"""The embedded tiny SigLIP tells true captions from false ones; every engine gives a row one vector anywhere."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

pytest.importorskip("PIL")
pytest.importorskip("onnxruntime")

from curation.engines.engine import missing_package
from curation.engines.image_text_embedding import (
    TINY_FOLDER,
    ImageTextEmbedder,
    NotAnImage,
    OpenClip,
    TinySiglip,
    cosines,
)
from curation.engines.open_clip_towers import declare_torchvision_operators
from curation.engines.tiny_siglip.inputs import CONTEXT, FIRST_WORD, PAD, START, UNKNOWN, numbered, read, seen
from curation.errors import CurateError, EngineMissing
from curation.proving.ranking import area_under_curve
from curation.proving.scenes import Change, Contrast, contrasts, grammar_words

TINY = TinySiglip()
WEIGHTS = ("picture.onnx", "text.onnx")


def some_images(count: int, seed: int = 5) -> list[NDArray[np.uint8]]:
    draw = np.random.default_rng(seed)
    sides = draw.integers(20, 140, (count, 2))
    return [draw.integers(0, 256, (height, width, 3), np.uint8) for height, width in sides]


def scores(cases: Iterable[Contrast]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines of images with their true and with their false captions."""
    held = list(cases)
    images = TINY.embed_images([case.image for case in held])
    true, false = (TINY.embed_texts([getattr(case, side).text for case in held]) for side in ("true", "false"))
    return cosines(images, true), cosines(images, false)


def test_matched_pairs_score_above_random_ones_on_combinations_never_trained() -> None:
    true, false = scores(contrasts("test", 400))
    assert area_under_curve(true, false) >= 0.995
    assert (true > false).mean() >= 0.98


@pytest.mark.parametrize(
    ("change", "least"),
    [("colour", 0.99), ("background", 0.99), ("count", 0.95), ("size", 0.88), ("shape", 0.70)],
)
def test_hard_negatives_are_told_apart_as_well_as_the_card_says(change: Change, least: float) -> None:
    true, false = scores(contrasts("test", 300, change))
    assert area_under_curve(true, false) >= least


def test_its_probability_is_high_for_true_captions_and_low_for_others() -> None:
    true, false = scores(contrasts("test", 200))
    assert np.median(TINY.match_probability(true)) > 0.3
    assert np.median(TINY.match_probability(false)) < 0.01


def test_the_probability_is_that_of_siglip() -> None:
    cosine = np.linspace(-1, 1, 9, dtype=np.float32)
    logits = np.exp(TINY.logit_scale) * cosine.astype(np.float64) + TINY.logit_bias
    assert np.allclose(TINY.match_probability(cosine), 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert (np.diff(TINY.match_probability(cosine)) >= 0).all()


def test_vectors_have_length_one_and_are_float32() -> None:
    for vectors in (
        TINY.embed_images(some_images(5)),
        TINY.embed_texts(["a red circle", "", "zebra", "三个红色的圆"]),
    ):
        assert vectors.dtype == np.float32 and vectors.shape[1] == 128
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_nothing_gives_nothing() -> None:
    assert TINY.embed_images([]).shape == TINY.embed_texts([]).shape == (0, 128)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 8))
def test_a_row_does_not_depend_on_its_neighbours(order: list[int], count: int) -> None:
    shown = some_images(8)
    texts = [f"a {word} circle" for word in ("red", "blue", "small", "xyzzy", "green", "pink", "big", "")]
    some = order[:count]
    assert np.array_equal(TINY.embed_images([shown[k] for k in some]), TINY.embed_images(shown)[some])
    assert np.array_equal(TINY.embed_texts([texts[k] for k in some]), TINY.embed_texts(texts)[some])


def test_another_process_gives_the_same_bytes_without_torch() -> None:
    program = (
        "import sys, hashlib; sys.modules['torch'] = None\n"
        "from tests.curation.engines.test_image_text_embedding import TINY, some_images\n"
        "rows = [TINY.embed_images(some_images(6)), TINY.embed_texts(['a large red circle on white'])]\n"
        "print(hashlib.sha256(b''.join(r.tobytes() for r in rows)).hexdigest())"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    rows = [TINY.embed_images(some_images(6)), TINY.embed_texts(["a large red circle on white"])]
    assert done.stdout.strip() == hashlib.sha256(b"".join(r.tobytes() for r in rows)).hexdigest(), done.stderr


def test_the_weights_are_small_and_the_checkpoint_names_their_content() -> None:
    about = json.loads((TINY_FOLDER / "checkpoint.json").read_text())
    assert sum((TINY_FOLDER / name).stat().st_size for name in WEIGHTS) <= 3_000_000
    assert TINY.checkpoint == about["checkpoint"]
    assert TINY.checkpoint in (TINY_FOLDER / "card.md").read_text()


def test_the_vocabulary_is_that_of_the_scenes() -> None:
    assert tuple((TINY_FOLDER / "vocabulary.txt").read_text().split()) == grammar_words()


def test_unknown_words_are_read_as_unknown_and_case_is_not_seen() -> None:
    vocabulary = numbered(["a", "circle", "red"])
    assert vocabulary["a"] == FIRST_WORD
    assert read("A RED zebra, circle!", vocabulary)[:6].tolist() == [START, 3, 5, UNKNOWN, 4, PAD]
    assert np.array_equal(TINY.embed_texts(["a red zebra"]), TINY.embed_texts(["A red quokka."]))


@given(st.text(max_size=400))
def test_any_text_is_read_in_the_context(text: str) -> None:
    ids = read(text, {})
    assert ids.shape == (CONTEXT,) and ids[0] == START and set(ids.tolist()) <= {START, UNKNOWN, PAD}


def test_a_caption_of_a_megabyte_is_read_as_its_beginning() -> None:
    words = "a large red circle " * 8
    assert np.array_equal(TINY.embed_texts([words + "blue " * 200_000]), TINY.embed_texts([words]))


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), "u1")],
)
def test_what_is_no_rgb_image_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(NotAnImage, match="uint8"):
        TINY.embed_images([image])


def test_an_image_is_seen_the_same_whatever_its_memory_layout() -> None:
    image = some_images(1)[0]
    assert np.array_equal(TINY.embed_images([image[:, ::-1]]), TINY.embed_images([image[:, ::-1].copy()]))
    assert seen(image).shape == (64, 64, 3)


def test_a_one_pixel_image_has_a_vector() -> None:
    assert TINY.embed_images([np.zeros((1, 1, 3), np.uint8)]).shape == (1, 128)


def test_the_area_is_that_of_the_definition() -> None:
    draw = random.Random(1)
    true, false = ([draw.randint(0, 9) for _ in range(20)] for _ in range(2))
    pairs = [(a > b) + (a == b) / 2 for a in true for b in false]
    assert area_under_curve(true, false) == pytest.approx(sum(pairs) / len(pairs))
    with pytest.raises(ValueError, match="both sides"):
        area_under_curve([], [1.0])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as open_clip requires it, with a random SigLIP of two small towers."""
    pytest.importorskip("torch")
    if reason := missing_package(OpenClip.packages, OpenClip.extra):
        pytest.skip(reason)
    declare_torchvision_operators()
    import open_clip
    import torch
    from safetensors.torch import save_file

    tower = {"width": 32, "heads": 2, "layers": 1}
    text = {**tower, "context_length": 16, "vocab_size": 49408}
    vision = {"width": 32, "head_width": 16, "layers": 1, "image_size": 32, "patch_size": 16}
    config = {"embed_dim": 24, "custom_text": True, "init_logit_bias": -10, "text_cfg": text, "vision_cfg": vision}
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
        save_file(model.state_dict(), str(folder / "open_clip_model.safetensors"))
    return folder


def test_an_open_clip_folder_is_loaded_and_its_rows_do_not_depend_on_each_other(checkpoint: Path) -> None:
    engine = OpenClip(model=f"local-dir:{checkpoint}")
    shown, texts = some_images(5), ["a dog", "two cats on a mat", "", "红色"]
    images, words = engine.embed_images(shown), engine.embed_texts(texts)
    assert images.shape == (5, 24) and words.shape == (4, 24) and images.dtype == np.float32
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    assert np.array_equal(engine.embed_images(shown[3:]), images[3:])
    assert np.array_equal(engine.embed_texts(texts[1:2]), words[1:2])
    assert engine.logit_bias == -10 and engine.logit_scale > 0
    assert engine.match_probability(np.zeros(1, np.float32)) < 0.001
    assert engine.embed_texts([]).shape == (0, 24)


def test_batches_of_open_clip_give_nearly_the_same(checkpoint: Path) -> None:
    one, four = (OpenClip(model=f"local-dir:{checkpoint}", batch_size=size) for size in (1, 4))
    shown = some_images(6)
    assert np.allclose(one.embed_images(shown), four.embed_images(shown), atol=1e-5)
    assert one.repeatable and not four.repeatable


def test_an_open_clip_checkpoint_is_named_by_its_weights(checkpoint: Path, tmp_path: Path) -> None:
    engine = OpenClip(model=f"local-dir:{checkpoint}")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    moved = OpenClip(model=f"local-dir:{copy}")
    assert moved.fingerprint() == engine.fingerprint()
    assert moved.checkpoint.split("-")[-1] == engine.checkpoint.split("-")[-1]
    (copy / "open_clip_config.json").write_text((copy / "open_clip_config.json").read_text() + "\n")
    assert moved.fingerprint() != engine.fingerprint()


def test_a_clip_without_bias_gives_no_probability(checkpoint: Path) -> None:
    class WithoutBias(TinySiglip):
        @property
        def logit_bias(self) -> None:  # type: ignore[override]
            return None

    with pytest.raises(CurateError, match="cosine"):
        WithoutBias().match_probability(np.zeros(1, np.float32))


def test_absent_weights_are_missed_with_the_command_that_brings_them(checkpoint: Path, tmp_path: Path) -> None:
    assert OpenClip(model=f"local-dir:{checkpoint}").missing() is None
    for model in ("timm/ViT-B-16-SigLIP-256", "hf-hub:timm/ViT-B-16-SigLIP-256"):
        reason = OpenClip(model=model).missing()
        assert reason and "`hf download timm/ViT-B-16-SigLIP-256 --local-dir DIR`" in reason
    assert "hf download" in str(OpenClip(model=f"local-dir:{tmp_path}/none").missing())
    assert "has no open_clip_config.json" in str(OpenClip(model=f"local-dir:{tmp_path}").missing())
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert "has no weights" in str(OpenClip(model=f"local-dir:{tmp_path}").missing())
    with pytest.raises(EngineMissing, match="hf download"):
        OpenClip(model="nobody/nothing").embed_texts(["a dog"])


@pytest.mark.parametrize(
    ("text_cfg", "timm_model_name", "why"),
    [
        ({"hf_model_name": "roberta-base"}, None, "from a hub"),
        ({}, "hf-hub:nobody/nothing", "from a hub"),
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}, None, "its own code"),
        ({"hf_tokenizer_name": "x"}, None, "no tokenizer"),
        (None, None, "is no config"),
    ],
)
def test_a_checkpoint_that_would_fetch_or_run_something_is_refused(
    checkpoint: Path, tmp_path: Path, text_cfg: object, timm_model_name: str | None, why: str
) -> None:
    weights = (checkpoint / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights)
    towers = {"text_cfg": text_cfg, "vision_cfg": {"timm_model_name": timm_model_name}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": towers}))
    engine = OpenClip(model=f"local-dir:{tmp_path}")
    assert why in str(engine.missing())
    with pytest.raises(EngineMissing, match=why):
        engine.embed_texts(["a dog"])


def test_a_pickle_that_runs_code_is_refused_unrun(checkpoint: Path, tmp_path: Path) -> None:
    import os
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "open_clip_config.json").write_bytes((checkpoint / "open_clip_config.json").read_bytes())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"state_dict": Trap()}))
    with pytest.raises(EngineMissing, match="cannot be loaded"):
        OpenClip(model=f"local-dir:{tmp_path}").embed_texts(["a dog"])
    assert not (tmp_path / "sprung").exists()


def test_every_engine_is_of_the_protocol() -> None:
    assert all(issubclass(kind, ImageTextEmbedder) for kind in (TinySiglip, OpenClip))
    assert TINY.missing() is None and TINY.repeatable and len(TINY.fingerprint()) == 32
