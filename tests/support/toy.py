"""Stages without media, and a pipeline of them: what tests of the foundation run, here and in workers."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from curation.engines.engine import Engine, loaded
from curation.hashing import draw
from curation.rows import derived_id
from curation.runtime.inline import InlineRunner
from curation.runtime.nodes import Listing, Map, Pack, Pipeline, Reduce, Unit
from curation.runtime.progress import LiveProgress
from curation.runtime.publishing import run_and_publish
from curation.runtime.ray_runner import RayRunner
from curation.runtime.run import Run, Runner, Watcher
from curation.stage import Stage, fail, reject, with_column
from curation.store.layout import Layout
from curation.store.objects import Store
from curation.store.versions import Version
from curation.store.withdrawals import withdrawn_from
from schemas.ledger import SAMPLED_OUT
from schemas.rows import ROW, ROW_COLUMNS

PIECE = pa.schema([*ROW, pa.field("parents", pa.list_(pa.string())), pa.field("value", pa.int64())])


def items(values: Sequence[int], roots: Sequence[str] | None = None) -> pa.Table:
    """Rows to start from, one per value; of a root each, unless `roots` says otherwise."""
    ids = [f"item-{number:04d}" for number in range(len(values))]
    columns = {
        "row_id": ids,
        "root": list(roots or ids),
        "ordinal": list(range(len(values))),
        "kind": ["item"] * len(values),
        "uri": [f"/toy/{name}" for name in ids],
        "value": list(values),
    }
    return pa.table(columns, pa.schema([*ROW, pa.field("value", pa.int64())]))


@dataclass(frozen=True)
class Double(Stage):
    """Measure twice the value."""

    reads = ("value",)
    writes = ("double",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return with_column(rows, "double", pc.multiply(rows["value"], 2))


@dataclass(frozen=True)
class ReadsDouble(Stage):
    """Wants what `Double` writes."""

    reads = ("double",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows


@dataclass(frozen=True)
class Above(Stage):
    """Reject values above a limit."""

    limit: float = 100.0
    reads = ("value",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return reject(rows, pc.greater(rows["value"], self.limit), "above", value=rows["value"], limit=self.limit)


@dataclass(frozen=True)
class Lottery(Stage):
    """Decide by lot: rejected, sampled out, failed, or nothing."""

    seed: int = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        lots = [draw(self.seed, row_id, "lottery") for row_id in rows["row_id"].to_pylist()]
        rows = reject(rows, [lot < 0.2 for lot in lots], "unlucky", value=lots, limit=0.2)
        rows = reject(rows, [0.2 <= lot < 0.3 for lot in lots], "not_drawn", verdict=SAMPLED_OUT)
        return fail(rows, [ValueError("by lot") if 0.3 <= lot < 0.4 else None for lot in lots])


@dataclass(frozen=True)
class Explode(Stage):
    """Make up to three pieces of a row by lot; none is a rejection, and some rows raise."""

    seed: int = 0
    reads = ("value",)
    writes = tuple(name for name in PIECE.names if name != "parents")
    makes = "piece"

    def __call__(self, rows: pa.Table) -> pa.Table:
        pieces: list[dict[str, Any]] = []
        empty: list[dict[str, Any]] = []
        for row in rows.to_pylist():
            lot = draw(self.seed, row["row_id"], "explode")
            if lot < 0.15:
                raise OSError(f"{row['row_id']} does not explode")
            count = int(lot * 4)
            pieces += [_made(row, [row], "piece", number) for number in range(count)]
            empty += [] if count else [row]
        made = pa.Table.from_pylist(pieces, PIECE)
        left = rows.filter(pc.is_in(rows["row_id"], pa.array([row["row_id"] for row in empty], pa.string())))
        left = reject(left, [True] * left.num_rows, "empty")
        return pa.concat_tables([made, left], promote_options="default")


@dataclass(frozen=True)
class MergeRoots(Stage):
    """Make one row of all rows of a root; some roots raise."""

    seed: int = 0
    reads = ("value",)
    writes = tuple(name for name in PIECE.names if name != "parents")
    makes = "bundle"

    def __call__(self, rows: pa.Table) -> pa.Table:
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows.to_pylist():
            groups.setdefault(row["root"], []).append(row)
        for root in groups:
            if draw(self.seed, root, "merge") < 0.1:
                raise OSError(f"{root} does not merge")
        return pa.Table.from_pylist([_made(g[0], g, "bundle", 0) for g in groups.values()], PIECE)


def _made(row: dict[str, Any], parents: Sequence[dict[str, Any]], kind: str, number: int) -> dict[str, Any]:
    ids = [parent["row_id"] for parent in parents]
    return {
        "row_id": derived_id(ids, kind, number),
        "root": row["root"],
        "ordinal": row["ordinal"] * 4 + number,
        "kind": kind,
        "uri": row["uri"],
        "parents": ids,
        "value": sum(parent["value"] for parent in parents) + number,
    }


@dataclass(frozen=True)
class RaiseOn(Stage):
    """Raise for the whole block, as a library does that takes batches, if one value is in it."""

    value: int = 0
    message: str = "cannot digest"
    reads = ("value",)
    writes = ("digested",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self.value in rows["value"].to_pylist():
            raise ArithmeticError(self.message)
        return with_column(rows, "digested", [True] * rows.num_rows, pa.bool_())


@dataclass(frozen=True)
class RaiseWhile(Stage):
    """Raise for a value as long as a file is there: trouble that passes."""

    trouble: str = ""
    value: int = 0
    reads = ("value",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self.value in rows["value"].to_pylist() and Path(self.trouble).exists():
            raise OSError("the disk is away")
        return rows


@dataclass(frozen=True)
class KillOn(Stage):
    """A codec that takes its process along."""

    value: int = -1
    signal: int = signal.SIGKILL
    reads = ("value",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self.value in rows["value"].to_pylist():
            os.kill(os.getpid(), self.signal)
        return rows


@dataclass(frozen=True)
class Hoard(Stage):
    """A row that unfolds to so many bytes, a piece at a time."""

    value: int = -1
    bytes: int = 0
    reads = ("value",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self.value in rows["value"].to_pylist():
            piece = 10_000_000
            held = [b"x" * piece for _ in range(self.bytes // piece)]
            del held
        return rows


@dataclass(frozen=True)
class ExitOn(Stage):
    """A library that ends the program: politely, or at once."""

    value: int = -1
    at_once: bool = False
    reads = ("value",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self.value in rows["value"].to_pylist():
            if self.at_once:
                os._exit(0)
            sys.exit(0)
        return rows


@dataclass(frozen=True)
class SleepOn(Stage):
    """A decoder that never returns."""

    value: int = -1
    seconds: float = 60.0
    reads = ("value",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self.value in rows["value"].to_pylist():
            time.sleep(self.seconds)
        return rows


@dataclass(frozen=True)
class Slowly(Stage):
    """Work that takes a while for each row, and says in a file which rows it did."""

    seconds: float = 0.0
    log: str = ""
    reads = ("value",)
    writes = ("square",)
    costly: ClassVar[bool] = True

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(self.seconds * rows.num_rows)
        values = rows["value"].to_pylist()
        if self.log:
            with Path(self.log).open("a") as file:
                file.writelines(f"{value}\n" for value in values)
        rows = with_column(rows, "square", [value**2 for value in values], pa.int64())
        return fail(rows, [ValueError("a negative value") if value < 0 else None for value in values])

    def fingerprint(self) -> str:
        return f"slowly-{self.version}"


@dataclass(frozen=True)
class Absent(Engine):
    """An engine whose package nobody has."""

    packages = ("no-such-distribution",)
    extra = "toy"
    engine: Literal["absent"] = "absent"


@dataclass(frozen=True)
class NeedsEngine(Stage):
    """Asks for an engine that planning did not see."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        loaded(Absent())
        return rows


