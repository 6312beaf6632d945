"""Sources: a folder, a glob, or a manifest of recordings, listed without opening any of them."""

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from curation.errors import MediaError, SourceError
from curation.hashing import draw
from curation.media.audio import MAX_CHANNELS
from curation.media.decoded import MAX_FILE_BYTES, MAX_ROW_BYTES, ROW_BYTES, bounded_slices, file_budget
from curation.media.folder_files import changed_ns
from curation.media.parquet_batches import parquet_batches
from curation.media.source_folders import Walk, allowed_roots, ending, skipped_text, with_notes
from curation.media.source_splits import split_of
from curation.media.subtitles import SIDECAR_EXTENSIONS, Sidecars, find_sidecar, sidecars_by_stem
from curation.media.text_tables import json_lines, unpacked_name
from curation.paths import RecipePath
from curation.rows import derived_id, unreadable_id
from schemas.speech import LISTING

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".opus", ".ogg", ".oga", ".m4a", ".aac", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mka")
)
MANIFEST_COLUMNS = ("path", "uri", "sidecar", "language", "licence", "license", "consent", "channel")
MAX_LINE_BYTES = 1 << 24
ROWS_AT_ONCE = 1000
MANIFEST_SUFFIXES = frozenset((".jsonl", ".parquet"))


@dataclass(frozen=True)
class Source:
    """Where recordings come from, and what is known of all of them.

    Attributes:
        path: a folder (searched below), a glob, one file, or a manifest: `.jsonl` or `.parquet` with a column `path`
            (relative to the manifest) and, where known, `sidecar`, `language`, `licence`, `consent`, `channel`. A file
            may stand in it several times, with other channels, sidecars or terms. Lines of JSON may be packed with
            gzip, bzip2 or zstd. Links are followed once, as far as they stay in the source; what is no recording is
            counted.
        roots: folders into which links of the source may lead, besides its own.
        language: ISO 639-1 code of recordings that do not say otherwise.
        licence, consent: likewise; carried to the ledger and the card.
        channel: the channel to use, from 0; None is the mean of all.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    path: RecipePath = ""
    roots: tuple[RecipePath, ...] = ()
    language: str = "en"
    licence: str | None = None
    consent: str | None = None
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS)] | None = None


def list_source(source: Source, limit: int | None = None) -> pa.Table:
    """One row per file (`schemas.speech.LISTING`), in order of their names; opens none.

    Args:
        limit: take this many, chosen by the hash of their names, so that a first look is a fair one.

    Raises:
        SourceError: nothing there, or a manifest that cannot be read.
    """
    if not source.path:
        raise SourceError("source.path is empty; give a folder, a glob or a manifest: --set source.path=/data/podcasts")
    once: dict[str, dict[str, Any]] = {}
    path = Path(source.path).expanduser()
    try:
        walk = Walk(allowed_roots(str(path if path.is_dir() else _root(path)), source.roots))
        for row in (_row(_as_text(file), source) for file in _files(source, walk)):
            once.setdefault(row["row_id"], row)
    except OSError as error:
        raise SourceError(f"source.path: cannot read {source.path}: {error.strerror}") from error
    rows = list(once.values())
    if not rows:
        skipped = f"; skipped: {skipped_text(walk.skipped)}" if walk.skipped.total() else ""
        known = " ".join(sorted(AUDIO_SUFFIXES))
        raise SourceError(f"source.path: no recordings in {source.path}; known are {known}{skipped}")
    if limit is not None:
        rows = sorted(rows, key=lambda row: (draw(0, row["name"], "limit"), row["row_id"]))[:limit]
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["row_id"])), LISTING)
    # A recording's own name tells nothing: test.wav.
    folders = [(os.path.dirname(row["uri"]), os.path.dirname(row["name"])) for row in rows]
    found = [split for uri, name in folders if name and (split := split_of(uri, name, is_folder=True))]
    return with_notes(table, walk.skipped, dict(sorted(Counter(found).items())), "recordings")


def _root(path: Path) -> Path:
    """The folder that names of files begin in, of a path that is no folder."""
    if path.is_file():
        return path.parent
    return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))


def _files(source: Source, walk: Walk) -> Iterator[dict[str, Any]]:
    path = Path(source.path).expanduser()
    is_manifest = path.suffix.lower() in MANIFEST_SUFFIXES or unpacked_name(path.name).lower().endswith(".jsonl")
    if is_manifest and path.is_file():
        yield from _manifest(path)
        return
    found: Iterator[Path]
    if path.is_dir():
        found, root = (Path(one.path, name) for one in walk.below(str(path)) for name in one.names), path
    else:
        root = _root(path)
        found = iter([path]) if path.is_file() else _matches(root, path.relative_to(root), walk)
    siblings: dict[Path, Sidecars] = {}
    beside: set[Path | None] = set()
    used: set[Path | None] = set()
    for file in found:
        if file.suffix.lower() in AUDIO_SUFFIXES and not file.is_dir():
            folder = file.parent
            if folder not in siblings:
                siblings[folder] = sidecars_by_stem(_file_names(folder))
            sidecar = find_sidecar(file.name, siblings[folder], source.language)
            yield {
                "uri": str(file.absolute()),
                "name": file.relative_to(root).as_posix(),
                "sidecar": str((folder / sidecar).absolute()) if sidecar else None,
            }
            used.add(folder / sidecar if sidecar else None)
        elif file.suffix.lower().removeprefix(".") in SIDECAR_EXTENSIONS:
            beside.add(file)
        elif not file.is_dir():
            walk.skipped[ending(file.name)] += 1
    walk.skipped["texts of no recording"] += len(beside - used)


def _matches(root: Path, pattern: Path, walk: Walk) -> Iterator[Path]:
    """The files of a glob. Unlike `glob`, `pathlib` does not follow links below `**`, which may lead in circles."""
    try:
        for file in root.glob(str(pattern / "*" if pattern.name == "**" else pattern)):
            if walk.may_read(str(file)):
                yield file
    except ValueError as error:
        raise SourceError(f"source.path: {root / pattern} is not a glob that can be read: {error}") from error


def _file_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]


def _manifest(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a manifest; an invalid one becomes a row with an `error`, which fails at the scan."""
    for number, record in _records(path):
        where = f"{path}:{number}"
        if isinstance(record, str):
            yield {"uri": where, "name": f"{path.name}:{number}", "error": record}
        elif reason := _unmeant(record):
            yield {"uri": where, "name": f"{path.name}:{number}", "error": f"{where}: {reason}"}
        else:
            name = record.get("path") or record["uri"]
            sidecar = record.get("sidecar")
            channel = record.get("channel")
            terms = {
                "language": _text(record.get("language")),
                "licence": _text(record.get("licence") or record.get("license")),
                "consent": _text(record.get("consent")),
            }
            yield {
                **terms,
                "channel": None if channel is None else int(channel),
                "uri": str((path.parent / name).absolute()),
                "name": name,
                "sidecar": str((path.parent / sidecar).absolute()) if sidecar else None,
                # Other terms are another row: which of them hold is not for a listing to decide.
                "listed_as": [channel, sidecar or None, *terms.values()],
            }


