"""How well a run told faulty subtitles from good ones."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curation.proving.results import Match
from curation.proving.truth import FAULTS

GROSS_FAULTS = ("deleted", "tail", "loop", "wrong_text", "silence")
"""Faults that leave no doubt: the recall that is promised is over these together."""

LENGTHS: tuple[tuple[str, int, int], ...] = (
    ("1-8 words", 1, 8),
    ("9-12", 9, 12),
    ("13-18", 13, 18),
    ("19+", 19, 10**9),
)


@dataclass(frozen=True)
class FaultScore:
    """One kind of fault: how many were planted, how many are in nothing that was kept, and who caught them."""

    planted: int
    caught: int
    reasons: dict[str, int]

    @property
    def missed(self) -> int:
        return self.planted - self.caught

    @property
    def recall(self) -> float | None:
        return self.caught / self.planted if self.planted else None


@dataclass(frozen=True)
class LossScore:
    """Good segments, and those of them that were lost.

    One in an utterance that also holds a faulty subtitle goes with it; it counts as `beside_a_fault` and not as lost.
    """

    good: int
    lost: int
    reasons: dict[str, int]
    beside_a_fault: int

    @property
    def share(self) -> float | None:
        return self.lost / self.good if self.good else None


@dataclass(frozen=True)
class SwappedAt:
    """Swapped words that a limit on disagreement would catch, at the loss of good segments that it would cost."""

    max_loss: float
    limit: float
    loss: float
    recall: float
    by_length: dict[str, tuple[int, int]]
    by_voice: dict[str, tuple[int, int]]
    """Caught and planted, by words in the utterance and by voice."""


def fault_scores(matched: Sequence[Match], min_share: float) -> dict[str, FaultScore]:
    """One score per kind of fault that is planted."""
    scores: dict[str, FaultScore] = {}
    for fault in FAULTS:
        mine = [match for match in matched if match.true.fault == fault]
        caught = [match for match in mine if not match.is_kept(min_share)]
        if mine:
            scores[fault] = FaultScore(
                len(mine), len(caught), dict(Counter(match.reason for match in caught).most_common())
            )
    return scores


def loss_score(matched: Sequence[Match], min_share: float) -> LossScore:
    """Good segments that no kept utterance holds."""
    good = [match for match in matched if match.true.fault is None]
    alone = [match for match in good if not match.beside_fault]
    lost = [match for match in alone if not match.is_kept(min_share)]
    reasons = Counter(match.reason for match in lost)
    return LossScore(len(alone), len(lost), dict(reasons.most_common()), len(good) - len(alone))


def swapped_scores(matched: Sequence[Match], losses: Sequence[float]) -> list[SwappedAt]:
    """Recall of swapped words at each loss; empty where the run has no disagreements, or no word was swapped."""
    judged = [match for match in matched if not match.beside_fault and _disagreement(match) is not None]
    good = sorted(_value(match) for match in judged if match.true.fault is None)
    swapped = [match for match in judged if match.true.fault == "swapped_word"]
    if not good or not swapped:
        return []
    return [_swapped_at(loss, good, swapped) for loss in losses]


def _swapped_at(max_loss: float, good: Sequence[float], swapped: Sequence[Match]) -> SwappedAt:
    """The lowest limit above which at most that share of the good disagreements lies."""
    limit = next(value for value in good if sum(other > value for other in good) <= max_loss * len(good))
    caught = [match for match in swapped if _value(match) > limit]
    return SwappedAt(
        max_loss=max_loss,
        limit=limit,
        loss=sum(value > limit for value in good) / len(good),
        recall=len(caught) / len(swapped),
        by_length=_grouped(swapped, caught, _length),
        by_voice=_grouped(swapped, caught, lambda match: match.true.voice or "unknown"),
    )


def _grouped(
    planted: Sequence[Match], caught: Sequence[Match], group: Callable[[Match], str]
) -> dict[str, tuple[int, int]]:
    found = Counter(map(group, caught))
    return {name: (found[name], count) for name, count in sorted(Counter(map(group, planted)).items())}


def _length(match: Match) -> str:
    """By the words of the whole utterance that was judged, which may hold more than one subtitle."""
    count = len(match.main.text.split()) if match.main else 0
    return next((name for name, least, most in LENGTHS if least <= count <= most), LENGTHS[0][0])


def _disagreement(match: Match) -> float | None:
    return match.main.disagreement if match.main else None


def _value(match: Match) -> float:
    value = _disagreement(match)
    assert value is not None
    return value
