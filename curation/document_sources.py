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
from curation.media.pair_records import IMAGE_EXTENSIONS
from curation.media.source_folders import Walk, allowed_roots, ending, skipped_text, with_notes
from curation.media.source_splits import Splits, with_splits
from curation.media.text_tables import unpacked_name
from curation.paths import RecipePath
from curation.rows import unreadable_id
from schemas.documents import DOCUMENT_LISTING

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
IMAGES = frozenset(f".{extension}" for extension in IMAGE_EXTENSIONS)
_MADE_BY_DATASETS = ("cache-", "indices-", "tmp")
"""How files begin that `datasets` leaves beside a dataset's own."""


@dataclass(frozen=True)
class DocumentSource:
    """Where interleaved documents come from, and what is known of all of them.

    Attributes:
        path: a folder (searched below), a glob or one file: `.jsonl` or Parquet in the manner of MMC4 (`text_list`,
            `image_info`) or of OBELICS (`texts`, `images`), with a list of `nodes`, or with a conversation as LLaVA has
            it (`conversations`, `image`); `.json`, a list of such, where it is named itself or by a glob; a dataset
            that `datasets` saved; HTML pages. JSON may be packed with gzip, bzip2 or zstd. Links are followed once, as
            far as they stay in the source; what is not read is counted.
        images: the folder in which relative paths of images begin; where it is not given, that of the file that
            names them. Images must lie below it, or without it below `path`; one that does not, by `..` or a link,
            fails alone.
        language: ISO 639-1 code of documents that do not say otherwise.
        licence, consent: likewise; carried to the ledger and the card.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    path: RecipePath = ""
    images: RecipePath | None = None
    roots: tuple[RecipePath, ...] = ()
    splits: Splits = "keep"
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
    path = Path(source.path).expanduser()
    more = [*source.roots, *([source.images] if source.images else [])]
    try:
        walk = Walk(allowed_roots(str(path if path.is_dir() else _root(path)), more))
        state = lru_cache(lambda folder: _state_of_images(folder, walk.roots))
        rows = [_row(file, root, source, state) | {"roots": walk.roots} for file, root in _files(source, walk)]
    except OSError as error:
        raise SourceError(f"source.path: cannot read {source.path}: {error.strerror}") from error
    if not rows:
        skipped = f"; skipped: {skipped_text(walk.skipped)}" if walk.skipped.total() else ""
        raise SourceError(f"source.path: no documents in {source.path}; known are {' '.join(FORMATS)}{skipped}")
    told = with_splits(rows, source.splits)
    rows = opened_files(rows, limit)
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["row_id"])), DOCUMENT_LISTING)
    return with_notes(table, walk.skipped, told, source.splits)


def _root(path: Path) -> Path:
    """The folder that names of files begin in, of a path that is no folder."""
    if path.is_file():
        return path.parent
    return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))


def _files(source: DocumentSource, walk: Walk) -> Iterator[tuple[Path, Path]]:
    """Files, and the folder that their names begin in."""
    path = Path(source.path).expanduser()
    found: Iterator[Path]
    if path.is_dir():
        found, root = (Path(one.path, name) for one in walk.below(str(path)) for name in one.names), path
    else:
        root = _root(path)
        found = iter([path]) if path.is_file() else _matches(root, path.relative_to(root), walk)
    for file in found:
        format_ = _format(file.name)
        if file.is_dir():
            continue
        if format_ == "arrow" and file.name.startswith(_MADE_BY_DATASETS):
            walk.skipped["notes of datasets"] += 1
        elif format_ == "json" and path.is_dir():
            # Beside pages and images lies much JSON that is no document.
            walk.skipped[".json (named as source.path, one by one or by a glob, it is read)"] += 1
        elif format_ is not None:
            yield file, root
        elif file.suffix.lower() not in IMAGES:  # which pages and tables name
            walk.skipped[ending(file.name)] += 1


def _format(name: str) -> str | None:
    small = name.lower()
    plain = unpacked_name(small)
    format_ = FORMATS.get(os.path.splitext(plain)[1])
    return format_ if plain == small or format_ in ("jsonl", "json") else None


def _matches(root: Path, pattern: Path, walk: Walk) -> Iterator[Path]:
    try:
        for file in root.glob(str(pattern / "*" if pattern.name == "**" else pattern)):
            if walk.may_read(str(file)):
                yield file
    except ValueError as error:
        raise SourceError(f"source.path: {root / pattern} is not a glob that can be read: {error}") from error


def _state_of_images(folder: str, roots: tuple[str, ...]) -> str | None:
    """Changes when an image below the folder does, so that what names it is read again; None where there are none."""
    found = []
    for one in Walk(roots).below(folder):
        for name in one.names:
            if os.path.splitext(name)[1].lower() in IMAGES:
                file = os.path.join(one.path, name)
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
        "format": _format(file.name),
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
