"""How much Arrow's columns unfold to, row by row, and slices of them that are never more than so much.

Dictionaries, runs and views let a few bytes stand for gigabytes, so neither the size of a file nor that of its buffers
says what its values take once they are Python's.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.errors import TooLarge

MAX_BATCH_BYTES = 1 << 26
"""What rows that are decoded together may take."""
MAX_ROW_BYTES = 1 << 28
"""What one row may take; a row that takes more is not decoded."""

ROWS_MEASURED = 1 << 16
MOST_MEASURED = 1 << 20
"""Of values in runs: of more in one list the largest stands for each."""
VALUE_BYTES = 32
"""Of a number as Python has it."""
OBJECT_BYTES = 64
"""Of a text, list or mapping besides what is in it."""


MAX_FILE_BYTES = 1 << 28
"""What the rows of a file may have in all, whatever it has on disk."""
EXPANSION = 32
"""What a file may unfold to for each of its bytes on disk, where that is more. Compressed tables of text have up to
twenty, bombs have thousands."""
MAX_WORK_BYTES = 1 << 30
"""What the rows of a file may take in all while they are decoded, whatever is kept of them, or `EXPANSION` times what
it has on disk, where that is more."""
ROW_BYTES = 256
"""Of a row of a file, besides its texts."""


@dataclass
class FileBudget:
    """What has come of a file so far, and what may.

    Attributes:
        remedy: what a user can do, for the message.
    """

    path: str
    max_bytes: int
    remedy: str
    taken: int = 0

    def take(self, size: int) -> None:
        """Count a row, or what is in it.

        Raises:
            TooLarge: the file has more than it may.
        """
        self.taken += size
        if self.taken > self.max_bytes:
            raise TooLarge(f"{self.path}: it unfolds to more than {self.max_bytes} bytes; {self.remedy}")


def file_budget(path: str, max_bytes: int, remedy: str) -> FileBudget:
    """What a file may unfold to: `max_bytes`, or `EXPANSION` times what it has on disk. Holes are not on disk."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return FileBudget(path, max_bytes, remedy)  # reading it will say more
    on_disk = min(status.st_size, status.st_blocks * 512) if hasattr(status, "st_blocks") else status.st_size
    return FileBudget(path, max(max_bytes, EXPANSION * on_disk), remedy)


def bounded_slices(
    batch: pa.RecordBatch, at_once: int, max_bytes: int = MAX_BATCH_BYTES
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """A batch in slices of `at_once` rows that unfold to `max_bytes`, or of one row that takes more; and what each
    slice takes. A row that takes more than `MAX_ROW_BYTES` is not to be decoded."""
    for start in range(0, batch.num_rows, ROWS_MEASURED):
        part = batch.slice(start, ROWS_MEASURED)
        count = part.num_rows
        sizes = np.broadcast_to(sum((row_bytes(values) for values in part.columns), np.int64(0)), count)
        behind = np.cumsum(sizes)
        at = 0
        while at < count:
            before = behind[at - 1] if at else 0
            end = int(np.searchsorted(behind, before + max_bytes, side="right"))
            end = min(max(end, at + 1), at + at_once)
            yield part.slice(at, end - at), int(behind[end - 1] - before)
            at = end


def row_bytes(values: Any) -> int | NDArray[np.int64]:
    """What each value takes once it is decoded; one number where all take the same.

    Args:
        values: a valid array (`Array.validate(full=True)`), whose values need not be.
    """
    type_ = values.type
    if isinstance(values, pa.ExtensionArray):
        return row_bytes(values.storage)
    if pa.types.is_dictionary(type_):
        inner = row_bytes(values.dictionary)
        if isinstance(inner, int) or not len(inner):
            return inner if isinstance(inner, int) else VALUE_BYTES
        return np.asarray(inner[values.indices.fill_null(0).to_numpy(zero_copy_only=False)])
    if pa.types.is_run_end_encoded(type_):
        inner = row_bytes(values.values)
        if isinstance(inner, int) or len(values) > MOST_MEASURED:
            return _most(inner)
        rows = np.arange(values.offset, values.offset + len(values))
        return np.asarray(inner[np.searchsorted(values.run_ends.to_numpy(), rows, side="right")])
    if pa.types.is_string_view(type_) or pa.types.is_binary_view(type_):
        lengths = np.frombuffer(values.buffers()[1] or b"", np.int32)[::4][values.offset : values.offset + len(values)]
        return np.asarray(lengths, np.int64) + OBJECT_BYTES
    if _has_offsets(type_):
        lengths = pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        return np.asarray(lengths, np.int64) + OBJECT_BYTES
    if pa.types.is_struct(type_):
        total: int | NDArray[np.int64] = OBJECT_BYTES
        for field in values.flatten():
            total = total + row_bytes(field)
        return total
    if pa.types.is_map(type_):
        return _lists(values, [values.keys, values.items], len(values))
    if pa.types.is_fixed_size_list(type_):
        size = type_.list_size
        inner = row_bytes(values.values.slice(values.offset * size, len(values) * size))
        if isinstance(inner, int):
            return int(inner * size + OBJECT_BYTES)
        together: NDArray[np.int64] = inner.reshape(len(values), size).sum(1) + OBJECT_BYTES
        return together
    if hasattr(values, "offsets") and hasattr(values, "values"):
        return _lists(values, [values.values], len(values))
    if pa.types.is_union(type_):
        return OBJECT_BYTES + sum(_most(row_bytes(values.field(i))) for i in range(type_.num_fields))
    if pa.types.is_fixed_size_binary(type_):
        return int(type_.byte_width) + OBJECT_BYTES
    return VALUE_BYTES


def _has_offsets(type_: pa.DataType) -> bool:
    """Whether it is text or bytes, not as views."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(type_) for test in tests)


def _lists(lists: Any, children: list[Any], count: int) -> NDArray[np.int64]:
    """Of lists: what lies between their offsets; views may lie anywhere, and on each other."""
    offsets = lists.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    if hasattr(lists, "sizes"):
        starts, ends = offsets, offsets + lists.sizes.to_numpy(zero_copy_only=False)
    else:
        starts, ends = offsets[:-1], offsets[1:]
    sizes = np.full(count, OBJECT_BYTES, np.int64)
    if not count:
        return sizes
    first, last = int(starts.min()), int(ends.max())
    for child in children:
        inner = row_bytes(child.slice(first, last - first))
        if isinstance(inner, int):
            sizes += (ends - starts) * inner
        else:
            before = np.concatenate([[0], np.cumsum(inner)])
            sizes += before[ends - first] - before[starts - first]
    return sizes


def _most(sizes: int | NDArray[np.int64]) -> int:
    return sizes if isinstance(sizes, int) else int(sizes.max(initial=0))
