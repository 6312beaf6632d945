"""Whose text is whose: subtitles put to the stretches of speech that they belong to.

Subtitles are shown a little early or late, and their borders are not those of speech. So a cue counts as a whole: the
speech stretches that it covers are joined to one utterance, and its text is never torn, unless the utterance, or a
silence in it, would be too long; then its words go to the stretches in proportion to their speech.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from curation.media.clips import SPEECH_RATE_HZ

SLACK_S = 0.5
"""How far a subtitle may be shown beyond its speech and still not claim the next stretch."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording, in ticks of 16 kHz, with the text that belongs to it.

    Attributes:
        speech: ticks of speech in it.
        overlap: for a cue, the share of it that is speech.
        lead, trail: ticks that were added before and after.
    """

    start: int
    end: int
    speech: int
    text: str | None = None
    overlap: float = 1.0
    lead: int = 0
    trail: int = 0

    def widened(self, before: int, after: int) -> "Segment":
        return replace(self, start=self.start - before, end=self.end + after, lead=before, trail=after)


@dataclass
class _Cue:
    start: int
    end: int
    text: str
    regions: range
    overlap: float


def place_cues(
    regions: Sequence[tuple[int, int]],
    cues: Sequence[dict[str, Any]] | None,
    max_utterance_s: float,
    max_pause_s: float,
    min_overlap: float,
    total: int,
) -> tuple[list[Segment], list[Segment]]:
    """Utterances with their text, and the cues that nobody speaks.

    Args:
        regions: stretches of speech (start, end), sorted and disjoint, in ticks.
        cues: with start_s, end_s (None for text without times, which covers the recording) and text; None without any.
        max_utterance_s: stretches are joined under a cue up to this length,
        max_pause_s: and across silences up to this one. A text without times would bridge any.
        min_overlap: share of a cue that must be speech.
        total: length of the recording in ticks.
    """
    if not cues:
        text = None if cues is None else ""
        return [Segment(start, end, end - start, text) for start, end in regions], []
    spoken: list[_Cue] = []
    orphans: list[Segment] = []
    starts, ends = [start for start, _ in regions], [end for _, end in regions]
    before = list(accumulate((end - start for start, end in regions), initial=0))
    for cue in (_place(cue, starts, ends, before, total) for cue in cues):
        if cue.regions and cue.overlap >= min_overlap:
            spoken.append(cue)
        else:
            orphans.append(Segment(cue.start, max(cue.end, cue.start + 1), 0, cue.text, cue.overlap))
    longest, pause = round(max_utterance_s * SPEECH_RATE_HZ), round(max_pause_s * SPEECH_RATE_HZ)
    groups = _joined(regions, spoken, longest, pause)
    texts: list[list[str]] = [[] for _ in groups]
    for cue in spoken:
        _share(cue, before, groups, texts)
    segments = []
    for group, pieces in zip(groups, texts, strict=True):
        speech = sum(regions[i][1] - regions[i][0] for i in group)
        segments.append(Segment(regions[group[0]][0], regions[group[-1]][1], speech, " ".join(pieces)))
    return segments, orphans


def _place(cue: dict[str, Any], starts: Sequence[int], ends: Sequence[int], before: Sequence[int], total: int) -> _Cue:
    """A cue in ticks, with the regions that it covers: by half of either, or by more than cues are off their speech.

    All that lie within it are; the first and the last that it meets may not be.

    Args:
        before: ticks of speech before each region, and in all.
    """
    if cue["start_s"] is None or cue["end_s"] is None:
        return _Cue(0, total, cue["text"], range(len(starts)), 1.0 if starts else 0.0)
    start: int = min(round(cue["start_s"] * SPEECH_RATE_HZ), total)
    end: int = min(max(round(cue["end_s"] * SPEECH_RATE_HZ), start), total)
    first, last = bisect_right(ends, start), bisect_left(starts, end)
    if first >= last:
        return _Cue(start, end, cue["text"], range(0), 0.0)

    def outside(i: int) -> int:
        return max(start - starts[i], 0) + max(ends[i] - end, 0)

    def covers(i: int) -> bool:
        length = ends[i] - starts[i]
        return length - outside(i) >= min(length / 2, (end - start) / 2, SLACK_S * SPEECH_RATE_HZ)

    shared = before[last] - before[first] - sum(outside(i) for i in {first, last - 1})
    covered = range(first + (not covers(first)), last - (last - 1 > first and not covers(last - 1)))
    return _Cue(start, end, cue["text"], covered, shared / max(end - start, 1))


def _joined(regions: Sequence[tuple[int, int]], cues: Sequence[_Cue], longest: int, pause: int) -> list[list[int]]:
    """Groups of neighbouring regions that are one utterance, because one cue covers them.

    Args:
        longest: ticks that a group may have, and `pause` those between two of its regions.
    """
    opened = [0] * (len(regions) + 1)
    for cue in cues:
        opened[cue.regions[0]] += 1
        opened[cue.regions[-1]] -= 1
    links = list(accumulate(opened))
    groups: list[list[int]] = []
    for i, (start, end) in enumerate(regions):
        near = i > 0 and start - regions[i - 1][1] <= pause
        if near and links[i - 1] and end - regions[groups[-1][0]][0] <= longest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _share(cue: _Cue, before: Sequence[int], groups: Sequence[Sequence[int]], texts: Sequence[list[str]]) -> None:
    """Put a cue's text to its utterance; if it has several, its words to each in proportion to their speech."""
    first = bisect_right(groups, cue.regions[0], key=lambda group: group[-1] + 1)
    last = bisect_right(groups, cue.regions[-1], key=lambda group: group[0])
    words = cue.text.split()
    if last - first == 1 or not words:
        texts[first].append(cue.text)
        return
    begin, end = before[cue.regions[0]], before[cue.regions[-1] + 1]
    done = 0
    for number in range(first, last):
        spoken = min(before[groups[number][-1] + 1], end) - begin
        until = round(len(words) * spoken / (end - begin))
        if until > done:
            texts[number].append(" ".join(words[done:until]))
        done = until
