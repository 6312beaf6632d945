"""The chain: one block of rows through the stages of a map, with every row accounted for.

Stages see undecided rows only. A stage that raises is tried again on halves, down to the group of rows that it cannot
take, and that group alone is failed. A row that a stage leaves out without having made others of it is a defect of the
stage, and is named.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from curation import meter
from curation.errors import BLAMES_NO_ROW, CurateError, RunFailed, StageError
from curation.hashing import row_digests
from curation.stage import Stage, fail, mark, reject, undecided, with_column
from curation.store.withdrawals import REASON, Withdrawn
from schemas.ledger import DECISION, FAILED, KEPT, LEDGER, LINEAGE
from schemas.rows import ROW_COLUMNS

ALIKE_ROOTS = 8
"""Sources whose rows all fail alike before the reason is looked for outside of them."""
CRASHED = "crashed"
"""In the ledger, for a row whose process died."""
_IMPORTS = ("ImportError", "ModuleNotFoundError")


class MeasureCache(Protocol):
    """Where costly measures are kept, by the values that they were made from."""

    def find(self, stage: Stage, keys: Sequence[str]) -> pa.Table | None:
        """The known ones: `key` and the columns that the stage writes, one row per key. None where there are none."""

    def keep(self, stage: Stage, rows: pa.Table) -> None:
        """Keep the stage's columns of rows that have their `key`."""


