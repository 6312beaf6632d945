"""Sound from files: mono int16 blocks at one rate, in one linear pass.

Only `open_media` opens anything. Everything that a file can do wrong ends in a `MediaError` that names the file.
"""

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from numpy.typing import NDArray

from curation.errors import MediaError
from curation.hashing import file_digest
from curation.media.clips import SPEECH_RATE_HZ
from curation.media.mono import Resampler, mono_of, to_int16

CONTAINERS = "wav,w64,aiff,au,caf,flac,mp3,aac,ogg,mov,mp4,m4a,matroska,webm,avi,flv,mpegts,mpeg,asf,amr"
"""The demuxers of libav that may open a file. Playlists and scripts, which name other files, are not among them."""

MAX_CHANNELS = 256
RATES_HZ = (1_000, 1_536_000)
"""Beyond these a header is damaged or hostile: resampling from 1 Hz would make gigabytes of a small file."""

MAX_JUMP_S = 0.01
"""A larger jump of the times in a format that counts samples (flac, ogg) means that samples are lost."""

_LIBAV_ERRORS = (av.error.FFmpegError, ValueError, MemoryError, OverflowError, RuntimeError)


@dataclass(frozen=True)
class AudioInfo:
    """What the headers of a file claim of its first audio stream. None of it is to be trusted but the codec."""

    container: str
    codec: str
    rate_hz: int
    channels: int
    header_duration_s: float | None
    """None where the headers have none. Often wrong: compare it with what is decoded."""


def open_media(path: str) -> InputContainer:
    """Open a local file for reading; the one place where bytes from elsewhere (a URL) would come in.

    The name is taken as a file's name whatever it looks like ("http:…", "concat:…"), and the file cannot make libav
    open another.

    Raises:
        MediaError: not there, not a plain file, empty, or of no format in `CONTAINERS`.
    """
    try:
        if _plain_file(path).st_size == 0:
            raise MediaError(f"{path}: empty file")
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        return av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened: {error.strerror}") from error
    except _LIBAV_ERRORS as error:
        raise MediaError(f"{path}: no audio or video that can be read: {_reason(error)}") from error


def check_content(path: str, content: str) -> None:
    """Make sure that a file still holds the bytes that its row speaks of, so that nothing is kept under their hash that
    was heard in others. They are hashed again where the file's size or time of change is another, once in a process.

    Args:
        content: `file_digest` of the file when it was scanned.

    Raises:
        MediaError: it holds others, or cannot be read.
    """
    try:
        _plain_file(path)
        found = file_digest(Path(path))
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened: {error.strerror}") from error
    if found != content:
        raise MediaError(f"{path}: changed since it was scanned; run again")


def _plain_file(path: str) -> os.stat_result:
    """Anything else may never end, or not be there twice."""
    status = os.stat(path)
    if not S_ISREG(status.st_mode):
        raise MediaError(f"{path}: not a plain file")
    return status


def probe_audio(path: str) -> AudioInfo:
    """What the headers say; decodes nothing beyond what libav needs to know the codec.

    Raises:
        MediaError: as `open_media`, or no audio stream, or an absurd one.
    """
    with open_media(path) as container:
        stream = _first_audio(container, path)
        duration = None if container.duration is None else container.duration / av.time_base
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        context = stream.codec_context
        name = container.format.name
        return AudioInfo(name, context.name, context.sample_rate, context.channels, duration)


def decode_blocks(
    path: str,
    *,
    content: str | None = None,
    channel: int | None = None,
    block_s: float = 16.0,
    rate_hz: int = SPEECH_RATE_HZ,
) -> Generator[NDArray[np.int16]]:
    """The first audio stream as mono int16 samples at `rate_hz`, in blocks; the file is never held whole.

    Sample 0 is the first sample that libav hands out: encoder delay that the format declares (AAC in mp4, Opus, MP3
    with a LAME header) is skipped, and a stream that starts late in its container starts here at 0. Gaps in the
    timestamps of mp4, Matroska and the like are closed up; a change of rate or channels on the way is followed. The
    mean of channels and the resampling (libswresample) are done in float32; rounding and clipping come last.

    Real damage raises, after the blocks before it: an error of the demuxer or decoder, lost samples in flac and ogg,
    an mp4 whose index points beyond its end, float samples that are not finite. No damage: a wrong duration in a
    header (in wav and mp3 a cut file cannot be told from one; compare `AudioInfo.header_duration_s` with what comes),
    and whatever lies between two MP3 frames (tags, images).

    Args:
        content: hash of the file's bytes, which are then made sure of; see `check_content`.
        channel: index of the one to hear; None is the mean of all.
        block_s: length of every block but the last, which is shorter and never empty.

    Raises:
        MediaError: with the file, the time up to which it was decoded, and what is wrong; or there is no sample.
    """
    block = round(block_s * rate_hz)
    if block < 1:
        raise ValueError(f"block_s={block_s} at {rate_hz} Hz is less than a sample")
    pieces: list[NDArray[np.int16]] = []
    held = 0
    started = False
    with closing(decode_stretches(path, content, channel, rate_hz)) as stretches:
        for samples in stretches:
            pieces.append(samples)
            held += len(samples)
            started = started or held > 0
            if held < block:
                continue
            joined = np.concatenate(pieces)
            whole = held - held % block
            for start in range(0, whole, block):
                yield joined[start : start + block].copy()
            pieces, held = [joined[whole:]], held - whole
    if not started:
        raise MediaError(f"{path}: its audio stream holds no sample")
    if held:
        yield np.concatenate(pieces)


