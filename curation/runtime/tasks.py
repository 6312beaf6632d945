"""A task: one unit of one node, with all that a worker needs to do it; and the doing of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from curation.engines import recordings
from curation.runtime.chain import Outcome, run_chain
from curation.runtime.nodes import Map, Pack, Reduce
from curation.runtime.packing import pack
from curation.store.measures import Measures
from curation.store.objects import Store
from curation.store.parts import (
    PartFile,
    Receipt,
    find_receipt,
    put_bytes,
    put_part,
    put_table,
    read_part_table,
    split_payloads,
)
from curation.store.withdrawals import withdrawn_from
from schemas.ledger import KEPT


@dataclass(frozen=True)
class Input:
    """Rows of one part; all that it kept, or those named."""

    rows: PartFile
    row_ids: tuple[str, ...] | None = None
    blob: PartFile | None = None


@dataclass(frozen=True)
class Task:
    """One unit of a node.

    Attributes:
        part: where it lands; made from the node's fingerprint and the unit's content.
        joins: the tables that are joined to its rows.
        rows: how many rows come in.
        cost: what they cost, in the node's measure.
        dataset: whose withdrawals count; empty where there are none.
    """

    node: Map | Reduce | Pack
    part: str
    inputs: tuple[Input, ...]
    joins: tuple[PartFile, ...] = ()
    rows: int = 0
    cost: float = 0.0
    dataset: str = ""


Run = Callable[[Task, pa.Table], Outcome]


def execute(task: Task, store: Store, run: Run | None = None) -> Receipt:
    """Do a task, unless its part is there, and return its receipt.

    Args:
        run: takes the rows through the node's chain; the default does so in this process.
    """
    if receipt := find_receipt(store, task.part):
        return receipt
    if isinstance(task.node, Pack):
        return put_part(store, pack(task.node, task.part, store, [(i.rows, i.blob, i.row_ids) for i in task.inputs]))
    rows = load_rows(task, store)
    if isinstance(task.node, Reduce):
        table = task.node.function(rows)
        receipt = Receipt(task.node.name, task.part, {"table": put_table(store, task.part, "table", table)})
        return put_part(store, receipt)
    outcome = (run or in_this_process(store))(task, rows)
    kept, blob = split_payloads(outcome.rows)
    files = {
        "rows": put_table(store, task.part, "rows", kept),
        "ledger": put_table(store, task.part, "ledger", outcome.ledger),
        "lineage": put_table(store, task.part, "lineage", outcome.lineage),
    }
    if blob:
        files["blob"] = put_bytes(store, task.part, "blob", ".bin", blob)
    receipt = Receipt(
        node=task.node.name,
        part=task.part,
        files=files,
        counts=outcome.counts,
        rows_in=rows.num_rows,
        made=outcome.made,
        timings=outcome.timings,
        remarks=outcome.remarks,
    )
    return put_part(store, receipt)


def in_this_process(store: Store, entering: Callable[[str], None] = lambda stage: None) -> Run:
    """Run chains here, with the measures of a store."""

    def run(task: Task, rows: pa.Table) -> Outcome:
        assert isinstance(task.node, Map)
        recordings.bind(store)
        measures = measures_of(store.root)
        outcome = run_chain(
            task.node.name,
            task.node.stages,
            rows,
            together=task.node.unit.together,
            measures=measures,
            entering=entering,
            withdrawn=withdrawn_from(store, task.dataset) if task.dataset else None,
        )
        outcome.remarks = measures.take_remarks()
        return outcome

    return run


@lru_cache(maxsize=4)
def measures_of(root: str) -> Measures:
    """The measures of a store, with an index that lives as long as the process."""
    return Measures(Store(root))


def load_rows(task: Task, store: Store) -> pa.Table:
    """A task's rows, in order of root, ordinal and row id, with its joined tables beside them."""
    columns = None
    if isinstance(task.node, Reduce):
        columns = list(dict.fromkeys([*task.node.function.reads, "row_id", "root", "ordinal", "verdict"]))
    tables = []
    for source in task.inputs:
        rows = read_part_table(store, source.rows, columns, source.row_ids)
        tables.append(rows.filter(pc.equal(rows["verdict"], KEPT)))
    rows = pa.concat_tables(tables, promote_options="default")
    rows = rows.drop_columns([name for name in ("verdict", "digest") if name in rows.column_names])
    for join in task.joins:
        rows = _joined(rows, _small_table(store.root, join))
    return rows.sort_by([("root", "ascending"), ("ordinal", "ascending"), ("row_id", "ascending")])


@lru_cache(maxsize=8)
def _small_table(root: str, file: PartFile) -> pa.Table:
    """A reduce's table, read once in a process: its name is made from its content."""
    return read_part_table(Store(root), file)


def _joined(rows: pa.Table, table: pa.Table) -> pa.Table:
    """Rows with a small table's columns, by the columns that both have; rows without a match get nulls.

    A table that shares no column has one row, which goes to all.
    """
    keys = [name for name in table.column_names if name in rows.column_names]
    if keys:
        wanted = join_key(rows, keys)
        # Much cheaper than looking the few up among all.
        table = table.filter(pc.is_in(join_key(table, keys), value_set=wanted))
        places = pc.index_in(wanted, value_set=join_key(table, keys))
    else:
        places = pa.array([0] * rows.num_rows, pa.int32())
    for name in (name for name in table.column_names if name not in keys):
        rows = rows.append_column(table.schema.field(name), table[name].take(places))
    return rows


def join_key(table: pa.Table, names: Sequence[str]) -> pa.Array:
    """One value a row that stands for several columns."""
    columns = [pc.cast(table[name].combine_chunks(), pa.string()) for name in names]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\x1f", null_handling="replace")
