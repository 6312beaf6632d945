"""What a run of the speech pipeline says, put beside what is true: utterances matched to subtitles by their times."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from curation.media.clips import SPEECH_RATE_HZ
from curation.proving.truth import Truth, UtteranceTruth
from schemas.ledger import KEPT

NOT_FOUND = "no_speech_found"
"""Reason of a subtitle that no utterance covers: voice activity missed its speech, or there is none."""


@dataclass(frozen=True)
class Decided:
    """An utterance of a run, in seconds of its recording, with its last verdict."""

    row_id: str
    file: str
    start_s: float
    end_s: float
    text: str
    words: tuple[tuple[str, float | None], ...]
    disagreement: float | None
    kept: bool
    reason: str | None
    speech: bool
    """False for a row that is a subtitle without speech."""

    def shared_s(self, other: UtteranceTruth) -> float:
        """Seconds that it has in common with a true utterance."""
        return max(0.0, min(self.end_s, other.end_s) - max(self.start_s, other.start_s))


@dataclass(frozen=True)
class Match:
    """A true utterance and the decided ones that overlap it, the one that shares most time first."""

    true: UtteranceTruth
    decided: tuple[Decided, ...]
    beside_fault: bool
    """Whether the first of them also holds another subtitle, one with a fault."""

    @property
    def main(self) -> Decided | None:
        return self.decided[0] if self.decided else None

    @property
    def reason(self) -> str:
        """Why it is not kept, as far as one reason says it."""
        lost = [one.reason for one in self.decided if not one.kept and one.reason]
        return lost[0] if lost else NOT_FOUND

    def is_kept(self, min_share: float) -> bool:
        """Whether kept utterances hold its text: they cover that share of it; for text on silence, any of them."""
        kept_s = sum(one.shared_s(self.true) for one in self.decided if one.kept)
        if self.true.fault == "silence":
            return any(one.kept for one in self.decided)
        return kept_s >= min_share * (self.true.end_s - self.true.start_s)


def decided_utterances(
    truth: Truth, utterances: pa.Table, ledger: pa.Table, textless_reasons: Collection[str]
) -> list[Decided]:
    """The rows of a run's utterances, with their file as the truth names it; rows of other files are left out.

    The last verdict of a row is the one that is not `kept`, if there is one. Optional columns: `disagreement`, and
    `number`, which is null for a subtitle without speech.
    """
    files = {PurePosixPath(recording.file).name: recording.file for recording in truth.recordings}
    verdicts = last_verdicts(ledger)
    numbered = "number" in utterances.column_names
    found = []
    for row in utterances.to_pylist():
        file = files.get(PurePosixPath(row["uri"]).name)
        if file is None:
            continue
        verdict, reason = verdicts.get(row["row_id"], ("missing", "not_in_ledger"))
        rate_hz = row["span"]["rate_num"] / row["span"]["rate_den"]
        words = [
            (word["text"], None if word["start"] is None else word["start"] / rate_hz)
            for word in row.get("words") or ()
        ]
        found.append(
            Decided(
                row_id=row["row_id"],
                file=file,
                start_s=row["span"]["start"] / rate_hz,
                end_s=row["span"]["end"] / rate_hz,
                text=(row.get("transcript") or {}).get("text") or "",
                words=tuple(words),
                disagreement=row.get("disagreement"),
                kept=verdict == KEPT,
                reason=reason,
                speech=reason not in textless_reasons and not (numbered and row["number"] is None),
            )
        )
    return found


def last_verdicts(ledger: pa.Table) -> dict[str, tuple[str, str | None]]:
    """Verdict and reason per row: what was decided against it, else kept."""
    verdicts: dict[str, tuple[str, str | None]] = {}
    columns = ledger.select(["row_id", "verdict", "reason"]).to_pydict()
    for row_id, verdict, reason in zip(columns["row_id"], columns["verdict"], columns["reason"], strict=True):
        if verdict != KEPT or row_id not in verdicts:
            verdicts[row_id] = (verdict, reason)
    return verdicts


def matches(truth: Truth, decided: Sequence[Decided]) -> list[Match]:
    """Every true utterance with those that overlap it."""
    by_file: dict[str, list[Decided]] = defaultdict(list)
    for one in decided:
        by_file[one.file].append(one)
    overlaps = []
    faults: Counter[str] = Counter()
    for true in truth.utterances:
        shared = [(one.shared_s(true), one) for one in by_file[true.file]]
        touching = [one for seconds, one in sorted(shared, key=lambda pair: -pair[0]) if seconds > 0]
        overlaps.append((true, tuple(touching)))
        if true.fault is not None:
            faults.update({one.row_id for one in touching if belongs(true, one)})
    return [
        Match(true, touching, bool(touching) and faults[touching[0].row_id] > (true.fault is not None))
        for true, touching in overlaps
    ]


def belongs(true: UtteranceTruth, one: Decided) -> bool:
    """Whether a decided utterance holds a true one, or a good part of it."""
    return 2 * one.shared_s(true) >= min(one.end_s - one.start_s, true.end_s - true.start_s)


def sample_fragments(truth: Truth, samples: pa.Table) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """File and fragments, in seconds, of each sample that was cut; samples of other files are left out."""
    files = {PurePosixPath(recording.file).name: recording.file for recording in truth.recordings}
    for row in samples.to_pylist():
        file = files.get(PurePosixPath(row["uri"]).name)
        if file is not None and row.get("fragments"):
            yield file, [_seconds(fragment) for fragment in row["fragments"]]


def _seconds(fragment: dict[str, Any]) -> tuple[float, float]:
    return fragment["start"] / SPEECH_RATE_HZ, fragment["end"] / SPEECH_RATE_HZ
