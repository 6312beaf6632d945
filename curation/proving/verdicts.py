"""Verdicts of a run, by row: the last one of each, of what was made of it, and whether none was lost."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from curation.proving.results import last_verdicts
from schemas.ledger import FAILED, KEPT, REJECTED, VERDICTS

NOT_FOUND = ("missing", "not_in_the_run")
"""Verdict and reason of what no row of the run stands for."""

Verdict = tuple[str, str | None]


class Verdicts:
    """The last verdict of every row of a run; that of a row that was made to others is theirs.

    Args:
        ledger: as `schemas.ledger.LEDGER`.
        lineage: as `schemas.ledger.LINEAGE`.
    """

    def __init__(self, ledger: pa.Table, lineage: pa.Table) -> None:
        self.own: dict[str, Verdict] = last_verdicts(ledger)
        self.children: dict[str, list[str]] = defaultdict(list)
        for child, parent in zip(lineage["child"].to_pylist(), lineage["parent"].to_pylist(), strict=True):
            self.children[parent].append(child)

    def of(self, row_id: str) -> Verdict:
        """Its verdict; where it was kept and made to others, that of the best of them: kept, not drawn, lost."""
        verdict = self.own.get(row_id, NOT_FOUND)
        made = self.children.get(row_id, ()) if verdict[0] == KEPT else ()
        return min((self.of(child) for child in made), key=_badness, default=verdict)

    def made_of(self, row_id: str) -> list[str]:
        """The rows that were made of it."""
        return list(self.children.get(row_id, ()))


def _badness(verdict: Verdict) -> int:
    return 2 if is_lost(verdict) else int(verdict[0] != KEPT)


def is_lost(verdict: Verdict) -> bool:
    """Whether it was decided against the row; a row that was not drawn is a good one."""
    return verdict[0] in (REJECTED, FAILED)


def accounting_problems(ledger: pa.Table, row_ids: Iterable[str] = ()) -> list[str]:
    """Where rows were lost or counted twice; empty if the ledger is balanced.

    At each node the rows that came in and were made there are the sum of the verdicts; a row has one verdict at a node,
    is made at one node at most, and after a verdict other than `kept` meets no other one of that sort.

    Args:
        row_ids: rows that must be in the ledger.
    """
    nodes: dict[str, Counter[Any]] = defaultdict(Counter)
    at_node: Counter[tuple[str, str]] = Counter()
    ended: Counter[str] = Counter()
    made: Counter[str] = Counter()
    columns = (ledger[name].to_pylist() for name in ("row_id", "node", "made", "verdict"))
    for row_id, node, is_made, verdict in zip(*columns, strict=True):
        nodes[node].update(["made" if is_made else "in", verdict])
        at_node[row_id, node] += 1
        made[row_id] += bool(is_made)
        ended[row_id] += verdict != KEPT
    problems = []
    for node, counts in nodes.items():
        total = sum(counts[verdict] for verdict in VERDICTS)
        if counts["in"] + counts["made"] != total:
            problems.append(f"{node}: {counts['in']} in and {counts['made']} made, but {total} verdicts")
    problems += [f"{node}: row {row_id} has {n} verdicts" for (row_id, node), n in at_node.items() if n > 1]
    problems += [f"row {row_id} was ended {n} times" for row_id, n in ended.items() if n > 1]
    problems += [f"row {row_id} was made {n} times" for row_id, n in made.items() if n > 1]
    return problems + [f"row {row_id} is not in the ledger" for row_id in row_ids if row_id not in ended]
