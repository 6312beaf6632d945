"""A run: a pipeline's nodes in their order, each cut to tasks that are done or to do, handed to a runner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import RunFailed, StageError, StoreError
from curation.hashing import digest, row_digests
from curation.meter import Beat
from curation.runtime.chain import check_chain
from curation.runtime.nodes import WHOLE, Listing, Map, Node, Pack, Pinned, Pipeline, Reduce, Unit, stages_of
from curation.runtime.tasks import Input, Task, Working, join_key, unwatched
from curation.runtime.units import PLANNING_COLUMNS, cut, unit_name
from curation.store.objects import Store
from curation.store.parts import PartFile, Receipt, find_receipt, put_table, read_part_table, receipt_path
from curation.store.versions import read_version
from curation.store.withdrawals import REASON, Withdrawn
from schemas.ledger import FAILED, KEPT
from schemas.rows import ROW_COLUMNS


class Runner(Protocol):
    """Does tasks, anywhere and in any order."""

    def run(self, tasks: Sequence[Task], store: Store, landed: "Landed", working: Working = unwatched) -> None: ...

    def close(self) -> None: ...


class Landed(Protocol):
    def __call__(self, task: Task, receipt: Receipt) -> None: ...


class Watcher(Protocol):
    """Watches a run."""

    def node_starts(self, node: Node, tasks: Sequence[Task], found: Sequence[Receipt]) -> None: ...

    def landed(self, task: Task, receipt: Receipt) -> None: ...

    def working(self, beats: Sequence[tuple[Task, Beat]]) -> None: ...

    def node_ends(self, node: Node, receipts: Sequence[Receipt]) -> None: ...


@dataclass(frozen=True)
class NodePlan:
    """What a node would do: units that are done, units that are to do; None where its input is not known yet."""

    node: Node
    done: list[Receipt] | None
    todo: list[Task] | None


@dataclass
class Run:
    """One pass of a pipeline over a store.

    Attributes:
        retry_failed: units with failed rows are done again: what failed may have been a disk or a network. Their
            receipts go; versions that list their parts keep them.
        withdrawn: rows that must stay out, whatever their sources say.
        computed: parts that this run wrote; all others were there.
    """

    pipeline: Pipeline
    store: Store
    retry_failed: bool = False
    withdrawn: Withdrawn = Withdrawn()
    receipts: dict[str, list[Receipt]] = field(default_factory=dict, init=False)
    computed: set[str] = field(default_factory=set, init=False)
    _order: dict[str, list[str]] = field(default_factory=dict, init=False)
    _listed: dict[str, pa.Table] = field(default_factory=dict, init=False)

    def check(self) -> None:
        """Check every chain's reads and writes, before anything runs.

        Raises:
            StageError: naming the node, the stage and the column.
        """
        columns: dict[str, tuple[str, ...]] = {}
        for node in self.pipeline.nodes:
            match node:
                case Listing():
                    columns[node.name] = tuple(node.rows.column_names)
                case Map() | Reduce():
                    joined = [name for join in node.joins for name in columns[join]]
                    after = check_chain(node.name, [*columns[node.source], *joined], stages_of(node))
                    columns[node.name] = node.function.writes if isinstance(node, Reduce) else after
                case Pinned():
                    columns[node.name] = read_pinned(self.store, self.pipeline.dataset, node)[1]
                case Pack():
                    check_chain(node.name, columns[node.source], [node.layout])
                    columns[node.name] = columns[node.source]

    def run(self, runner: Runner, watcher: Watcher) -> dict[str, list[Receipt]]:
        """Do whatever is not done yet. Returns every node's receipts, in the order of their units."""
        for node in self.pipeline.nodes:
            plan = self._plan(node)
            if plan.todo is None or plan.done is None:
                raise StageError(f"node {node.name} comes before its source")
            watcher.node_starts(node, plan.todo, plan.done)
            landed = {receipt.part: receipt for receipt in plan.done}

            def land(task: Task, receipt: Receipt, landed: dict[str, Receipt] = landed) -> None:
                landed[receipt.part] = receipt
                self.computed.add(receipt.part)
                watcher.landed(task, receipt)

            runner.run(plan.todo, self.store, land, watcher.working)
            if missing := [task.part for task in plan.todo if task.part not in landed]:
                raise RunFailed(f"node {node.name}: no result for {missing[0]}")
            self.receipts[node.name] = [landed[part] for part in self._order[node.name]]
            watcher.node_ends(node, self.receipts[node.name])
        return self.receipts

    def plan(self) -> list[NodePlan]:
        """What a run would do, as far as it can be known from what is done. Opens no media, starts nothing."""
        plans = []
        for node in self.pipeline.nodes:
            plan = self._plan(node, write=False)
            plans.append(plan)
            if plan.done is not None and not plan.todo:
                self.receipts[node.name] = plan.done
        return plans

    # -- from nodes to tasks ---------------------------------------------------------------------------------------

    def _plan(self, node: Node, write: bool = True) -> NodePlan:
        match node:
            case Listing():
                receipt = self._list(node, write)
                self._order[node.name] = [receipt.part]
                return NodePlan(node, [receipt], [])
            case Pinned():
                receipt = read_pinned(self.store, self.pipeline.dataset, node)[0]
                self._order[node.name] = [receipt.part]
                return NodePlan(node, [receipt], [])
        needs = [node.source, *(() if isinstance(node, Pack) else node.joins)]
        if any(name not in self.receipts for name in needs):
            return NodePlan(node, None, None)
        tasks = self._tasks(node)
        if self.withdrawn:
            tasks = [self._without_withdrawn(task) for task in tasks]
        self._order[node.name] = [task.part for task in tasks]
        found = [(task, self._found(task, write)) for task in tasks]
        return NodePlan(
            node,
            [receipt for _, receipt in found if receipt is not None],
            [task for task, receipt in found if receipt is None],
        )

    def _without_withdrawn(self, task: Task) -> Task:
        """The task; under another name where what is done of it holds rows that were withdrawn since."""
        receipt = find_receipt(self.store, task.part)
        task = replace(task, dataset=self.pipeline.dataset)
        if receipt is None or "ledger" not in receipt.files:
            return task
        ledger = read_part_table(self.store, receipt.files["ledger"], ["row_id", "uri", "reason"])
        hits = pc.and_(self.withdrawn.among(ledger), pc.not_equal(pc.fill_null(ledger["reason"], ""), REASON))
        if not pc.any(hits).as_py():
            return task
        folder, _, name = task.part.rpartition("/")
        gone = sorted(set(ledger.filter(hits)["row_id"].to_pylist()))
        return replace(task, part=f"{folder}/{digest([name, 'without', gone])}")

    def _found(self, task: Task, write: bool) -> Receipt | None:
        """The receipt of a task that is done, and need not be done again."""
        receipt = find_receipt(self.store, task.part)
        if receipt is None or not self.retry_failed:
            return receipt
        if not any(counts.get(FAILED) for counts in receipt.counts.values()):
            return receipt
        if write:
            self.store.delete(receipt_path(task.part))
        return None

    def _list(self, node: Listing, write: bool) -> Receipt:
        """The listing as a part, so that all nodes read their input alike; a plan writes none."""
        rows = node.rows.replace_schema_metadata(None)  # what was skipped is said, and no content
        rows = rows.append_column("digest", pa.array(row_digests(node.rows, node.rows.column_names), pa.string()))
        rows = rows.append_column("verdict", pa.repeat(KEPT, rows.num_rows))
        part = f"parts/{node.fingerprint()}/{digest(sorted(rows['digest'].to_pylist()))}"
        rows = rows.sort_by("row_id")
        file = put_table(self.store, part, "rows", rows) if write else PartFile(f"{part}/rows", 0, "", rows.num_rows)
        self._listed[file.path] = rows
        return Receipt(node.name, part, {"rows": file})

    def _tasks(self, node: Map | Reduce | Pack) -> list[Task]:
        sources = self.receipts[node.source]
        # A reduce over no rows has no table; the map that joins it has no rows then either.
        names = () if isinstance(node, Pack) else node.joins
        joins = tuple(receipt.files["table"] for name in names for receipt in self.receipts[name])
        unit = WHOLE if isinstance(node, Reduce) else node.unit
        subset = node.layout.apart if isinstance(node, Pack) else ()
        tables = {join.path: read_part_table(self.store, join) for join in joins}
        shared = {name for table in tables.values() for name in table.column_names}
        rows = self._planning_rows(sources, {unit.together, *([unit.cost] if unit.cost else ()), *subset, *shared})
        if not rows.num_rows:
            return []
        for name in (unit.together, *([unit.cost] if unit.cost else ()), *subset):
            if name not in rows.column_names:
                raise StoreError(f"parts of {node.source} are damaged: no row of {sources[0].part} has {name!r}")
        joined = [joined_values(rows, table) or [path] * rows.num_rows for path, table in tables.items()]
        folder = f"parts/{node.fingerprint()}"
        parts = rows["part"].to_pylist()
        ids, digests = rows["row_id"].to_pylist(), rows["digest"].to_pylist()
        costs = rows[unit.cost].to_pylist() if unit.cost else [1.0] * rows.num_rows
        tasks = []
        for positions in _cut_by(subset, rows, unit):
            name = unit_name([digests[i] for i in positions], [[values[i] for i in positions] for values in joined])
            wanted: dict[int, list[str]] = {}
            for i in positions:
                wanted.setdefault(parts[i], []).append(ids[i])
            whole = isinstance(node, Reduce)
            inputs = tuple(
                Input(
                    sources[part].files["rows"],
                    None if whole else tuple(row_ids),
                    sources[part].files.get("blob"),
                )
                for part, row_ids in sorted(wanted.items())
            )
            cost = sum(costs[i] or 0.0 for i in positions)
            resources = self.pipeline.resources
            tasks.append(Task(node, f"{folder}/{name}", inputs, joins, len(positions), cost, resources=resources))
        return tasks

    def _planning_rows(self, receipts: Sequence[Receipt], extra: set[str]) -> pa.Table:
        """The small columns of all kept rows, with the number of the part that holds them."""
        wanted = sorted({*PLANNING_COLUMNS, *ROW_COLUMNS, "verdict", *extra} - {"uri"})
        tables = []
        for number, receipt in enumerate(receipts):
            file = receipt.files["rows"]
            rows = self._listed.get(file.path)
            rows = read_part_table(self.store, file, wanted) if rows is None else rows
            rows = rows.select([name for name in wanted if name in rows.column_names])
            rows = rows.filter(pc.equal(rows["verdict"], KEPT))
            tables.append(rows.append_column("part", pa.repeat(number, rows.num_rows)))
        if not tables:
            return pa.table({name: pa.array([], pa.string()) for name in [*wanted, "part"]})
        return pa.concat_tables(tables, promote_options="default")


