"""A place: where in which file an image's bytes lie. It finds them, and never changes a result."""

import pyarrow as pa

PLACE = pa.struct(
    [
        pa.field("path", pa.string(), metadata={"description": "the file: an image, or what holds it"}),
        pa.field("format", pa.string(), metadata={"description": "file, tar, parquet, arrow; base64: text in a page"}),
        pa.field("offset", pa.int64(), metadata={"description": "tar, base64: first byte; parquet, arrow: row from 0"}),
        pa.field("size", pa.int64(), metadata={"description": "tar, base64: length", "unit": "bytes"}),
        pa.field("column", pa.string(), metadata={"description": "parquet, arrow: column, with dots fields"}),
    ]
)
"""A whole file has its path and format alone."""
