"""The banded search finds what the full lattice finds, and says plainly when a text does not fit."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.engines.forced_alignment import AlignmentFailed
from curation.engines.viterbi import CtcPath, ctc_align

BLANK = 0


def log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    normalised: NDArray[np.float32] = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    return normalised


def full_lattice(log_probs: NDArray[np.float32], labels: list[int]) -> tuple[list[int], list[int], float]:
    """An independent reference: every state of every frame, as loops over a dictionary."""
    states = [BLANK]
    for label in labels:
        states += [label, BLANK]
    best: dict[int, tuple[float, list[int]]] = {s: (float(log_probs[0, states[s]]), [s]) for s in (0, 1)}
    for frame in log_probs[1:]:
        following: dict[int, tuple[float, list[int]]] = {}
        for state, label in enumerate(states):
            reached = [state, state - 1]
            if state >= 2 and label != BLANK and label != states[state - 2]:
                reached.append(state - 2)
            found = [best[r] for r in reached if r in best]
            if found:
                score, path = max(found, key=lambda candidate: candidate[0])
                following[state] = (score + float(frame[label]), [*path, state])
        best = following
    score, path = max((best[s] for s in (len(states) - 2, len(states) - 1) if s in best), key=lambda c: c[0])
    starts = [path.index(2 * i + 1) for i in range(len(labels))]
    ends = [len(path) - path[::-1].index(2 * i + 1) for i in range(len(labels))]
    return starts, ends, score


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float32], list[int]]:
    labels = draw(st.lists(st.integers(1, 3), min_size=1, max_size=12))
    needed = len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
    frames = needed + draw(st.integers(0, 50))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return log_softmax(rng.normal(size=(frames, 4)) * draw(st.sampled_from([0.3, 2.0, 9.0]))), labels


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([None, 1, 2, 3, 5, 512]))
def test_any_band_gives_the_full_lattices_path(
    problem: tuple[NDArray[np.float32], list[int]], band: int | None
) -> None:
    log_probs, labels = problem
    starts, ends, score = full_lattice(log_probs, labels)
    path = ctc_align(log_probs, np.array(labels), BLANK, band=band)
    assert path.starts.tolist() == starts
    assert path.ends.tolist() == ends
    assert path.score == pytest.approx(score, abs=1e-3)


def test_the_path_is_the_best_of_all_that_collapse_to_the_text() -> None:
    rng = np.random.default_rng(5)
    for labels in ([1], [1, 1], [1, 2, 1], [2, 2, 1]):
        log_probs = log_softmax(rng.normal(size=(6, 3)) * 3)
        scores = []
        for path in itertools.product(range(3), repeat=6):
            collapsed = [label for label, _ in itertools.groupby(path) if label != BLANK]
            if collapsed == labels:
                scores.append(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
        assert ctc_align(log_probs, np.array(labels), BLANK).score == pytest.approx(max(scores), abs=1e-4)


def planted(frames: int, count: int, seed: int, contrast: float = 6.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Peaked frames, as a CTC model gives them, of a text whose labels stand at random frames."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 32, count)
    places = np.sort(rng.choice(frames // 2, count, replace=False)) * 2
    scores = rng.normal(size=(frames, 32))
    scores[:, BLANK] += contrast
    scores[places, BLANK] -= contrast
    scores[places, labels] += contrast
    return log_softmax(scores), labels


def same(one: CtcPath, other: CtcPath) -> bool:
    return bool((one.starts == other.starts).all() and (one.ends == other.ends).all() and one.score == other.score)


def test_a_long_silence_that_leaves_the_diagonal_is_followed() -> None:
    speech, labels = planted(800, 200, seed=1)
    silence, _ = planted(2400, 1, seed=2)
    silence[:, 1:] = -20
    log_probs = np.concatenate([speech[:100], silence, speech[100:]])
    narrow = ctc_align(log_probs, labels, BLANK, band=8)
    assert same(narrow, ctc_align(log_probs, labels, BLANK, band=None))
    assert narrow.score == pytest.approx(
        ctc_align(speech, labels, BLANK).score + float(silence[:, BLANK].sum()), abs=1.0
    )


def test_a_band_that_loses_the_way_costs_time_and_not_the_result() -> None:
    log_probs, labels = planted(1200, 300, seed=3, contrast=0.5)
    assert same(ctc_align(log_probs, labels, BLANK, band=2), ctc_align(log_probs, labels, BLANK, band=None))


def test_minutes_of_speech_need_a_fraction_of_the_lattice() -> None:
    log_probs, labels = planted(6000, 1600, seed=4)
    tracemalloc.start()
    try:
        ctc_align(log_probs, labels, BLANK)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6000 * (2 * 1600 + 1) * 4 / 10


def test_too_few_frames_for_labels_and_repeats_is_said() -> None:
    log_probs = log_softmax(np.zeros((4, 3)))
    assert ctc_align(log_probs, np.array([1, 1, 2]), BLANK).starts.tolist() == [0, 2, 3]
    with pytest.raises(AlignmentFailed, match=r"needs 5 frames .* has 4"):
        ctc_align(log_probs, np.array([1, 1, 2, 1]), BLANK)


def test_a_text_without_labels_is_refused() -> None:
    with pytest.raises(AlignmentFailed, match="no labels"):
        ctc_align(log_softmax(np.zeros((4, 3))), np.array([], np.int64), BLANK)


def test_a_text_of_probability_zero_is_refused() -> None:
    log_probs = log_softmax(np.zeros((5, 3)))
    log_probs[:, 2] = -np.inf
    with pytest.raises(AlignmentFailed, match="no path"):
        ctc_align(log_probs, np.array([1, 2]), BLANK)
    log_probs[2] = -np.inf
    with pytest.raises(AlignmentFailed, match="frame 2"):
        ctc_align(log_probs, np.array([1, 2]), BLANK)


def test_scores_that_are_not_numbers_and_labels_out_of_range_are_errors() -> None:
    log_probs = log_softmax(np.zeros((5, 3)))
    for labels in ([3], [-1], [BLANK]):
        with pytest.raises(ValueError, match="vocabulary"):
            ctc_align(log_probs, np.array(labels), BLANK)
    log_probs[1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        ctc_align(log_probs, np.array([1]), BLANK)


def test_back_pointers_are_kept_within_their_room() -> None:
    log_probs, labels = planted(1200, 300, seed=3, contrast=0.0)
    with pytest.raises(AlignmentFailed, match="hardly fits"):
        ctc_align(log_probs, labels, BLANK, max_bytes=10_000)
