"""Spans of recordings: slices of the whole, whichever are asked for and in how many calls; and of no other bytes."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.errors import MediaError
from curation.hashing import file_digest
from curation.media import audio, spans as spans_of_media
from curation.media.audio import check_content, decode_blocks
from curation.media.spans import clips_of, forget_clips, read_spans, spans_in_turn
from tests.support.small_corpus import write_sound

TICKS = 96_000
SOUND = np.random.default_rng(1).integers(-3000, 3000, TICKS).astype(np.int16)
SPANS = st.lists(st.tuples(st.integers(0, TICKS), st.integers(0, TICKS)).map(lambda s: (min(s), max(s))), max_size=6)


def heard(path: str, rate_hz: int = 16_000) -> NDArray[np.int16]:
    return np.concatenate(list(decode_blocks(path, rate_hz=rate_hz)))


def digest(path: str) -> str:
    return file_digest(Path(path))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six seconds of noise in stereo MP3 at 44.1 kHz: a decoder with memory, and a resampler."""
    path = tmp_path_factory.mktemp("spans") / "a.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp3", rate=44_100, layout="stereo")
        resampler = av.AudioResampler(stream.format, "stereo", 44_100, 1152)
        values = np.random.default_rng(2).integers(-3000, 3000, (1, 2 * 44_100 * 6)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(values, "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44_100, 0, Fraction(1, 44_100)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    assert len(heard(str(path))) == TICKS
    return str(path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened for decoding, in turn."""
    forget_clips()
    paths: list[str] = []
    real = audio.open_media

    def counted(path: str) -> InputContainer:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(audio, "open_media", counted)
    return paths


@given(SPANS)
@settings(max_examples=15, deadline=None)
def test_spans_are_slices_whichever_others_are_asked_for(recording: str, spans: list[tuple[int, int]]) -> None:
    whole = heard(recording)
    for (start, end), samples in zip(spans, read_spans(recording, spans), strict=True):
        assert np.array_equal(samples, whole[start:end])


@given(st.lists(st.tuples(SPANS, st.sampled_from([16_000, 24_000])), max_size=5))
@settings(max_examples=25, deadline=None)
def test_spans_are_slices_whatever_was_asked_for_before(
    recording: str, calls: list[tuple[list[tuple[int, int]], int]]
) -> None:
    for spans, rate_hz in calls:
        whole = heard(recording, rate_hz)
        found = dict(spans_in_turn(recording, digest(recording), spans, rate_hz=rate_hz))
        assert sorted(found) == list(range(len(spans)))
        assert all(np.array_equal(found[i], whole[start:end]) for i, (start, end) in enumerate(spans))


def test_a_span_past_the_end_is_named(recording: str) -> None:
    says = r"a\.mp3: span 90000-99000 at 16000 Hz reaches past the end, which is at 96000"
    with pytest.raises(MediaError, match=says):
        read_spans(recording, [(0, 10), (90_000, 99_000)])
    forget_clips()
    clips_of(recording, digest(recording), [(90_000, 96_000)])
    with pytest.raises(MediaError, match=says):
        clips_of(recording, digest(recording), [(90_000, 99_000)])


def test_a_span_that_is_none_is_the_callers_error(recording: str) -> None:
    for wrong in ((-1, 4), (5, 4)):
        with pytest.raises(ValueError, match="no span"):
            read_spans(recording, [wrong])


def test_reading_stops_after_the_last_span(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.flac", SOUND)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    (samples,) = read_spans(str(path), [(1000, 9000)])
    assert np.array_equal(samples, SOUND[1000:9000])


def test_overlapping_spans_in_order_are_one_pass_in_however_many_calls(recording: str, opened: list[str]) -> None:
    starts = range(0, 60_000, 5_000)
    for start in starts:
        tuple(spans_in_turn(recording, digest(recording), [(start, start + 30_000), (start, start + 700)]))
    assert len(opened) == 1
    tuple(spans_in_turn(recording, digest(recording), [(0, 10)]))
    tuple(spans_in_turn(recording, digest(recording), [(20, 30)], 0))
    tuple(spans_in_turn(recording, digest(recording), [(40, 50)], 0, rate_hz=24_000))
    assert len(opened) == 4


def test_a_pass_holds_no_more_than_from_the_last_start_on(recording: str, opened: list[str]) -> None:
    for start in (0, 16_000, 32_000):
        tuple(spans_in_turn(recording, digest(recording), [(0 + start, start + 9_000), (start + 10_000, 90_000)]))
        ((decoding,),) = [spans_of_media._passes]
        held = sum(len(samples) for _, samples in decoding.held)
        assert decoding.position - held <= start + 10_000 < decoding.position - held + 20_000
    assert len(opened) == 1


def test_a_pass_that_failed_or_was_left_is_not_gone_on_with(recording: str, opened: list[str]) -> None:
    whole = heard(recording)
    opened.clear()
    turn = spans_in_turn(recording, digest(recording), [(0, 20_000), (30_000, 60_000)])
    next(turn)
    turn.close()
    with pytest.raises(MediaError, match="past the end"):
        tuple(spans_in_turn(recording, digest(recording), [(0, 20_000), (30_000, 600_000)]))
    (samples,) = clips_of(recording, digest(recording), [(50_000, 70_000)])
    assert np.array_equal(samples, whole[50_000:70_000])
    assert len(opened) == 3


def test_clips_are_decoded_once_in_one_pass(recording: str, opened: list[str]) -> None:
    spans = [(30_000, 40_000), (0, 16_000), (8_000, 9_000)]
    first = clips_of(recording, digest(recording), spans)
    again = clips_of(recording, digest(recording), spans[::-1])
    assert len(opened) == 1
    assert all(a is b for a, b in zip(first, again[::-1], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first, read_spans(recording, spans), strict=True))
    clips_of(recording, digest(recording), spans, 0)
    assert len(opened) == 3  # one of them by read_spans
    with pytest.raises(ValueError, match="read-only"):
        first[0][0] = 1


def test_the_cache_of_clips_is_bounded_and_drops_the_oldest(recording: str) -> None:
    forget_clips()
    for start in (0, 10_000, 20_000):
        clips_of(recording, digest(recording), [(start, start + 10_000)], cache_bytes=45_000)
        clips_of(recording, digest(recording), [(0, 10_000)], cache_bytes=45_000)
    assert [key[2] for key in spans_of_media._clips] == [20_000, 0]
    (large,) = clips_of(recording, digest(recording), [(0, 40_000)], cache_bytes=45_000)
    assert len(large) == 40_000 and not spans_of_media._clips


# Files that change while a run goes on


def replaced(path: Path, samples: NDArray[np.int16]) -> None:
    """Other sound of the same size, under the same name."""
    before = path.stat()
    write_sound(path, samples)
    assert path.stat().st_size == before.st_size
    touched(path, before.st_mtime_ns)


def touched(path: Path, before_ns: int) -> None:
    """A second later, as far as the file's time of change goes: a clock may tick slower than a test."""
    os.utime(path, ns=(before_ns + 10**9, before_ns + 10**9))


def test_what_changed_since_the_scan_is_named_and_not_heard(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    scanned = file_digest(path)
    replaced(path, SOUND[::-1].copy())
    for hear in (
        lambda: clips_of(str(path), scanned, [(0, 100)]),
        lambda: list(spans_in_turn(str(path), scanned, [(0, 100)])),
        lambda: list(decode_blocks(str(path), content=scanned)),
    ):
        with pytest.raises(MediaError, match=r"a\.wav: changed since it was scanned; run again"):
            hear()


def test_a_change_between_two_calls_and_between_two_blocks_is_named(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    scanned = file_digest(path)
    clips_of(str(path), scanned, [(0, 16_000)])
    blocks = decode_blocks(str(path), content=scanned, block_s=1.0)
    next(blocks)
    replaced(path, SOUND[::-1].copy())
    with pytest.raises(MediaError, match="changed since it was scanned"):
        clips_of(str(path), scanned, [(40_000, 80_000)])
    with pytest.raises(MediaError, match="changed since it was scanned"):
        list(blocks)


def test_a_file_that_cannot_be_decoded_any_more_is_said_to_have_changed(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.flac", SOUND)
    scanned = file_digest(path)
    blocks = decode_blocks(str(path), content=scanned, block_s=1.0)
    next(blocks)
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    touched(path, before.st_mtime_ns)
    with pytest.raises(MediaError, match="changed since it was scanned"):
        list(blocks)


def test_a_file_that_was_only_touched_is_the_same(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    scanned = file_digest(path)
    touched(path, path.stat().st_mtime_ns)
    check_content(str(path), scanned)
    assert np.array_equal(np.concatenate(list(decode_blocks(str(path), content=scanned))), SOUND)


def test_a_file_that_is_gone_or_no_file_any_more_is_named(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    scanned = file_digest(path)
    path.unlink()
    with pytest.raises(MediaError, match=r"a\.wav: cannot be opened: No such file"):
        check_content(str(path), scanned)
    os.mkfifo(path)
    with pytest.raises(MediaError, match=r"a\.wav: not a plain file"):
        check_content(str(path), scanned)
