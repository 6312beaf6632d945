"""Sounds for the proving corpus: steady noise, sounds that are not speech, and where clean speech is silent."""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

FRAME_S = 0.005
"""Resolution of true pauses."""

EVENTS = ("tone", "clicks", "chords", "noise_burst")
"""Sounds that are not speech."""


def steady_noise(count: int, colour: str, chance: np.random.Generator) -> Samples:
    """White or pink (1/f power) noise with a root mean square of 1."""
    noise = chance.standard_normal(count)
    if colour == "pink":
        size = 1 << (count - 1).bit_length()  # transforms of other lengths may be far slower
        spectrum = np.fft.rfft(noise, size)
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        noise = np.fft.irfft(spectrum, size)[:count]
    elif colour != "white":
        raise ValueError(f"noise is white or pink, not {colour!r}")
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), np.float32)


def sound_event(kind: str, count: int, rate_hz: int, chance: np.random.Generator) -> Samples:
    """A sound that is not speech, with a peak of 1 and edges of 10 ms."""
    time = np.arange(count) / rate_hz
    if kind == "tone":
        sound = np.sin(2 * np.pi * chance.uniform(300, 3000) * time)
    elif kind == "noise_burst":
        sound = steady_noise(count, "white", chance).astype(np.float64)
    elif kind == "clicks":
        sound = np.zeros(count)
        places = chance.integers(0, count, max(1, round(4 * count / rate_hz)))
        sound[places] = chance.choice([-1.0, 1.0], len(places))
        sound = np.convolve(sound, np.exp(-np.arange(64) / 12.0))[:count]
    elif kind == "chords":
        sound = _chords(time, chance)
    else:
        raise ValueError(f"no sound is called {kind!r}")
    edge = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.01)
    sound = sound * edge
    return np.asarray(sound / max(float(np.abs(sound).max()), 1e-9), np.float32)


def _chords(time: NDArray[np.float64], chance: np.random.Generator) -> NDArray[np.float64]:
    """Triads of plucked strings, one each half second."""
    sound = np.zeros(len(time))
    for start in np.arange(0.0, float(time[-1]), 0.5):
        since = time - start
        decay = np.where(since >= 0, np.exp(-3 * np.maximum(since, 0)), 0.0)
        root = 110 * 2 ** (chance.integers(0, 24) / 12)
        for step in (0, chance.choice([3, 4]), 7):
            pitch = root * 2 ** (step / 12)
            sound += decay * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
    return sound


def sounding(clean: NDArray[np.int16], rate_hz: int, floor_db: float = 30.0) -> NDArray[np.bool_]:
    """Which frames of a noise-free utterance are not silent: within `floor_db` of its loudest ones.

    The echo of some voices (+f2, +f5) fills pauses 35 to 45 dB below.
    """
    frame = round(FRAME_S * rate_hz)
    padded = np.pad(clean.astype(np.float64), (0, -len(clean) % frame))
    level = np.sqrt(np.mean(padded.reshape(-1, frame) ** 2, axis=1))
    return np.asarray(level > np.percentile(level, 99) * 10 ** (-floor_db / 20))


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The stretches [first, last) in which a mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
