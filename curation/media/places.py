"""Bytes from where a row says that they lie: a file, a stretch of a tar or page, a cell of Parquet or Arrow."""

import base64
import os
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from stat import S_ISREG
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import MediaError
from curation.hashing import bytes_digest
from curation.media.arrow_files import ArrowDamage, arrow_batches, column_values
from curation.media.images import read_image
from curation.media.parquet_batches import rows_at_once

MAX_BYTES = 1 << 28
GROUP_BYTES = 1 << 27
"""Of a column in a Parquet file's row group: up to this it is read as a whole."""
BUFFER_BYTES = 1 << 20

_LOCK = Lock()
"""Readers of columns know where they are, so one thread at a time."""


def read_place(place: dict[str, Any], *, content: str | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes at a place (`schemas.places.PLACE`).

    Args:
        content: their hash when they were scanned (`curation.hashing.bytes_digest`), which is made sure of.

    Raises:
        MediaError: not there, more than `max_bytes`, or changed since; it names the file.
    """
    path = place["path"]
    if place["format"] == "file":
        return read_image(path, content=content, max_bytes=max_bytes)
    try:
        data = _cell(place) if place["format"] in ("parquet", "arrow") else _stretch(place, max_bytes)
    except (OSError, pa.ArrowException, IndexError, KeyError, ValueError, StopIteration) as error:
        raise MediaError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if data is None:
        raise MediaError(f"{path}: row {place['offset']} has no bytes in {place['column']}")
    if len(data) > max_bytes:
        raise MediaError(f"{path}: {len(data)} bytes, more than {max_bytes}")
    if content is not None and bytes_digest(data) != content:
        raise MediaError(f"{path}: changed since it was scanned; run again")
    return data


def _stretch(place: dict[str, Any], max_bytes: int) -> bytes:
    path, size = place["path"], place["size"]
    if size > max_bytes:
        raise MediaError(f"{path}: {size} bytes at {place['offset']}, more than {max_bytes}")
    _state(path)
    with open(path, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), size, place["offset"])
    if len(data) < size:
        raise MediaError(f"{path}: ends before the {size} bytes at {place['offset']}")
    return base64.b64decode(data) if place["format"] == "base64" else data


def _cell(place: dict[str, Any]) -> bytes | None:
    path, row = place["path"], place["offset"]
    column, steps = _steps(place["column"])
    with _LOCK:
        open_ = _parquet_column if place["format"] == "parquet" else _arrow_column
        value = open_(path, column, _state(path)).cell(row)
    for step in steps:
        if not value.is_valid:
            return None
        value = value[step] if isinstance(value, pa.StructScalar) else value.values[int(step)]
    data = value.as_py()
    return None if data is None else bytes(data)


def _steps(column: str) -> tuple[str, list[str]]:
    """A column's name up to where it goes into a list, and the rest: "images.2.bytes" is ("images", ["2", "bytes"])."""
    first, *rest = column.split(".")
    lists = next((i for i, name in enumerate(rest) if name.isdigit()), len(rest))
    return ".".join([first, *rest[:lists]]), rest[lists:]


def _state(path: str) -> tuple[int, int]:
    """What is another where the file is; a pipe is not waited for."""
    status = os.stat(path)
    if not S_ISREG(status.st_mode):
        raise MediaError(f"{path}: not a plain file")
    return status.st_size, status.st_mtime_ns


class _ArrowColumn:
    """A column of an Arrow file, mapped. Of one that is packed as much is kept as a row group of Parquet may have."""

    def __init__(self, path: str, column: str) -> None:
        self._path, self._column = path, column
        self._open()

    def _open(self) -> None:
        self._coming = arrow_batches(self._path)
        self._cells: list[Any] = []
        self._starts: list[int] = []
        self._behind = self._unpacked = 0

    def cell(self, row: int) -> Any:
        if self._starts and row < self._starts[0]:
            self._open()
        while row >= self._behind:
            self._read(row)
        number = bisect_right(self._starts, row) - 1
        return self._cells[number][row - self._starts[number]]

    def _read(self, row: int) -> None:
        """The next batch; what is mapped is not copied, so that what is allocated was unpacked."""
        before = pa.total_allocated_bytes()
        batch = next(self._coming, ArrowDamage(""))
        if isinstance(batch, ArrowDamage):
            self._coming = iter((batch,))
            raise IndexError(f"there is no row {row}{batch.reason and f': {batch.reason}'}")
        cells = _values(batch, self._path, self._column)
        unpacked = max(0, pa.total_allocated_bytes() - before)
        if self._unpacked + unpacked > GROUP_BYTES:
            self._cells, self._starts, self._unpacked = [], [], 0
        self._unpacked += unpacked
        if batch.num_rows:
            self._cells.append(cells)
            self._starts.append(self._behind)
        self._behind += batch.num_rows


class _ParquetColumn:
    """A column of a Parquet file, of which the part about the last row that was asked for is kept.

    Rows are asked for in their order, most often. A row group that is small is kept whole, so that order does not
    matter in it; of a large one some rows at a time are read on, and those before them again from its beginning.
    """

    def __init__(self, path: str, column: str) -> None:
        self._path, self._column = path, column
        # Without these two the whole column of the row group is read before its first rows come.
        self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES)
        metadata = self._file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._group = -1
        self._start = self._behind = 0
        self._cells: pa.Array = pa.array([])
        self._coming: Iterator[pa.RecordBatch] = iter(())

    def cell(self, row: int) -> Any:
        if not 0 <= row < (self._ends[-1] if self._ends else 0):
            raise IndexError(f"there is no row {row}")
        number = bisect_right(self._ends, row)
        if number != self._group or row < self._start:
            self._open(number)
        while row >= self._behind:
            try:
                batch = next(self._coming)
            except BaseException:
                # What was read of it is no place to go on from.
                self._group = -1
                raise
            self._cells = _values(batch, self._path, self._column)
            self._start, self._behind = self._behind, self._behind + batch.num_rows
        return self._cells[row - self._start]

    def _open(self, number: int) -> None:
        group = self._file.metadata.row_group(number)
        columns = [group.column(i) for i in range(group.num_columns)]
        within = self._column + "."
        size = sum(one.total_uncompressed_size for one in columns if f"{one.path_in_schema}.".startswith(within))
        at_once = max(1, group.num_rows * GROUP_BYTES // max(GROUP_BYTES, size))
        at_once = rows_at_once(self._file, self._path, number, [self._column], at_once, GROUP_BYTES)
        self._coming = self._file.iter_batches(at_once, row_groups=[number], columns=[self._column], use_threads=False)
        self._start = self._behind = self._ends[number] - group.num_rows
        self._group = number


@lru_cache(maxsize=4)
def _arrow_column(path: str, column: str, state: tuple[int, int]) -> _ArrowColumn:
    return _ArrowColumn(path, column)


@lru_cache(maxsize=2)
def _parquet_column(path: str, column: str, state: tuple[int, int]) -> _ParquetColumn:
    return _ParquetColumn(path, column)


def _values(batch: pa.RecordBatch, path: str, column: str) -> pa.Array:
    values = column_values(batch, column)
    if values is None:
        raise KeyError(f"there is no column {column}")
    return values
