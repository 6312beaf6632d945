"""Pairs in Parquet and Arrow: images as bytes, as `datasets` has them ({bytes, path}), or as paths.

Columns of bytes are not read, unless the file does not say which of its rows have any. Nor are vectors.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import MediaError
from curation.media.arrow_files import ArrowDamage, arrow_batches, arrow_row_count, column_values
from curation.media.decoded import MAX_ROW_BYTES, MAX_WORK_BYTES, bounded_slices, file_budget
from curation.media.folder_files import FileFolder, changed_ns
from curation.media.pair_records import NOTHING_SAID, FoundImage, ImagePlace, Namer, PairNames
from curation.media.parquet_batches import parquet_batches
from curation.media.tar_pairs import Choose, damaged

ROWS_AT_ONCE = 1000
ROWS_WITH_BYTES_AT_ONCE = 32
MAX_ROWS = 100_000_000
"""Of one file. Rows of nulls take no room in it, so that a claim of more costs nothing to write."""

PATH = "\0path"
"""In a record, apart from all names of columns."""


@dataclass(frozen=True)
class _Columns:
    """Which columns have what. `bytes` and `path` are names with dots for fields; one of them may be None."""

    bytes: str | None
    path: str | None
    others: list[str]


def parquet_pairs(path: str, name: str, names: PairNames, choose: Choose) -> Iterator[FoundImage]:
    """The rows of a Parquet file. A row group that cannot be read is one damage; those behind it are read.

    Raises:
        MediaError: not Parquet, or no column of images or texts.
    """
    status = os.stat(path)
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise MediaError(f"{path}: not a Parquet file: {' '.join(str(error).split())}") from error
    with file:
        rows = _Rows(path, "parquet", name, names, file.schema_arrow, status, file.metadata.num_rows)
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        chosen = rows.chosen(sum(groups), choose)
        start = 0
        for number, count in enumerate(groups):
            read, at = _wanted(rows.columns, file.metadata.row_group(number)), start
            at_once = ROWS_WITH_BYTES_AT_ONCE if rows.columns.bytes in read else ROWS_AT_ONCE
            try:
                for batch in parquet_batches(file, path, number, read, at_once):
                    yield from rows.found(batch, at, chosen)
                    at += batch.num_rows
            except (OSError, pa.ArrowException, ValueError) as error:
                reason = f"rows {at} to {start + count - 1} cannot be read: {error}"
                yield damaged(path, name, at, reason, at, start + count - at)
            start += count


def arrow_pairs(path: str, name: str, names: PairNames, choose: Choose) -> Iterator[FoundImage]:
    """The rows of an Arrow file or stream, and the damage behind them.

    Raises:
        MediaError: not Arrow, or no column of images or texts.
    """
    status = os.stat(path)
    rows: _Rows | None = None
    at = 0
    for batch in arrow_batches(path):
        if isinstance(batch, ArrowDamage):
            yield damaged(path, name, at, f"behind row {at}: {batch.reason}", at)
            return
        if rows is None:
            total = arrow_row_count(path)
            rows = _Rows(path, "arrow", name, names, batch.schema, status, total)
            chosen = rows.chosen(total, choose)
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            yield from rows.found(batch.slice(start, ROWS_AT_ONCE), at + start, chosen)
        at += batch.num_rows


class _Rows:
    """From batches to images."""

    def __init__(
        self,
        path: str,
        format_: str,
        name: str,
        names: PairNames,
        schema: pa.Schema,
        status: os.stat_result,
        samples: int,
    ) -> None:
        self._path, self._format, self._name, self._status = path, format_, name, status
        self._namer = Namer(names)
        self._folder = FileFolder(names.image_folder or os.path.dirname(path), names.roots)
        self.columns = _columns(path, schema, self._namer, samples)
        self._work = file_budget(path, MAX_WORK_BYTES, "split the file")

    def chosen(self, count: int, choose: Choose) -> frozenset[int] | None:
        """The rows to take; None for all.

        Raises:
            MediaError: there are more than anybody could take.
        """
        if count > MAX_ROWS:
            raise MediaError(f"{self._path}: {count} rows, more than {MAX_ROWS}; split the file")
        keys = _Numbers(count)
        taken = choose(keys)
        return None if len(taken) == count else frozenset(taken)

    def found(self, batch: pa.RecordBatch, start: int, chosen: frozenset[int] | None) -> Iterator[FoundImage]:
        """Rows of a batch whose first is row `start` of the file."""
        numbers = [i for i in range(start, start + batch.num_rows) if chosen is None or i in chosen]
        if not numbers:
            return
        if chosen is not None:
            batch = batch.take(pa.array([i - start for i in numbers], pa.int64()))
        columns = self.columns
        has_bytes: Sequence[bool] = [columns.bytes is not None] * len(numbers)
        if columns.bytes is not None and (values := column_values(batch, columns.bytes)) is not None:
            has_bytes = pc.is_valid(values).to_pylist()
        for number, record, has in zip(numbers, self._records(batch), has_bytes, strict=True):
            yield self._one(number, record, has)

    def _records(self, batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
        """What the rows say, with the image's path as `PATH`; or why that cannot be read, as text not in UTF-8."""
        columns = {name: _as_text(batch[name]) for name in self.columns.others}
        if self.columns.path is not None:
            columns[PATH] = column_values(batch, self.columns.path)
        if not columns:
            yield from ({} for _ in range(batch.num_rows))
            return
        said = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        for part, size in bounded_slices(said, ROWS_AT_ONCE):
            self._work.take(min(size, MAX_ROW_BYTES))
            if size <= MAX_ROW_BYTES:
                yield from self._decoded(part)
            else:
                yield f"a row of {size} bytes, more than {MAX_ROW_BYTES}"

    def _decoded(self, said: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
        try:
            yield from said.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            for row in range(said.num_rows):
                try:
                    yield said.slice(row, 1).to_pylist()[0]
                except (ValueError, OverflowError, pa.ArrowException) as error:
                    yield f"cannot be read: {error}"

    def _one(self, number: int, record: dict[str, Any] | str, has_bytes: bool) -> FoundImage:
        uri = f"{self._path}:{number}"
        name = f"{self._name}:{number}"
        try:
            if isinstance(record, str):
                raise MediaError(record)
            image_path = record.pop(PATH, None)
            if has_bytes:
                place = (self._path, self._format, number, None, self.columns.bytes)
                image = ImagePlace(*place, self._status.st_size, changed_ns(self._status))
                if image_path:
                    record["image_path"] = image_path
            elif image_path:
                file = self._folder.find(image_path)
                image = ImagePlace(file.path, "file", None, None, None, file.size, file.modified_ns)
                uri = file.path
            else:
                # img2dataset keeps the rows of images that it could not get, and says why.
                why = [str(record[name]) for name in ("status", "error_message") if record.get(name)]
                raise MediaError(": ".join(["no image", *why]))
            said = self._namer.said(record)
        except MediaError as error:
            where = f"{self._path}:{number}: {error}"
            return FoundImage(str(number), 0, number, name, uri, None, NOTHING_SAID, where)
        return FoundImage(str(number), 0, number, name, uri, image, said)


class _Numbers(Sequence[tuple[str, int]]):
    """Keys of rows: their numbers. Millions of them are not made unless they are looked at."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < self._count:
            raise IndexError(i)
        return str(i), 0


def _columns(path: str, schema: pa.Schema, namer: Namer, samples: int) -> _Columns:
    counts = Counter(schema.names)
    kinds = {field.name: _kind(field.type) for field in schema if counts[field.name] == 1}
    images = [name for name, kind in kinds.items() if kind in ("bytes", "text", "image")]
    texts = [name for name, kind in kinds.items() if kind in ("text", "texts")]
    image = namer.columns(path, images, texts, schema.names, samples)
    others = [name for name, kind in kinds.items() if name != image and kind not in ("bytes", "image", "vector")]
    match kinds[image]:
        case "bytes":
            return _Columns(image, None, others)
        case "text":
            return _Columns(None, image, others)
        case _:
            fields = [schema.field(image).type.field(i).name for i in range(schema.field(image).type.num_fields)]
            return _Columns(f"{image}.bytes", f"{image}.path" if "path" in fields else None, others)


def _kind(type_: pa.DataType) -> str:
    """What a column may be."""
    if pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        type_ = type_.value_type
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_):
        return "bytes"
    if _is_text(type_):
        return "text"
    if pa.types.is_struct(type_):
        # The only fields by which `datasets` says that a column has images.
        fields = {type_.field(i).name: type_.field(i).type for i in range(type_.num_fields)}
        is_image = "bytes" in fields and _kind(fields["bytes"]) == "bytes" and fields.keys() <= {"bytes", "path"}
        return "image" if is_image else "other"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        if _is_text(type_.value_type):
            return "texts"
        return "vector" if pa.types.is_floating(type_.value_type) else "other"
    return "other"


def _as_text(values: Any) -> Any:
    """Times as text: Python's have no nanoseconds, nor years beyond 9999."""
    if not pa.types.is_temporal(values.type):
        return values
    try:
        return values.cast(pa.string())
    except pa.ArrowException:
        return pa.nulls(len(values), pa.string())


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _wanted(columns: _Columns, group: Any) -> list[str]:
    """What to read of a row group: the bytes only where some rows may have none."""
    wanted = list(columns.others)
    if columns.path is not None:
        wanted.append(columns.path)
    if columns.bytes is None:
        return wanted
    for i in range(group.num_columns):
        column = group.column(i)
        if column.path_in_schema == columns.bytes:
            counted = column.statistics
            if counted is not None and counted.has_null_count and counted.null_count == 0:
                return wanted
    return [*wanted, columns.bytes]
