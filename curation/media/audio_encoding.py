"""Speech as bytes: FLAC (exact), Opus (small), WAV; the same samples always give the same bytes."""

from fractions import Fraction
from io import BytesIO
from typing import Literal, TypeGuard, cast, get_args

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from curation.errors import RecipeError
from curation.media.clips import SPEECH_RATE_HZ

AudioFormat = Literal["flac", "opus", "wav"]
AUDIO_FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)

AAC_REFUSED = "AAC is no output format: it shifts speech by 64 ms and adds 1,883 samples to 120 s, so times would lie"
"""Measured on 16 kHz speech in mp4; FLAC is exact and Opus does not shift."""

OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
OPUS_BIT_RATE = 32_000

_CODEC = {"flac": "flac", "opus": "libopus", "wav": "pcm_s16le"}
_CONTAINER = {"flac": "flac", "opus": "ogg", "wav": "wav"}
_FRAME_SAMPLES = 4096


def check_audio_format(name: str) -> AudioFormat:
    """The name, if it is one of `AUDIO_FORMATS`.

    Raises:
        RecipeError: it is another; for AAC with the reason why.
    """
    if _is_audio_format(name):
        return name
    why = f"{AAC_REFUSED}; " if str(name).lower() in ("aac", "m4a", "mp4") else ""
    raise RecipeError(f"audio format {name!r:.80}: {why}choose one of {', '.join(AUDIO_FORMATS)}")


def encode_flac(samples: NDArray[np.int16], rate_hz: int = SPEECH_RATE_HZ) -> bytes:
    """Mono samples as FLAC: decodes to the same samples; length and MD5 are in its header, no name and no date."""
    return encode_audio(samples, rate_hz, "flac")


def encode_audio(
    samples: NDArray[np.int16], rate_hz: int, format: str = "flac", *, opus_bit_rate: int = OPUS_BIT_RATE
) -> bytes:
    """Mono int16 samples as a file's bytes.

    libav's `bitexact` keeps the encoder's name, dates and Ogg's random serial number out. Opus keeps times: its
    pre-skip and last granule are written, so that as many samples come back, at 48 kHz, as went in.

    Args:
        format: one of `AUDIO_FORMATS`.
        opus_bit_rate: bits per second, for Opus.

    Raises:
        RecipeError: another format, or a rate that Opus does not have.
    """
    kind = check_audio_format(format)
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise ValueError(f"one row of int16 samples is wanted, not {samples.dtype} {samples.shape}")
    if kind == "opus" and rate_hz not in OPUS_RATES_HZ:
        raise RecipeError(f"audio format 'opus': {rate_hz} Hz is not one of {', '.join(map(str, OPUS_RATES_HZ))}")
    options = {"flags": "+bitexact"} | ({"b": str(opus_bit_rate)} if kind == "opus" else {})
    buffer = BytesIO()
    container_options = {"fflags": "+bitexact", "metadata_header_padding": "0"}
    with av.open(buffer, "w", format=_CONTAINER[kind], options=container_options) as container:
        stream = cast(AudioStream, container.add_stream(_CODEC[kind], rate=rate_hz, options=options, layout="mono"))
        stream.codec_context.thread_count = 1
        container.start_encoding()
        step = stream.codec_context.frame_size or _FRAME_SAMPLES
        for start in range(0, len(samples), step):
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, start : start + step]), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _is_audio_format(name: str) -> TypeGuard[AudioFormat]:
    return name in AUDIO_FORMATS
