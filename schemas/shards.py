"""The index of shards: where in which tar every part of every sample lies, and what it hashes to."""

import pyarrow as pa

from schemas.fields import field

PART = pa.struct(
    [
        pa.field("extension", pa.string(), nullable=False, metadata={"description": "the file's name after the key"}),
        pa.field("offset", pa.int64(), nullable=False, metadata={"description": "first byte of data", "unit": "bytes"}),
        pa.field("size", pa.int64(), nullable=False, metadata={"description": "length of data", "unit": "bytes"}),
        pa.field("xxh3", pa.string(), nullable=False, metadata={"description": "xxh3-128 of the data, in hex"}),
    ]
)

SHARD_INDEX = pa.schema(
    [
        field("key", pa.string(), "the sample's name in its shard", nullable=False),
        field("shard", pa.string(), "file name of the tar, in the subset's folder", nullable=False),
        field("row_id", pa.string(), "the row that was packed", nullable=False),
        field("offset", pa.int64(), "first byte of the sample, its first tar header", unit="bytes", nullable=False),
        field("size", pa.int64(), "length of the sample with headers and padding", unit="bytes", nullable=False),
        field("parts", pa.list_(PART), "the sample's files, in the order of the tar", nullable=False),
    ]
)
"""The columns that every index begins with; a subset's own columns (duration_s, language, …) follow."""

SQL_NAMES = {"offset": "first_byte"}
"""What views call columns of an index whose names SQL reserves."""
