"""Sources of interleaved documents: a folder, a glob or a file, listed without opening any of them."""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from curation.errors import SourceError
from curation.first_look import opened_files
from curation.hashing import digest
from curation.media.folder_files import changed_ns
from curation.rows import unreadable_id
from schemas.documents import DOCUMENT_LISTING

FORMATS = {
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
PICTURES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp"))
_MADE_BY_DATASETS = ("cache-", "indices-", "tmp")
"""How files begin that `datasets` leaves beside a dataset's own."""


@dataclass(frozen=True)
class DocumentSource:
    """Where interleaved documents come from, and what is known of all of them.

    Attributes:
        path: a folder (searched below), a glob or one file: `.jsonl` or Parquet in the manner of MMC4 (`text_list`,
            `image_info`) or of OBELICS (`texts`, `images`), or with a list of `nodes`; a dataset that `datasets` saved;
            HTML pages. Links to folders are not followed.
        images: the folder in which relative paths of pictures begin; where it is not given, that of the file that
            names them. Pictures must lie below it, or without it below `path`; one that does not, by `..` or a link,
            fails alone.
        language: ISO 639-1 code of documents that do not say otherwise.
        licence, consent: likewise; carried to the ledger and the card.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    path: str = ""
    images: str | None = None
    language: str | None = None
    licence: str | None = None
    consent: str | None = None


def list_documents(source: DocumentSource, limit: int | None = None) -> pa.Table:
    """One row per file (`schemas.documents.DOCUMENT_LISTING`), in order of their names; opens none.

    Args:
        limit: as many files as it takes to find so many documents, chosen by the hash of their names.

    Raises:
        SourceError: nothing there.
    """
    if not source.path:
        raise SourceError("source.path is empty; give a folder, a glob or a file: --set source.path=/data/pages")
    if source.images is not None and not Path(source.images).expanduser().is_dir():
        raise SourceError(f"source.images: {source.images} is not a folder")
    try:
        state = lru_cache(_state_of_pictures)
        rows = [_row(file, root, source, state) for file, root in _files(source)]
    except OSError as error:
        raise SourceError(f"source.path: cannot look into {source.path}: {error.strerror}") from error
    if not rows:
        raise SourceError(f"source.path: no documents in {source.path}; known are {' '.join(FORMATS)}")
    rows = opened_files(rows, limit)
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["row_id"])), DOCUMENT_LISTING)


def _files(source: DocumentSource) -> Iterator[tuple[Path, Path]]:
    """Files, and the folder that their names begin in."""
    path = Path(source.path).expanduser()
    found: Iterator[Path]
    if path.is_dir():
        found, root = path.rglob("*"), path
    elif path.is_file():
        found, root = iter([path]), path.parent
    else:
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
        found = _matches(root, path.relative_to(root))
    for file in found:
        format_ = FORMATS.get(file.suffix.lower())
        if format_ is None or file.is_dir() or (format_ == "arrow" and file.name.startswith(_MADE_BY_DATASETS)):
            continue
        yield file, root


def _matches(root: Path, pattern: Path) -> Iterator[Path]:
    try:
        yield from root.glob(str(pattern / "*" if pattern.name == "**" else pattern))
    except ValueError as error:
        raise SourceError(f"source.path: {root / pattern} is no glob that can be read: {error}") from error


def _state_of_pictures(folder: str) -> str | None:
    """Changes when a picture below the folder does, so that what names it is read again; None where there are none."""
    found = []
    for here, _, names in os.walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in PICTURES:
                file = os.path.join(here, name)
                found.append([os.path.relpath(file, folder), *_status(Path(file))])
    return digest(sorted(found, key=lambda file: str(file[0]))) if found else None


def _row(file: Path, root: Path, source: DocumentSource, state: Callable[[str], str | None]) -> dict[str, Any]:
    folder = str(root.absolute())
    images = str(Path(source.images).expanduser().absolute()) if source.images is not None else None
    uri, name = str(file.absolute()), file.relative_to(root).as_posix()
    error = None
    if (readable := _as_text(uri)) != uri or _as_text(folder) != folder:
        uri, name, folder = readable, _as_text(name), _as_text(folder)
        error = f"{uri}: its name is not UTF-8"
    row_id = unreadable_id(uri)
    size, modified = _status(file)
    return {
        "row_id": row_id,
        "root": row_id,
        "ordinal": 0,
        "kind": "listing",
        "uri": uri,
        "name": name,
        "format": FORMATS[file.suffix.lower()],
        "size_bytes": size,
        "modified_ns": modified,
        "folder": images or folder,
        "images": images or os.path.dirname(uri),
        "beside": state(images or str(root.absolute())),
        "language": source.language,
        "licence": source.licence,
        "consent": source.consent,
        "error": error,
    }


def _as_text(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _status(path: Path) -> tuple[int | None, int | None]:
    """Size and time of change; None for a file that is not there, which reading will say."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size, changed_ns(status)