def decode_stretches(path: str, content: str | None, channel: int | None, rate_hz: int) -> Generator[NDArray[np.int16]]:
    """As `decode_blocks`, in stretches of about a second as they come, some of them empty; none is no error.

    With `content`, every stretch was read from a file that still held it.
    """
    with closing(_resampled(path, channel, rate_hz)) as stretches:
        if content is None:
            yield from stretches
            return
        check_content(path, content)
        try:
            for samples in stretches:
                check_content(path, content)
                yield samples
        except MediaError:
            check_content(path, content)  # a file that was written over says little of why it cannot be decoded
            raise


def _first_audio(container: InputContainer, path: str) -> AudioStream:
    if not container.streams.audio:
        raise MediaError(f"{path}: no audio stream")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{path}: its audio stream has an unknown codec")
    _check_form(stream.codec_context.sample_rate, stream.codec_context.channels, path)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def _check_form(rate_hz: int, channels: int, where: str) -> None:
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1] or not 1 <= channels <= MAX_CHANNELS:
        raise MediaError(f"{where}: no audio that can be decoded: {channels} channels at {rate_hz} Hz")


def _resampled(path: str, channel: int | None, rate_hz: int) -> Generator[NDArray[np.int16]]:
    """Stretches of about a second at `rate_hz`; a new resampler wherever the stream's rate changes."""
    resampler: Resampler | None = None
    given = 0

    def checked(samples: NDArray[np.float32]) -> NDArray[np.int16]:
        nonlocal given
        if not (finite := np.isfinite(samples)).all():
            raise _stopped(path, (given + int(np.argmin(finite))) / rate_hz, "samples that are not finite numbers")
        given += len(samples)
        return to_int16(samples)

    with closing(_stretches(path)) as stretches:
        for frames in stretches:
            if channel is not None and not 0 <= channel < frames[0].layout.nb_channels:
                reason = f"no channel {channel}: there are {frames[0].layout.nb_channels}, counted from 0"
                raise _stopped(path, given / rate_hz, reason)
            if resampler is None or resampler.source_hz != frames[0].sample_rate:
                if resampler is not None:
                    yield checked(resampler.flush())
                resampler = Resampler(frames[0].sample_rate, rate_hz)
            yield checked(resampler.push(mono_of(frames, channel)))
        if resampler is not None:
            yield checked(resampler.flush())


def _stretches(path: str) -> Generator[list[AudioFrame]]:
    """Decoded frames in lists of about a second that share rate, channels and sample form."""
    held: list[AudioFrame] = []
    samples = 0
    with open_media(path) as container, closing(_frames(container, path)) as frames:
        try:
            for frame in frames:
                if held and (samples >= held[0].sample_rate or _form(frame) != _form(held[0])):
                    yield held
                    held, samples = [], 0
                held.append(frame)
                samples += frame.samples
        except MediaError:
            if held:
                yield held
            raise
        if held:
            yield held


def _form(frame: AudioFrame) -> tuple[int, str, int]:
    return frame.sample_rate, frame.format.name, frame.layout.nb_channels


def _frames(container: InputContainer, path: str) -> Generator[AudioFrame]:
    """Decode, on one thread; every error of libav becomes a `MediaError` with the time reached."""
    stream = _first_audio(container, path)
    context = stream.codec_context
    context.thread_count = 1
    if context.name == "flac":
        context.options = {"err_detect": "crccheck+explode"}
    counts_samples = container.format.name in ("flac", "ogg")
    heard_s, expected_s = 0.0, None
    try:
        for packet in container.demux(stream):
            for frame in _decoded(stream, packet):
                if not frame.samples:
                    continue
                _check_form(frame.sample_rate, frame.layout.nb_channels, f"{path}: at {heard_s:.1f} s")
                if counts_samples and frame.time is not None:
                    if expected_s is not None and frame.time - expected_s > MAX_JUMP_S:
                        raise _stopped(path, heard_s, "samples are lost there")
                    expected_s = frame.time
                yield frame
                length_s = frame.samples / frame.sample_rate
                heard_s += length_s
                expected_s = None if expected_s is None else expected_s + length_s
    except _LIBAV_ERRORS as error:
        raise _stopped(path, heard_s, _reason(error)) from error
    if container.format.name.startswith("mov") and (missing := _bytes_beyond(stream, path)) > 0:
        raise _stopped(path, heard_s, f"cut off, {missing} bytes are missing")


def _decoded(stream: AudioStream, packet: "Packet[AudioStream]") -> list[AudioFrame]:
    """The frames of a packet. What libav finds between two frames of an MP3, a format that resynchronises, has none."""
    try:
        return stream.decode(packet)
    except av.error.InvalidDataError:
        head = bytes(packet)[:2] if packet.size else b""
        if stream.codec_context.name.startswith("mp3") and not (len(head) == 2 and head[0] == 0xFF and head[1] >= 0xE0):
            return []
        raise


def _bytes_beyond(stream: AudioStream, path: str) -> int:
    """How many bytes the last sample that an mp4 lists lies beyond the end of the file."""
    entries = stream.index_entries
    if not len(entries):
        return 0
    return int(entries[-1].pos + entries[-1].size - os.path.getsize(path))


def _stopped(path: str, heard_s: float, reason: str) -> MediaError:
    return MediaError(f"{path}: decoding stopped at {heard_s:.1f} s: {reason}")


def _reason(error: BaseException) -> str:
    """One line of why, without libav's numbers."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
