"""From listed files to recordings: what is in each, and each content once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import MediaError
from curation.hashing import file_digest
from curation.media.audio import probe_audio
from curation.rows import source_id
from curation.stage import Stage, measure_each
from schemas.speech import RECORDING

GUESSED_BYTES_PER_S = 8_000
"""For planning alone, where a header has no duration: 64 kbit/s."""

HEADER = {
    "container": pa.string(),
    "codec": pa.string(),
    "rate_hz": pa.int32(),
    "channels": pa.int32(),
    "header_duration_s": pa.float64(),
    "work_s": pa.float64(),
}


@dataclass(frozen=True)
class Scan(Stage):
    """Hash a file and its sidecar, and read its headers; nothing is decoded."""

    reads = ("uri", "size_bytes", "modified_ns", "sidecar", "sidecar_size_bytes", "sidecar_modified_ns", "error")
    writes = ("media_hash", "sidecar_hash", *HEADER)
    packages = ("av",)

    def __call__(self, files: pa.Table) -> pa.Table:
        hashes = {"media_hash": pa.string(), "sidecar_hash": pa.string()}
        return measure_each(files, hashes | HEADER, _scan)


def _scan(file: dict[str, Any]) -> dict[str, Any]:
    if file["error"]:
        raise MediaError(file["error"])
    info = probe_audio(file["uri"])
    sidecar = file["sidecar"]
    if sidecar and not Path(sidecar).is_file():
        raise MediaError(f"{sidecar}: the manifest names it as sidecar, but it was not found")
    claimed_s = info.header_duration_s
    likely_s = file["size_bytes"] / GUESSED_BYTES_PER_S
    return {
        "media_hash": file_digest(Path(file["uri"])),
        "sidecar_hash": file_digest(Path(sidecar)) if sidecar else None,
        "container": info.container,
        "codec": info.codec,
        "rate_hz": info.rate_hz,
        "channels": info.channels,
        "header_duration_s": claimed_s,
        "work_s": claimed_s if claimed_s and claimed_s < 100 * likely_s else likely_s,
    }


@dataclass(frozen=True)
class OneRowPerContent(Stage):
    """Make one recording of all files with the same bytes, sidecar and channel; it lists all their names.

    Licences, or consents, that differ are not decided between: the recording has all of them, sorted and joined by
    "; ", so that neither the card nor a filter for one of them takes it for free of the others. A file that states
    none adds none. A recording is heard in one language: that of the first file by name; what others say stands in
    `other_languages`.
    """

    reads = ("name", "media_hash", "sidecar_hash", "channel", "sidecar", "language", "licence", "consent", *HEADER)
    writes = tuple(name for name in RECORDING.names if name != "parents")
    makes = "recording"
    version = 2

    def __call__(self, files: pa.Table) -> pa.Table:
        groups: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(files.to_pylist(), key=_by_name):
            channel = None if file["channel"] is None else str(file["channel"])
            parts = [file["media_hash"], file["sidecar_hash"], channel]
            groups.setdefault(source_id(parts), []).append(file)
        recordings = []
        for row_id, group in groups.items():
            row = {name: group[0].get(name) for name in RECORDING.names}
            row |= {"row_id": row_id, "root": row_id, "ordinal": 0, "kind": "recording"}
            row |= {"parents": sorted(f["row_id"] for f in group), "occurrences": sorted({f["name"] for f in group})}
            row |= {"licence": _all_terms(group, "licence"), "consent": _all_terms(group, "consent")}
            row["other_languages"] = sorted({f["language"] for f in group} - {row["language"]})
            recordings.append(row)
        return pa.Table.from_pylist(recordings, RECORDING)


def _by_name(file: dict[str, Any]) -> tuple[str, ...]:
    """Where a file stands among those with its bytes; a manifest may list one name several times."""
    return str(file["name"]), str(file["language"]), file["row_id"]


def _all_terms(files: list[dict[str, Any]], column: str) -> str | None:
    return "; ".join(sorted({file[column] for file in files if file[column]})) or None
