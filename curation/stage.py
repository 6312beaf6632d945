"""A stage: one step of a pipeline, from an Arrow table of rows to an Arrow table of rows.

A stage measures (adds columns), decides (marks rows with a verdict), explodes rows to children, or merges them to
one. It never drops a row: what it rejects it marks, and the chain (`runtime.chain`) takes marked rows out of
the stages that follow and into the ledger.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.engines.engine import Engine, missing_package, package_versions
from curation.errors import BLAMES_NO_ROW, StageError
from curation.hashing import digest, file_digest
from curation.meter import advance
from curation.paths import path_keys
from schemas.ledger import DECISION, FAILED, REJECTED, SAMPLED_OUT


@dataclass(frozen=True)
class Reference:
    """A list or table that a stage judges rows by, as plans and cards show it."""

    name: str
    licence: str
    covers: str
    """Which rows it can judge, and what becomes of others."""


@dataclass(frozen=True)
class Stage:
    """One step; subclasses are frozen dataclasses whose fields are recipe keys.

    `locators` are columns that are read only to find bytes (a path), and never change a result. `drops` are columns
    that end here.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that a result depends on. A subclass says `reads = (...)`, or a property where fields decide."""
        return ()

    @property
    def writes(self) -> tuple[str, ...]:
        """Columns that it adds or replaces; for a stage that makes rows, all of theirs."""
        return ()

    locators: ClassVar[tuple[str, ...]] = ()
    drops: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    """Raised by hand when the same input would give another result."""
    makes: ClassVar[str] = ""
    """The kind of row that it makes of others; empty for a stage that keeps its rows. Made rows have `parents`, and the
    columns that it writes; nothing else of their parents goes on."""
    costly: ClassVar[bool] = False
    """A pure measure worth keeping: its columns are found again under the values that it `reads`."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose code shapes its results, besides those of its engines; their versions are part of the
    fingerprint."""
    optional_packages: ClassVar[tuple[str, ...]] = ()
    """The same for those that only some rows need (a language): where one is absent, those rows fail."""
    extra: ClassVar[str] = ""
    """The extra of this project that installs `packages`; empty where the project itself does."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Its name in the ledger and in reports."""
        return type(self).__name__

    def engines(self) -> list[Engine]:
        """The engines among its fields."""
        return [value for f in fields(self) if isinstance(value := getattr(self, f.name), Engine)]

    def references(self) -> list[Reference]:
        """What it judges rows by, besides its engines."""
        return []

    def missing(self) -> str | None:
        """Which of its `packages` is not here, and the command that brings it; engines answer for themselves."""
        if reason := missing_package(self.packages, self.extra):
            return f"stage {self.name}: {reason}"
        absent = next(((name, path) for name, path in self.paths().items() if not path.exists()), None)
        return absent and f"stage {self.name}: {absent[0]} {absent[1]} does not exist"

    def paths(self) -> dict[str, Path]:
        """The files and folders that the recipe names for this stage."""
        given = ((name, mark, getattr(self, name)) for name, mark in path_keys(type(self)).items())
        return {name: mark.path(value) for name, mark, value in given if value and mark.is_path(value)}

    def fingerprint(self) -> str:
        """Names everything but the rows that its results depend on; of files their content, wherever they lie."""
        files = {name: file_digest(path) if path.exists() else None for name, path in self.paths().items()}
        parameters = {f.name: files.get(f.name, getattr(self, f.name)) for f in fields(self)}
        packages = package_versions((*self.packages, *self.optional_packages))
        return digest([self.name, self.version, self.reads, self.writes, parameters, packages])


@dataclass(frozen=True)
class Only(Stage):
    """Run a stage on the rows whose `column` has this value; the others pass by, with nulls in what it writes.

    What stands in a column that it writes stays as it is in rows that pass by. In the ledger it has the stage's name.
    """

    column: str
    value: str
    stage: Stage

    def __post_init__(self) -> None:
        if self.stage.makes:
            raise StageError(f"stage {self.stage.name} makes rows, so it cannot be for some of them only")
        for name in ("locators", "drops", "version", "costly", "packages", "optional_packages", "extra"):
            object.__setattr__(self, name, getattr(self.stage, name))

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.column, *self.stage.reads]))

    @property
    def writes(self) -> tuple[str, ...]:
        return self.stage.writes

    def engines(self) -> list[Engine]:
        return self.stage.engines()

    def missing(self) -> str | None:
        return self.stage.missing()

    def __call__(self, rows: pa.Table) -> pa.Table:
        meant = pc.fill_null(pc.equal(rows[self.column], self.value), False)
        places = pc.indices_nonzero(meant)
        others = pc.indices_nonzero(pc.invert(meant))
        if not len(others):
            return self.stage(rows)
        if not len(places):
            done = self.stage(rows.slice(0, 0)).schema
            absent = [done.field(name) for name in self.writes if name not in rows.column_names]
            for field in absent:
                rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
            return rows
        both = pa.concat_tables([self.stage(rows.take(places)), rows.take(others)], promote_options="default")
        was_at = {row_id: i for i, row_id in enumerate(rows["row_id"].to_pylist())}
        order = np.argsort([was_at[row_id] for row_id in both["row_id"].to_pylist()], kind="stable")
        return both.take(pa.array(order))


