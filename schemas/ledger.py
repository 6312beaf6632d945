"""The ledger: for every row, at every node it met, one verdict with its reason. And lineage: who was made of whom."""

import pyarrow as pa

from schemas.fields import field

KEPT = "kept"
REJECTED = "rejected"
SAMPLED_OUT = "sampled_out"
FAILED = "failed"
VERDICTS = (KEPT, REJECTED, SAMPLED_OUT, FAILED)

DECISION = pa.struct(
    [
        pa.field("verdict", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("error", pa.string()),
    ]
)

LEDGER = pa.schema(
    [
        field("row_id", pa.string(), "the row that is decided on", nullable=False),
        field("node", pa.string(), "the node that it went through", nullable=False),
        field("stage", pa.string(), "the stage that decided; null where the row was kept"),
        field("kind", pa.string(), "what the row is: listing, recording, utterance, sample", nullable=False),
        field("made", pa.bool_(), "true for a row made at this node, false for one that came in", nullable=False),
        field("verdict", pa.string(), "kept, rejected, sampled_out or failed", nullable=False),
        field("reason", pa.string(), "why, in one word; the exception's name for a failure"),
        field(
            "value",
            pa.float64(),
            "the number that was compared; of a failure, how many samples are lost with it, if not one",
        ),
        field("threshold", pa.float64(), "the threshold that it passed"),
        field("error", pa.string(), "the message of a failure"),
        field("uri", pa.string(), "the source file"),
    ]
)

FORMER_NAMES = {"limit": "threshold"}
"""Columns of ledgers in stores of before, and what they are called now. SQL reserves `limit`."""


def with_present_names(ledger: pa.Table) -> pa.Table:
    """A ledger as it was stored, with the columns of today."""
    return ledger.rename_columns([FORMER_NAMES.get(name, name) for name in ledger.column_names])


LINEAGE = pa.schema(
    [
        field("child", pa.string(), "the row that was made", nullable=False),
        field("parent", pa.string(), "a row that it was made of", nullable=False),
        field("node", pa.string(), "where", nullable=False),
    ]
)