def _unmeant(record: dict[str, Any]) -> str | None:
    """Why a manifest's row is invalid, if it is."""
    if not isinstance(record.get("path") or record.get("uri"), str):
        return "no `path`"
    if not isinstance(record.get("sidecar") or "", str):
        return f"`sidecar` is no path: {record['sidecar']!r:.40}"
    channel = record.get("channel")
    # Parquet from pandas has 1.0 for 1 where another row has none.
    number = isinstance(channel, int | float) and not isinstance(channel, bool)
    if channel is not None and not (number and channel in range(MAX_CHANNELS)):
        return f"`channel` is no number from 0 to {MAX_CHANNELS - 1}: {channel!r:.40}"
    return None


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """A manifest's rows from 1, with the columns that are meant for one."""
    budget = file_budget(str(path), MAX_FILE_BYTES, "split the manifest")
    records = _parquet_rows(path) if path.suffix.lower() == ".parquet" else json_lines(str(path), MAX_LINE_BYTES)
    try:
        for number, record in records:
            if isinstance(record, str):
                record = f"{path}:{number}: {record}"
            else:
                record = {name: record[name] for name in MANIFEST_COLUMNS if name in record}
            budget.take(ROW_BYTES + (len(record) if isinstance(record, str) else sum(map(_length, record.values()))))
            yield number, record
    except (OSError, ValueError, pa.ArrowException, MediaError) as error:
        raise SourceError(f"source.path: cannot read the manifest {path}: {error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with pq.ParquetFile(path) as file:
        columns = [name for name in MANIFEST_COLUMNS if name in file.schema_arrow.names]
        number = 0
        for group in range(file.num_row_groups):
            for batch in parquet_batches(file, str(path), group, columns, ROWS_AT_ONCE):
                for rows, size in bounded_slices(batch, ROWS_AT_ONCE):
                    for row in rows.to_pylist() if size <= MAX_ROW_BYTES else [f"a row of {size} bytes"]:
                        number += 1
                        yield number, row


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0


def _as_text(file: dict[str, Any]) -> dict[str, Any]:
    """The file, or a row with an `error` where a value is not UTF-8, as names of files need not be."""
    try:
        "".join(str(value) for value in file.values()).encode()
    except UnicodeEncodeError:
        uri, name = (str(file[key]).encode(errors="backslashreplace").decode() for key in ("uri", "name"))
        return {"uri": uri, "name": name, "error": f"{uri}: its name, or what the manifest says of it, is not UTF-8"}
    return file


def _row(file: dict[str, Any], source: Source) -> dict[str, Any]:
    row_id = unreadable_id(file["uri"])
    if "listed_as" in file:
        row_id = derived_id([row_id], "listing", file["listed_as"])
    size, modified = _status(file["uri"])
    sidecar_size, sidecar_modified = _status(file.get("sidecar"))
    channel = file.get("channel")
    return {
        "row_id": row_id,
        "root": row_id,
        "ordinal": 0,
        "kind": "listing",
        "uri": file["uri"],
        "name": file["name"],
        "size_bytes": size,
        "modified_ns": modified,
        "sidecar": file.get("sidecar"),
        "sidecar_size_bytes": sidecar_size,
        "sidecar_modified_ns": sidecar_modified,
        "language": file.get("language") or source.language,
        "licence": file.get("licence") or source.licence,
        "consent": file.get("consent") or source.consent,
        "channel": source.channel if channel is None else channel,
        "error": file.get("error"),
    }


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _status(path: str | None) -> tuple[int | None, int | None]:
    """Size and time of change; None for a file that is not there, which the scan will say."""
    if path is None:
        return None, None
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size, changed_ns(status)
