"""Image-text pairs as files: WebDataset tars as img2dataset writes them, a folder with a list, a Parquet file."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("caption", pa.string()),
        ("url", pa.string()),
        ("licence", pa.string()),
    ]
)
"""As `datasets` writes images."""
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Entry:
    """A pair to write; None for what is missing."""

    key: str
    image: bytes | None
    extension: str
    caption: str | None
    url: str
    licence: str | None = None

    def terms(self) -> dict[str, Any]:
        """What is said of it besides the caption."""
        return {"url": self.url} | ({"licence": self.licence} if self.licence else {})


def write_tar(path: Path, entries: Iterator[Entry]) -> None:
    """`KEY.jpg`, `KEY.txt` and `KEY.json` of each; without times or owners: the same entries give the same bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            said = {"key": entry.key, "caption": entry.caption, "status": "success", **entry.terms()}
            members = [(entry.extension, entry.image), ("json", json.dumps(said).encode())]
            if entry.caption is not None:
                members.insert(1, ("txt", entry.caption.encode()))
            else:
                members[1] = ("json", json.dumps({k: v for k, v in said.items() if k != "caption"}).encode())
            for extension, data in members:
                if data is not None:
                    about = tarfile.TarInfo(f"{entry.key}.{extension}")
                    about.size = len(data)
                    tar.addfile(about, BytesIO(data))


def write_list(path: Path, entries: Iterator[Entry]) -> None:
    """`pairs.jsonl`, whose lines name an image each, and the images in a folder beside it."""
    folder = PurePosixPath("pictures")
    (path.parent / folder).mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for entry in entries:
            name = folder / f"{entry.key}.{entry.extension}"
            if entry.image is not None:
                (path.parent / name).write_bytes(entry.image)
            line = {"image": str(name), "caption": entry.caption, **entry.terms()}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_parquet(path: Path, entries: Iterator[Entry]) -> None:
    """One row each, with the image's bytes."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        rows: list[dict[str, Any]] = []
        for entry in entries:
            name = f"{entry.key}.{entry.extension}"
            image = None if entry.image is None else {"bytes": entry.image, "path": name}
            rows.append({"image": image, "caption": entry.caption, "url": entry.url, "licence": entry.licence})
            if len(rows) == ROWS_AT_ONCE:
                rows = _flush(writer, rows)
        _flush(writer, rows)


def _flush(writer: pq.ParquetWriter, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if rows:
        writer.write_table(pa.Table.from_pylist(list(rows), SCHEMA))
    return []
