"""Names made from content: of values, of files, of rows; and randomness drawn from names."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

CHUNK_BYTES = 1 << 20
ROWS_AT_ONCE = 64
"""As Python objects: a row may hold minutes of sound."""


def digest(value: Any) -> str:
    """xxh3-128, in hex, of a value made of None, bool, numbers, strings, lists and mappings (keys are sorted)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def bytes_digest(data: bytes | memoryview) -> str:
    """xxh3-128, in hex, of bytes."""
    return xxhash.xxh3_128_hexdigest(data)


def file_digest(path: Path) -> str:
    """xxh3-128, in hex, of a file's bytes, or of all files below a folder with their names.

    Remembered within the process while size, times of change and place on disk stay: weights are asked for again and
    again.
    """
    if path.is_dir():
        return digest({str(p.relative_to(path)): file_digest(p) for p in sorted(path.rglob("*")) if p.is_file()})
    status = path.stat()
    return _file_digest(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@lru_cache(maxsize=1024)
def _file_digest(path: Path, state_of_file: tuple[int, ...]) -> str:
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def row_digests(rows: pa.Table, columns: Sequence[str]) -> list[str]:
    """One digest per row of the named columns' values, whatever the table's chunking and column order."""
    values = pa.table({name: _vectors_as_digests(rows[name]) for name in sorted(columns)})
    digests: list[str] = []
    for start in range(0, rows.num_rows, ROWS_AT_ONCE):
        few = values.slice(start, min(ROWS_AT_ONCE, rows.num_rows - start))
        digests += [digest(value) for value in few.to_pylist()]
    return digests


def _vectors_as_digests(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of vectors (lists of floats, without nulls in them) as digests of their bytes; any other as it is.

    Hundreds of numbers to a row are slow as Python objects.
    """
    type_ = column.type
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    if not is_list or not pa.types.is_floating(type_.value_type):
        return column
    if pc.any(pc.is_null(pc.list_flatten(column))).as_py():
        return column
    digests: list[str | None] = []
    for chunk in column.chunks:
        data = memoryview(chunk.flatten().to_numpy(zero_copy_only=False)).cast("B")
        width = type_.value_type.bit_width // 8
        lengths = pc.list_value_length(chunk).to_pylist()
        end = 0
        for length in lengths:
            start, end = end, end + (length or 0) * width
            digests.append(None if length is None else bytes_digest(data[start:end]))
    return pa.chunked_array([pa.array(digests, pa.string())])


def draw(seed: int, row_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the seed, the row and the purpose alone."""
    return xxhash.xxh3_64_intdigest(f"{seed}\x1f{purpose}\x1f{row_id}".encode()) / 2**64


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": bytes_digest(bytes(value))}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "fingerprint"):
        return value.fingerprint()
    raise TypeError(f"no digest for {type(value).__name__}")
