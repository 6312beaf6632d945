"""Interleaved speech and text: samples cut into fragments (A1, T1) … (An, Tn), some of whose halves are hidden.

LongCat-Flash-Omni, section 3.1.1: fragments end at punctuation; the audio or the text of some is masked, which gives
sequences such as (T1, A2+T2, T3, A4+T4) or (A1, A2+T2, A3, A4+T4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.hashing import draw
from curation.media.clips import SPEECH_RATE_HZ
from curation.ranges import NotNegative, Share, check
from curation.speech.fragments import split_words
from curation.stage import Stage, with_column
from curation.text.punctuation import Level
from schemas.speech import FRAGMENT

AUDIO, TEXT, BOTH = "audio", "text", "both"
GAP_S = 0.03
"""What an aligner with frames of 10 ms leaves between words that it does not think apart."""


@dataclass(frozen=True)
class Fragments(Stage):
    """Cut interleaved samples at punctuation, where it is quiet.

    A mark is cut at only if the quiet run after its word is at least `min_pause_s` long; else the two fragments stay
    one, since a cut would take the end of a word with it. Fragments tile the sample.

    Attributes:
        min_unaligned_pause_s: the same where the aligner left no gap between the two words, so that the quiet run may
            be the closure of a stop.
        cut_at: where in the quiet run to cut, as a share of it. In noise the run begins before the word has faded,
            and ends with the start of the next, so a cut past the middle lies in the true pause more often.
        level: cut after clauses, commas too, or after sentences alone.
    """

    min_pause_s: NotNegative = 0.06
    min_unaligned_pause_s: NotNegative = 0.12
    cut_at: Share = 0.75
    level: Level = "clause"

    reads = ("task", "text", "words", "pauses", "language", "span")
    writes = ("fragments",)
    packages = ("spacy",)
    extra = "speech"

    def __call__(self, samples: pa.Table) -> pa.Table:
        fragments = [
            self.fragments(row) if row["task"] == "interleaved" else None
            for row in samples.select(list(self.reads)).to_pylist()
        ]
        return with_column(samples, "fragments", fragments, pa.list_(FRAGMENT))

    def fragments(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        """The fragments of a sample, in their order."""
        words, span = sample["words"], sample["span"]
        quiet = {pause["after"]: pause for pause in sample["pauses"]}
        places = word_places(sample["text"], [word["text"] for word in words])
        result: list[dict[str, Any]] = []
        first, start = 0, span["start"]
        for _, end_word in split_words(words, sample["language"], text=sample["text"], level=self.level):
            last = end_word - 1
            pause = quiet.get(last)
            final = end_word == len(words)
            if not final and (pause is None or not self._is_pause(pause, words[last], words[end_word])):
                continue
            end = span["end"] if final or pause is None else self._cut(pause)
            text = sample["text"][places[first][0] : places[last][1]]
            result.append(
                {"text": text, "start": start, "end": end, "first_word": first, "last_word": last, "show": None}
            )
            first, start = last + 1, end
        return result

    def _is_pause(self, pause: dict[str, int], word: dict[str, Any], following: dict[str, Any]) -> bool:
        timed = word["end"] is not None and following["start"] is not None
        apart = timed and following["start"] - word["end"] >= GAP_S * SPEECH_RATE_HZ
        least_s = self.min_pause_s if apart or not timed else self.min_unaligned_pause_s
        return pause["end"] - pause["start"] >= round(least_s * SPEECH_RATE_HZ)

    def _cut(self, pause: dict[str, int]) -> int:
        return pause["start"] + round(self.cut_at * (pause["end"] - pause["start"]))


@dataclass(frozen=True)
class Masking(Stage):
    """Draw what the trainer sees of each fragment: its text alone, its audio alone, or both.

    Drawn from the sample's id, so that it is the same under any sharding. Nothing is cut away: the sample keeps all of
    its audio and text with this plan, and another plan can be drawn later.

    Attributes:
        text_only, audio_only: probabilities; the rest is both.
    """

    text_only: Share = 0.25
    audio_only: Share = 0.25
    seed: int = 0

    reads = ("row_id", "fragments")
    writes = ("fragments",)

    def __post_init__(self) -> None:
        check(
            self.text_only >= 0 and self.audio_only >= 0 and self.text_only + self.audio_only <= 1,
            f"masking.text_only: {self.text_only} and masking.audio_only, {self.audio_only}, add up to more than 1",
        )

    def __call__(self, samples: pa.Table) -> pa.Table:
        plans = []
        for row_id, fragments in zip(samples["row_id"].to_pylist(), samples["fragments"].to_pylist(), strict=True):
            plan = None if fragments is None else [f | {"show": self.show(row_id, i)} for i, f in enumerate(fragments)]
            plans.append(plan)
        return with_column(samples, "fragments", plans, pa.list_(FRAGMENT))

    def show(self, row_id: str, number: int) -> str:
        """What is shown of a sample's fragment."""
        drawn = draw(self.seed, row_id, f"mask {number}")
        if drawn < self.text_only:
            return TEXT
        return AUDIO if drawn < self.text_only + self.audio_only else BOTH


def word_places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Where each word stands in the text (start, end); words come in the text's order."""
    places = []
    position = 0
    for word in words:
        start = text.find(word, position)
        if start < 0:
            raise ValueError(f"word {word!r} does not stand in the text after character {position}")
        position = start + len(word)
        places.append((start, position))
    return places
