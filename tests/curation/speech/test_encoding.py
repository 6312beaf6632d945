"""Encoding: the bytes of a sample are the sound of its span, and a broken file costs its own rows."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from av.container import InputContainer
from numpy.typing import NDArray

from curation.errors import RecipeError
from curation.hashing import file_digest
from curation.media import audio
from curation.media.audio import decode_blocks
from curation.media.spans import forget_clips
from curation.speech.encoding import EncodeAudio
from schemas.spans import span
from tests.support.small_corpus import write_sound

SOUND = (np.random.default_rng(1).standard_normal(48_000) * 2000).astype(np.int16)


def samples(*places: tuple[Path, int, int], channel: int | None = None) -> pa.Table:
    sources = [file_digest(path) if path.exists() else "gone" for path, _, _ in places]
    spans = [span(source, a, b, 16_000, channel) for source, (_, a, b) in zip(sources, places, strict=True)]
    return pa.table({"uri": [str(path) for path, _, _ in places], "span": spans})


def heard(payload: bytes) -> tuple[NDArray[np.int16], int]:
    with av.open(BytesIO(payload), "r") as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].sample_rate


def test_the_bytes_are_the_sound_of_the_span(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    places = [(8_000, 24_001), (0, 48_000), (20_000, 20_001), (10_000, 30_000)]
    rows = EncodeAudio()(samples(*((path, a, b) for a, b in places))).to_pylist()
    for row, (start, end) in zip(rows, places, strict=True):
        sound, rate = heard(row["payload"])
        assert rate == row["payload_rate_hz"] == 16_000
        assert np.array_equal(sound, SOUND[start:end])
        assert row["payload_bytes"] == len(row["payload"])


def test_a_span_of_a_compressed_file_is_that_of_the_whole_decoded(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.opus", SOUND)
    whole = np.concatenate(list(decode_blocks(str(path))))
    (row,) = EncodeAudio()(samples((path, 12_345, 34_567))).to_pylist()
    assert np.array_equal(heard(row["payload"])[0], whole[12_345:34_567])


def test_the_bytes_do_not_depend_on_the_other_rows(tmp_path: Path) -> None:
    path, other = write_sound(tmp_path / "a.wav", SOUND), write_sound(tmp_path / "b.flac", SOUND[::-1].copy())
    alone = EncodeAudio()(samples((path, 100, 9000))).to_pylist()[0]["payload"]
    among = EncodeAudio()(samples((other, 0, 5), (path, 0, 48_000), (path, 100, 9000), (path, 50, 200)))
    assert among["payload"][2].as_py() == alone


@pytest.mark.parametrize("source_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100, 48_000])
def test_at_another_rate_a_span_that_reaches_the_end_is_there(tmp_path: Path, source_hz: int, rate_hz: int) -> None:
    for length in range(9_000, 9_012):
        path = write_sound(tmp_path / f"{length}.wav", SOUND[:length], source_hz)
        ticks = sum(len(block) for block in decode_blocks(str(path)))
        table = EncodeAudio(rate_hz=rate_hz)(samples((path, 0, ticks), (path, ticks // 3, ticks)))
        assert "decision" not in table.column_names
        for row, first in zip(table.to_pylist(), (0, ticks // 3), strict=True):
            sound, rate = heard(row["payload"])
            assert rate == row["payload_rate_hz"] == rate_hz
            assert abs(len(sound) - (ticks - first) * rate_hz / 16_000) <= 1 + rate_hz / 16_000


def test_at_the_file_s_own_rate_nothing_is_resampled(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND, 48_000)
    (row,) = EncodeAudio(rate_hz=48_000)(samples((path, 1_000, 11_000))).to_pylist()
    sound = heard(row["payload"])[0]
    assert np.array_equal(sound, SOUND[3_000 : 3_000 + len(sound)]) and len(sound) > 29_990


def test_a_broken_file_fails_its_own_rows(tmp_path: Path) -> None:
    good, cut = write_sound(tmp_path / "good.wav", SOUND), write_sound(tmp_path / "cut.flac", SOUND)
    cut.write_bytes(cut.read_bytes()[:40_000])
    table = samples((cut, 0, 48_000), (good, 0, 16_000), (tmp_path / "gone.wav", 0, 9), (good, 16_000, 48_000))
    rows = EncodeAudio()(table).to_pylist()
    assert [row["decision"] and row["decision"]["verdict"] for row in rows] == ["failed", None, "failed", None]
    assert "cut.flac: decoding stopped" in rows[0]["decision"]["error"] and rows[0]["payload"] is None
    assert "gone.wav: cannot be opened" in rows[2]["decision"]["error"]
    assert np.array_equal(heard(rows[3]["payload"])[0], SOUND[16_000:])


def test_a_sample_that_cannot_be_encoded_fails_alone(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    rows = EncodeAudio()(samples((path, 0, 9_000), (path, 4_000, 4_000), (path, 3_000, 16_000))).to_pylist()
    assert [row["decision"] and row["decision"]["reason"] for row in rows] == [None, "ValueError", None]
    assert [row["payload"] is None for row in rows] == [False, True, False]
    assert np.array_equal(heard(rows[2]["payload"])[0], SOUND[3_000:16_000])


def test_a_file_that_changed_since_the_scan_fails_its_own_rows(tmp_path: Path) -> None:
    same, changed = write_sound(tmp_path / "same.wav", SOUND), write_sound(tmp_path / "changed.wav", SOUND)
    table = samples((changed, 0, 16_000), (same, 0, 16_000))
    write_sound(changed, SOUND[:-1])
    rows = EncodeAudio()(table).to_pylist()
    assert rows[0]["payload"] is None and "changed.wav: changed since it was scanned" in rows[0]["decision"]["error"]
    assert rows[1]["decision"] is None and np.array_equal(heard(rows[1]["payload"])[0], SOUND[:16_000])


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_the_units_of_one_recording_decode_it_once(
    tmp_path: Path, rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sound(tmp_path / "a.flac", np.tile(SOUND, 10))
    places = [(path, start, start + length) for start in range(0, 400_000, 20_000) for length in (9_000, 70_000)]
    whole = EncodeAudio(rate_hz=rate_hz)(samples(*places))
    forget_clips()
    opened = []
    real = audio.open_media

    def counted(path: str) -> InputContainer:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(audio, "open_media", counted)
    units = [EncodeAudio(rate_hz=rate_hz)(samples(*places[i : i + 3])) for i in range(0, len(places), 3)]
    assert pa.concat_tables(units).equals(whole)
    assert len(opened) == 1


@pytest.mark.parametrize("format_", ["flac", "wav", "opus"])
def test_every_format_plays(tmp_path: Path, format_: str) -> None:
    path = write_sound(tmp_path / "a.wav", SOUND)
    (row,) = EncodeAudio(format=format_)(samples((path, 0, 16_000))).to_pylist()  # type: ignore[arg-type]
    sound, rate = heard(row["payload"])
    assert len(sound) / rate == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("format_", "rate_hz"), [("aac", 16_000), ("opus", 44_100), ("flac", 0), ("wav", -1)])
def test_what_cannot_be_written_is_refused_before_anything_runs(format_: str, rate_hz: int) -> None:
    with pytest.raises(RecipeError, match=r"audio"):
        EncodeAudio(format=format_, rate_hz=rate_hz)  # type: ignore[arg-type]
