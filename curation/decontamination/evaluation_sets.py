"""Evaluation sets that a recipe names: files of texts, folders or tables of images and recordings.

A set is read whole or not at all: one item that cannot be read is an error that names it, since what it would have
found stays in the training data.
"""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from curation.errors import EngineMissing, RecipeError
from curation.hashing import digest, file_digest
from curation.media.decoded import MAX_ROW_BYTES, bounded_slices
from curation.media.pair_records import IMAGE_EXTENSIONS
from curation.media.parquet_batches import parquet_batches
from curation.media.text_tables import json_too_large
from curation.paths import RecipePath
from curation.sources import AUDIO_SUFFIXES

Kind = Literal["text", "image", "audio"]

IMAGE_SUFFIXES = frozenset(f".{extension}" for extension in IMAGE_EXTENSIONS)
TABLE_SUFFIXES = frozenset((".jsonl", ".csv", ".parquet"))
ROWS_AT_ONCE = 256
"""Of a Parquet file, which may hold the bytes of images."""

MAX_LINE = 1 << 26
"""Characters."""

SET_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""It becomes part of a reason, which is one word."""


class EvaluationSetError(EngineMissing):
    """A set, or an item of it, cannot be read. No row can be decided without it, so that it ends the run."""


@dataclass(frozen=True)
class EvaluationSet:
    """One evaluation set.

    Attributes:
        name: the name of the set in the reason of rejected rows.
        path: a `.txt` file, one text a line; a table (`.jsonl`, `.csv`, `.parquet`); or a folder, whose images and
            recordings are found below it, links to folders not followed.
        text: the table's column with a text, or a list of texts.
        image, audio: the table's column with a path below `folder`, bytes, or a mapping with `bytes` or `path`, as
            Hugging Face datasets have it.
        folder: where paths in columns begin; the table's own folder by default. They may not leave it.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: Annotated[str, Field(pattern=SET_NAME)]
    path: RecipePath
    text: str | None = None
    image: str | None = None
    audio: str | None = None
    folder: RecipePath | None = None

    def __post_init__(self) -> None:
        named = any((self.text, self.image, self.audio))
        if self.suffix in TABLE_SUFFIXES and not named:
            raise RecipeError(f"evaluation set {self.name}: name a column of {self.path}: text, image, audio")
        if self.suffix not in TABLE_SUFFIXES and (named or self.folder):
            raise RecipeError(f"evaluation set {self.name}: {self.path} is no table, so it has no columns to name")

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix.lower()

    def may_hold(self, kind: Kind) -> bool:
        """Whether there may be items of a kind. A folder that is not there may hold any, so that it will be missed."""
        if self.suffix in TABLE_SUFFIXES:
            return bool(getattr(self, kind))
        if self.suffix == ".txt":
            return kind == "text"
        return kind != "text" and (not Path(self.path).is_dir() or any(True for _ in self._below(kind)))

    def missing(self, kind: Kind) -> str | None:
        """What of its items is not here, or None. Texts are read; media are only looked for."""
        try:
            items = self.texts() if kind == "text" else self.media(kind)
            if any([True for _ in items]):
                return None
        except EvaluationSetError as error:
            return str(error)
        return f"evaluation set {self.name}: no {kind} in {self.path}"

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text with its item's name. A null holds none.

        Raises:
            EvaluationSetError: the file or a row of it cannot be read.
        """
        for name, value in self._lines() if self.suffix == ".txt" else self._values(self.text or ""):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    yield name, text
                elif text is not None:
                    raise self.error(f"{name}: {self.text} is {type(text).__name__}, not a text")

    def media(self, kind: Kind) -> Iterator[tuple[str, Path | bytes]]:
        """Every image or recording with its item's name: a file that is there, or bytes. A null holds none.

        Raises:
            EvaluationSetError: the file or a row of it cannot be read, or a path is of no file below the folder.
        """
        if self.suffix not in TABLE_SUFFIXES:
            if not Path(self.path).is_dir():
                raise self.error(f"{self.path} is no folder, .txt, {', '.join(sorted(TABLE_SUFFIXES))}")
            yield from self._below(kind)
            return
        column = getattr(self, kind) or ""
        for name, value in self._values(column):
            if isinstance(value, dict):
                value = value.get("bytes") or value.get("path")
            if isinstance(value, bytes):
                yield name, value
            elif isinstance(value, str):
                yield name, self._file(name, value)
            elif value is not None:
                raise self.error(f"{name}: {column} is {type(value).__name__}, neither a path nor bytes")

    def fingerprint(self) -> str:
        """Names all that its items depend on: columns, and the content of its files, wherever they lie.

        Files are looked at again: `known_fingerprint` is what it found last in this process.
        """
        columns = [self.name, self.suffix, self.text, self.image, self.audio]
        try:
            files = [Path(self.path)] if Path(self.path).is_file() else []
            for kind in _MEDIA:
                if self.may_hold(kind):
                    files += [item for _, item in self.media(kind) if isinstance(item, Path)]
            content: str | None = _content(tuple((str(file), _state(file)) for file in files), self.path)
        except (EvaluationSetError, OSError):
            content = None  # planning says what is missing
        _fingerprints[self] = digest([*columns, content])
        return _fingerprints[self]

    def error(self, complaint: str) -> EvaluationSetError:
        return EvaluationSetError(f"evaluation set {self.name}: {complaint}")

    def _below(self, kind: Kind) -> Iterator[tuple[str, Path]]:
        suffixes = IMAGE_SUFFIXES if kind == "image" else AUDIO_SUFFIXES
        root = Path(self.path)
        for file in sorted(root.rglob("*")):
            if file.suffix.lower() in suffixes and file.is_file():
                yield file.relative_to(root).as_posix(), file

    def _file(self, name: str, path: str) -> Path:
        folder = Path(self.folder or Path(self.path).parent).resolve()
        file = (folder / path).resolve()
        if not file.is_relative_to(folder):
            raise self.error(f"{name}: {path} is not below {folder}; give `folder`, where paths begin")
        if not file.is_file():
            raise self.error(f"{name}: {file} was not found, or is not a file")
        return file

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Lines with their names; the one thing that a table has none of is a last empty line."""
        where = Path(self.path).name
        try:
            with open(self.path, encoding="utf-8-sig", newline="\n") as file:
                number = 0
                while line := file.readline(MAX_LINE + 1):
                    number += 1
                    if len(line) > MAX_LINE:
                        raise self.error(f"{where}:{number}: a line of more than {MAX_LINE} characters")
                    yield f"{where}:{number}", line.rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(f"{self.path} cannot be read as UTF-8 text: {error}") from error

    def _values(self, column: str) -> Iterator[tuple[str, Any]]:
        """A column's values with the names of their rows."""
        where = Path(self.path).name
        rows = {".jsonl": self._jsonl, ".csv": self._csv, ".parquet": self._parquet}[self.suffix]
        for number, row in rows(column):
            if column not in row:
                raise self.error(f"{where}:{number}: no column {column!r}")
            yield f"{where}:{number}", row[column]

    def _jsonl(self, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (name, line) in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            if reason := json_too_large(line.encode()):
                raise self.error(f"{name}: {reason}")
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self.error(f"{name}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise self.error(f"{name}: not a JSON object")
            yield number, row

    def _csv(self, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows are numbered from 1, after the header."""
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, restkey="", restval=_LACKING, strict=True)
                if column not in (reader.fieldnames or ()):
                    raise self.error(f"{self.path}: no column {column!r}")
                for number, row in enumerate(reader, 1):
                    if "" in row or _LACKING in row.values():
                        raise self.error(f"{self.path}:{number}: not the columns of the header")
                    yield number, row
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise self.error(f"{self.path} cannot be read as CSV: {error}") from error

    def _parquet(self, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with pq.ParquetFile(self.path) as file:
                if column not in file.schema_arrow.names:
                    raise self.error(f"{self.path}: no column {column!r}")
                number = 0
                for group in range(file.num_row_groups):
                    for batch in parquet_batches(file, self.path, group, [column], ROWS_AT_ONCE):
                        for rows, size in bounded_slices(batch, ROWS_AT_ONCE):
                            if size > MAX_ROW_BYTES:
                                raise self.error(f"{self.path}:{number + 1}: {size} bytes, more than {MAX_ROW_BYTES}")
                            for row in rows.to_pylist():
                                number += 1
                                yield number, row
        except (OSError, pa.ArrowException) as error:
            raise self.error(f"{self.path} cannot be read as Parquet: {error}") from error


def known_fingerprint(one: EvaluationSet) -> str:
    """A set's fingerprint as this process found it last: its files, maybe many, are not looked at for each block."""
    return _fingerprints.get(one) or one.fingerprint()


_LACKING = "\0"
"""Stands for a value that a row of a CSV file ends before; text files hold no such character."""

_MEDIA: tuple[Kind, Kind] = ("image", "audio")
_fingerprints: dict[EvaluationSet, str] = {}


def _state(file: Path) -> tuple[int, ...]:
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=64)
def _content(files: tuple[tuple[str, tuple[int, ...]], ...], root: str) -> str:
    """The content of files; names below the set's folder count, since they are reported. Kept while no file changes."""
    return digest([[os.path.relpath(name, root), file_digest(Path(name))] for name, _ in files])
