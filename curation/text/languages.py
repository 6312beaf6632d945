"""Which language a text is in, as far as anybody knows: its source, or a measure that is sure."""

import pyarrow as pa
import pyarrow.compute as pc

from curation.text.normalisation import base_language


def known_language(rows: pa.Table, said: str | None, measured: str | None, min_confidence: float) -> pa.ChunkedArray:
    """The language of each row by ISO 639-1: what its source says, else what was measured surely; null for unknown.

    Args:
        said: the column of the source's word.
        measured: the column of texts whose language `CaptionLanguage` has measured.
        min_confidence: below it a measured language is unknown.
    """
    codes = rows[said].to_pylist() if said else [None] * rows.num_rows
    known = pa.chunked_array([pa.array([base_language(code) or None for code in codes], pa.string())])
    if measured is None:
        return known
    confidence = rows[f"{measured}_language_confidence"]
    sure = pc.fill_null(pc.greater_equal(confidence, min_confidence), False)
    found = pc.if_else(sure, rows[f"{measured}_language"].cast(pa.string()), pa.scalar(None, pa.string()))
    return pc.coalesce(known, found)