@dataclass
class Outcome:
    """What a block became.

    Attributes:
        rows: every row that went in or was made, except those that others were made of; `verdict` says which are kept.
        ledger: one row per row that went in or was made.
        lineage: (child, parent) edges.
        timings: CPU seconds by stage.
        remarks: what a person should know of it (damage that was repaired).
    """

    rows: pa.Table
    ledger: pa.Table
    lineage: pa.Table
    timings: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows by kind and verdict."""
        return verdict_counts(self.ledger)

    @property
    def made(self) -> dict[str, int]:
        """Rows that were made here, by kind."""
        return made_counts(self.ledger)


def verdict_counts(ledger: pa.Table) -> dict[str, dict[str, int]]:
    """Entries by kind and verdict."""
    counted = ledger.group_by(["kind", "verdict"]).aggregate([([], "count_all")])
    counts: dict[str, dict[str, int]] = {}
    for row in counted.sort_by([("kind", "ascending"), ("verdict", "ascending")]).to_pylist():
        counts.setdefault(row["kind"], {})[row["verdict"]] = row["count_all"]
    return counts


def made_counts(ledger: pa.Table) -> dict[str, int]:
    """Entries of rows that were made, by kind."""
    counted = ledger.filter(ledger["made"]).group_by("kind").aggregate([([], "count_all")])
    return {row["kind"]: row["count_all"] for row in counted.sort_by("kind").to_pylist()}


@dataclass
class _Block:
    """A block on its way: who came in, who was made of whom, who is decided, and by which stage."""

    node: str
    incoming: set[str]
    made: dict[str, list[str]] = field(default_factory=dict)
    decided: list[pa.Table] = field(default_factory=list)
    consumed: list[pa.Table] = field(default_factory=list)


def run_chain(
    node: str,
    stages: Sequence[Stage],
    rows: pa.Table,
    *,
    together: str = "row_id",
    measures: MeasureCache | None = None,
    entering: Callable[[str], None] = lambda stage: None,
    withdrawn: Withdrawn | None = None,
) -> Outcome:
    """Take a block of rows through stages.

    Args:
        rows: with the columns of `schemas.rows`, one row per `row_id`.
        together: the column whose equal values must stay in one block (a merging stage needs all of a recording).
        entering: called with each stage's name before it runs, so that a crash can be charged to it.
        withdrawn: rows that no stage may see.
    """
    block = _Block(node, set(rows["row_id"].to_pylist()))
    timings: dict[str, float] = {}
    rows = _take_out(block, rows, withdrawn)
    for place, stage in enumerate(stages):
        if not rows.num_rows:
            break
        meter.enter(stage.name, place, len(stages), rows.num_rows)
        entering(stage.name)
        started = time.process_time()
        result = _apply(stage, rows, together, measures)
        _refuse_one_reason_for_all(node, stage, rows, result)
        timings[stage.name] = timings.get(stage.name, 0.0) + time.process_time() - started
        rows = _account(block, stage, rows, result)
        if stage.makes:
            rows = _take_out(block, rows, withdrawn)
    return _outcome(block, rows, timings)


def _take_out(block: _Block, rows: pa.Table, withdrawn: Withdrawn | None) -> pa.Table:
    """Reject rows that were withdrawn. Nothing is kept of them but what every row has."""
    if not withdrawn:
        return rows
    hits = withdrawn.among(rows)
    if not pc.any(hits).as_py():
        return rows
    gone = rows.filter(hits).select(ROW_COLUMNS)
    gone = reject(gone, [True] * gone.num_rows, REASON)
    block.decided.append(gone.append_column("stage", pa.repeat(REASON, gone.num_rows)))
    return rows.filter(pc.invert(hits))


def _apply(stage: Stage, rows: pa.Table, together: str, measures: MeasureCache | None) -> pa.Table:
    """One stage over a block; what raises is cut in halves until the group that raises stands alone."""
    try:
        if stage.costly and measures is not None:
            return _measured(stage, rows, measures)
        return stage(rows)
    except BLAMES_NO_ROW:
        raise
    except (Exception, SystemExit) as error:  # a library that calls exit() has no say over the run
        both = halves(rows, together)
        if both is None:
            return fail(rows, [error] * rows.num_rows)
    return pa.concat_tables([_apply(stage, half, together, measures) for half in both], promote_options="default")


def _refuse_one_reason_for_all(node: str, stage: Stage, before: pa.Table, after: pa.Table) -> None:
    """End the run where a stage fails every row of a block for one and the same reason that is not in the rows.

    That is a package that cannot be imported; or, for rows of `ALIKE_ROOTS` sources and more, any exception without an
    explanation of ours whose words are the same for all and name no file of a row. What is wrong with a file has errors
    of its own (`MediaError` and others), and rows of one source may well fail alike.

    Raises:
        RunFailed: with the reason.
    """
    if "decision" not in after.column_names or after.num_rows != before.num_rows:
        return
    decisions = after["decision"].combine_chunks()
    if decisions.null_count:
        return
    first = decisions[0].as_py()
    if first["verdict"] != FAILED or first["reason"] in _explained_errors():
        return
    if first["reason"] not in _IMPORTS and pc.count_distinct(before["root"]).as_py() < ALIKE_ROOTS:
        return
    if any(pc.any(pc.not_equal(pc.struct_field(decisions, name), first[name])).as_py() for name in ("reason", "error")):
        return
    if any(uri and uri in first["error"] for uri in before["uri"].to_pylist()):
        return
    raise RunFailed(
        f"node {node}: stage {stage.name} failed all {before.num_rows} rows of a unit for one reason, which does not "
        f"lie in them: {first['reason']}: {first['error']}"
    )


def _explained_errors() -> set[str]:
    """Names of the errors that say what is wrong with a row."""
    found, classes = set(), [CurateError]
    while classes:
        found.add(classes[-1].__name__)
        classes += classes.pop().__subclasses__()
    return found


def halves(rows: pa.Table, together: str) -> tuple[pa.Table, pa.Table] | None:
    """Rows cut in two near the middle, between values of `together`; None for rows that share one value."""
    keys = rows[together].to_pylist()
    borders = [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]]
    if not borders:
        return None
    middle = min(borders, key=lambda i: abs(i - len(keys) / 2))
    return rows.slice(0, middle), rows.slice(middle)


def _measured(stage: Stage, rows: pa.Table, measures: MeasureCache) -> pa.Table:
    """A costly stage over the rows whose measures are not known yet, and the known ones put beside them.

    Rows that are equal in all that the stage reads (three captions of one image) are measured once.
    """
    keys = row_digests(rows, stage.reads)
    known = measures.find(stage, keys)
    place = {} if known is None else {key: i for i, key in enumerate(known["key"].to_pylist())}
    todo = {key: i for i, key in reversed(list(enumerate(keys))) if key not in place}
    found = [] if known is None else [known.select(["key", *stage.writes])]
    meter.advance(rows.num_rows - len(todo))
    if todo:
        fresh = stage(rows.take(pa.array(sorted(todo.values()), pa.int64())))
        key_of = dict(zip(rows["row_id"].to_pylist(), keys, strict=True))
        fresh_keys = [key_of[row_id] for row_id in fresh["row_id"].to_pylist()]
        fresh = with_column(fresh, "key", fresh_keys, pa.string())
        measures.keep(stage, undecided(fresh))
        place |= {key: len(place) + i for i, key in enumerate(fresh_keys)}
        decided = ["decision"] if "decision" in fresh.column_names else []
        found.append(fresh.select(["key", *stage.writes, *decided]))
    values = pa.concat_tables(found, promote_options="default")
    values = values.take(pa.array([place[key] for key in keys], pa.int64()))
    for name in values.column_names[1:]:
        rows = with_column(rows, name, values[name])
    return rows


def _account(block: _Block, stage: Stage, before: pa.Table, after: pa.Table) -> pa.Table:
    """Book what a stage did: rows decided, rows made, rows that others were made of. Returns those that go on."""
    going_on = undecided(after).num_rows
    for name in (*stage.writes, *ROW_COLUMNS):
        if name not in after.column_names and going_on:
            raise StageError(f"stage {stage.name} did not write its column {name!r}")
    declared = {*before.column_names, *stage.writes, *ROW_COLUMNS, "parents", "decision"}
    if undeclared := sorted(set(after.column_names) - declared):
        raise StageError(f"stage {stage.name} wrote the column {undeclared[0]!r}, which is not among its `writes`")
    ids_before = before["row_id"].to_pylist()
    ids_after = after["row_id"].to_pylist()
    if len(set(ids_after)) != len(ids_after):
        raise StageError(f"stage {stage.name} gave two rows one id")
    here = set(ids_before)
    if again := (set(ids_after) - here) & (block.incoming | set(block.made)):
        raise StageError(f"stage {stage.name} made the row {min(again)}, which already exists")
    for row in after.select(["row_id", "parents"]).to_pylist() if "parents" in after.column_names else ():
        if row["row_id"] not in here:
            block.made[row["row_id"]] = row["parents"] or []
            if strangers := sorted(set(row["parents"] or ()) - here):
                raise StageError(
                    f"stage {stage.name} made the row {row['row_id']} of {strangers[0]!r}, which it was not given"
                )
    parents = {parent for row_id in ids_after if row_id not in here for parent in block.made.get(row_id, ())}
    orphans = [row_id for row_id in ids_after if row_id not in here and not block.made.get(row_id)]
    if orphans:
        raise StageError(f"stage {stage.name} made the row {orphans[0]} without naming its parents")
    gone = here - set(ids_after)
    if vanished := gone - parents:
        raise StageError(f"stage {stage.name} lost the row {min(vanished)} without a verdict")
    if gone:
        block.consumed.append(before.filter(pa.array([row_id in gone for row_id in ids_before])))
    after = after.drop_columns([name for name in ("parents", *stage.drops) if name in after.column_names])
    if "decision" in after.column_names:
        hits = pc.is_valid(after["decision"])
        if pc.any(hits).as_py():
            decided = after.filter(hits)
            block.decided.append(decided.append_column("stage", pa.repeat(stage.name, decided.num_rows)))
        after = undecided(after)
    if stage.makes:
        # A row that failed here still has its parents' columns; those that were made have none of them.
        after = after.select([name for name in after.column_names if name in stage.writes or name in ROW_COLUMNS])
    return after


def _outcome(block: _Block, kept: pa.Table, timings: dict[str, float]) -> Outcome:
    kept = kept.append_column("digest", pa.array(row_digests(kept, kept.column_names), pa.string()))
    rows = pa.concat_tables([kept, *block.decided], promote_options="default")
    ledger = [_entries(block, table) for table in (rows, *block.consumed)]
    verdicts = pa.array([KEPT] * kept.num_rows, pa.string())
    if block.decided:
        decided = pc.struct_field(rows["decision"], "verdict")
        verdicts = pc.coalesce(decided, pa.scalar(KEPT))
        rows = rows.drop_columns(["decision", "stage"])
    edges = [
        {"child": child, "parent": parent, "node": block.node}
        for child, parents in block.made.items()
        for parent in parents
    ]
    lineage = pa.Table.from_pylist(edges, LINEAGE)
    return _in_order(Outcome(rows.append_column("verdict", verdicts), pa.concat_tables(ledger), lineage, timings))


def _in_order(outcome: Outcome) -> Outcome:
    """Rows, columns and edges in one order, however the block was cut on the way."""
    return Outcome(
        rows=outcome.rows.select(sorted(outcome.rows.column_names)).sort_by("row_id"),
        ledger=outcome.ledger.sort_by("row_id"),
        lineage=outcome.lineage.sort_by([("child", "ascending"), ("parent", "ascending")]),
        timings=outcome.timings,
        remarks=outcome.remarks,
    )


def _entries(block: _Block, rows: pa.Table) -> pa.Table:
    """Ledger entries of rows; those without a decision are kept."""
    count = rows.num_rows
    nothing = pa.nulls(count, DECISION)
    decision = rows["decision"].combine_chunks() if "decision" in rows.column_names else nothing
    entries = {name: pc.struct_field(decision, name) for name in DECISION.names}
    entries |= {
        "row_id": rows["row_id"],
        "node": pa.array([block.node] * count, pa.string()),
        "stage": rows["stage"] if "stage" in rows.column_names else pa.nulls(count, pa.string()),
        "kind": rows["kind"],
        "made": pc.invert(pc.is_in(rows["row_id"], pa.array(sorted(block.incoming), pa.string()))),
        "verdict": pc.coalesce(entries["verdict"], pa.scalar(KEPT)),
        "uri": rows["uri"],
    }
    return pa.table([entries[name] for name in LEDGER.names], schema=LEDGER)


def crashed(node: str, rows: pa.Table, stage: str, error: str) -> Outcome:
    """The outcome of rows whose process died: every one of them failed, with the stage that it died in."""
    block = _Block(node, set(rows["row_id"].to_pylist()))
    decision = {"verdict": FAILED, "reason": CRASHED, "value": None, "threshold": None, "error": error}
    failed = mark(rows, [decision] * rows.num_rows)
    block.decided.append(failed.append_column("stage", pa.repeat(stage, failed.num_rows)))
    return _outcome(block, rows.slice(0, 0), {})


def join_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several that came from parts of one block."""
    timings: dict[str, float] = {}
    for outcome in outcomes:
        for stage, seconds in outcome.timings.items():
            timings[stage] = timings.get(stage, 0.0) + seconds
    return _in_order(
        Outcome(
            rows=pa.concat_tables([o.rows for o in outcomes], promote_options="default"),
            ledger=pa.concat_tables([o.ledger for o in outcomes]),
            lineage=pa.concat_tables([o.lineage for o in outcomes]),
            timings=timings,
            remarks=[remark for o in outcomes for remark in o.remarks],
        )
    )


def check_chain(node: str, columns: Sequence[str], stages: Sequence[Stage]) -> tuple[str, ...]:
    """The columns that leave a chain, or an error that names the stage whose `reads` nobody writes."""
    present = set(columns)
    for stage in stages:
        for name in (*stage.reads, *stage.locators):
            if name not in present:
                raise StageError(f"node {node}: stage {stage.name} reads {name!r}, which nothing before it writes")
        if stage.makes:
            present = set(ROW_COLUMNS)
        present = (present | set(stage.writes)) - set(stage.drops)
    return tuple(sorted(present))
