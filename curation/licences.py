"""Licences of sources: rows whose licence a recipe does not allow stay out."""

from dataclasses import dataclass

import pyarrow as pa

from curation.stage import Stage, reject

SEPARATOR = "; "
"""Between the licences of one content that came under several."""


@dataclass(frozen=True)
class AllowedLicence(Stage):
    """Reject rows of a licence that is not among `licences`, and rows whose source states none.

    What came under several licences needs all of them allowed.
    """

    licences: tuple[str, ...]

    reads = ("licence",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        stated = rows["licence"].to_pylist()
        allowed = {text for text in set(stated) if text and set(text.split(SEPARATOR)) <= set(self.licences)}
        rows = reject(rows, [not text for text in stated], "licence_not_stated")
        return reject(rows, [bool(text) and text not in allowed for text in stated], "licence_not_allowed")
