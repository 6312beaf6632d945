"""The score of a run of the documents pipeline against planted truth: a pure function of the truth and its tables."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.proving.document_truth import (
    DOCUMENT_FAULTS,
    IMAGE_NODE_FAULTS,
    TEXT_NODE_FAULTS,
    DocumentsTruth,
    DocumentTruth,
    NodeTruth,
)
from curation.proving.figures import Figure, FigureScore, share
from curation.proving.verdicts import NOT_FOUND, Verdict, Verdicts, accounting_problems, is_lost

QUESTIONS = (
    "select e.row_id, l.name as file, e.ordinal as number from entries e join lineage g on g.child = e.row_id "
    "join listing l on l.row_id = g.parent",
    "from ledger",
    "from lineage",
    "select row_id, root, ordinal from nodes where kind = 'node'",
    "select row_id, paired_ordinal from paired where node_kind = 'image'",
    "select row_id, root, nodes from assembled where kind = 'sample'",
    "select row_id, density_kept from density",
)
"""What a run is asked, in the order of `score_documents`."""

ALONE = "unpaired_image"
"""The reason of an image that the null column took."""


@dataclass(frozen=True)
class JudgedNode:
    """A node of a good document, its row, and the last verdict on the row itself."""

    true: NodeTruth
    row_id: str
    verdict: Verdict
    reached: bool
    """Whether it came to the pairing."""
    partner: int | None
    """The place of the text that it was paired with."""

    @property
    def reason(self) -> str:
        return self.verdict[1] or self.verdict[0]

    @property
    def lost(self) -> bool:
        return is_lost(self.verdict)


@dataclass(frozen=True)
class JudgedDocument:
    """An entry of the truth, the document that it became, the last verdict, and its nodes where they are known."""

    true: DocumentTruth
    document: str | None
    verdict: Verdict
    nodes: tuple[JudgedNode, ...]

    @property
    def reason(self) -> str:
        return self.verdict[1] or self.verdict[0]

    @property
    def lost(self) -> bool:
        return is_lost(self.verdict)


def score_documents(
    truth: DocumentsTruth,
    entries: pa.Table,
    ledger: pa.Table,
    lineage: pa.Table,
    nodes: pa.Table,
    paired: pa.Table,
    assembled: pa.Table,
    density: pa.Table,
) -> FigureScore:
    """Score a run.

    Args:
        entries: row_id, file, number.
        ledger, lineage: as `schemas.ledger`.
        nodes: row_id, root (the document), ordinal.
        paired: row_id and paired_ordinal of the images that came to the pairing.
        assembled: row_id, root (the document) and nodes (`schemas.document_samples.KEPT_NODE`) of samples.
        density: row_id, density_kept.
    """
    judged = list(judge(truth, entries, Verdicts(ledger, lineage), nodes, paired))
    problems = accounting_problems(ledger, entries["row_id"].to_pylist())
    problems += [
        f"{one.true.number} of {one.true.file} is not in the run" for one in judged if one.verdict == NOT_FOUND
    ]
    problems += [
        f"{one.true.number} of {one.true.file}: its nodes are not those of the truth"
        for one in judged
        if one.true.fault is None and not one.lost and len(one.nodes) < len(one.true.nodes)
    ]
    figures = [
        *pairing_figures(judged),
        *fault_figures(judged),
        order_figure(judged, assembled),
        *quota_figures(density, truth.about.get("keep_fraction")),
        Figure("ledger: rows lost or counted twice", float(len(problems)), at_most=0, plain=True),
    ]
    return FigureScore(tuple(figures), tuple(problems))


def judge(
    truth: DocumentsTruth, entries: pa.Table, verdicts: Verdicts, nodes: pa.Table, paired: pa.Table
) -> Iterator[JudgedDocument]:
    """What became of each document of the truth, and of each node of the good ones."""
    rows = dict(zip(_pairs(entries, "file", "number"), entries["row_id"].to_pylist(), strict=True))
    places = dict(zip(_pairs(nodes, "root", "ordinal"), nodes["row_id"].to_pylist(), strict=True))
    partners = dict(zip(*(paired[name].to_pylist() for name in ("row_id", "paired_ordinal")), strict=True))
    for true in truth.documents:
        row_id = rows.get((true.file, true.number))
        made = verdicts.made_of(row_id) if row_id else []
        document = made[0] if made else None
        judged = []
        for place, node in enumerate(true.nodes):
            if document is not None and (node_id := places.get((document, place))):
                own = verdicts.own.get(node_id, NOT_FOUND)
                judged.append(JudgedNode(node, node_id, own, node_id in partners, partners.get(node_id)))
        yield JudgedDocument(true, document, verdicts.of(row_id) if row_id else NOT_FOUND, tuple(judged))


def pairing_figures(judged: Sequence[JudgedDocument]) -> Iterator[Figure]:
    """Images that got their own text, and what the null column took."""
    images = [node for one in judged if one.true.fault is None for node in one.nodes if node.true.kind == "image"]
    reached = [node for node in images if node.reached and node.true.fault is None]
    bound = [node for node in reached if node.true.partner is not None]
    right = [node for node in bound if node.partner == node.true.partner]
    wrong = ["left alone" if node.partner is None else "with another text" for node in bound if node not in right]
    yield share("images paired with their own text", len(right), len(bound), at_least=0.95, by=wrong)
    alone = [node for node in reached if node.true.partner is None]
    refused = [node for node in alone if node.reason == ALONE]
    yield share("images without a text, left alone", len(refused), len(alone))
    taken = [node for node in reached if node.reason == ALONE]
    yield share("images left alone that have no text", len(refused), len(taken))


def fault_figures(judged: Sequence[JudgedDocument]) -> Iterator[Figure]:
    """How many of each planted fault were rejected or failed, and what good there was among it."""
    good = [one for one in judged if one.true.fault is None]
    nodes = [node for one in good for node in one.nodes]
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = (("images", IMAGE_NODE_FAULTS), ("texts", TEXT_NODE_FAULTS))
    for name, faults in kinds:
        planted = [node for node in nodes if node.true.fault in faults]
        if planted:
            yield _caught(f"caught: faulty {name}", planted, 1.0 if name == "images" else 0.95)
        for fault in faults:
            some = [node for node in planted if node.true.fault == fault]
            if some:
                yield _caught(f"caught: {fault}", some)
    wholes: list[str] = [fault for fault in DOCUMENT_FAULTS if fault != "duplicate"]
    broken = [one for one in judged if one.true.fault in wholes]
    if broken:
        yield _caught("caught: faulty documents", broken, 0.95)
    for fault in wholes:
        with_fault = [one for one in broken if one.true.fault == fault]
        if with_fault:
            yield _caught(f"caught: {fault}", with_fault)
    originals = {one.true.content: one for one in good}
    equal = [one for one in judged if one.true.fault == "duplicate"]
    merged = [one for one in equal if one.document and one.document == originals[one.true.content].document]
    if equal:
        yield share("equal documents brought to one", len(merged), len(equal), at_least=1.0)
    lost = [one.reason for one in good if one.lost]
    yield share("good documents lost", len(lost), len(good), at_most=0.03, by=lost)
    sound = [node for node in nodes if node.true.fault is None and node.reason != ALONE]
    gone = [node.reason for node in sound if node.lost]
    yield share("good nodes lost, those left alone apart", len(gone), len(sound), at_most=0.02, by=gone)


def order_figure(judged: Sequence[JudgedDocument], assembled: pa.Table) -> Figure:
    """Documents put together again whose nodes are those that were kept, in the order of the source."""
    samples = dict(zip(assembled["root"].to_pylist(), assembled["nodes"].to_pylist(), strict=True))
    good = [one for one in judged if one.true.fault is None and one.document in samples]
    right = 0
    for one in good:
        kept = [(place, node.true.kind) for place, node in enumerate(one.nodes) if not node.lost]
        found = [(node["ordinal"], node["node_kind"]) for node in samples[one.document]]
        right += kept == found
    return share("documents in order, with all that was kept", right, len(good), at_least=1.0)


def quota_figures(density: pa.Table, keep_fraction: float | None) -> Iterator[Figure]:
    """Whether density pruning kept exactly round(keep_fraction · N); halves are rounded up."""
    if keep_fraction is None or not density.num_rows:
        return
    kept = sum(bool(one) for one in density["density_kept"].to_pylist())
    wanted = math.floor(keep_fraction * density.num_rows + 0.5)
    count = f"{kept} of {density.num_rows}, {wanted} wanted"
    yield Figure("documents kept beyond the quota", float(kept - wanted), 0, 0, count, plain=True)


def _caught(name: str, planted: Sequence[JudgedNode | JudgedDocument], least: float | None = None) -> Figure:
    caught = [one.reason for one in planted if one.lost]
    return share(name, len(caught), len(planted), at_least=least, by=caught)


def _pairs(table: pa.Table, *names: str) -> Iterator[tuple[str, int]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
