"""How well a run placed speech, words and cuts in time."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from curation.proving.results import Decided, Match, belongs
from curation.proving.truth import Truth, UtteranceTruth

FRAME_S = 0.01

Stretch = tuple[float, float]


@dataclass(frozen=True)
class ActivityScore:
    """Speech found, in time: recall over true speech; precision over what was claimed, `don't care` left out."""

    recall: float
    precision: float
    speech_s: float
    claimed_s: float


@dataclass(frozen=True)
class WordScore:
    """Start of words in good utterances that were kept."""

    words: int
    """That were matched, and whose true start is known."""
    untimed: int
    """Of the matched, those that the run could not time."""
    mean_ms: float
    median_ms: float
    p90_ms: float
    within_50_ms: float


@dataclass(frozen=True)
class CutScore:
    """Cuts between fragments, and the punctuation marks where there should be one."""

    cuts: int
    in_pause: int
    marks: int
    """Inside samples, in good utterances, with silence of at least `min_mark_pause_s` behind."""
    marks_cut: int


def activity_score(truth: Truth, decided: Iterable[Decided], collar_s: float, bridge_s: float) -> ActivityScore | None:
    """Voice activity in frames of 10 ms; None without true speech.

    Not judged for precision: `collar_s` around each true stretch, and silences shorter than `bridge_s` between two.
    """
    claims: dict[str, list[Stretch]] = defaultdict(list)
    for one in decided:
        if one.speech:
            claims[one.file].append((one.start_s, one.end_s))
    both = speech_frames = judged = claimed_frames = 0
    for recording in truth.recordings:
        frames = round(recording.duration_s / FRAME_S)
        stretches = [(part.start_s, part.end_s) for part in recording.speech]
        silences = [(left[1], right[0]) for left, right in pairwise(stretches) if right[0] - left[1] < bridge_s]
        speech = _mask(stretches, frames)
        idle = _mask([(start - collar_s, end + collar_s) for start, end in stretches] + silences, frames) & ~speech
        claimed = _mask(claims[recording.file], frames)
        both += int(np.count_nonzero(claimed & speech))
        speech_frames += int(np.count_nonzero(speech))
        judged += int(np.count_nonzero(claimed & ~idle))
        claimed_frames += int(np.count_nonzero(claimed))
    if not speech_frames:
        return None
    precision = both / judged if judged else 0.0
    return ActivityScore(both / speech_frames, precision, speech_frames * FRAME_S, claimed_frames * FRAME_S)


def word_score(matched: Sequence[Match], decided: Sequence[Decided]) -> WordScore | None:
    """Errors of word starts; words are matched by their text, in order. None where there is nothing to compare."""
    mine: dict[str, list[UtteranceTruth]] = defaultdict(list)
    for match in matched:
        for one in match.decided:
            if belongs(match.true, one):
                mine[one.row_id].append(match.true)
    errors: list[float] = []
    untimed = 0
    for one in decided:
        true = mine.get(one.row_id, [])
        if not one.kept or not true or any(part.fault is not None for part in true):
            continue
        for (_, start_s), true_s in _same_words(one, true):
            if start_s is None:
                untimed += 1
            else:
                errors.append(1000 * abs(start_s - true_s))
    if not errors:
        return None
    return WordScore(
        words=len(errors) + untimed,
        untimed=untimed,
        mean_ms=float(np.mean(errors)),
        median_ms=float(np.median(errors)),
        p90_ms=float(np.percentile(errors, 90)),
        within_50_ms=float(np.mean(np.asarray(errors) <= 50)),
    )


def _same_words(one: Decided, true: Sequence[UtteranceTruth]) -> Iterator[tuple[tuple[str, float | None], float]]:
    """Words of the run beside the true start of the same word, where that is known."""
    known = [word for part in sorted(true, key=lambda part: part.start_s) for word in part.words]
    matcher = SequenceMatcher(None, [_bare(text) for text, _ in one.words], [_bare(word.text) for word in known], False)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            true_s = known[block.b + offset].start_s
            if true_s is not None:
                yield one.words[block.a + offset], true_s


def cut_score(
    truth: Truth, cut_samples: Iterable[tuple[str, list[Stretch]]], min_mark_pause_s: float, tolerance_s: float
) -> CutScore:
    """Cuts that lie in a true pause, and marks with a pause that were cut.

    Args:
        cut_samples: file, and fragments in seconds, of each sample.
        min_mark_pause_s: marks with less silence behind them are not expected to be cut.
        tolerance_s: how far outside a pause a cut may lie.
    """
    spoken: dict[str, list[UtteranceTruth]] = defaultdict(list)
    for utterance in truth.utterances:
        if utterance.spoken:
            spoken[utterance.file].append(utterance)
    durations = {recording.file: recording.duration_s for recording in truth.recordings}
    pauses = {file: _pauses(spoken[file], duration) for file, duration in durations.items()}
    cuts = in_pause = marks = marks_cut = 0
    for file, fragments in cut_samples:
        borders = [(left[1], right[0]) for left, right in pairwise(fragments)]
        cuts += len(borders)
        in_pause += sum(all(_inside(point, pauses[file], tolerance_s) for point in border) for border in borders)
        points = sorted(point for border in borders for point in border)
        for start, end in _marked(spoken[file], fragments[0][0], fragments[-1][1], min_mark_pause_s):
            marks += 1
            marks_cut += bisect_right(points, end + tolerance_s) > bisect_right(points, start - tolerance_s)
    return CutScore(cuts, in_pause, marks, marks_cut)


def _pauses(utterances: Sequence[UtteranceTruth], duration_s: float) -> list[Stretch]:
    """All silences of a recording: between words, and around utterances."""
    inside = [(pause.start_s, pause.end_s) for utterance in utterances for pause in utterance.pauses]
    edges = [0.0, *[edge for utterance in utterances for edge in (utterance.start_s, utterance.end_s)], duration_s]
    return sorted([*inside, *zip(edges[::2], edges[1::2], strict=True)])


def _inside(point: float, pauses: Sequence[Stretch], tolerance_s: float) -> bool:
    place = bisect_right(pauses, (point + tolerance_s, float("inf")))
    return place > 0 and point <= pauses[place - 1][1] + tolerance_s


def _marked(utterances: Sequence[UtteranceTruth], first_s: float, last_s: float, least_s: float) -> Iterator[Stretch]:
    """Silences of at least `least_s` behind a mark, inside a sample, where subtitles have no fault."""
    held = [part for part in utterances if first_s <= (part.start_s + part.end_s) / 2 <= last_s]
    for part in held:
        if part.fault is None:
            for pause in part.pauses:
                if part.words[pause.after_word].mark and pause.end_s - pause.start_s >= least_s:
                    yield pause.start_s, pause.end_s
    for left, right in pairwise(held):
        marked = left.fault is None and right.fault is None and bool(left.words) and left.words[-1].mark
        if marked and right.start_s - left.end_s >= least_s:
            yield left.end_s, right.start_s


def _mask(stretches: Iterable[Stretch], frames: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    mask = np.zeros(frames, np.bool_)
    for start, end in stretches:
        mask[max(0, round(start / FRAME_S)) : max(0, round(end / FRAME_S))] = True
    return mask


def _bare(word: str) -> str:
    return "".join(character for character in word.lower() if character.isalnum())
