"""Rows of Parquet, so many at a time that what they unfold to is bounded.

A page of dictionary numbers may stand for a million copies of one large value, and a page of prefixes
(DELTA_BYTE_ARRAY) for a million that share one, so the reader is asked for as many rows as the largest value allows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.decoded import MAX_BATCH_BYTES, MAX_ROW_BYTES, row_bytes

PAGE_HEADER_BYTES = 64
DICTIONARY_PAGE = 2
LOOKED_UP = 16
"""Columns whose dictionaries are read beforehand, those with the largest."""
AS_IT_COMES: dict[str, Any] = {"pre_buffer": False, "buffer_size": 1 << 20}
"""Otherwise the whole column of the row group is read before its first rows come."""


def parquet_batches(
    file: pq.ParquetFile,
    path: str,
    group: int,
    columns: Sequence[str] | None,
    at_once: int,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The rows of a row group in batches of `at_once`, or of fewer where that might be more than `max_bytes`.

    A column of lists in which one row alone might be far more stays encoded by its dictionary: it is for the caller to
    measure rows (`media.decoded.bounded_slices`).

    Raises:
        OSError, ValueError, pyarrow.ArrowException: the group cannot be read.
    """
    rows, encoded = _plan(file, path, group, columns, at_once, max_bytes)
    if not encoded:
        yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
        return
    with pq.ParquetFile(path, metadata=file.metadata, read_dictionary=encoded) as again:
        yield from again.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)


def rows_at_once(
    file: pq.ParquetFile, path: str, group: int, columns: Sequence[str] | None, at_once: int, max_bytes: int
) -> int:
    """How many rows of a group can be decoded together.

    Raises:
        ValueError: a dictionary is larger than any value may be.
    """
    return _plan(file, path, group, columns, at_once, max_bytes)[0]


def _plan(
    file: pq.ParquetFile, path: str, group: int, columns: Sequence[str] | None, at_once: int, max_bytes: int
) -> tuple[int, list[str]]:
    """How many rows to take together, and the columns of lists to leave encoded."""
    wanted = None if columns is None else frozenset(columns)
    chunks = [
        (i, chunk) for i, chunk in _chunks(file, group) if wanted is None or _is_among(chunk.path_in_schema, wanted)
    ]
    largest = {}
    for i, chunk in chunks:
        repeated = file.schema.column(i).max_repetition_level > 0
        each = max(1, -(-chunk.num_values // max(1, file.metadata.row_group(group).num_rows))) if repeated else 1
        largest[i] = each, _largest_value(path, chunk)
    if at_once * sum(each * size for each, size in largest.values()) > max_bytes:
        # A dictionary is larger than its largest value, most often by far.
        for i, chunk in sorted(chunks, key=lambda one: -largest[one[0]][1])[:LOOKED_UP]:
            each, size = largest[i]
            if chunk.physical_type == "BYTE_ARRAY" and at_once * each * size > max_bytes // len(chunks):
                largest[i] = each, _looked_up(path, file, group, chunk, size)
    rows = max(1, min(at_once, max_bytes // max(1, sum(each * size for each, size in largest.values()))))
    encoded = [
        chunk.path_in_schema
        for i, chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY"
        and file.schema.column(i).max_repetition_level > 0
        and chunk.num_values * largest[i][1] > 4 * MAX_ROW_BYTES
    ]
    return rows, encoded


def _chunks(file: pq.ParquetFile, group: int) -> Iterator[tuple[int, Any]]:
    metadata = file.metadata.row_group(group)
    return ((i, metadata.column(i)) for i in range(metadata.num_columns))


def _is_among(leaf: str, columns: frozenset[str]) -> bool:
    parts = leaf.split(".")
    return any(".".join(parts[:end]) in columns for end in range(1, len(parts) + 1))


def _largest_value(path: str, chunk: Any) -> int:
    """What the largest value of a chunk can have, as far as bytes are shared; others have their own bytes in a page."""
    if chunk.physical_type not in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
        return 8
    dictionary = _dictionary_bytes(path, chunk)
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        return max(dictionary, int(chunk.total_uncompressed_size))
    return dictionary


def _dictionary_bytes(path: str, chunk: Any) -> int:
    """What a chunk's dictionary has once it is unpacked, from the header of its page; 0 where it has none.

    The size is what the reader reserves, so it is no mere claim. Thrift's compact protocol: a page's header begins with
    three numbers, its type and its sizes unpacked and packed, each a byte of kind and a zigzag varint.
    """
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
        start = chunk.dictionary_page_offset
    with open(path, "rb") as opened:
        opened.seek(max(0, start))
        header = opened.read(PAGE_HEADER_BYTES)
    numbers, at = [], 0
    try:
        for _ in range(2):
            value = shift = 0
            at += 1
            while True:
                value |= (header[at] & 0x7F) << shift
                shift += 7
                at += 1
                if not header[at - 1] & 0x80:
                    break
            numbers.append(value >> 1)
    except IndexError:
        return 0
    size = numbers[1] if numbers[0] == DICTIONARY_PAGE else 0
    if size > MAX_ROW_BYTES:
        raise ValueError(f"a dictionary of {size} bytes in {chunk.path_in_schema}, more than {MAX_ROW_BYTES}")
    return size


def _looked_up(path: str, file: pq.ParquetFile, group: int, chunk: Any, bound: int) -> int:
    """The largest value of a chunk's dictionary; `bound` where its first page has not all of it."""
    leaf = chunk.path_in_schema
    if "DELTA_BYTE_ARRAY" in chunk.encodings or not bound:
        return bound
    with pq.ParquetFile(path, metadata=file.metadata, read_dictionary=[leaf], **AS_IT_COMES) as again:
        batch = next(again.iter_batches(1, row_groups=[group], columns=[leaf], use_threads=False), None)
    values = None if batch is None else _leaf(batch.column(0))
    if values is None or not pa.types.is_dictionary(values.type):
        return bound
    sizes = row_bytes(values.dictionary)
    lengths = [sizes] * len(values.dictionary) if isinstance(sizes, int) else sizes.tolist()
    # In the page each value stands behind four bytes that tell its length; Python's needs some more than that.
    seen = sum(lengths) - (64 - 4) * len(lengths)
    return max(lengths, default=bound) if seen == bound else bound


def _leaf(values: Any) -> Any:
    while not pa.types.is_dictionary(values.type):
        if pa.types.is_struct(values.type):
            values = values.field(0)
        elif hasattr(values, "values"):
            values = values.values
        else:
            return None
    return values
