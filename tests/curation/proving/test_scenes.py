"""Rendered scenes: their captions are true, their changes change one point, and a seed is a scene."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("PIL")

from curation.proving.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    MAX_OBJECTS,
    SHAPES,
    TRAINED,
    Caption,
    Change,
    Scene,
    Thing,
    changed,
    contrasts,
    draw_scene,
    grammar_words,
    render,
    write_caption,
)

CHANGES: tuple[Change, ...] = ("colour", "shape", "size", "count", "background", "exchange")
LARGE_RED_CIRCLE = Thing("red", "circle", "large")
seeds = st.integers(0, 2**32)


def scene(*things: Thing, background: str = "white") -> Scene:
    return Scene(things, background)


def test_each_colour_and_each_shape_is_held_out_once() -> None:
    assert {c for c, _ in HELD_OUT} == set(COLOURS) and {s for _, s in HELD_OUT} == set(SHAPES)
    assert len(HELD_OUT) == len(COLOURS) and not set(HELD_OUT) & set(TRAINED)
    assert len(TRAINED) + len(HELD_OUT) == len(COLOURS) * len(SHAPES)


@given(seeds)
def test_a_drawn_scene_has_one_to_three_objects_of_what_was_asked(seed: int) -> None:
    for combinations in (TRAINED, HELD_OUT):
        drawn = draw_scene(random.Random(seed), combinations)
        assert all((t.colour, t.shape) in combinations for t in drawn.things)
        assert 1 <= sum(t.count for t in drawn.things) <= MAX_OBJECTS
        assert len({(t.colour, t.shape) for t in drawn.things}) == len(drawn.things)


@given(seeds, st.booleans(), st.booleans())
def test_a_caption_names_every_thing_in_words_of_the_grammar(seed: int, sizes: bool, ground: bool) -> None:
    draw = random.Random(seed)
    drawn = draw_scene(draw)
    caption = write_caption(drawn, draw, says_sizes=sizes, says_background=ground)
    words = caption.text.replace(",", "").split()
    assert set(words) <= set(grammar_words())
    assert Counter(t.colour for t in drawn.things) == Counter(w for w in words if w in COLOURS)
    assert (drawn.background in words) == ground
    assert bool({"small", "little", "large", "big"} & set(words)) == sizes
    assert caption.holds(drawn)


@pytest.mark.parametrize("change", CHANGES)
@given(seed=seeds)
def test_a_change_makes_the_caption_false_in_one_point(change: Change, seed: int) -> None:
    draw = random.Random(seed)
    drawn = draw_scene(draw)
    other = changed(drawn, change, draw)
    if other is None:
        return
    assert not Caption("", drawn).holds(other)
    assert all((t.colour, t.shape) in TRAINED for t in other.things)
    assert (drawn.background != other.background) == (change == "background")
    pairs = list(zip(drawn.things, other.things, strict=True))
    points = ("colour", "shape", "size", "count")
    altered = Counter(p for a, b in pairs for p in points if getattr(a, p) != getattr(b, p))
    wanted = {"background": {}, "exchange": {"colour": 2}}.get(change, {change: 1})
    assert altered == wanted


def test_what_a_caption_does_not_say_may_differ() -> None:
    shown = scene(LARGE_RED_CIRCLE)
    small = scene(Thing("red", "circle", "small"))
    on_black = scene(LARGE_RED_CIRCLE, background="black")
    assert Caption("a red circle on white", shown, says_sizes=False).holds(small)
    assert Caption("a large red circle", shown, says_background=False).holds(on_black)
    assert not Caption("a large red circle on white", shown).holds(small)
    assert not Caption("a large red circle", shown, says_background=False).holds(
        scene(LARGE_RED_CIRCLE, Thing("blue", "star", "small"))
    )


def test_the_order_of_things_says_nothing() -> None:
    star = Thing("blue", "star", "small")
    assert Caption("", scene(LARGE_RED_CIRCLE, star)).holds(scene(star, LARGE_RED_CIRCLE))


def test_one_thing_cannot_exchange_its_colour() -> None:
    assert changed(scene(LARGE_RED_CIRCLE), "exchange", random.Random(0)) is None


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([64, 96, 128]))
def test_a_seed_is_an_image(seed: int, pixels: int) -> None:
    drawn = draw_scene(random.Random(seed))
    image = render(drawn, random.Random(seed), pixels)
    assert image.shape == (pixels, pixels, 3) and image.dtype == np.uint8
    assert np.array_equal(image, render(drawn, random.Random(seed), pixels))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(COLOURS)), st.sampled_from(SHAPES), st.sampled_from(sorted(BACKGROUNDS)), seeds)
def test_large_things_cover_more_than_small_ones_and_the_ground_is_seen(
    colour: str, shape: str, background: str, seed: int
) -> None:
    def covered(size: str, count: int = 1) -> float:
        image = render(scene(Thing(colour, shape, size, count), background=background), random.Random(seed))
        return float((np.abs(image.astype(int) - BACKGROUNDS[background]).max(axis=2) > 24).mean())

    assert 0 < covered("small") < covered("large") < 0.3
    assert covered("small") < covered("small", 3)


def test_contrasts_are_the_same_however_many_are_asked_for() -> None:
    few, many = list(contrasts("seed", 5, "shape")), list(contrasts("seed", 9, "shape"))
    for a, b in zip(few, many, strict=False):
        assert np.array_equal(a.image, b.image) and a.true == b.true and a.false == b.false
    assert all(c.true.holds(c.true.scene) and not c.true.holds(c.false.scene) for c in many)
    assert {(t.colour, t.shape) for c in many for t in c.true.scene.things} <= set(HELD_OUT)


@pytest.mark.parametrize("change", CHANGES)
def test_held_out_scenes_have_contrasts_of_every_kind(change: Change) -> None:
    assert len(list(contrasts("seed", 3, change))) == 3
