"""The score of a run of the speech pipeline against planted truth: pure functions of three tables and the truth."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from rich.table import Table

from curation.proving.decision_score import (
    GROSS_FAULTS,
    FaultScore,
    LossScore,
    SwappedAt,
    fault_scores,
    loss_score,
    swapped_scores,
)
from curation.proving.figures import MOST_PROBLEMS
from curation.proving.results import decided_utterances, matches, sample_fragments
from curation.proving.time_score import ActivityScore, CutScore, WordScore, activity_score, cut_score, word_score
from curation.proving.truth import Truth
from schemas.ledger import KEPT, VERDICTS

TARGETS = {
    **{f"caught: {fault}": ">= 95%" for fault in GROSS_FAULTS},
    "good segments lost": "<= 3%",
    "voice activity recall": ">= 99%",
    "voice activity precision": ">= 95%",
    "word start error (mean)": "<= 25 ms",
    "cuts in a true pause": ">= 97%",
    "marks with a pause that were cut": ">= 90%",
    "ledger": "balanced",
}
"""What the embedded engines are to reach on a made corpus of an hour or more."""


@dataclass(frozen=True)
class Accounting:
    """Whether every row has one verdict at every node that it met. `problems` says which does not."""

    nodes: dict[str, dict[str, int]]
    """Per node: rows that came in, rows that were made there, and rows per verdict."""
    problems: tuple[str, ...]

    @property
    def balanced(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Score:
    """All figures of a run. None, or an empty list, where there was nothing to measure."""

    faults: dict[str, FaultScore]
    good: LossScore
    swapped: list[SwappedAt]
    activity: ActivityScore | None
    words: WordScore | None
    cuts: CutScore
    accounting: Accounting

    @property
    def gross_recall(self) -> float | None:
        """Share caught of the faults that leave no doubt, all kinds together."""
        found = [self.faults[fault] for fault in GROSS_FAULTS if fault in self.faults]
        return sum(one.caught for one in found) / sum(one.planted for one in found) if found else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the shares that people ask for."""
        values = asdict(self)
        for fault, one in self.faults.items():
            values["faults"][fault] |= {"missed": one.missed, "recall": one.recall}
        values["good"]["share"] = self.good.share
        values["accounting"]["balanced"] = self.accounting.balanced
        values["gross_recall"] = self.gross_recall
        return values

    def json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def table(self) -> Table:
        """The figures for people, one a line."""
        table = Table("figure", "value", "target", "of", "by", title="score against planted truth")
        for name, value, count, by in self._lines():
            table.add_row(name, value, TARGETS.get(name, ""), count, by)
        return table

    def _lines(self) -> Iterator[tuple[str, str, str, str]]:
        for fault, one in self.faults.items():
            yield f"caught: {fault}", _share(one.recall), f"{one.caught}/{one.planted}", _counts(one.reasons)
        yield f"caught: {', '.join(GROSS_FAULTS)}", _share(self.gross_recall), "", ""
        good = self.good
        yield "good segments lost", _share(good.share), f"{good.lost}/{good.good}", _counts(good.reasons)
        yield "good, but in one utterance with a fault", "", str(good.beside_a_fault), ""
        for at in self.swapped:
            name = f"swapped word at {at.max_loss:.0%} loss"
            groups = {name: f"{found}/{all_}" for name, (found, all_) in (at.by_length | at.by_voice).items()}
            yield name, _share(at.recall), f"limit {at.limit:.3f}", _counts(groups)
        if self.activity:
            yield "voice activity recall", _share(self.activity.recall), f"{self.activity.speech_s:.0f} s", ""
            yield "voice activity precision", _share(self.activity.precision), f"{self.activity.claimed_s:.0f} s", ""
        if self.words:
            one_word = self.words
            spread = f"median {one_word.median_ms:.1f}, p90 {one_word.p90_ms:.1f} ms, untimed {one_word.untimed}"
            yield "word start error (mean)", f"{one_word.mean_ms:.1f} ms", f"{one_word.words} words", spread
            yield "word starts within 50 ms", _share(one_word.within_50_ms), "", ""
        cuts = self.cuts
        yield "cuts in a true pause", _ratio(cuts.in_pause, cuts.cuts), f"{cuts.in_pause}/{cuts.cuts}", ""
        yield (
            "marks with a pause that were cut",
            _ratio(cuts.marks_cut, cuts.marks),
            f"{cuts.marks_cut}/{cuts.marks}",
            "",
        )
        yield (
            "ledger",
            "balanced" if self.accounting.balanced else "BROKEN",
            "",
            _some(self.accounting.problems),
        )


