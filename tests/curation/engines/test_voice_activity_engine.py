"""Silero's probabilities, and the regions made of them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.engines.voice_activity import Silero, _silero_model
from curation.media.audio import decode_blocks
from curation.speech.regions import speech_regions

pytest.importorskip("onnxruntime")
if Silero().missing():
    pytest.skip("silero-vad is not installed", allow_module_level=True)

FRAME = Silero.frame_samples
MEDIA = Path(os.environ.get("CURATE_MEDIA", Path(__file__).resolve().parents[4] / "shared" / "media")) / "speech"
real_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="no folder of real media")


def noisy_tones(seconds: float, seed: int = 3) -> NDArray[np.int16]:
    """Bursts of harmonics in noise: enough to move the model's state."""
    draw = np.random.default_rng(seed)
    t = np.arange(round(16_000 * seconds)) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 12)) * (np.sin(2 * np.pi * 1.3 * t) > 0)
    return (3000 * voice * (1 + 0.5 * np.sin(2 * np.pi * 4 * t)) + 300 * draw.standard_normal(len(t))).astype(np.int16)


SOUND = noisy_tones(40.0)


@pytest.fixture(scope="module")
def whole() -> NDArray[np.float32]:
    return Silero().probabilities([SOUND])


def test_probabilities_are_bit_for_bit_those_of_the_sequence_model(whole: NDArray[np.float32]) -> None:
    pytest.importorskip("torch")
    from silero_vad.sequence_vad import SileroVADSequence

    theirs = SileroVADSequence(str(_silero_model())).audio_forward(SOUND.astype(np.float32) / np.float32(32768))
    assert np.array_equal(whole, theirs)
    assert whole.dtype == np.float32 and np.ptp(whole) > 0.3


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, len(SOUND)), max_size=40))
def test_where_blocks_are_cut_does_not_matter(whole: NDArray[np.float32], cuts: list[int]) -> None:
    assert np.array_equal(whole, Silero().probabilities(np.split(SOUND, sorted(cuts))))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, len(SOUND)))
def test_what_comes_later_does_not_change_a_frame(whole: NDArray[np.float32], length: int) -> None:
    probabilities = Silero().probabilities([SOUND[:length]])
    frames = length // FRAME
    assert len(probabilities) == -(-length // FRAME)
    assert np.array_equal(probabilities[:frames], whole[:frames])


def test_calls_leave_nothing_behind(whole: NDArray[np.float32]) -> None:
    Silero().probabilities([noisy_tones(5.0, seed=9)])
    assert np.array_equal(Silero().probabilities([SOUND]), whole)


def test_no_sound_has_no_frames() -> None:
    assert Silero().probabilities([]).shape == (0,)
    assert Silero().probabilities([np.zeros(0, np.int16)]).shape == (0,)


def test_the_engine_does_not_import_torch() -> None:
    code = (
        "import sys, numpy; from curation.engines.voice_activity import Silero;"
        "Silero().probabilities([numpy.zeros(2000, numpy.int16)]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


def test_the_engine_is_a_value_with_licences() -> None:
    engine = Silero()
    assert engine == Silero() and engine.fingerprint() == Silero().fingerprint()
    assert (engine.code_licence, engine.weights_licence, engine.engine) == ("MIT", "MIT", "silero")


@real_media
def test_regions_of_a_real_address_are_as_before() -> None:
    """Golden: 11 s of 1961, four stretches of speech. Two frames of tolerance, for other CPUs."""
    samples = np.concatenate(list(decode_blocks(str(MEDIA / "jfk.flac"))))
    regions = speech_regions(Silero().probabilities([samples]), total_samples=len(samples))
    assert np.asarray(regions).shape == (4, 2)
    assert np.abs(np.asarray(regions) - JFK_REGIONS).max() <= 2 * FRAME


JFK_REGIONS = [(5632, 34816), (52736, 69120), (86528, 120832), (131072, 167424)]


def frames_of(*stretches: tuple[float, float]) -> NDArray[np.float32]:
    """Probabilities as (probability, seconds) stretches, in whole frames."""
    return np.concatenate([np.full(round(s * 16_000 / FRAME), p, np.float32) for p, s in stretches])


probabilities_like = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.9, 1.0]), st.integers(1, 60)), max_size=40
).map(lambda runs: np.concatenate([np.zeros(0, np.float32)] + [np.full(n, p, np.float32) for p, n in runs]))


