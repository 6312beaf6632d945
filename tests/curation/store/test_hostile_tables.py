"""Tables of a store whose checksums are right and whose content is a stranger's: one clear error, no traceback."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import StoreError
from curation.store.objects import Store, parquet_bytes
from curation.store.parts import put_table, read_part_table
from curation.store.shard_index import index_rows
from schemas.ledger import LINEAGE
from schemas.shards import SHARD_INDEX

EDGE = {"child": ["c"], "parent": ["p"], "node": ["n"]}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table(EDGE | {"parent": pa.nulls(1)}), "'parent' is null, not string"),
        (pa.table(EDGE | {"parent": pa.array([5], pa.duration("us"))}), r"'parent' is duration\[us\], not string"),
        (pa.table({"parent": ["p"], "node": ["n"]}), "has no column 'child'"),
        (pa.table(EDGE | {"child": pa.array([None], pa.string())}), "a row of it has no 'child'"),
    ],
)
def test_a_table_of_other_columns_is_named(tmp_path: Path, table: pa.Table, said: str) -> None:
    store = Store(tmp_path)
    file = put_table(store, "parts/a/b", "lineage", table)
    with pytest.raises(StoreError, match=f"{file.path} is damaged: .*{said}"):
        read_part_table(store, file)
    good = put_table(store, "parts/a/c", "lineage", pa.table(EDGE, LINEAGE))
    assert read_part_table(store, good).num_rows == 1


@pytest.mark.parametrize("place", [(-1, 4), (0, -1), (2**62, 4), (0, 2**62), (2**63, 1), (0, 2**40), (9, 9)])
def test_a_place_that_an_object_does_not_have_is_one_error(tmp_path: Path, place: tuple[int, int]) -> None:
    store = Store(tmp_path)
    store.create("parts/a/b/blob.bin", b"few bytes")
    with pytest.raises(StoreError, match=r"parts/a/b/blob\.bin"):
        store.read_range("parts/a/b/blob.bin", *place)


@pytest.mark.parametrize("size", [-1, 2**62])
def test_an_index_of_places_that_none_can_have_is_one_error(size: int) -> None:
    part = {"extension": "txt", "offset": 512, "size": size, "xxh3": "0" * 32}
    row = {"key": "k", "shard": "train-000000.tar", "row_id": "r", "offset": 0, "size": 1024, "parts": [part]}
    with pytest.raises(StoreError, match=r"train-000000\.tar is damaged"):
        index_rows(pa.Table.from_pylist([row], SHARD_INDEX), "train-000000.tar")


def test_a_table_that_was_read_has_the_bytes_of_one_that_was_computed() -> None:
    nested = pa.list_(pa.struct([("values", pa.list_(pa.float32()))]))
    table = pa.table({"embedding": pa.array([[0.5], None], pa.list_(pa.float32())), "deep": pa.nulls(2, nested)})
    data = parquet_bytes(table)
    assert parquet_bytes(pq.read_table(io.BytesIO(data))) == data
