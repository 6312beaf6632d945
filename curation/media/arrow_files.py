"""The batches of an Arrow file or stream, as far as they can be read."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import MediaError

BYTES_OF = {"string": pa.binary(), "large_string": pa.large_binary()}


def arrow_batches(path: str) -> tuple[list[pa.RecordBatch], str | None]:
    """Batches, mapped and not copied, and what is wrong behind the last of them, if anything.

    Offsets are checked: what a damaged file says of them would otherwise be followed out of its memory.

    Raises:
        MediaError: not an Arrow file or stream.
    """
    try:
        source = pa.memory_map(path)
        try:
            file = pa.ipc.open_file(source)
            coming: Iterator[pa.RecordBatch] = (file.get_batch(i) for i in range(file.num_record_batches))
        except pa.ArrowInvalid:  # `datasets` writes streams
            coming = iter(pa.ipc.open_stream(pa.memory_map(path)))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise MediaError(f"{path}: not an Arrow file or stream: {' '.join(str(error).split())}") from error
    batches: list[pa.RecordBatch] = []
    try:
        for batch in coming:
            batch.validate()
            for values in batch.columns:
                # That a text is not UTF-8 is a matter of its row.
                is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
                (values.view(BYTES_OF[str(values.type)]) if is_text else values).validate(full=True)
            batches.append(batch)
    except (OSError, pa.ArrowException, ValueError) as error:
        return batches, str(error)
    return batches, None


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