def joined_values(rows: pa.Table, table: pa.Table) -> list[str | None] | None:
    """What a join brings to each row, as a digest: a new row elsewhere in the table leaves a unit as it is.

    None where the table has one row for all, or the rows get the key from another join: then the whole table counts.
    """
    keys = [name for name in table.column_names if name in rows.column_names]
    if not keys:
        return None
    digests = pa.array(row_digests(table, table.column_names), pa.string())
    return cast(list[str | None], digests.take(pc.index_in(join_key(rows, keys), join_key(table, keys))).to_pylist())


def _cut_by(subset: Sequence[str], rows: pa.Table, unit: Unit) -> Iterator[list[int]]:
    """Units of a table; of each subset for itself, where there are any."""
    if not subset:
        yield from cut(rows, unit)
        return
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, values in enumerate(zip(*(rows[name].to_pylist() for name in subset), strict=True)):
        groups.setdefault(values, []).append(place)
    for _, here in sorted(groups.items()):
        for positions in cut(rows.take(here), unit):
            yield [here[i] for i in positions]


def read_pinned(store: Store, dataset: str, node: Pinned) -> tuple[Receipt, tuple[str, ...]]:
    """A reduce's receipt as a version lists it, with the columns of its table."""
    version = read_version(store, dataset, node.version)
    receipts = version.receipts(node.name)
    if not receipts:
        raise RunFailed(f"version {node.version} of {dataset} has no {node.name} to pin")
    return receipts[0], tuple(read_part_table(store, receipts[0].files["table"]).column_names)
