"""Sound of an evaluation set is found re-encoded, louder, softer, cut, in a longer recording; other sound is not."""

import io
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pyarrow as pa
import pytest
from av.audio.stream import AudioStream
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.decontamination.audio_fingerprint import STEP_S, fingerprint
from curation.decontamination.audio_overlap import SoundIndex
from curation.decontamination.evaluation_sets import EvaluationSet, EvaluationSetError
from curation.decontamination.recipe import Decontamination
from curation.decontamination.stages import AudioFingerprint, AudioOverlap
from curation.hashing import file_digest
from curation.media.audio import decode_blocks
from curation.media.audio_encoding import encode_audio
from schemas.spans import span

RATE = 16_000
Sound = NDArray[np.int16]


def babble(seconds: float, seed: int) -> Sound:
    """Voiced and unvoiced stretches of 60 to 250 ms, each with pitch and resonances of its own, and short pauses."""
    chance = np.random.default_rng(seed)
    pieces: list[NDArray[np.float64]] = []
    while sum(map(len, pieces)) < seconds * RATE:
        time = np.arange(int(chance.uniform(0.06, 0.25) * RATE)) / RATE
        formants = chance.uniform((250, 800, 1800), (800, 1900, 3000))
        pitch = chance.uniform(90, 250)
        harmonics = np.arange(1, int(4000 / pitch))
        if chance.random() < 0.25:
            sound = chance.standard_normal(len(time)) * 0.3
        else:
            levels = sum(1 / (1 + ((harmonics * pitch - f) / 90) ** 2) for f in formants)
            glide = pitch * (time + chance.uniform(-0.3, 0.3) * time**2)
            sound = (levels[:, None] * np.sin(2 * np.pi * harmonics[:, None] * glide)).sum(axis=0)
        pieces.append(sound * np.hanning(len(time)) * chance.uniform(0.2, 1))
        if chance.random() < 0.15:
            pieces.append(np.zeros(int(chance.uniform(0.05, 0.3) * RATE)))
    return np.asarray(np.concatenate(pieces)[: int(seconds * RATE)] * 6000, np.int16)