def _some(problems: Sequence[str]) -> str:
    shown = "; ".join(problems[:MOST_PROBLEMS])
    more = len(problems) - MOST_PROBLEMS
    return f"{shown}; … and {more} more: the same command with --json lists them" if more > 0 else shown


def score(
    truth: Truth,
    utterances: pa.Table,
    ledger: pa.Table,
    samples: pa.Table,
    *,
    min_share: float = 0.5,
    collar_s: float = 0.15,
    bridge_s: float = 0.5,
    min_mark_pause_s: float = 0.06,
    cut_tolerance_s: float = 0.0,
    losses: Sequence[float] = (0.01, 0.03, 0.05, 0.10),
    textless_reasons: Collection[str] = ("text_without_speech",),
) -> Score:
    """Score a run.

    Args:
        utterances: row_id, uri, span, words, transcript; and, where the run has them, disagreement and number.
        ledger: as `schemas.ledger.LEDGER`.
        samples: row_id, uri, fragments, parents. Samples without fragments (audio in, text out) are not looked at.
        min_share: a subtitle is kept if kept utterances cover this share of its speech.
        collar_s, bridge_s: what is not judged of voice activity, see `activity_score`.
        min_mark_pause_s, cut_tolerance_s: see `cut_score`.
        losses: shares of good segments at which swapped words are counted.
        textless_reasons: reasons of rows that are subtitles without speech, which claim no speech.
    """
    decided = decided_utterances(truth, utterances, ledger, textless_reasons)
    matched = matches(truth, decided)
    return Score(
        faults=fault_scores(matched, min_share),
        good=loss_score(matched, min_share),
        swapped=swapped_scores(matched, losses),
        activity=activity_score(truth, decided, collar_s, bridge_s),
        words=word_score(matched, decided),
        cuts=cut_score(truth, sample_fragments(truth, samples), min_mark_pause_s, cut_tolerance_s),
        accounting=accounting(truth, utterances, ledger),
    )


def accounting(truth: Truth, utterances: pa.Table, ledger: pa.Table) -> Accounting:
    """Check that rows are neither lost nor counted twice: in and made are the sum of the verdicts at each node.

    A row has one verdict at a node, is made at one node at most, and after a verdict other than `kept` meets no other
    one of that sort. Every utterance and every recording of the truth is in the ledger.
    """
    nodes: dict[str, Counter[str]] = defaultdict(Counter)
    at_node: Counter[tuple[str, str]] = Counter()
    ended: Counter[str] = Counter()
    made: Counter[str] = Counter()
    problems = []
    for row in ledger.select(["row_id", "node", "made", "verdict"]).to_pylist():
        nodes[row["node"]].update(["made" if row["made"] else "in", row["verdict"]])
        at_node[row["row_id"], row["node"]] += 1
        made[row["row_id"]] += bool(row["made"])
        ended[row["row_id"]] += row["verdict"] != KEPT
    for node, counts in nodes.items():
        total = sum(counts[verdict] for verdict in VERDICTS)
        if counts["in"] + counts["made"] != total:
            problems.append(f"{node}: {counts['in']} in and {counts['made']} made, but {total} verdicts")
    problems += [f"{node}: row {row_id} has {n} verdicts" for (row_id, node), n in at_node.items() if n > 1]
    problems += [f"row {row_id} was ended {n} times" for row_id, n in ended.items() if n > 1]
    problems += [f"row {row_id} was made {n} times" for row_id, n in made.items() if n > 1]
    unknown = [row_id for row_id in utterances["row_id"].to_pylist() if row_id not in ended]
    problems += [f"utterance {row_id} is not in the ledger" for row_id in unknown]
    seen = {PurePosixPath(uri).name for uri in ledger["uri"].to_pylist() if uri}
    lacking = [recording.file for recording in truth.recordings if PurePosixPath(recording.file).name not in seen]
    problems += [f"{file} is not in the ledger" for file in lacking]
    return Accounting({node: dict(sorted(counts.items())) for node, counts in nodes.items()}, tuple(problems))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _ratio(part: int, whole: int) -> str:
    return _share(part / whole if whole else None)


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
