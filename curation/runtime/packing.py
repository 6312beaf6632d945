"""Packing: payloads copied from blobs to one shard, in the order of the plan."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import pyarrow as pa

from curation.errors import StoreError
from curation.meter import advance
from curation.runtime.nodes import Pack
from curation.store.layout import Layout
from curation.store.objects import Store
from curation.store.parts import PartFile, Receipt, put_table, read_part_table
from curation.store.shard_index import index_table
from curation.store.tar_shards import write_shard

PackInput = tuple[PartFile, PartFile | None, tuple[str, ...] | None]
"""Rows, their blob, the row ids that are wanted."""


def pack(node: Pack, part: str, store: Store, inputs: Sequence[PackInput]) -> Receipt:
    """Write one shard and its index, and return the receipt, which is not put yet."""
    layout = node.layout
    rows = pa.concat_tables([_rows(store, *source) for source in inputs], promote_options="default")
    rows = rows.sort_by([("root", "ascending"), ("ordinal", "ascending"), ("row_id", "ascending")])
    subset = rows[layout.subset][0].as_py()
    with store.writing_content(part, "shard", ".tar") as file:
        written = write_shard(cast(BinaryIO, file), _samples(layout, store, rows), layout.extensions_in(subset))
    columns = rows.select(["row_id", *layout.index])
    index = put_table(store, part, "index", index_table("", written.rows, columns))
    return Receipt(
        node=node.name,
        part=part,
        files={"shard": PartFile(file.name, written.size, file.xxh3, rows.num_rows), "index": index},
        rows_in=rows.num_rows,
        details={
            "subset": subset,
            **({"split": rows[layout.split][0].as_py()} if layout.split else {}),
            "sha256": written.sha256,
            "samples": rows.num_rows,
        },
    )


def _rows(store: Store, file: PartFile, blob: PartFile | None, row_ids: tuple[str, ...] | None) -> pa.Table:
    rows = read_part_table(store, file, row_ids=row_ids)
    return rows.append_column("blob", pa.repeat(pa.scalar(blob and blob.path, pa.string()), rows.num_rows))


def _samples(layout: Layout, store: Store, rows: pa.Table) -> Iterator[tuple[str, dict[str, bytes]]]:
    for batch in rows.to_batches(max_chunksize=64):
        for row in batch.to_pylist():
            yield row["row_id"], layout.parts(row, _payload(store, row))
            advance()


def _payload(store: Store, row: dict[str, Any]) -> bytes:
    place = row["payload"]
    try:
        return store.read_range(row["blob"], place["offset"], place["size"], place["xxh3"])
    except StoreError as error:
        raise StoreError(f"{error} (the payload of {row['row_id']})") from error
