"""Near hashes: combined bands find what brute force finds, and what stays is what a plain loop keeps, however many."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from curation.diversity import near_hashes as module
from curation.diversity.near_hashes import Hashes, Positions, bands, hamming_pairs, near_pairs, stand_ins


@st.composite
def hashes(draw: st.DrawFn) -> Hashes:
    """Hashes with near ones among them: some are others with a few bits flipped."""
    values = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12))
    for _ in range(draw(st.integers(0, 25))):
        flipped = draw(st.sampled_from(values))
        for bit in draw(st.sets(st.integers(0, 63), max_size=8)):
            flipped ^= 1 << bit
        values.append(flipped)
    return np.array(values, np.uint64)


def brute_force(values: Hashes, distance: int) -> list[list[int]]:
    found = []
    for i in range(len(values)):
        near = np.flatnonzero(np.bitwise_count(values[i + 1 :] ^ values[i]) <= distance)
        found += [[i, i + 1 + j] for j in near.tolist()]
    return found


def plain_loop(values: Hashes, distance: int) -> list[int]:
    """Each in turn: gone for the first that stays near it, or staying."""
    of: list[int] = []
    for i, value in enumerate(values.tolist()):
        near = [j for j in range(i) if of[j] < 0 and (int(values[j]) ^ value).bit_count() <= distance]
        of.append(near[0] if near else -1)
    return of


def flipped(values: Hashes, bits: int, chance: np.random.Generator) -> Hashes:
    for _ in range(bits):
        values = values ^ (np.uint64(1) << chance.integers(0, 64, len(values)).astype(np.uint64))
    return values


def crowds(kind: str, count: int, seed: int = 0) -> Hashes:
    """Different hashes: even ones with near copies, those of templates or of one, or with a third of bits fixed."""
    chance = np.random.default_rng(seed)
    values = chance.integers(0, 2**64, count, np.uint64)
    if kind == "templates":
        values = flipped(values[chance.integers(0, max(1, count // 1000), count)], 6, chance)
    elif kind == "one template":
        values = flipped(np.zeros(count, np.uint64), 5, chance)
    elif kind == "few bits":
        values &= np.uint64(2**64 - 2**22)
    else:
        values[20::20] = flipped(values[19:-1:20], 3, chance)
    return chance.permutation(np.unique(values))


@settings(max_examples=120, deadline=None)
@given(hashes(), st.sampled_from([0, 1, 3, 4, 8, 10, 31, 63]))
def test_combined_bands_find_what_brute_force_finds(values: Hashes, distance: int) -> None:
    assert hamming_pairs(values, distance).tolist() == brute_force(values, distance)


@pytest.mark.parametrize("shared", [1, 2, 3, 4])
def test_any_number_of_shared_bands_finds_the_same(monkeypatch: pytest.MonkeyPatch, shared: int) -> None:
    borders = [64 * i // (4 + shared) for i in range(5 + shared)]
    masks = tuple(((1 << (end - start)) - 1) << start for start, end in pairwise(borders))
    monkeypatch.setattr(module, "bands", lambda distance, count: module.Bands(masks, shared))
    values = crowds("templates", 2000)
    assert hamming_pairs(values, 4).tolist() == brute_force(values, 4)


@pytest.mark.parametrize("kind", ["even", "templates", "few bits"])
def test_pairs_of_many_hashes_are_those_of_brute_force(kind: str) -> None:
    values = crowds(kind, 5_000)
    assert hamming_pairs(values, 4).tolist() == brute_force(values, 4)


def test_bands_are_of_all_bits_once_and_more_are_combined_for_more_hashes() -> None:
    for distance in range(64):
        for count in (1, 10**5, 10**7):
            cut = bands(distance, count)
            assert sum(cut.masks) == 2**64 - 1 and len(cut.masks) == distance + cut.shared
    assert (bands(4, 1000).shared, bands(4, 3_000_000).shared) == (1, 2)
    with pytest.raises(ValueError, match="distance"):
        bands(64, 1)


@settings(max_examples=200, deadline=None)
@given(hashes(), st.integers(0, 8))
def test_what_stays_is_what_a_plain_loop_keeps(values: Hashes, distance: int) -> None:
    assert stand_ins(values, distance).tolist() == plain_loop(values, distance)


@pytest.mark.parametrize("kind", ["even", "templates", "few bits"])
@pytest.mark.parametrize("order", ["drawn", "by value"])
def test_batches_keep_what_a_plain_loop_keeps(monkeypatch: pytest.MonkeyPatch, kind: str, order: str) -> None:
    monkeypatch.setattr(module, "_is_crowded", lambda hashes, cut: True)
    values = crowds(kind, 1200)
    values = values if order == "drawn" else np.sort(values)
    assert stand_ins(values, 4).tolist() == plain_loop(values, 4)


def test_of_a_thousand_copies_of_a_template_as_many_stay_as_in_a_plain_loop_and_all_are_near() -> None:
    drawn = crowds("one template", 2000)
    for values in (drawn, np.sort(drawn)):
        of, plain = stand_ins(values, 4), np.array(plain_loop(values, 4))
        gone = np.flatnonzero(of >= 0)
        assert (of >= 0).tolist() == (plain >= 0).tolist()
        assert (of[of[gone]] == -1).all()
        assert (np.bitwise_count(values[gone] ^ values[of[gone]]) <= 4).all()


def test_what_else_must_agree_is_asked_of_near_pairs_alone() -> None:
    values = np.array([0, 1, 3, 2**40], np.uint64)
    asked: list[tuple[int, int]] = []

    def agree(left: Positions, right: Positions) -> Any:
        asked.extend(zip(left.tolist(), right.tolist(), strict=True))
        return right != 1

    assert near_pairs(values, 2, agree).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert stand_ins(values, 1, agree).tolist() == [-1, -1, 1, 0]
    assert set(asked) <= {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3)}


@pytest.mark.parametrize("kind", ["even", "templates", "one template", "few bits"])
def test_four_times_the_hashes_cost_no_more_than_seven_times_the_time(kind: str) -> None:
    """Each with each would cost 16 times as much."""
    seconds = []
    for count in (10_000, 40_000):
        values = crowds(kind, count)
        started = time.process_time()
        stand_ins(values, 4)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 7 * seconds[0] + 0.5
