"""Voice activity: where somebody speaks, and the utterances that come of it (LongCat-Flash-Omni, section 3.1.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.engines.voice_activity import Silero, VoiceActivity
from curation.media.audio import check_content, decode_blocks
from curation.media.clips import SPEECH_RATE_HZ
from curation.media.subtitles import read_subtitles
from curation.ranges import NotNegative, Positive, Share, check
from curation.rows import derived_id
from curation.speech.regions import speech_regions
from curation.speech.subtitles import Segment, place_cues
from curation.stage import Stage, mark, measure_each
from schemas.ledger import REJECTED
from schemas.spans import span
from schemas.speech import CUE, UTTERANCE

LEAST_UTTERANCE_S = 8 * 512 / SPEECH_RATE_HZ
"""Eight frames of the model: what `speech_regions` needs to find a cut in."""


@dataclass(frozen=True)
class SpeechProbability(Stage):
    """Measure how likely somebody speaks, frame by frame. The recording is streamed, never held whole.

    `samples` is what was decoded, whatever the header says.
    """

    engine: VoiceActivity = Silero()

    reads = ("media_hash", "channel")
    writes = ("speech_probability", "samples")
    locators = ("uri",)
    costly = True
    packages = ("av",)

    def __call__(self, recordings: pa.Table) -> pa.Table:
        columns = {"speech_probability": pa.list_(pa.float32()), "samples": pa.int64()}
        return measure_each(recordings, columns, self._listen)

    def _listen(self, recording: dict[str, Any]) -> dict[str, Any]:
        samples = 0

        def counted() -> Any:
            nonlocal samples
            for block in decode_blocks(recording["uri"], content=recording["media_hash"], channel=recording["channel"]):
                samples += len(block)
                yield block

        probability = self.engine.probabilities(counted())
        return {"speech_probability": probability, "samples": samples}


@dataclass(frozen=True)
class Subtitles(Stage):
    """Read the subtitles beside a recording; none are where no recogniser of the recipe requires them."""

    wanted: bool = True
    max_bytes: int = 16 << 20

    reads = ("sidecar_hash",)
    writes = ("cues",)
    locators = ("sidecar",)

    def __call__(self, recordings: pa.Table) -> pa.Table:
        return measure_each(recordings, {"cues": pa.list_(CUE)}, self._read)

    def _read(self, recording: dict[str, Any]) -> dict[str, Any]:
        if recording["sidecar"] is None or not self.wanted:
            return {"cues": None}
        cues = [vars(cue) for cue in read_subtitles(recording["sidecar"], max_bytes=self.max_bytes)]
        check_content(recording["sidecar"], recording["sidecar_hash"])
        return {"cues": cues}


@dataclass(frozen=True)
class Utterances(Stage):
    """Cut a recording into utterances where nobody speaks; what lies between them is dropped.

    With subtitles, a pause inside a cue does not end an utterance, so that a cue's text is not torn, unless the pause
    is longer than `max_cue_pause_s` or the utterance would pass `max_utterance_s`: then the cue's words are shared by
    speech. A cue without speech is a row of its own, rejected as `text_without_speech`.

    Attributes:
        threshold, exit_threshold: speech starts at a probability above the first, and ends below the second.
        min_speech_s: shorter stretches of speech are dropped.
        end_trim_s: the model hears speech end this much late.
        min_silence_s: shorter pauses do not end an utterance.
        pad_s: kept before and after, as far as the neighbours leave room.
        max_utterance_s: longer utterances are cut where speech is least likely.
        max_cue_pause_s: the longest pause inside a cue that does not end an utterance.
        min_cue_overlap: share of a cue that must be speech, for its text to be spoken at all.
    """

    threshold: Share = 0.5
    exit_threshold: Share = 0.35
    end_trim_s: NotNegative = 0.064
    min_speech_s: NotNegative = 0.25
    min_silence_s: NotNegative = 0.3
    pad_s: NotNegative = 0.1
    max_utterance_s: Positive = 30.0
    max_cue_pause_s: NotNegative = 2.0
    min_cue_overlap: Share = 0.2

    reads = ("media_hash", "channel", "speech_probability", "samples", "cues", "name", "language", "licence", "consent")
    writes = tuple(name for name in UTTERANCE.names if name != "parents")
    drops = ("speech_probability", "samples", "cues")
    makes = "utterance"
    version = 4

    def __post_init__(self) -> None:
        least_s = max(4 * self.min_speech_s, LEAST_UTTERANCE_S)
        check(self.exit_threshold > 0, f"utterances.exit_threshold: {self.exit_threshold} is not above 0")
        check(
            self.exit_threshold <= self.threshold,
            f"utterances.exit_threshold: {self.exit_threshold} is above utterances.threshold, {self.threshold}",
        )
        check(
            self.max_utterance_s >= least_s,
            f"utterances.max_utterance_s: {self.max_utterance_s} leaves no room for cuts; with utterances.min_speech_s "
            f"{self.min_speech_s} it is at least {least_s}",
        )

    def __call__(self, recordings: pa.Table) -> pa.Table:
        utterances: list[dict[str, Any]] = []
        decisions: list[dict[str, Any] | None] = []
        silent: list[bool] = []
        for recording in recordings.to_pylist():
            spoken, orphans = self.segments(recording)
            silent.append(not spoken and not orphans)
            for number, segment in enumerate(spoken):
                utterances.append(self._row(recording, segment, number))
                decisions.append(None)
            for cue in dict.fromkeys(orphans):
                utterances.append(self._row(recording, cue, None))
                decisions.append(_decision("text_without_speech", cue.overlap, self.min_cue_overlap))
        made = mark(pa.Table.from_pylist(utterances, UTTERANCE), decisions)
        if not any(silent):
            return made
        rejected = recordings.filter(pa.array(silent))
        rejected = mark(rejected, [_decision("no_speech", None, None)] * rejected.num_rows)
        return pa.concat_tables([made, rejected], promote_options="default")

    def segments(self, recording: dict[str, Any]) -> tuple[list[Segment], list[Segment]]:
        """The utterances of a recording, and its cues without speech."""
        regions = speech_regions(
            recording["speech_probability"],
            threshold=self.threshold,
            exit_threshold=self.exit_threshold,
            end_trim_s=self.end_trim_s,
            min_speech_s=self.min_speech_s,
            min_silence_s=self.min_silence_s,
            max_region_s=self.max_utterance_s,
            total_samples=recording["samples"],
        )
        cues = recording["cues"]
        limits = self.max_utterance_s, self.max_cue_pause_s, self.min_cue_overlap
        spoken, orphans = place_cues(regions, cues, *limits, recording["samples"])
        pad, longest = round(self.pad_s * SPEECH_RATE_HZ), round(self.max_utterance_s * SPEECH_RATE_HZ)
        return padded(spoken, pad, recording["samples"], longest), orphans

    def _row(self, recording: dict[str, Any], segment: Segment, number: int | None) -> dict[str, Any]:
        place = [segment.start, segment.end, number is None, segment.text]
        return {
            **{name: recording[name] for name in ("root", "uri", "name", "language", "licence", "consent")},
            "row_id": derived_id([recording["row_id"]], "utterance", place),
            "ordinal": segment.start,
            "kind": "utterance",
            "parents": [recording["row_id"]],
            "span": span(recording["media_hash"], segment.start, segment.end, SPEECH_RATE_HZ, recording["channel"]),
            "speech_start": segment.start + segment.lead,
            "speech_end": segment.end - segment.trail,
            "number": number,
            "speech_s": segment.speech / SPEECH_RATE_HZ,
            "subtitle": segment.text,
        }


def padded(segments: Sequence[Segment], pad: int, total: int, longest: int) -> list[Segment]:
    """Segments with up to `pad` ticks more on both sides: of the gap to a neighbour half at most, and never to more
    than `longest` in all, which is what recognisers take.
    """
    result = []
    for i, segment in enumerate(segments):
        before = (segment.start - segments[i - 1].end) // 2 if i else segment.start
        after = (segments[i + 1].start - segment.end) // 2 if i + 1 < len(segments) else total - segment.end
        room = min(pad, max(0, longest - (segment.end - segment.start)) // 2)
        result.append(segment.widened(min(room, max(before, 0)), min(room, max(after, 0))))
    return result


def _decision(reason: str, value: float | None, limit: float | None) -> dict[str, Any]:
    return {"verdict": REJECTED, "reason": reason, "value": value, "threshold": limit, "error": None}
