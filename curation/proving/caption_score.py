"""The score of a run of the captions pipeline against planted truth: a pure function of the truth and five tables."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.proving.balance_score import balance_figures
from curation.proving.caption_truth import (
    COPIES,
    ENTRY_FAULTS,
    HARD_NEGATIVES,
    IMAGE_FAULTS,
    TEXT_FAULTS,
    UNUSUAL,
    CaptionTruth,
    PairTruth,
)
from curation.proving.figures import Figure, FigureScore, share
from curation.proving.ranking import area_under_curve
from curation.proving.verdicts import NOT_FOUND, Verdict, Verdicts, accounting_problems, is_lost

QUESTIONS = (
    "select e.row_id, l.name as file, e.key"
    " from entries e join lineage on child = e.row_id join listing l on parent = l.row_id",
    "from ledger",
    "from lineage",
    "select row_id, similarity from matched",
    "select row_id, concepts, keep_probability, concept_draw from encoded",
)
"""What a run is asked, in the order of `score_captions`."""

DUPLICATE = "_duplicate"
"""Ends the reasons of duplicates."""
LOOKS_ALIKE = ("exact_duplicate", "perceptual_duplicate")
"""Reasons by which two images are the same; `semantic_duplicate` says that they show the same."""
KEPT_WELL = ("resized", "jpeg_50", "jpeg_30")
"""Copies that a perceptual hash is made for; crops and flips are only shown."""


@dataclass(frozen=True)
class Judged:
    """An entry of the truth, the pair that it became, and the last verdict."""

    true: PairTruth
    pair: str | None
    verdict: Verdict

    @property
    def reason(self) -> str:
        return self.verdict[1] or self.verdict[0]

    @property
    def lost(self) -> bool:
        return is_lost(self.verdict)

    @property
    def duplicate(self) -> bool:
        """Whether it was taken for a duplicate, of whichever sort."""
        return self.lost and self.reason.endswith(DUPLICATE)


def score_captions(
    truth: CaptionTruth,
    entries: pa.Table,
    ledger: pa.Table,
    lineage: pa.Table,
    matched: pa.Table,
    balanced: pa.Table,
) -> FigureScore:
    """Score a run.

    Args:
        entries: row_id, file, key.
        ledger, lineage: as `schemas.ledger`.
        matched: row_id, similarity.
        balanced: row_id, concepts, keep_probability, concept_draw of all that the concept balance decided on.
    """
    judged = list(judge(truth, entries, Verdicts(ledger, lineage)))
    similarity = {
        row_id: value
        for row_id, value in zip(matched["row_id"].to_pylist(), matched["similarity"].to_pylist(), strict=True)
        if value is not None
    }
    problems = accounting_problems(ledger, entries["row_id"].to_pylist())
    problems += [f"{one.true.key} of {one.true.file} is not in the run" for one in judged if one.verdict == NOT_FOUND]
    figures = [
        *fault_figures(judged),
        *similarity_figures(judged, similarity),
        *duplicate_figures(judged),
        *good_figures(judged),
        *balance_figures(balanced, ledger, truth.about.get("concept_limit")),
        Figure("ledger: rows lost or counted twice", float(len(problems)), at_most=0, plain=True),
    ]
    return FigureScore(tuple(figures), tuple(problems))


def judge(truth: CaptionTruth, entries: pa.Table, verdicts: Verdicts) -> Iterator[Judged]:
    """What became of each entry of the truth. Where a key stands several times, all rows must be lost to be lost."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row_id, file, key in zip(*(entries[name].to_pylist() for name in ("row_id", "file", "key")), strict=True):
        rows[file, key].append(row_id)
    for true in truth.pairs:
        found = [(row_id, verdicts.of(row_id)) for row_id in rows[true.file, true.key]]
        row_id, verdict = next((one for one in found if not is_lost(one[1])), found[0] if found else (None, NOT_FOUND))
        pairs = verdicts.made_of(row_id) if row_id else []
        yield Judged(true, pairs[0] if pairs else None, verdict)


def fault_figures(judged: Sequence[Judged]) -> Iterator[Figure]:
    """How many of each planted fault were rejected or failed, and why."""
    by_fault = _grouped(judged, lambda one: one.true.fault)
    groups = (
        ("image faults", IMAGE_FAULTS, 1.0),
        ("caption faults", TEXT_FAULTS, 0.95),
        ("entry faults", ENTRY_FAULTS, 1.0),
        ("evaluation images", ("evaluation",), 1.0),
        ("mismatched captions", ("mismatched",), None),
        ("hard negatives", HARD_NEGATIVES, None),
    )
    for name, faults, least in groups:
        planted = [one for fault in faults for one in by_fault.get(fault, ())]
        if not planted:
            continue
        yield _caught(f"caught: {name}", planted, least)
        if len(faults) > 1:
            yield from (_caught(f"caught: {fault}", by_fault[fault]) for fault in faults if fault in by_fault)