@dataclass(frozen=True)
class Forget(Stage):
    """End columns that nothing after this reads, such as vectors: every map would write them again."""

    columns: tuple[str, ...]

    @property
    def drops(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.columns

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows


def reject(
    rows: pa.Table,
    mask: Any,
    reason: str,
    *,
    value: Any = None,
    limit: float | None = None,
    verdict: str = REJECTED,
) -> pa.Table:
    """Mark the undecided rows where `mask` is true, with the value that was compared and the threshold it passed.

    Args:
        mask: one boolean per row; null counts as false.
        value: one number per row, or None.
        verdict: `rejected`, or `sampled_out` for rows that are good but not drawn.
    """
    if verdict not in (REJECTED, SAMPLED_OUT):
        raise ValueError(f"reject() does not write the verdict {verdict!r}")
    hits = pc.fill_null(_column(mask, pa.bool_()), False)
    if not pc.any(hits).as_py() and "decision" in rows.column_names:
        return rows
    nothing = pa.nulls(rows.num_rows, pa.float64())
    values = nothing if value is None else _column(value, pa.float64())
    limits = nothing if limit is None else pa.array([limit] * rows.num_rows, pa.float64())
    text = pa.nulls(rows.num_rows, pa.string())
    words = [pa.array([word] * rows.num_rows, pa.string()) for word in (verdict, reason)]
    decisions = pa.StructArray.from_arrays([*words, values, limits, text], fields=list(DECISION), mask=pc.invert(hits))
    if "decision" in rows.column_names:
        before = rows["decision"].combine_chunks()
        decisions = pc.if_else(pc.is_valid(before), before, decisions)
        rows = rows.drop_columns(["decision"])
    return rows.append_column("decision", decisions)


def fail(rows: pa.Table, errors: Sequence[BaseException | None]) -> pa.Table:
    """Mark the rows that raised as `failed`, with the exception's name as the reason and its message as the error."""
    return mark(rows, [None if error is None else failure(error) for error in errors])


def failure(error: BaseException) -> dict[str, Any]:
    """The decision that an exception stands for; its value is how many samples are lost with it, where that is told.

    Raises:
        CurateError: the exception itself, where no row is to blame for it.
    """
    if isinstance(error, BLAMES_NO_ROW):
        raise error
    name = type(error).__name__
    samples = getattr(error, "samples", None)
    # A message may quote a file name, or text, that is not UTF-8; Arrow's strings are.
    message = str(error).encode(errors="backslashreplace").decode()
    return {"verdict": FAILED, "reason": name, "value": samples, "threshold": None, "error": message or name}


def mark(rows: pa.Table, decisions: Sequence[dict[str, Any] | None]) -> pa.Table:
    """Write one decision per row, where there is one; a row that is decided already keeps its decision."""
    if strange := sorted({name for decision in decisions if decision for name in decision} - set(DECISION.names)):
        raise StageError(f"a decision has {', '.join(DECISION.names)}; {strange[0]!r} is none of them")
    if "decision" in rows.column_names:
        before = rows["decision"].to_pylist()
        decisions = [old or new for old, new in zip(before, decisions, strict=True)]
        rows = rows.drop_columns(["decision"])
    return rows.append_column("decision", pa.array(decisions, DECISION))


def undecided(rows: pa.Table) -> pa.Table:
    """The rows without a verdict, without the column for it."""
    if "decision" not in rows.column_names:
        return rows
    return rows.filter(pc.is_null(rows["decision"])).drop_columns(["decision"])


def with_column(rows: pa.Table, name: str, values: Any, type_: pa.DataType | None = None) -> pa.Table:
    """Add a column, or replace the one of that name."""
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, type_)
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, array)
    return rows.append_column(name, array)


def measure_each(
    rows: pa.Table,
    columns: dict[str, pa.DataType],
    measure: Callable[[dict[str, Any]], dict[str, Any]],
    reads: Sequence[str] | None = None,
) -> pa.Table:
    """Add `columns` by calling `measure` on each row as a mapping; a row that raises is failed, its neighbours not.

    Args:
        reads: the columns that `measure` is given; all by default, which is slow where rows are wide.

    Raises:
        CurateError: of a kind that no row is to blame for, such as an engine that is not here.
    """
    values: list[dict[str, Any]] = []
    errors: list[BaseException | None] = []
    for row in (rows if reads is None else rows.select(list(dict.fromkeys(reads)))).to_pylist():
        try:
            values.append(measure(row))
            errors.append(None)
        except BLAMES_NO_ROW:
            raise
        except Exception as error:
            values.append({})
            errors.append(error)
        advance()
    for name, type_ in columns.items():
        rows = with_column(rows, name, [value.get(name) for value in values], type_)
    return fail(rows, errors) if any(errors) else rows


def _column(values: Any, type_: pa.DataType) -> pa.Array:
    """Values of any kind (a list, numpy, Arrow) as one array."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(type_) if isinstance(values, pa.Array) else pa.array(values, type_)
