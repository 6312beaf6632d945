"""Spans of recordings: their samples, each recording decoded in one linear pass that later calls go on with.

Nothing here seeks: after a seek, decoders with memory (MP3, AAC, Opus) and the resampler give other samples, so a
span's samples would depend on where the pass was entered.
"""

import atexit
from collections import OrderedDict, deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from curation.errors import MediaError
from curation.media.audio import decode_stretches
from curation.media.clips import SPEECH_RATE_HZ

CLIP_CACHE_BYTES = 64 << 20
"""Some 35 minutes of speech: several times what a unit of transcription has. A larger unit is decoded by each stage."""


@dataclass
class _Pass:
    """A linear pass through a recording. It holds the last that it decoded, so that a later call may begin there: the
    units of one long recording come in the order of their first spans, and overlap."""

    name: Hashable
    stretches: Generator[NDArray[np.int16]]
    position: int = 0
    """The tick up to which it has decoded."""
    held: deque[tuple[int, NDArray[np.int16]]] = field(default_factory=deque)
    """The last stretches, each with the tick of its first sample."""

    @property
    def first(self) -> int:
        """The first tick that it can still give."""
        return self.held[0][0] if self.held else self.position

    def going_on(self, keep_from: int) -> Iterator[tuple[int, NDArray[np.int16]]]:
        """Every stretch that it can still give. Of these it goes on holding what reaches beyond `keep_from`."""
        held = list(self.held)
        self._drop(keep_from)
        yield from held
        for samples in self.stretches:
            self.held.append((self.position, samples))
            self.position += len(samples)
            self._drop(keep_from)
            yield self.position - len(samples), samples

    def _drop(self, keep_from: int) -> None:
        while self.held and self.held[0][0] + len(self.held[0][1]) <= keep_from:
            self.held.popleft()


_clips: OrderedDict[tuple[str, int | None, int, int], NDArray[np.int16]] = OrderedDict()
_passes: list[_Pass] = []
"""The one that the next call may go on with, if there is one."""


def read_spans(
    path: str, spans: Sequence[tuple[int, int]], *, channel: int | None = None, rate_hz: int = SPEECH_RATE_HZ
) -> list[NDArray[np.int16]]:
    """The samples of several spans (start, end in ticks of `rate_hz`), in any order, which may overlap.

    One pass of its own, from the beginning of the file to the last end.

    Raises:
        MediaError: as `decode_blocks`; a span that reaches past the end of the recording is named.
    """
    with closing(decode_stretches(path, None, channel, rate_hz)) as stretches:
        found = dict(_cut(_Pass(path, stretches), spans, path, rate_hz))
    return [found[i] for i in range(len(spans))]


def spans_in_turn(
    path: str,
    content: str,
    spans: Sequence[tuple[int, int]],
    channel: int | None = None,
    *,
    rate_hz: int = SPEECH_RATE_HZ,
) -> Generator[tuple[int, NDArray[np.int16]]]:
    """As `read_spans`, but each span's index and samples as soon as they are decoded, so that none need be held.

    It goes on with the last call's pass, if that was through the same recording and still has the first span's start:
    one pass, so the same samples. So spans that come in the order of their starts, in however many calls, are decoded
    once. Not for threads.

    Args:
        content: hash of the file's bytes.

    Raises:
        MediaError: as `read_spans`; or the file holds other bytes by now.
    """
    if not spans:
        return
    with _passing(path, content, channel, rate_hz, min(start for start, _ in spans)) as decoding:
        yield from _cut(decoding, spans, path, rate_hz)


@contextmanager
def _passing(path: str, content: str, channel: int | None, rate_hz: int, start: int) -> Iterator[_Pass]:
    """The pass of the last call, if it is of use, or a new one. It is left to the next call, unless it fails."""
    name = (path, content, channel, rate_hz)
    decoding = _passes.pop() if _passes else None
    if decoding is not None and not (decoding.name == name and decoding.first <= start):
        decoding.stretches.close()
        decoding = None
    if decoding is None:
        decoding = _Pass(name, decode_stretches(path, content, channel, rate_hz))
    try:
        yield decoding
    except BaseException:
        decoding.stretches.close()
        raise
    _end_passes()
    _passes.append(decoding)


def _cut(
    decoding: _Pass, spans: Sequence[tuple[int, int]], path: str, rate_hz: int
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Each span's index and samples, in the order of their ends."""
    for start, end in spans:
        if not 0 <= start <= end:
            raise ValueError(f"no span of a recording: ({start}, {end})")
    coming = deque(sorted(range(len(spans)), key=lambda i: spans[i]))
    pieces: dict[int, list[NDArray[np.int16]]] = {}
    for i in [i for i in coming if spans[i][0] == spans[i][1]]:
        coming.remove(i)
        yield i, np.zeros(0, np.int16)
    if not coming:
        return
    for first, samples in decoding.going_on(keep_from=spans[coming[-1]][0]):
        position = first + len(samples)
        while coming and spans[coming[0]][0] < position:
            pieces[coming.popleft()] = []
        for i in list(pieces):
            start, end = spans[i]
            pieces[i].append(samples[max(start - first, 0) : end - first])
            if end <= position:
                yield i, np.concatenate(pieces.pop(i))
        if not pieces and not coming:
            return
    start, end = spans[next(iter([*pieces, *coming]))]
    at = decoding.position
    raise MediaError(f"{path}: span {start}-{end} at {rate_hz} Hz reaches past the end, which is at {at}")


def clips_of(
    path: str,
    content: str,
    spans: Sequence[tuple[int, int]],
    channel: int | None = None,
    *,
    cache_bytes: int = CLIP_CACHE_BYTES,
) -> list[NDArray[np.int16]]:
    """`spans_in_turn` at 16 kHz through a cache of this process, so that the stages of a unit decode its file once.

    The cache drops what was used longest ago beyond `cache_bytes`; its arrays are read-only. Not for threads.

    Args:
        content: hash of the file's bytes, which names it in the cache.
    """
    keys = [(content, channel, start, end) for start, end in spans]
    found = {key: _clips[key] for key in keys if key in _clips}
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    for i, samples in spans_in_turn(path, content, [key[2:] for key in missing], channel):
        samples.flags.writeable = False
        found[missing[i]] = samples
    for key in keys:
        _clips[key] = found[key]
        _clips.move_to_end(key)
    held = sum(samples.nbytes for samples in _clips.values())
    while held > cache_bytes:
        _, samples = _clips.popitem(last=False)
        held -= samples.nbytes
    return [found[key] for key in keys]


@atexit.register
def forget_clips() -> None:
    """Empty the cache of `clips_of`, and end the pass that the next call may go on with."""
    _clips.clear()
    _end_passes()


def _end_passes() -> None:
    while _passes:
        _passes.pop().stretches.close()
