"""Decoding: real files of many kinds, whole and damaged, made here with libav or byte by byte."""

import hashlib
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.errors import MediaError, RecipeError
from curation.media.audio import decode_blocks, probe_audio
from curation.media.audio_encoding import AUDIO_FORMATS, OPUS_RATES_HZ, check_audio_format, encode_audio, encode_flac

MEDIA = Path(os.environ.get("CURATE_MEDIA", Path(__file__).resolve().parents[4] / "shared" / "media"))
SECONDS = 3.0


def tone(rate: int, seconds: float = SECONDS) -> NDArray[np.float64]:
    """440 Hz at half scale."""
    found: NDArray[np.float64] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return found


def noise(samples: int, seed: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-3000, 3000, samples).astype(np.int16)


def wav(path: Path, data: bytes, rate: int = 16_000, channels: int = 1, bits: int = 16, **fields: int) -> str:
    """A wav file written by hand, so that any of its fields may lie: `kind` 3 is float, `size` the data chunk's."""
    align = channels * bits // 8
    size = fields.get("size", len(data))
    form = struct.pack("<HHIIHH", fields.get("kind", 1), channels, rate, rate * align % 2**32, align % 2**16, bits)
    head = b"RIFF" + struct.pack("<I", min(size + 36, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    path.write_bytes(head + b"data" + struct.pack("<I", size) + data)
    return str(path)


def written(path: Path, codec: str, rate: int, layout: str = "stereo", *, video: bool = False, **options: str) -> str:
    """The tone as libav's own muxers and encoders write it."""
    with av.open(str(path), "w", options=options) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=rate, layout=layout))
        frames = container.add_stream("mpeg4", rate=25) if video else None
        if frames:
            frames.width = frames.height = 64
        container.start_encoding()
        if frames:
            for i in range(round(25 * SECONDS)):
                image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 3, np.uint8), format="rgb24")
                image.pts = i
                container.mux(frames.encode(image))
            container.mux(frames.encode(None))
        resampler = av.AudioResampler(stream.format, layout, rate, stream.codec_context.frame_size)
        values = np.repeat(tone(rate).astype(np.float32), stream.codec_context.channels)
        frame = av.AudioFrame.from_ndarray(values.reshape(1, -1), "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return str(path)


MAKERS: dict[str, Callable[[Path], str]] = {
    "wav": lambda d: written(d / "a.wav", "pcm_s16le", 44_100),
    "flac": lambda d: written(d / "a.flac", "flac", 44_100),
    "mp3": lambda d: written(d / "a.mp3", "mp3", 44_100),
    "opus": lambda d: written(d / "a.opus", "libopus", 48_000, "mono"),
    "m4a": lambda d: written(d / "a.m4a", "aac", 44_100),
    "aac": lambda d: written(d / "a.aac", "aac", 44_100),
    "webm": lambda d: written(d / "a.webm", "libopus", 48_000),
    "mp4": lambda d: written(d / "a.mp4", "aac", 48_000, video=True, movflags="faststart"),
    "mkv": lambda d: written(d / "a.mkv", "flac", 22_050, video=True),
}


def heard(path: str, **arguments: Any) -> NDArray[np.int16]:
    return np.concatenate(list(decode_blocks(path, **arguments)))


def is_tone(samples: NDArray[np.int16], seconds: float = 2.5, tolerance: float = 0.03) -> bool:
    """Is it the tone, in time and in level, but for the edges that lossy codecs blur?"""
    start, end = 4000, round(16_000 * seconds) - 4000
    return bool(np.abs(samples[start:end] / 2**15 - tone(16_000)[start:end]).max() < tolerance)


def broken(path: str, edit: Callable[[bytes], bytes]) -> str:
    data = Path(path).read_bytes()
    Path(path).write_bytes(edit(data))
    return path


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10 + 1]


