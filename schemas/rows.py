"""Columns that every row has."""

import pyarrow as pa

from schemas.fields import field

ROW = pa.schema(
    [
        field("row_id", pa.string(), "hash of the row's content or of its parents; see curation.rows", nullable=False),
        field("root", pa.string(), "the source row that it comes from", nullable=False),
        field("ordinal", pa.int64(), "its place among the rows of its root", nullable=False),
        field("kind", pa.string(), "what it is: listing, recording, utterance, sample", nullable=False),
        field("uri", pa.string(), "the file that it comes from", nullable=False),
    ]
)
ROW_COLUMNS = tuple(ROW.names)
