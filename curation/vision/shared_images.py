"""Images of rows: each is read from where it lies and looked at once, however many rows of a table share it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from curation.errors import BLAMES_NO_ROW, MediaError
from curation.media.places import MAX_BYTES, read_place
from curation.meter import advance
from curation.stage import fail, with_column

LOCATORS = ("place", "uri")
"""Columns that find an image whose hash is in `image_hash`."""

T = TypeVar("T")


@dataclass
class SharedImage:
    """One image, and the rows that have it.

    Attributes:
        content: hash of its bytes (`curation.hashing.bytes_digest`); None for a row without an image.
        rows: their positions in the table.
        uris: what a row's image is called, for each of them.
        places: where it lies, for each of them.
    """

    content: str | None
    rows: list[int] = field(default_factory=list)
    uris: list[str | None] = field(default_factory=list)
    places: list[dict[str, Any] | None] = field(default_factory=list)

    def look(self, look: Callable[[bytes], T], max_bytes: int = MAX_BYTES) -> list[T | Exception]:
        """What `look` makes of the bytes, which all rows share; or for each row why there is nothing, with its uri.

        The bytes are the same wherever they lie, so the first place that has them serves all rows.
        """
        errors: list[T | Exception] = []
        for uri, place in zip(self.uris, self.places, strict=True):
            try:
                data = self._read(place, max_bytes)
            except BLAMES_NO_ROW:
                raise
            except Exception as error:
                errors.append(_named(error, uri))
                continue
            try:
                return [look(data)] * len(self.rows)
            except BLAMES_NO_ROW:
                raise
            except Exception as error:
                return [_named(error, uri) for uri in self.uris]
        return errors

    def _read(self, place: dict[str, Any] | None, max_bytes: int) -> bytes:
        if self.content is None or place is None:
            raise MediaError("no image")
        return read_place(place, content=self.content, max_bytes=max_bytes)


def images_of(rows: pa.Table) -> Iterator[SharedImage]:
    """The images of rows with `image_hash`, `place` and `uri`, in the order in which they are met first."""
    found: dict[object, SharedImage] = {}
    columns = (rows[name].to_pylist() for name in ("image_hash", *LOCATORS))
    for i, (content, place, uri) in enumerate(zip(*columns, strict=True)):
        image = found.setdefault(i if content is None else content, SharedImage(content))
        image.rows.append(i)
        image.uris.append(uri)
        image.places.append(place)
    return iter(found.values())


def look_at_each(rows: pa.Table, look: Callable[[bytes], T], max_bytes: int = MAX_BYTES) -> list[T | Exception]:
    """What `look` makes of each row's image, or why there is nothing. An image that rows share is read once."""
    outcomes: dict[int, T | Exception] = {}
    for image in images_of(rows):
        outcomes.update(zip(image.rows, image.look(look, max_bytes), strict=True))
        advance(len(image.rows))
    return [outcomes[i] for i in range(rows.num_rows)]


def measure_images(
    rows: pa.Table, columns: dict[str, pa.DataType], measure: Callable[[bytes], dict[str, Any]]
) -> pa.Table:
    """Add `columns` by calling `measure` with the bytes of each image; a row whose image raises fails alone."""
    outcomes = look_at_each(rows, measure)
    for name, type_ in columns.items():
        values = [None if isinstance(outcome, Exception) else outcome[name] for outcome in outcomes]
        rows = with_column(rows, name, values, type_)
    return failed(rows, outcomes)


def failed(rows: pa.Table, outcomes: Sequence[object]) -> pa.Table:
    """The rows, those failed whose outcome is an error."""
    errors = [outcome if isinstance(outcome, Exception) else None for outcome in outcomes]
    return fail(rows, errors) if any(errors) else rows


def _named(error: Exception, uri: str | None) -> Exception:
    """The error with the name of the row's image before it, where it is one of ours and has none."""
    if not isinstance(error, MediaError) or uri is None or str(error).startswith(f"{uri}: "):
        return error
    return MediaError(f"{uri}: {error}")
