"""When each word is said, and where it is quiet between words (LongCat-Flash-Omni, section 3.1.1)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.engines.forced_alignment import (
    AlignmentFailed,
    ForcedAligner,
    LanguageNotAligned,
    PocketSphinxAligner,
)
from curation.media.clips import SPEECH_RATE_HZ, Clip
from curation.ranges import NotNegative, Percentile, Positive, Share, check
from curation.speech.clips import decoded, spread, utterance_clips
from curation.stage import Stage, fail, reject, with_column
from schemas.speech import PAUSE, WORD

UNALIGNED: dict[type[Exception], str] = {
    AlignmentFailed: "text_does_not_fit_audio",
    LanguageNotAligned: "language_not_aligned",
}
"""Why an utterance has no words, by what the aligner raised; anything else is a failure."""


@dataclass(frozen=True)
class Align(Stage):
    """Give each word of the transcript its start and end.

    Text that does not fit the sound leaves no words, nor does a language that the engine does not know; `unaligned`
    says which, and `alignment_error` in the engine's words.
    """

    engine: ForcedAligner = PocketSphinxAligner()

    reads = ("span", "language", "text")
    writes = ("words", "unaligned", "alignment_error")
    locators = ("uri",)
    costly = True
    version = 2
    packages = ("av",)

    @property
    def name(self) -> str:
        return f"Align({self.engine.label})"

    def __call__(self, utterances: pa.Table) -> pa.Table:
        clips = utterance_clips(utterances)
        places, heard = decoded(clips)
        texts = utterances["text"].to_pylist()
        answers = spread(clips, places, self.engine.align(heard, [texts[i] for i in places]))
        starts = [span["start"] for span in utterances["span"].to_pylist()]
        words, unaligned, messages, errors = [], [], [], []
        for answer, start in zip(answers, starts, strict=True):
            broken = isinstance(answer, BaseException)
            reason = next((reason for kind, reason in UNALIGNED.items() if isinstance(answer, kind)), None)
            words.append(None if broken else [_placed(word, start) for word in answer])
            unaligned.append(reason)
            messages.append(str(answer) if reason else None)
            errors.append(answer if broken and not reason else None)
        utterances = with_column(utterances, "words", words, pa.list_(WORD))
        utterances = with_column(utterances, "unaligned", unaligned, pa.string())
        utterances = with_column(utterances, "alignment_error", messages, pa.string())
        return fail(utterances, errors) if any(errors) else utterances


def _placed(word: Any, start: int) -> dict[str, Any]:
    timed = word.start is not None
    return {
        "text": word.text,
        "start": start + word.start if timed else None,
        "end": start + word.end if timed else None,
        "score": word.score,
        "untimed": word.untimed,
    }


@dataclass(frozen=True)
class TimedWords(Stage):
    """Reject utterances that could not be aligned, or of whose words too many have no time.

    Three reasons: `text_does_not_fit_audio`, `language_not_aligned`, `words_without_times`.
    """

    max_untimed_share: Share = 0.34

    reads = ("words", "unaligned")
    writes = ("untimed_share",)
    version = 2

    def __call__(self, utterances: pa.Table) -> pa.Table:
        words = utterances["words"].to_pylist()
        share = [sum(w["untimed"] is not None for w in row) / len(row) if row else 1.0 for row in words]
        utterances = with_column(utterances, "untimed_share", share, pa.float64())
        for reason in UNALIGNED.values():
            utterances = reject(utterances, pc.equal(utterances["unaligned"], reason), reason)
        over = [value > self.max_untimed_share for value in share]
        return reject(utterances, over, "words_without_times", value=share, limit=self.max_untimed_share)


@dataclass(frozen=True)
class QuietBetweenWords(Stage):
    """Measure, between each two words that have times, the quiet stretch in which a cut would be heard least.

    It is the longest run of quiet frames from the middle of the word before to the middle of the word after, `reach_s`
    around the aligner's border at most: this run meets the true pause far more often than the quietest frame or that
    border. A frame is quiet within `margin_db` of the floor there, or `silence_db` below the utterance's loud ones:
    next to digital silence the hiss of a codec would count as sound. The floor is a low percentile: over music the
    quietest of many frames is far below the others.
    """

    frame_s: Positive = 0.01
    margin_db: NotNegative = 8.0
    silence_db: NotNegative = 40.0
    floor_percentile: Percentile = 10.0
    reach_s: Positive = 0.3

    reads = ("span", "words")
    writes = ("pauses",)
    locators = ("uri",)
    costly = True
    version = 3
    packages = ("av",)

    def __post_init__(self) -> None:
        check(
            1 / SPEECH_RATE_HZ <= self.frame_s <= self.reach_s,
            f"quiet.frame_s: {self.frame_s} is below a sample of 16 kHz, or above quiet.reach_s, {self.reach_s}",
        )

    def __call__(self, utterances: pa.Table) -> pa.Table:
        clips = utterance_clips(utterances)
        pauses: list[Any] = []
        for clip, row in zip(clips, utterances.select(["span", "words"]).to_pylist(), strict=True):
            if isinstance(clip, Clip):
                pauses.append(self.pauses(clip.samples, row["words"] or [], row["span"]["start"]))
            else:
                pauses.append(None)
        errors = [None if isinstance(clip, Clip) else clip for clip in clips]
        utterances = with_column(utterances, "pauses", pauses, pa.list_(PAUSE))
        return fail(utterances, errors) if any(errors) else utterances

    def pauses(self, samples: NDArray[np.int16], words: list[dict[str, Any]], offset: int) -> list[dict[str, int]]:
        """The quiet run after each word but the last; none beside a word without times.

        Args:
            samples: of the utterance, at 16 kHz.
            words: as `schemas.speech.WORD`, in ticks of the recording.
            offset: tick of the first sample.
        """
        frame = round(self.frame_s * SPEECH_RATE_HZ)
        level_db = frame_levels_db(samples, frame)
        silence_db = float(np.percentile(level_db, 95)) - self.silence_db if len(level_db) else 0.0
        reach = round(self.reach_s * SPEECH_RATE_HZ)
        found = []
        for i, (word, following) in enumerate(pairwise(words)):
            if word["start"] is None or following["start"] is None:
                continue
            first = max((word["start"] + word["end"]) // 2, word["end"] - reach) - offset
            last = min((following["start"] + following["end"]) // 2, following["start"] + reach) - offset
            window = level_db[first // frame : max(last // frame, first // frame + 1)]
            if not len(window):
                continue
            floor_db = float(np.percentile(window, self.floor_percentile))
            start, end = longest_run(window <= max(floor_db + self.margin_db, silence_db))
            base = offset + first // frame * frame
            found.append({"after": i, "start": base + start * frame, "end": base + end * frame})
        return found


def frame_levels_db(samples: NDArray[np.int16], frame: int) -> NDArray[np.float64]:
    """Mean power of each whole frame, in decibels over one quantisation step."""
    whole = len(samples) // frame * frame
    power = np.square(samples[:whole].astype(np.float64)).reshape(-1, frame).mean(axis=1)
    levels: NDArray[np.float64] = 10 * np.log10(power + 1.0)
    return levels


def longest_run(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The longest stretch [first, last) in which a mask is true; the first of several. Some of it must be."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])
