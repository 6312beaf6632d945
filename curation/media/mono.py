"""Decoded frames of any rate, channels and sample form to mono samples at one rate."""

from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

SWR_TAIL = 64
"""Samples of silence, per ratio of rates, that push the last ones out of swr's filter (32 taps, half of them ahead)."""

_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


class Resampler:
    """libswresample on mono float32: n samples in, ceil(n target / source) out; equal rates hand them through."""

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self.source_hz = source_hz
        self.target_hz = target_hz
        self._swr = av.AudioResampler(format="flt", layout="mono", rate=target_hz)
        self._taken = 0
        self._given = 0

    def push(self, mono: NDArray[np.float32]) -> NDArray[np.float32]:
        self._taken += len(mono)
        if self.source_hz == self.target_hz:
            return mono
        samples = self._through(mono)
        self._given += len(samples)
        return samples

    def flush(self) -> NDArray[np.float32]:
        """The tail that the filter still holds, as if silence followed; swr's own flush loses what is very short."""
        if self.source_hz == self.target_hz:
            return np.zeros(0, np.float32)
        due = -(-self._taken * self.target_hz // self.source_hz) - self._given
        silence = np.zeros(SWR_TAIL * (1 + self.source_hz // self.target_hz), np.float32)
        return np.concatenate([self._through(silence), _joined(self._swr.resample(None))])[: max(due, 0)]

    def _through(self, mono: NDArray[np.float32]) -> NDArray[np.float32]:
        frame = AudioFrame.from_ndarray(mono.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = self.source_hz
        return _joined(self._swr.resample(frame))


def _joined(frames: list[AudioFrame]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32)] + [frame.to_ndarray()[0].astype(np.float32) for frame in frames])


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """From [-1, 1] to int16, to the nearest; what is beyond is clipped."""
    scaled = np.rint(np.clip(samples, -1, 1) * np.float32(2**15))
    ticks: NDArray[np.int16] = np.minimum(scaled, 2**15 - 1).astype(np.int16)
    return ticks


def mono_of(frames: list[AudioFrame], channel: int | None) -> NDArray[np.float32]:
    """Frames of one form as float32 in [-1, 1]: one channel, or the mean of all.

    Float samples that are not finite, or become so, stay: to be found by the caller.
    """
    kind, count = frames[0].format.name.removesuffix("p"), frames[0].layout.nb_channels
    samples = np.concatenate([_samples(frame, _DTYPES[kind], count) for frame in frames], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        mono = samples.mean(axis=0, dtype=np.float64) if channel is None else samples[channel].astype(np.float64)
        if kind == "u8":
            mono -= 2.0**7
        scaled: NDArray[np.float32] = (mono / _FULL_SCALE[kind]).astype(np.float32)
    return scaled


def _samples(frame: AudioFrame, dtype: str, count: int) -> NDArray[Any]:
    """A frame's samples as (channels, samples)."""
    if frame.format.is_planar and count > 8:
        (frame,) = av.AudioResampler(format=frame.format.packed).resample(frame)  # PyAV miscounts more than 8 planes
    if frame.format.is_planar and count > 1:
        return np.stack([np.frombuffer(memoryview(plane), dtype, frame.samples) for plane in frame.planes[:count]])
    return np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * count).reshape(-1, count).T