def burnt(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + np.random.default_rng(4).bytes(900) + data[middle + 900 :]


# Whole files


@pytest.mark.parametrize("kind", MAKERS)
def test_every_container_gives_the_tone_in_time_and_level(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path)
    samples = heard(path)
    assert samples.dtype == np.int16
    delay = 1024 if kind == "aac" else 0  # raw ADTS has no field for its encoder's delay
    assert is_tone(samples[-(-delay * 16_000 // 44_100) :] if delay else samples, tolerance=0.05 if delay else 0.03)
    assert abs(len(samples) - 48_000) <= 1100
    info = probe_audio(path)
    assert info.rate_hz in (22_050, 44_100, 48_000) and info.channels == (1 if kind == "opus" else 2)
    assert info.header_duration_s == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_every_rate_keeps_time_and_length(rate: int, tmp_path: Path) -> None:
    samples = heard(wav(tmp_path / "a.wav", (tone(rate) * 32767).astype("<i2").tobytes(), rate))
    assert len(samples) == 48_000
    assert is_tone(samples, 3.0, 1e-3)


def test_what_is_above_the_new_band_does_not_fold_back(tmp_path: Path) -> None:
    high = 0.5 * np.sin(2 * np.pi * 12_000 * np.arange(96_000) / 48_000)
    samples = heard(wav(tmp_path / "a.wav", (high * 32767).astype("<i2").tobytes(), 48_000))
    assert np.abs(samples[200:-200]).max() <= 4


SAMPLE_FORMS: dict[str, tuple[int, int, Callable[[NDArray[np.float64]], bytes]]] = {
    "u8": (8, 1, lambda x: (x * 127 + 128).round().astype("u1").tobytes()),
    "s16": (16, 1, lambda x: (x * 2**15).round().astype("<i2").tobytes()),
    "s24": (24, 1, lambda x: (x * 2**23).astype("<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()),
    "s32": (32, 1, lambda x: (x * 2**31).astype("<i4").tobytes()),
    "f32": (32, 3, lambda x: x.astype("<f4").tobytes()),
    "f64": (64, 3, lambda x: x.astype("<f8").tobytes()),
}


@pytest.mark.parametrize("form", SAMPLE_FORMS)
def test_every_sample_form_gives_each_channel_and_their_mean(form: str, tmp_path: Path) -> None:
    values = np.random.default_rng(2).uniform(-0.9, 0.9, (4000, 6))
    bits, kind, pack = SAMPLE_FORMS[form]
    path = wav(tmp_path / "a.wav", pack(values.reshape(-1)), 16_000, 6, bits, kind=kind)
    step = 1 / 60 if form == "u8" else 1 / 2**15
    assert np.abs(heard(path) / 2**15 - values.mean(axis=1)).max() <= step
    for channel in (0, 3, 5):
        assert np.abs(heard(path, channel=channel) / 2**15 - values[:, channel]).max() <= step
    with pytest.raises(MediaError, match=r"a\.wav.*no channel 6: there are 6"):
        heard(path, channel=6)
    with pytest.raises(MediaError, match="no channel -1"):
        heard(path, channel=-1)


def test_samples_at_16_khz_pass_untouched(tmp_path: Path) -> None:
    samples = np.array([0, 1, -1, 32767, -32768, 255, -256], np.int16)
    assert np.array_equal(heard(wav(tmp_path / "a.wav", samples.tobytes())), samples)


def test_sixteen_planar_channels_are_heard_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        options = {"mapping_family": "255"}
        stream = container.add_stream("libopus", rate=48_000, layout="16c", options=options)
        container.start_encoding()
        resampler = av.AudioResampler(stream.format, stream.layout, 48_000, stream.codec_context.frame_size)
        values = np.zeros((48_000, 16), np.int16)
        values[:, 11] = (tone(48_000, 1.0) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(values.reshape(1, -1), "s16", stream.layout)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    levels = [float(heard(str(path), channel=i).std()) for i in range(16)]
    assert int(np.argmax(levels)) == 11 and sorted(levels)[-2] < levels[11] / 20


def test_rate_and_channels_may_change_on_the_way(tmp_path: Path) -> None:
    first = Path(written(tmp_path / "a.mp3", "mp3", 44_100)).read_bytes()
    second = Path(written(tmp_path / "b.mp3", "mp3", 22_050, "mono")).read_bytes()
    (tmp_path / "c.mp3").write_bytes(first + second)
    assert abs(len(heard(str(tmp_path / "c.mp3"))) - 96_000) < 4000


@given(block_s=st.sampled_from([0.01, 0.1, 0.7, 1.0, 16.0]))
@settings(max_examples=5, deadline=None)
def test_blocks_are_of_one_length_and_join_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, block_s: float
) -> None:
    path = written(tmp_path_factory.mktemp("blocks") / "a.mp3", "mp3", 44_100)
    blocks = list(decode_blocks(path, block_s=block_s))
    assert {len(block) for block in blocks[:-1]} <= {round(block_s * 16_000)}
    assert 0 < len(blocks[-1]) <= round(block_s * 16_000)
    assert np.array_equal(np.concatenate(blocks), heard(path))


def test_a_long_file_is_not_held_whole(tmp_path: Path) -> None:
    import tracemalloc

    path = wav(tmp_path / "a.wav", noise(16_000 * 1200).tobytes())
    tracemalloc.start()
    assert sum(len(block) for block in decode_blocks(path)) == 16_000 * 1200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


# Damage


def test_a_truncated_flac_is_named_after_its_good_blocks(tmp_path: Path) -> None:
    path = broken(written(tmp_path / "a.flac", "flac", 44_100), cut)
    good = 0
    with pytest.raises(MediaError, match=r"a\.flac: decoding stopped at 1\.\d s: Invalid data"):
        for block in decode_blocks(path, block_s=0.1):
            good += len(block)
    assert good > 20_000


@pytest.mark.parametrize("kind", ["flac", "opus", "m4a", "aac", "mp4"])
def test_damage_in_the_middle_is_named_with_its_time(kind: str, tmp_path: Path) -> None:
    path = broken(MAKERS[kind](tmp_path), burnt)
    with pytest.raises(MediaError, match=r"a\.\w+: decoding stopped at \d+\.\d s: \w+"):
        heard(path)


def test_a_truncated_mp4_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.mp4: decoding stopped at 1\.\d s"):
        heard(broken(MAKERS["mp4"](tmp_path), cut))
    with pytest.raises(MediaError, match=r"a\.m4a: no audio or video that can be read"):
        heard(broken(MAKERS["m4a"](tmp_path), cut))


@pytest.mark.parametrize("kind", ["wav", "mp3", "opus", "webm"])
def test_a_cut_file_of_frames_gives_what_is_there(kind: str, tmp_path: Path) -> None:
    """These cannot be told from a header with a wrong duration, or from a recording that was never closed."""
    samples = heard(broken(MAKERS[kind](tmp_path), cut))
    assert 15_000 <= len(samples) < 40_000
    assert is_tone(samples, len(samples) / 16_000)


@pytest.mark.parametrize("size", [0, 10**9, 2**32 - 1])
def test_a_wrong_length_in_the_header_is_no_error(size: int, tmp_path: Path) -> None:
    assert len(heard(wav(tmp_path / "a.wav", noise(16_000).tobytes(), size=size))) == 16_000


def test_a_wav_cut_within_a_sample_gives_the_whole_ones(tmp_path: Path) -> None:
    for extra in range(6):
        path = wav(tmp_path / "a.wav", bytes(6 * 1000 + extra), 16_000, 2, 24, size=60_000)
        assert len(heard(path)) == 1000


@pytest.mark.parametrize(
    "junk",
    [
        b"TAG" + bytes(125),
        b"ID3\x04\x00\x00\x00\x00\x10\x00" + bytes(2048),
        b"<html>404</html>\n" * 40,
        np.random.default_rng(5).bytes(3000),
    ],
    ids=["id3v1", "id3v2", "html", "noise"],
)
def test_what_lies_between_two_mp3s_is_no_damage(junk: bytes, tmp_path: Path) -> None:
    data = Path(MAKERS["mp3"](tmp_path)).read_bytes()
    (tmp_path / "b.mp3").write_bytes(data + junk + data)
    assert abs(len(heard(str(tmp_path / "b.mp3"))) - 96_000) < 2000


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.opus", "a.mp4", "a.mkv", "a"])
@pytest.mark.parametrize("content", ["empty", "text", "noise", "zeros", "head"])
def test_what_is_no_audio_is_named(name: str, content: str, tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "text": b"Dear listener, this is not sound.\n" * 200,
        "noise": np.random.default_rng(6).bytes(20_000),
        "zeros": bytes(20_000),
        "head": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    }
    path = tmp_path / name
    path.write_bytes(contents[content])
    for look in (probe_audio, heard):
        with pytest.raises(MediaError, match=rf"/{name}: .*\w") as caught:
            look(str(path))
        assert "\n" not in str(caught.value)


def test_a_file_without_a_sample_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.wav: "):
        heard(wav(tmp_path / "a.wav", b""))


def test_images_without_sound_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"a\.mkv: no audio stream"):
        probe_audio(str(path))


@pytest.mark.parametrize("where", ["/nowhere/a.wav", "http://localhost/a.wav", "concat:a|b", "pipe:0", "-", "a\0b"])
def test_a_name_is_only_ever_a_file(where: str) -> None:
    with pytest.raises(MediaError):
        probe_audio(where)


def test_a_folder_and_a_device_are_no_files(tmp_path: Path) -> None:
    for path in (str(tmp_path), os.devnull):
        with pytest.raises(MediaError, match="not a plain file"):
            probe_audio(path)


def test_a_playlist_cannot_name_other_files(tmp_path: Path) -> None:
    MAKERS["aac"](tmp_path)
    for text in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\na.aac\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile a.aac\n",
    ):
        for name in ("list.m3u8", "list.wav"):
            (tmp_path / name).write_text(text)
            with pytest.raises(MediaError, match=name):
                probe_audio(str(tmp_path / name))


@pytest.mark.parametrize("rate", [0, 1, 400, 2**31 - 1, 2**32 - 1])
def test_absurd_rates_are_named(rate: int, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.wav"):
        heard(wav(tmp_path / "a.wav", noise(4000).tobytes(), rate))


@pytest.mark.parametrize("channels", [0, 257, 30_000, 65_535])
def test_absurd_channel_counts_are_named(channels: int, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.wav"):
        heard(wav(tmp_path / "a.wav", noise(70_000).tobytes(), 16_000, channels))


def test_a_caf_of_two_thousand_million_channels_is_named(tmp_path: Path) -> None:
    form = struct.pack(">d4sIIIII", 16_000.0, b"lpcm", 0, 2, 1, 2**31, 16)
    chunks = b"desc" + struct.pack(">q", 32) + form + b"data" + struct.pack(">q", 4004) + bytes(4004)
    (tmp_path / "a.caf").write_bytes(b"caff\x00\x01\x00\x00" + chunks)
    with pytest.raises(MediaError, match=r"a\.caf"):
        heard(str(tmp_path / "a.caf"))


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_named(value: float, rate: int, tmp_path: Path) -> None:
    values = tone(rate).astype("<f4")
    values[2 * rate + 100] = value
    with pytest.raises(MediaError, match=r"a\.wav: decoding stopped at 2\.\d s: samples that are not finite"):
        heard(wav(tmp_path / "a.wav", values.tobytes(), rate, 1, 32, kind=3))


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    values = np.array([1.0, -1.0, 7.0, -7.0, 1e30, -3e38], "<f4")
    samples = heard(wav(tmp_path / "a.wav", values.tobytes(), 16_000, 1, 32, kind=3))
    assert samples.tolist() == [32767, -32768] * 3


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_damage_escapes_as_anything_but_a_media_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(MAKERS)))
    folder = tmp_path_factory.mktemp("fuzz")
    path = Path(MAKERS[kind](folder))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=40))
        content[start : start + len(patch)] = patch
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        assert len(heard(str(path))) > 0
    except MediaError as error:
        assert str(path) in str(error)


# Encoding


@given(st.integers(1, 20_000), st.sampled_from([8_000, 16_000, 44_100]), st.sampled_from(["flac", "wav"]))
@settings(max_examples=25, deadline=None)
def test_lossless_bytes_give_back_their_samples(
    tmp_path_factory: pytest.TempPathFactory, length: int, rate: int, form: str
) -> None:
    samples = noise(length, seed=length)
    data = encode_audio(samples, rate, form)
    assert data == encode_audio(samples.copy(), rate, form)
    path = tmp_path_factory.mktemp("encoded") / f"a.{form}"
    path.write_bytes(data)
    assert np.array_equal(heard(str(path), rate_hz=rate), samples)


def test_a_flac_states_its_length_and_md5_and_nothing_else() -> None:
    samples = noise(30_000)
    data = encode_flac(samples, 16_000)
    info = data[8:42]
    assert data[:4] == b"fLaC" and data[4] & 0x7F == 0
    assert int.from_bytes(info[10:18], "big") & (2**36 - 1) == 30_000
    assert info[18:34] == hashlib.md5(samples.astype("<i2").tobytes()).digest()
    assert len(encode_flac(np.zeros(1, np.int16))) < 200
    assert b"Lav" not in data


@pytest.mark.parametrize("rate", OPUS_RATES_HZ)
def test_opus_keeps_times_and_bytes(rate: int, tmp_path: Path) -> None:
    kernel = np.hanning(15)
    speech_like = np.convolve(noise(rate * 2), kernel / kernel.sum(), "same").astype(np.int16)
    data = encode_audio(speech_like, rate, "opus")
    assert data == encode_audio(speech_like, rate, "opus")
    (tmp_path / "a.opus").write_bytes(data)
    back = heard(str(tmp_path / "a.opus"), rate_hz=rate).astype(float)
    assert len(back) == len(speech_like)
    inner = speech_like[200:-200].astype(float)
    match = [float(inner @ back[200 + shift : len(back) - 200 + shift]) for shift in range(-150, 151)]
    assert int(np.argmax(match)) - 150 == 0
    assert len(data) < 2 * 5000


def test_aac_is_refused_with_the_reason() -> None:
    for name in ("aac", "m4a", "AAC"):
        with pytest.raises(RecipeError, match=r"shifts speech by 64 ms and adds 1,883 samples.*flac, opus, wav"):
            check_audio_format(name)
    with pytest.raises(RecipeError, match="choose one of"):
        encode_audio(noise(100), 16_000, "mp3")
    with pytest.raises(RecipeError, match="44100 Hz"):
        encode_audio(noise(100), 44_100, "opus")
    assert [check_audio_format(name) for name in AUDIO_FORMATS] == ["flac", "opus", "wav"]


def test_only_a_row_of_int16_is_encoded() -> None:
    for wrong in (np.zeros(10), np.zeros((2, 10), np.int16), np.zeros(0, np.int16)):
        with pytest.raises(ValueError, match="int16"):
            encode_flac(cast(Any, wrong))


# Real recordings


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no folder of real media")
def test_real_recordings_decode_to_their_lengths() -> None:
    lengths = {
        "speech/audio_1.opus": 960_000,
        "speech/austen_0880.wav": 47_840,
        "speech/bobby.wav": 19_114,
        "speech/jfk.flac": 176_000,
        "video/nasa_13013.mp4": 208_896,
        "video/scenes_three.mp4": 187_989,
    }
    assert {name: len(heard(str(MEDIA / name))) for name in lengths} == lengths
    starts = [len(block) for block in decode_blocks(str(MEDIA / "speech/audio_1.opus"), block_s=7.0)]
    assert all(a == b for a, b in pairwise(starts[:-1])) and sum(starts) == 960_000
