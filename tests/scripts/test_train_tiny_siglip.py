"""The script that trains the tiny SigLIP: same seed, same weights; what it saves is what it trained."""

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("onnx")
pytest.importorskip("torch")

import torch

from curation.engines.image_text_embedding import TINY_FOLDER, TinyTowers
from curation.engines.tiny_siglip.inputs import CONTEXT, PIXELS, numbered, read
from curation.proving.scenes import Caption, Scene, Thing, grammar_words
from scripts.train_tiny_siglip import THINGS, Size, Trained, draw_batch, save, train, truth

SMALL = Size(width=16, heads=2, image_layers=1, text_layers=1, stem=(4, 8, 8))
WORDS = grammar_words()


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(SMALL, WORDS, steps=3, rows=8, peak=1e-3, seed=4)


def test_the_same_seed_gives_the_same_checkpoint(trained: Trained, tmp_path: Path) -> None:
    again = train(SMALL, WORDS, steps=3, rows=8, peak=1e-3, seed=4)
    other = train(SMALL, WORDS, steps=3, rows=8, peak=1e-3, seed=5)
    named = [save(run, WORDS, tmp_path / str(k), {}) for k, run in enumerate((trained, again, other))]
    assert named[0] == named[1] != named[2]


@pytest.mark.filterwarnings("ignore")
def test_what_is_saved_gives_the_vectors_that_were_trained_in_half_precision(trained: Trained, tmp_path: Path) -> None:
    save(trained, WORDS, tmp_path, {})
    towers = TinyTowers(tmp_path)
    image = np.random.default_rng(2).uniform(-1, 1, (1, PIXELS, PIXELS, 3)).astype(np.float32)
    ids = read("two small red stars on white", numbered(WORDS), CONTEXT)[None]
    with torch.no_grad():
        seen, said = trained.images(torch.from_numpy(image)), trained.texts(torch.from_numpy(ids))
        short = trained.texts(torch.from_numpy(ids[:, :9]))
    assert np.allclose(towers.image(image), seen.numpy(), atol=5e-3)
    assert np.allclose(towers.text(ids), said.numpy(), atol=5e-3)
    assert np.allclose(short, said, atol=1e-6), "padding is not read"


def test_truth_is_what_captions_hold_for() -> None:
    circle, star = Thing("red", "circle", "large"), Thing("blue", "star", "small")
    scenes = [
        Scene((circle,), "white"),
        Scene((Thing("red", "circle", "small"),), "white"),
        Scene((circle, star), "grey"),
    ]
    captions = [Caption("", scenes[0], says_sizes=False), Caption("", scenes[1]), Caption("", scenes[2], True, False)]
    expected = [[1 if caption.holds(scene) else -1 for caption in captions] for scene in scenes]
    assert truth(scenes, captions).tolist() == expected == [[1, -1, -1], [1, 1, -1], [-1, -1, 1]]


def test_a_batch_is_drawn_from_its_seed_and_longer_captions_fit() -> None:
    a, b = (draw_batch(16, random.Random(9), numbered(WORDS), THINGS) for _ in range(2))
    assert torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids) and torch.equal(a.truth, b.truth)
    assert (a.truth.diagonal() == 1).all() and a.ids.shape[1] <= CONTEXT


def test_the_shipped_vocabulary_is_that_of_the_script() -> None:
    assert tuple((TINY_FOLDER / "vocabulary.txt").read_text("utf-8").split()) == WORDS
