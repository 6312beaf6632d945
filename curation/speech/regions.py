"""From probabilities of speech to regions of speech: hysteresis, a trimmed end, cuts of long regions where it is quiet.

The model's probabilities are apart from this rule, so that a changed limit runs no model again.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curation.media.clips import SPEECH_RATE_HZ

Region = tuple[int, int]


def speech_regions(
    probabilities: Sequence[float] | NDArray[np.float32],
    *,
    total_samples: int,
    threshold: float = 0.5,
    exit_threshold: float = 0.35,
    end_trim_s: float = 0.064,
    min_silence_s: float = 0.3,
    min_speech_s: float = 0.25,
    max_region_s: float = 30.0,
    pad_start_s: float = 0.0,
    pad_end_s: float = 0.0,
    frame_samples: int = 512,
    rate_hz: int = SPEECH_RATE_HZ,
) -> list[Region]:
    """The stretches in which somebody speaks, as (start, end) ticks: sorted, disjoint, within [0, total_samples].

    A region is a run of frames at or above `exit_threshold` with at least one at or above `threshold`. It begins with
    the run, and ends `end_trim_s` before the end of its last frame at or above `threshold`: a recurrent model forgets
    speech late (silero on espeak speech by 35 ms on average in pure silence, 62 at 20 dB, 72 at 5 dB of signal to
    noise; the trim leaves -25, 1 and 18). Then, in this order:

    - regions less than `min_silence_s` apart are one, those that far apart are separate;
    - a region shorter than `min_speech_s` is dropped;
    - one longer than `max_region_s` is cut where it is quiet (see `_cut`);
    - padding is added into the silence around, of which each neighbour gets half at most.

    Args:
        probabilities: one per frame, as a `VoiceActivity` gives them.
        total_samples: length of the recording; the last frame may reach beyond it.
    """
    if not 0 < exit_threshold <= threshold:
        raise ValueError(f"exit_threshold={exit_threshold} is not above 0 and at most threshold={threshold}")
    if max_region_s < 4 * min_speech_s or max_region_s * rate_hz < 8 * frame_samples:
        raise ValueError(f"max_region_s={max_region_s} leaves no room for cuts (min_speech_s={min_speech_s})")

    def ticks(seconds: float) -> int:
        return round(seconds * rate_hz)

    frames = np.asarray(probabilities, np.float32)
    trim = ticks(end_trim_s)
    spoken: list[Region] = []
    for first, last in _runs(frames >= exit_threshold):
        loud = np.flatnonzero(frames[first:last] >= threshold)
        if len(loud):
            end = min((first + int(loud[-1]) + 1) * frame_samples, total_samples)
            spoken.append((first * frame_samples, end - trim))
    joined = _joined([region for region in spoken if region[0] < region[1]], ticks(min_silence_s))
    long_enough = [(start, end) for start, end in joined if end - start >= ticks(min_speech_s)]
    parts = [
        part
        for region in long_enough
        for part in _cut(region, frames, exit_threshold, trim, ticks(max_region_s), frame_samples)
    ]
    return _padded(parts, ticks(pad_start_s), ticks(pad_end_s), total_samples)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The (first, last + 1) of each unbroken run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _joined(regions: list[Region], min_silence: int) -> list[Region]:
    joined: list[Region] = []
    for start, end in regions:
        if joined and start - joined[-1][1] < min_silence:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _cut(
    region: Region, frames: NDArray[np.float32], exit_threshold: float, trim: int, longest: int, frame_samples: int
) -> Iterator[Region]:
    """Parts of a region of at most `longest` ticks, which touch each other.

    From the left: of the stretch in which the next cut may lie (the part before it has half to all of `longest`, what
    is after it a quarter at least), the middle of the longest run of frames below `exit_threshold`, where the model's
    late end is allowed for; where there is no such run, the middle of the frame of least probability. Ties go to the
    earlier one.
    """
    start, end = region
    while end - start > longest:
        low, high = start + longest // 2, min(start + longest, end - longest // 4)
        first, last = -(-low // frame_samples), high // frame_samples
        window = frames[first:last]
        quiet = _runs(window < exit_threshold) or [(i := int(np.argmin(window)), i + 1)]
        a, b = max(quiet, key=lambda run: run[1] - run[0])
        cut = ((first + a) * frame_samples - trim + (first + b) * frame_samples) // 2
        cut = min(max(cut, low), high)
        yield start, cut
        start = cut
    yield start, end


def _padded(regions: list[Region], before: int, after: int, total: int) -> list[Region]:
    """Regions widened into the silence around them; of the silence between two, each gets half at most."""
    if not regions:
        return []
    halves = [(right[0] - left[1]) // 2 for left, right in pairwise(regions)]
    room_before = [regions[0][0], *halves]
    room_after = [*halves, total - regions[-1][1]]
    return [
        (start - min(before, left), end + min(after, right))
        for (start, end), left, right in zip(regions, room_before, room_after, strict=True)
    ]