@dataclass(frozen=True)
class Largest(Stage):
    """The largest value of all."""

    reads = ("value",)
    writes = ("largest",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return pa.table({"largest": pa.array([pc.max(rows["value"]).as_py()], pa.int64())})


@dataclass(frozen=True)
class Encode(Stage):
    """A payload for each row, and what a version records of it."""

    reads = ("value", "largest")
    writes = ("payload", "duration_s", "language", "licence", "consent", "task", "text")

    def __call__(self, rows: pa.Table) -> pa.Table:
        n = rows.num_rows
        payloads = [b"%d of %d" % (row["value"], row["largest"]) for row in rows.to_pylist()]
        rows = rows.append_column("payload", pa.array(payloads, pa.binary()))
        rows = rows.append_column("duration_s", pa.repeat(1.0, n))
        for name, value in (("language", "en"), ("licence", "CC0-1.0"), ("consent", "given"), ("task", "asr")):
            rows = rows.append_column(name, pa.repeat(value, n))
        return rows.append_column("text", pa.array([payload.decode() for payload in payloads], pa.string()))


@dataclass(frozen=True)
class ToyLayout(Layout):
    """A payload and its text."""

    extensions: tuple[str, ...] = ("bin", "txt")
    index: tuple[str, ...] = ("language", "duration_s")
    reads = ("text", "language", "duration_s", "licence", "consent")

    def parts(self, row: dict[str, Any], payload: bytes) -> dict[str, bytes]:
        return {"bin": payload, "txt": row["text"].encode()}


@dataclass(frozen=True)
class Loses(Stage):
    """A defect: leaves a row out."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows.slice(1)


@dataclass(frozen=True)
class Whispers(Stage):
    """A defect: writes a column that it does not declare."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return with_column(rows, "secret", [1] * rows.num_rows, pa.int64())


@dataclass(frozen=True)
class Forgets(Stage):
    """A defect: does not write a column that it declares."""

    writes = ("promised",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows


@dataclass(frozen=True)
class Twins(Stage):
    """A defect: gives two rows one id."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return pa.concat_tables([rows, rows])


@dataclass(frozen=True)
class Makes(Stage):
    """A defect where `parents` is empty or names a stranger, or where `row_id` is another row's."""

    row_id: str = "made"
    parents: tuple[str, ...] = ()
    writes = tuple(name for name in PIECE.names if name != "parents")
    makes = "piece"

    def __call__(self, rows: pa.Table) -> pa.Table:
        row = rows.to_pylist()[0]
        made = {name: row[name] for name in (*ROW_COLUMNS, "value")} | {"row_id": self.row_id}
        return pa.Table.from_pylist([made | {"parents": list(self.parents) or rows["row_id"].to_pylist()}], PIECE)


@dataclass(frozen=True)
class Orphans(Stage):
    """A defect: makes a row of nothing."""

    writes = tuple(name for name in PIECE.names if name != "parents")
    makes = "piece"

    def __call__(self, rows: pa.Table) -> pa.Table:
        rows = rows.append_column("parents", pa.nulls(rows.num_rows, pa.list_(pa.string())))
        return with_column(rows, "row_id", [f"orphan of {row_id}" for row_id in rows["row_id"].to_pylist()])


def pipeline(rows: pa.Table, stages: Sequence[Stage] = (), target: float = 4.0) -> Pipeline:
    """A dataset in six nodes: measure, explode, look over everything, encode, pack."""
    nodes = (
        Listing("listing", rows),
        Map("measured", "listing", (Slowly(), *stages), Unit(target=target)),
        Map("pieces", "measured", (Explode(seed=1),), Unit(target=target)),
        Reduce("summit", "pieces", Largest()),
        Map("encoded", "pieces", (Encode(),), Unit(target=target), joins=("summit",)),
        Pack("packed", "encoded", ToyLayout(), Unit(target=2 * target, together="root")),
    )
    return Pipeline("toy", nodes)


def run_toy(
    chosen: Pipeline,
    store: Store,
    runner: Runner | None = None,
    *,
    retry_failed: bool = False,
    watching: Callable[[Watcher], Watcher] | None = None,
) -> tuple[Version, bool]:
    """A run to a version, quietly; failures are judged by nobody."""
    run, runner = Run(chosen, store, retry_failed, withdrawn_from(store, chosen.dataset)), runner or InlineRunner()
    run.check()
    with Path(os.devnull).open("w") as nowhere, LiveProgress(Console(file=nowhere)) as progress:
        watcher = progress if watching is None else watching(progress)
        try:
            return run_and_publish(run, runner, watcher, {"pipeline": "toy"}, 1.0)
        finally:
            runner.close()


def single(stages: Sequence[Stage], values: Sequence[int], target: float = 4.0) -> Pipeline:
    """One map, and nothing after it."""
    only = Map("only", "listing", tuple(stages), Unit(target=target))
    return Pipeline("toy", (Listing("listing", items(values)), only))


def decisions(store: Store, version: Version, node: str) -> dict[str, dict[str, Any]]:
    """The ledger of a node by row id."""
    ledger = [store.read_table(receipt.files["ledger"].path) for receipt in version.receipts(node)]
    return {row["row_id"]: row for row in pa.concat_tables(ledger).to_pylist()}


def main() -> None:
    """`STORE RUNNER SECONDS COUNT [KILL]`: a run in a process of its own, which a test may kill."""
    root, runner, seconds, count = sys.argv[1:5]
    stages = [Slowly(float(seconds)), *(KillOn(int(value)) for value in sys.argv[5:])]
    values = [number * 7 % 101 for number in range(int(count))]
    nodes = list(pipeline(items(values)).nodes)
    nodes[1] = Map("measured", "listing", tuple(stages), Unit(target=4.0))
    chosen: Runner = InlineRunner() if runner == "inline" else RayRunner(workers=2)
    version, _ = run_toy(Pipeline("toy", tuple(nodes)), Store(root), chosen)
    sys.stdout.write(f"{version.name}\n")
