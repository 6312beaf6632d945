"""What failed in a run: inputs that cannot be read, and defects of stages, each against a limit of its own.

An error with a name of this project (`curation.errors`) tells of an input: a torn image, a language that lacks its
package. So do an error of the system (a file that is gone, no memory) and a row that kills its process. Anything else
that a stage raises, such as a KeyError, is a defect of the code: it says nothing of the data, so a few rows are many.

Samples count, not rows: a row group that cannot be read is one row of the ledger, whose value says how many it had.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow.compute as pc

from curation.errors import CurateError, StageError
from curation.store.objects import Store
from curation.store.parts import Receipt, read_part_table
from curation.store.versions import NodeRecord
from schemas.ledger import FAILED

CRASHED = "crashed"


@dataclass
class Failures:
    """Failed rows of one kind at one node.

    Attributes:
        unreadable: rows whose inputs cannot be read.
        hidden: samples that went with them and have no row of their own.
        defects: rows at which a stage raised, by the exception's name.
    """

    unreadable: int = 0
    hidden: int = 0
    defects: Counter[str] = field(default_factory=Counter)


def failures_of(receipts: Sequence[Receipt], store: Store) -> dict[str, Failures]:
    """What failed at a node, by kind."""
    inputs = _input_errors()
    found: dict[str, Failures] = {}
    for receipt in receipts:
        if not any(FAILED in verdicts for verdicts in receipt.counts.values()):
            continue
        ledger = read_part_table(store, receipt.files["ledger"], ["kind", "verdict", "reason", "value"])
        ledger = ledger.filter(pc.equal(ledger["verdict"], FAILED))
        groups = ledger.group_by(["kind", "reason"]).aggregate(
            [("value", "sum"), ("value", "count"), ([], "count_all")]
        )
        for row in groups.to_pylist():
            of_kind = found.setdefault(row["kind"], Failures())
            if row["reason"] in inputs:
                of_kind.unreadable += row["count_all"]
                of_kind.hidden += int(row["value_sum"] or 0) - row["value_count"]
            else:
                of_kind.defects[row["reason"]] += row["count_all"]
    return found


def too_many(
    node: NodeRecord, failures: Mapping[str, Failures], max_failed_share: float, max_defect_share: float
) -> str:
    """Why a node's failures are too many; empty where they are not."""
    # A file that cannot be opened hides rows of the kind that would have been made of it, and is one of its own kind.
    of_files = [one for kind, one in failures.items() if kind not in node.made and one.hidden]
    in_files = sum(one.hidden + one.unreadable for one in of_files)
    for kind, counts in node.counts.items():
        here = failures.get(kind, Failures())
        hidden = here.hidden + in_files if kind in node.made else 0
        unreadable, defects = here.unreadable + hidden, sum(here.defects.values())
        total = sum(counts.values()) + hidden
        what = f"{kind} samples" if hidden else f"{kind} rows"
        if total and unreadable / total > max_failed_share:
            share = f"more than max_failed_share {max_failed_share:g}"
            return f"{unreadable} of {total} {what} failed at {node.name}, {share}: their inputs cannot be read"
        if total and defects / total > max_defect_share:
            names = ", ".join(f"{name} {count}" for name, count in here.defects.most_common(5))
            share = f"more than max_defect_share {max_defect_share:g}"
            return f"{defects} of {total} {what} failed at {node.name}, {share}: a stage raised {names}"
    return ""


def _input_errors() -> frozenset[str]:
    """Names of errors that tell of an input."""
    names, left = {CRASHED, MemoryError.__name__}, [CurateError, OSError]
    while left:
        error = left.pop()
        names.add(error.__name__)
        left += error.__subclasses__()
    return frozenset(names - {StageError.__name__})