def similarity_figures(judged: Sequence[Judged], similarity: Mapping[str, float]) -> Iterator[Figure]:
    """How well the similarity alone, whatever the limit, tells true captions from false ones (ROC AUC).

    On combinations that the embedder never saw. Hard negatives differ from a true caption in one point.
    """
    never_seen = [one for one in judged if one.true.held_out and one.pair in similarity]
    by_fault = _grouped(never_seen, lambda one: one.true.fault or "true")
    true = [similarity[one.pair or ""] for one in by_fault.get("true", ()) if not one.true.unusual]
    for fault in ("mismatched", *HARD_NEGATIVES):
        false = [similarity[one.pair or ""] for one in by_fault.get(fault, ())]
        area = area_under_curve(true, false) if true and false else None
        least = 0.995 if fault == "mismatched" else None
        name = f"similarity of true captions above {fault} (AUC)"
        yield Figure(name, area, least, count=f"{len(true)} x {len(false)}", plain=True)


def duplicate_figures(judged: Sequence[Judged]) -> Iterator[Figure]:
    """Copies found, equal entries brought to one, and distinct pairs that were taken for copies.

    A copy is found if it, or what it is a copy of, was rejected as looking like another; which of them stays is the
    pipeline's choice. Where one of them was lost for another reason there was nothing to find.
    """
    by_image = _grouped(judged, lambda one: one.true.image)
    originals = {one.true.image: one for one in judged if one.true.fault is None}
    for kind in COPIES:
        both = [(one, originals[one.true.image]) for one in judged if one.true.fault == kind]
        there = [pair for pair in both if all(not one.lost or one.duplicate for one in pair)]
        # One of the two may have been found here, and the other be a duplicate of some other image.
        reasons = [min((one.reason for one in pair if one.duplicate), key=_sort, default="") for pair in there]
        alike = [reason for reason in reasons if reason in LOOKS_ALIKE]
        least = 0.95 if kind in KEPT_WELL else None
        if both:
            besides = {
                "showing the same": sum(bool(reason) and reason not in LOOKS_ALIKE for reason in reasons),
                "lost before": len(both) - len(there),
            }
            by = {name: count for name, count in besides.items() if count}
            yield share(f"near duplicates found: {kind}", len(alike), len(there), at_least=least, by=by)
    equal = [one for one in judged if one.true.fault == "exact_duplicate"]
    merged = [one for one in equal if one.pair and one.pair == originals[one.true.image].pair]
    if equal:
        yield share("exact duplicates brought to one", len(merged), len(equal), at_least=1.0)
    alone = [ones[0] for image, ones in by_image.items() if image and len(ones) == 1]
    distinct = [one for one in alone if one.true.fault is None and (not one.lost or one.duplicate)]
    taken = [one for one in distinct if one.duplicate]
    alike = [one.reason for one in taken if one.reason in LOOKS_ALIKE]
    meant = [one.reason for one in taken if one.reason not in LOOKS_ALIKE]
    yield share("distinct images taken for copies", len(alike), len(distinct), at_most=0.01, by=alike)
    yield share("distinct images that show the same", len(meant), len(distinct), by=meant)


def good_figures(judged: Sequence[Judged]) -> Iterator[Figure]:
    """Good pairs that were lost, duplicates apart; unusual files that were read; captions that share an image."""
    good = [one for one in judged if one.true.fault is None]
    lost = [one for one in good if one.lost and not one.duplicate]
    yield share("good pairs lost", len(lost), len(good), at_most=0.02, by=[one.reason for one in lost])
    for kind in UNUSUAL:
        odd = [one for one in good if one.true.unusual == kind]
        read = [one for one in odd if not one.lost or one.duplicate]
        reasons = [one.reason for one in odd if one not in read]
        if odd:
            yield share(f"unusual images read: {kind}", len(read), len(odd), at_least=1.0, by=reasons)
    shared = [ones for ones in _grouped(good, lambda one: one.true.image).values() if len(ones) > 1]
    whole = [
        ones
        for ones in shared
        if len({one.pair for one in ones}) == len(ones) and not any(one.reason in LOOKS_ALIKE for one in ones)
    ]
    if shared:
        yield share("images with several captions, each a pair", len(whole), len(shared), at_least=1.0)


def _sort(reason: str) -> bool:
    """Looking alike before showing the same."""
    return reason not in LOOKS_ALIKE


def _caught(name: str, planted: Sequence[Judged], least: float | None = None) -> Figure:
    caught = [one.reason for one in planted if one.lost]
    return share(name, len(caught), len(planted), at_least=least, by=caught)


def _grouped(judged: Iterable[Judged], key: Callable[[Judged], str | None]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        groups[key(one) or ""].append(one)
    return groups