@settings(max_examples=200, deadline=None)
@given(
    probabilities_like,
    st.integers(1, FRAME),
    st.sampled_from([0.0, 0.03, 0.064]),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([1.0, 2.0, 30.0]),
    st.sampled_from([0.0, 0.05, 0.4]),
)
def test_regions_are_sorted_disjoint_inside_and_of_allowed_lengths(
    probabilities: NDArray[np.float32], last: int, trim: float, silence: float, longest: float, pad: float
) -> None:
    total = max(len(probabilities) - 1, 0) * FRAME + (last if len(probabilities) else 0)
    arguments: dict[str, Any] = dict(end_trim_s=trim, min_silence_s=silence, max_region_s=longest, total_samples=total)
    regions = speech_regions(probabilities, **arguments)
    flat = [tick for region in regions for tick in region]
    assert flat == sorted(flat) and all(start < end for start, end in regions)
    assert not flat or (flat[0] >= 0 and flat[-1] <= total)
    assert all(0.25 <= (end - start) / 16_000 <= longest for start, end in regions)
    assert regions == speech_regions(probabilities.tolist(), **arguments)
    padded = speech_regions(probabilities, pad_start_s=pad, pad_end_s=pad, **arguments)
    flat = [tick for region in padded for tick in region]
    assert flat == sorted(flat) and (not flat or (flat[0] >= 0 and flat[-1] <= total))
    for (start, end), (wide_start, wide_end) in zip(regions, padded, strict=True):
        assert wide_start <= start and end <= wide_end
        assert wide_end - wide_start <= end - start + 2 * round(pad * 16_000)


@settings(max_examples=100, deadline=None)
@given(probabilities_like, probabilities_like)
def test_regions_on_both_sides_of_a_silence_know_nothing_of_each_other(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> None:
    quiet = np.zeros(40, np.float32)
    left, right = np.concatenate([left, quiet]), np.concatenate([quiet, right])
    shift = len(left) * FRAME
    together = speech_regions(np.concatenate([left, right]), total_samples=shift + len(right) * FRAME)
    apart = speech_regions(left, total_samples=shift)
    apart += [(a + shift, b + shift) for a, b in speech_regions(right, total_samples=len(right) * FRAME)]
    assert together == apart


@pytest.mark.parametrize("pause", [0.32, 0.4, 1.0])
def test_a_pause_as_long_as_min_silence_separates(pause: float) -> None:
    probabilities = frames_of((0.0, 1.0), (0.9, 2.0), (0.0, pause), (0.9, 2.0), (0.0, 1.0))
    assert len(speech_regions(probabilities, total_samples=len(probabilities) * FRAME, min_silence_s=0.3)) == 2


def test_the_trimmed_end_counts_as_silence() -> None:
    probabilities = frames_of((0.9, 2.0), (0.0, 0.256), (0.9, 2.0))
    total = len(probabilities) * FRAME
    assert len(speech_regions(probabilities, total_samples=total, min_silence_s=0.3, end_trim_s=0.064)) == 2
    assert len(speech_regions(probabilities, total_samples=total, min_silence_s=0.3, end_trim_s=0.0)) == 1


def test_a_click_in_a_pause_does_not_bridge_it() -> None:
    probabilities = frames_of((0.9, 2.0), (0.0, 0.256), (0.9, 0.032), (0.0, 0.256), (0.9, 2.0))
    assert len(speech_regions(probabilities, total_samples=len(probabilities) * FRAME, min_silence_s=0.3)) == 2


def test_hesitation_between_the_thresholds_does_not_end_a_region() -> None:
    probabilities = frames_of((0.9, 1.0), (0.4, 2.0), (0.9, 1.0))
    assert speech_regions(probabilities, total_samples=len(probabilities) * FRAME, end_trim_s=0.0) == [
        (0, len(probabilities) * FRAME)
    ]
    murmur = frames_of((0.0, 1.0), (0.4, 2.0), (0.0, 1.0))
    assert speech_regions(murmur, total_samples=len(murmur) * FRAME) == []


def test_a_long_region_is_cut_in_its_longest_quiet_stretch() -> None:
    probabilities = frames_of((0.9, 16.0), (0.1, 0.096), (0.9, 4.0), (0.1, 0.192), (0.9, 15.0))
    left, right = speech_regions(probabilities, total_samples=len(probabilities) * FRAME, end_trim_s=0.0)
    assert left[1] == right[0]
    assert 20.096 <= left[1] / 16_000 <= 20.288


def test_a_long_region_without_a_pause_is_cut_at_its_least_probable_frame() -> None:
    probabilities = frames_of((0.9, 40.0))
    probabilities[700] = 0.6
    left, right = speech_regions(probabilities, total_samples=len(probabilities) * FRAME, end_trim_s=0.0)
    assert 700 * FRAME <= left[1] == right[0] <= 701 * FRAME


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="exit_threshold"):
        speech_regions([0.5], total_samples=FRAME, exit_threshold=0.6)
    with pytest.raises(ValueError, match="max_region_s"):
        speech_regions([0.5], total_samples=FRAME, max_region_s=0.5)
