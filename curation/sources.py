"""Sources: a folder, a glob, or a manifest of recordings, listed without opening any of them."""

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import SourceError
from curation.hashing import draw
from curation.media.subtitles import find_sidecar
from curation.rows import unreadable_id
from schemas.speech import LISTING

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".opus", ".ogg", ".oga", ".m4a", ".aac", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mka")
)
MANIFEST_SUFFIXES = frozenset((".jsonl", ".parquet"))


@dataclass(frozen=True)
class Source:
    """Where recordings come from, and what is known of all of them.

    Attributes:
        path: a folder (searched below), a glob, one file, or a manifest: `.jsonl` or `.parquet` with a column `path`
            (relative to the manifest) and, where known, `sidecar`, `language`, `licence`, `consent`, `channel`.
        language: ISO 639-1 code of recordings that do not say otherwise.
        licence, consent: likewise; carried to the ledger and the card.
        channel: the channel to hear, from 0; None is the mean of all.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    path: str = ""
    language: str = "en"
    licence: str | None = None
    consent: str | None = None
    channel: int | None = None


def list_source(source: Source, limit: int | None = None) -> pa.Table:
    """One row per file (`schemas.speech.LISTING`), in order of their names; opens none.

    Args:
        limit: take this many, chosen by the hash of their names, so that a first look is a fair one.

    Raises:
        SourceError: nothing there, or a manifest that cannot be read.
    """
    if not source.path:
        raise SourceError("source.path is empty; give a folder, a glob or a manifest: --set source.path=/data/podcasts")
    files = sorted(_files(source), key=lambda file: str(file["uri"]))
    if not files:
        raise SourceError(f"source.path: no recordings in {source.path}; known are {' '.join(sorted(AUDIO_SUFFIXES))}")
    if limit is not None:
        files = sorted(files, key=lambda file: draw(0, str(file["name"]), "limit"))[:limit]
    once = {file["uri"]: file for file in files}
    return pa.Table.from_pylist([_row(once[uri], source) for uri in sorted(once)], LISTING)


def _files(source: Source) -> Iterator[dict[str, Any]]:
    path = Path(source.path).expanduser()
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        yield from _manifest(path)
        return
    found: Iterator[Path]
    if path.is_dir():
        found, root = path.rglob("*"), path
    elif path.is_file():
        found, root = iter([path]), path.parent
    else:
        fixed = Path(glob.escape(source.path) if not glob.has_magic(source.path) else source.path.split("*")[0])
        root = fixed if fixed.is_dir() else fixed.parent
        found = (Path(name) for name in glob.iglob(str(path), recursive=True))
    siblings: dict[Path, list[str]] = {}
    for file in found:
        if file.suffix.lower() in AUDIO_SUFFIXES and not file.is_dir():
            names = siblings.setdefault(file.parent, _names(file.parent))
            sidecar = find_sidecar(file.name, names, source.language)
            yield {
                "uri": str(file.absolute()),
                "name": file.relative_to(root).as_posix(),
                "sidecar": str((file.parent / sidecar).absolute()) if sidecar else None,
            }


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def _manifest(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a manifest; one that cannot be meant becomes a row with an `error`, which fails at the scan."""
    for number, record in _records(path):
        where = f"{path}:{number}"
        if isinstance(record, str):
            yield {"uri": where, "name": f"{path.name}:{number}", "error": record}
        elif not isinstance(name := record.get("path") or record.get("uri"), str):
            yield {"uri": where, "name": f"{path.name}:{number}", "error": f"{where}: no `path`"}
        else:
            sidecar = record.get("sidecar")
            yield {
                **{key: record.get(key) for key in ("language", "licence", "consent", "channel")},
                "licence": record.get("licence") or record.get("license"),
                "uri": str((path.parent / name).absolute()),
                "name": name,
                "sidecar": str((path.parent / sidecar).absolute()) if isinstance(sidecar, str) and sidecar else None,
            }


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        if path.suffix.lower() == ".parquet":
            yield from enumerate(pq.read_table(path).to_pylist(), 1)
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    yield number, record if isinstance(record, dict) else f"{path}:{number}: not a JSON object"
                except ValueError as error:
                    yield number, f"{path}:{number}: not JSON: {error}"
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"source.path: cannot read the manifest {path}: {error}") from error


def _row(file: dict[str, Any], source: Source) -> dict[str, Any]:
    row_id = unreadable_id(file["uri"])
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
        "language": _text(file.get("language")) or source.language,
        "licence": _text(file.get("licence")) or source.licence,
        "consent": _text(file.get("consent")) or source.consent,
        "channel": channel if isinstance(channel, int) else source.channel,
        "error": file.get("error"),
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _status(path: str | None) -> tuple[int | None, int | None]:
    """Size and time of change; None for a file that is not there, which the scan will say."""
    if path is None:
        return None, None
    try:
        status = Path(path).stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns
