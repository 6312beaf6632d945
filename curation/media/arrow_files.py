"""The batches of an Arrow file or stream, as far as they can be read."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import MediaError


class ArrowDamage(NamedTuple):
    """Why nothing can be read behind the last batch."""

    reason: str


def arrow_batches(path: str) -> Iterator[pa.RecordBatch | ArrowDamage]:
    """Batches one after the other, mapped and not copied; behind the last of them what is wrong there, if anything.

    Offsets are checked: what a damaged file says of them would otherwise be followed out of its memory. A batch that is
    packed (LZ4, ZSTD) is unpacked as a whole, and gone when it is let go.

    Raises:
        MediaError: not an Arrow file or stream.
    """
    for batch in _coming(path):
        if isinstance(batch, pa.RecordBatch) and (damage := _invalid(batch)):
            yield damage
            return
        yield batch


def arrow_row_count(path: str) -> int:
    """How many rows its batches claim to have, as far as they can be found. Their values are not looked at.

    Raises:
        MediaError: not an Arrow file or stream.
    """
    return sum(batch.num_rows for batch in _coming(path) if isinstance(batch, pa.RecordBatch))


def _coming(path: str) -> Iterator[pa.RecordBatch | ArrowDamage]:
    try:
        source = pa.memory_map(path)
        try:
            file = pa.ipc.open_file(source)
            coming: Iterator[pa.RecordBatch] = (file.get_batch(i) for i in range(file.num_record_batches))
        except pa.ArrowInvalid:  # `datasets` writes streams
            coming = iter(pa.ipc.open_stream(pa.memory_map(path)))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise MediaError(f"{path}: not an Arrow file or stream: {' '.join(str(error).split())}") from error
    try:
        yield from coming
    except (OSError, pa.ArrowException, ValueError) as error:
        yield ArrowDamage(str(error))


def _invalid(batch: pa.RecordBatch) -> ArrowDamage | None:
    try:
        batch.validate()
        for values in batch.columns:
            values.view(_as_bytes(values.type)).validate(full=True)
    except (OSError, pa.ArrowException, ValueError) as error:
        return ArrowDamage(str(error))
    return None


def _as_bytes(type_: pa.DataType) -> pa.DataType:
    """The type with bytes for texts: that a text is not UTF-8 is a matter of its row."""
    if pa.types.is_string(type_):
        return pa.binary()
    if pa.types.is_large_string(type_):
        return pa.large_binary()
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_as_bytes(type_.value_type)))
    if pa.types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_as_bytes(type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in type_])
    return type_


def column_values(batch: Any, column: str) -> Any:
    """A column of a batch or table, or with dots a field of it; None where it was not read."""
    parents = [column] if column in batch.schema.names else column.split(".")
    if parents[0] not in batch.schema.names:
        return None
    values = batch[parents[0]]
    for name in parents[1:]:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(name) < 0:
            return None
        values = pc.struct_field(values, name)
    return values