def through(sound: Sound, codec: str, container: str, bit_rate: int, rate_hz: int = RATE) -> Sound:
    """Encoded with loss, and decoded again."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = cast(AudioStream, file.add_stream(codec, rate=rate_hz, layout="mono"))
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, "mono", rate_hz, context.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return heard(buffer.getvalue(), container)


def heard(data: bytes, suffix: str) -> Sound:
    with tempfile.NamedTemporaryFile(suffix=f".{suffix}") as file:
        file.write(data)
        file.flush()
        return heard_file(Path(file.name))


def heard_file(path: Path) -> Sound:
    return np.concatenate(list(decode_blocks(str(path))))


def with_noise(sound: Sound, snr_db: float, seed: int = 0) -> Sound:
    level = np.sqrt(np.mean(sound.astype(float) ** 2)) * 10 ** (-snr_db / 20)
    noise = np.random.default_rng(seed).normal(0, level, len(sound))
    return np.clip(sound + noise, -(2**15), 2**15 - 1).astype(np.int16)


def faster(sound: Sound, factor: float) -> Sound:
    return np.asarray(np.interp(np.arange(0, len(sound) - 1, factor), np.arange(len(sound)), sound), np.int16)


ITEMS = [babble(8, seed) for seed in range(20)]
PRINTS = [fingerprint([sound]) for sound in ITEMS]


def index_of(items: list[NDArray[np.uint32]], min_frames: int = 64) -> SoundIndex:
    return SoundIndex(items, np.arange(len(items)), min_frames)


INDEX = index_of(PRINTS)

CHANGES: dict[str, Callable[[Sound], Sound]] = {
    "as it is": lambda sound: sound,
    "mp3 at 32 kbit/s": lambda sound: through(sound, "libmp3lame", "mp3", 32_000),
    "opus at 16 kbit/s": lambda sound: through(sound, "libopus", "ogg", 16_000, 48_000),
    "20 dB softer": lambda sound: np.round(sound * 0.1).astype(np.int16),
    "louder, clipped": lambda sound: np.clip(sound * 4.0, -(2**15), 2**15 - 1).astype(np.int16),
    "noise at 15 dB": lambda sound: with_noise(sound, 15),
    "a telephone's rate": lambda sound: np.repeat(sound[::2], 2),
    "0.5 % faster": lambda sound: faster(sound, 1.005),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_excerpt_of_three_seconds_is_found_in_the_recording_it_is_from(change: Callable[[Sound], Sound]) -> None:
    chance = np.random.default_rng(1)
    right = []
    for number, sound in enumerate(ITEMS):
        start = int(chance.integers(0, len(sound) - 3 * RATE))
        found = INDEX.match(fingerprint([change(sound[start : start + 3 * RATE])]), 0.35)
        offset_s = (found.item_at - found.row_at) * STEP_S
        right.append(found.item == number and found.bit_error <= 0.35 and abs(offset_s - start / RATE) < 0.1)
    assert np.mean(right) >= 0.95


def test_a_recording_inside_a_longer_one_is_found() -> None:
    for number in range(5):
        around = babble(20, 100 + number)
        longer = np.concatenate([around, ITEMS[number][: 4 * RATE], around])
        found = INDEX.match(fingerprint([longer]), 0.35)
        assert found.item == number and found.bit_error < 0.1


def test_a_second_and_a_half_in_common_is_enough() -> None:
    found = [INDEX.match(fingerprint([sound[2 * RATE + 93 : 7 * RATE // 2 + 93]]), 0.35) for sound in ITEMS]
    assert [one.item for one in found] == list(range(len(ITEMS)))
    assert max(one.bit_error for one in found) < 0.3


def test_unrelated_sound_is_above_the_limit() -> None:
    """The least error is .38 here; this babble is more alike than speech is."""
    errors = [INDEX.match(fingerprint([babble(6, 1000 + seed)]), 0.35).bit_error for seed in range(60)]
    assert min(errors) > 0.365


def test_blocks_of_real_speech_differ_as_those_of_the_paper_and_excerpts_are_found(media: Path) -> None:
    """Haitsma and Kalker have a deviation of .0148 for blocks of 3 s; measured here .013 to .0145."""
    names = sorted(path for path in (media / "speech").glob("*") if path.suffix in (".wav", ".flac", ".opus"))
    sounds = [sound for sound in map(heard_file, names) if len(sound) > 5 * RATE]
    prints = [fingerprint([sound]) for sound in sounds]
    index = index_of(prints)
    chance = np.random.default_rng(0)
    for number, sound in enumerate(sounds):
        start = int(chance.integers(0, len(sound) - 4 * RATE))
        excerpt = through(sound[start : start + 4 * RATE], "libopus", "ogg", 16_000, 48_000)
        found = index.match(fingerprint([excerpt]), 0.35)
        assert found.item == number and found.bit_error < 0.25
        others = index_of([bits for other, bits in enumerate(prints) if other != number])
        assert others.match(prints[number], 0.35).bit_error > 0.41
    a, b = prints[0], np.concatenate(prints[1:])
    blocks = [(a[i : i + 256], b[j : j + 256]) for i, j in chance.integers(0, (len(a) - 256, len(b) - 256), (4000, 2))]
    shares = [np.bitwise_count(x ^ y).mean() / 32 for x, y in blocks if min((x > 0).mean(), (y > 0).mean()) > 0.9]
    assert abs(np.mean(shares) - 0.5) < 0.005
    assert np.std(shares) < 0.018


def test_silence_hum_and_noise_are_no_one_elses() -> None:
    time = np.arange(6 * RATE) / RATE
    hum = np.sum([2000 / k * np.sin(2 * np.pi * 50 * k * time) for k in range(1, 40)], axis=0)
    dither = np.random.default_rng(2).normal(0, 0.7, len(time)).astype(np.int16)
    level = np.full(len(time), 3000, np.int16)
    silence = np.zeros(len(time), np.int16)
    sounds = [silence, dither, with_noise(hum.astype(np.int16), 40), with_noise(level, 3)]
    again = [silence, dither[::-1], with_noise(hum[1111:].astype(np.int16), 40, 1), with_noise(level, 3, 1)]
    index = index_of([fingerprint([sound]) for sound in sounds])
    assert min(index.match(fingerprint([sound]), 0.35).bit_error for sound in again) > 0.40


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3 * RATE), max_size=6))
def test_a_fingerprint_does_not_depend_on_how_sound_comes_in_blocks(cuts: list[int]) -> None:
    sound = ITEMS[0][: 3 * RATE]
    blocks = np.split(sound, sorted(cuts))
    assert (fingerprint(blocks) == fingerprint([sound])).all()


def test_long_sound_in_blocks_has_the_fingerprint_of_the_whole() -> None:
    sound = np.tile(ITEMS[0], 3)
    assert (fingerprint(np.split(sound, [5, 100_000, 200_001])) == fingerprint([sound])).all()
    assert len(fingerprint([sound])) == (len(sound) - 6_189) // 186


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[EvaluationSet, Path]:
    """A set of two recordings, one of half a second; and a file of speech that holds 4 s of the first."""
    folder = tmp_path / "libri"
    folder.mkdir()
    (folder / "long.flac").write_bytes(encode_audio(ITEMS[0], RATE, "flac"))
    (folder / "short.wav").write_bytes(encode_audio(ITEMS[1][: RATE // 2], RATE, "wav"))
    talk = np.concatenate([babble(10, 50), ITEMS[0][RATE : 5 * RATE], babble(10, 51)])
    path = tmp_path / "talk.opus"
    path.write_bytes(encode_audio(talk, RATE, "opus"))
    return EvaluationSet("libri", str(folder)), path


def spans(path: Path, *seconds: tuple[float, float]) -> pa.Table:
    content = file_digest(path)
    values = [span(content, int(start * RATE), int(end * RATE), RATE) for start, end in seconds]
    return pa.table({"row_id": [str(i) for i in range(len(values))], "uri": [str(path)] * len(values), "span": values})


def test_only_the_utterance_with_the_items_sound_is_rejected(recordings: tuple[EvaluationSet, Path]) -> None:
    libri, path = recordings
    measure, overlap = Decontamination((libri,)).audio()
    assert isinstance(measure, AudioFingerprint) and measure.costly
    found = overlap(measure(spans(path, (0, 6), (9.5, 14.2), (15, 22))))
    assert [d and d["reason"] for d in found["decision"].to_pylist()] == [None, "in_libri", None]
    assert found["audio_overlap_with"].to_pylist()[1] == "libri: long.flac"
    assert 1 <= found["audio_overlap_at_s"].to_pylist()[1] <= 5
    assert found["audio_bit_error"].to_pylist()[1] == found["decision"].to_pylist()[1]["value"] < 0.2


def test_a_recording_as_a_whole_is_rejected_for_a_part_or_for_its_bytes(recordings: tuple[EvaluationSet, Path]) -> None:
    libri, path = recordings
    short = Path(libri.path) / "short.wav"
    files = [path, short]
    table = pa.table(
        {
            "row_id": ["0", "1"],
            "uri": [str(file) for file in files],
            "media_hash": [file_digest(file) for file in files],
            "channel": pa.nulls(2, pa.int16()),
        }
    )
    measure, overlap = Decontamination((libri,)).audio(whole=True)
    found = overlap(measure(table))
    assert found["audio_overlap_with"].to_pylist() == ["libri: long.flac", "libri: short.wav"]
    assert [d["reason"] for d in found["decision"].to_pylist()] == ["in_libri"] * 2


def test_an_item_that_cannot_be_decoded_ends_the_run_and_is_named(recordings: tuple[EvaluationSet, Path]) -> None:
    libri, path = recordings
    (Path(libri.path) / "torn.flac").write_bytes(encode_audio(ITEMS[2], RATE, "flac")[:20_000])
    measured = AudioFingerprint()(spans(path, (0, 6)))
    with pytest.raises(EvaluationSetError, match=r"evaluation set libri: torn\.flac: "):
        AudioOverlap((libri,))(measured)


def test_no_rows_and_no_sound_are_no_match(recordings: tuple[EvaluationSet, Path]) -> None:
    libri, path = recordings
    measured = AudioFingerprint()(spans(path, (0, 0.2)))
    assert measured["audio_fingerprint"].to_pylist() == [[]]
    assert "decision" not in AudioOverlap((libri,))(measured).column_names
    assert AudioOverlap((libri,))(measured.slice(0, 0)).num_rows == 0
