"""An audio fingerprint that survives re-encoding, gain and cutting (Haitsma and Kalker, "A Highly Robust Audio
Fingerprinting System", ISMIR 2002).

Every 11.6 ms there are 32 bits, one for each pair of neighbouring bands between 300 and 2000 Hz: whether their
difference of energy grew since the frame before (section 4.2). Frames are long and overlap by 31/32, so that it matters
little where they begin. Sound that is played faster or slower by more than some 1 % is not the same to it.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from curation.media.clips import SPEECH_RATE_HZ

Bits = NDArray[np.uint32]

DECIMATION = 3
"""Nothing above 2 kHz is looked at: 5.3 kHz is rate enough."""
FRAME = 2048
"""Samples of a frame at the lower rate: 384 ms, the paper's .37 s."""
HOP = 62
"""Samples between frames at the lower rate: 11.6 ms."""
BANDS = 33
BAND_HZ = (300.0, 2000.0)
TAPS = 48
"""Of the low-pass filter before decimation."""

STEP = HOP * DECIMATION
"""Samples at 16 kHz between two sub-fingerprints."""
STEP_S = STEP / SPEECH_RATE_HZ
REACH = (FRAME - 1) * DECIMATION + TAPS
"""Samples at 16 kHz that a frame needs."""
FRAMES_AT_ONCE = 512

SILENT_RMS = 2.0
"""Level, in steps of 16 bits, up to which a frame's bands hold nothing but rounding and dither."""

SILENCE = 0
"""The sub-fingerprint of a frame without sound, which is compared with none."""


def fingerprint(blocks: Iterable[NDArray[np.int16]]) -> Bits:
    """The sub-fingerprints of mono sound at 16 kHz, in blocks of any length; one every `STEP` samples.

    The first stands for the step between the first two frames. Sound of less than two frames (.4 s) has none.
    """
    before = np.zeros((0, BANDS - 1))
    found: list[Bits] = []
    for energies in _energies(blocks):
        difference = energies[:, :-1] - energies[:, 1:]
        grown = np.diff(np.concatenate([before, difference]), axis=0) > 0
        bits = np.packbits(grown, axis=1).view(">u4").reshape(-1).astype(np.uint32)
        # Of two frames the later one's level counts.
        bits[energies[-len(bits) :].sum(axis=1) <= SILENT_RMS**2] = SILENCE
        found.append(bits)
        before = difference[-1:]
    return np.concatenate([np.zeros(0, np.uint32), *found])


def _energies(blocks: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.float64]]:
    """Mean square of each band, in squared steps of 16 bits, [frames, BANDS]; some frames at a time.

    Which frames come together depends on their number alone, not on the blocks.
    """
    held = np.zeros(0, np.int16)
    wanted = (FRAMES_AT_ONCE - 1) * STEP + REACH
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= wanted:
            yield _band_energies(held[:wanted])
            held = held[FRAMES_AT_ONCE * STEP :]
    if len(held) >= REACH:
        yield _band_energies(held)


def _band_energies(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    low = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), TAPS)[::DECIMATION] @ _LOW_PASS
    frames = np.lib.stride_tricks.sliding_window_view(low, FRAME)[::HOP] * _WINDOW
    spectrum = np.fft.rfft(frames)[:, _EDGES[0] : _EDGES[-1]]
    power = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    return np.asarray(np.add.reduceat(power, _EDGES[:-1] - _EDGES[0], axis=1) * _SCALE)


def _low_pass() -> NDArray[np.float32]:
    """A windowed sinc (Hamming) with its edge halfway between the highest band and what would fold onto it."""
    rate = SPEECH_RATE_HZ / DECIMATION
    edge_hz = rate / 2
    time = np.arange(TAPS) - (TAPS - 1) / 2
    taps = np.sinc(2 * edge_hz / SPEECH_RATE_HZ * time) * np.hamming(TAPS)
    return np.asarray(taps / taps.sum(), np.float32)


_LOW_PASS = _low_pass()
_WINDOW = np.hanning(FRAME + 2)[1:-1].astype(np.float32)
_SCALE = 2 / (FRAME * float((_WINDOW.astype(np.float64) ** 2).sum()))
"""From power of a one-sided spectrum to mean square (Parseval)."""
_EDGES = np.round(np.geomspace(*BAND_HZ, BANDS + 1) / (SPEECH_RATE_HZ / DECIMATION / FRAME)).astype(np.int64)
