"""Files that have image-text pairs, by their formats: each as pictures with captions, without their bytes."""

import heapq
import os
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from curation.errors import MediaError
from curation.hashing import draw
from curation.media.folder_files import FileFolder
from curation.media.pair_records import NOTHING_SAID, FoundPicture, Namer, PairNames, PictureFile
from curation.media.table_pairs import arrow_pairs, parquet_pairs
from curation.media.tar_pairs import Choose, folder_pairs, tar_pairs
from curation.media.text_tables import SEPARATORS, NumberedRecord, csv_header, csv_records, json_lines

FORMATS = {
    ".tar": "tar",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
"""By the ends of files' names. `files` is a folder of pictures with texts beside them."""


def pictures_of(
    path: str, format_: str, name: str, names: PairNames, file_id: str, at_most: int | None = None
) -> Iterator[FoundPicture]:
    """The pictures of a file in its order, with all their captions; then its damage, where it has some.

    Args:
        name: the file's path below the source.
        file_id: what draws are made from.
        at_most: take so many pictures, those with the least draw of their keys.

    Raises:
        MediaError: the file cannot be opened, or has no column of pictures or texts; it names the file.
    """

    def choose(keys: Sequence[tuple[str, int]]) -> Sequence[int]:
        if at_most is None or len(keys) <= at_most:
            return range(len(keys))
        return sorted(heapq.nsmallest(at_most, range(len(keys)), lambda i: (key_draw(file_id, *keys[i]), i)))

    try:
        match format_:
            case "tar":
                yield from tar_pairs(path, name, names, choose)
            case "files":
                yield from folder_pairs(path, name, names, choose)
            case "parquet":
                yield from parquet_pairs(path, name, names, choose)
            case "arrow":
                yield from arrow_pairs(path, name, names, choose)
            case "jsonl" | "csv":
                yield from _line_pairs(path, name, names, None if at_most is None else choose)
            case _:
                raise MediaError(f"{path}: {format_} is not read; known are {', '.join(sorted(FORMATS))}")
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}") from error


def key_draw(file_id: str, key: str, nth: int) -> float:
    """The draw of a picture, by which a first look takes it or not."""
    return draw(0, f"{file_id}/{nth}/{key}", "limit")


def _line_pairs(path: str, name: str, names: PairNames, choose: Choose | None) -> Iterator[FoundPicture]:
    """The lines of JSON lines, CSV or TSV, which name pictures by their paths."""
    chosen: set[int] | None = None
    if choose is not None:
        numbers = [number for number, _ in _records(path, names)]
        chosen = {numbers[i] for i in choose([(str(number), 0) for number in numbers])}
    lines = _Lines(path, name, names)
    if separator := _separator(path):
        lines.check_header(csv_header(path, separator, names.max_text_bytes))
    for number, record in _records(path, names):
        if chosen is None or number in chosen:
            yield lines.found(number, record)


class _Lines:
    """From records of lines to pictures."""

    def __init__(self, path: str, name: str, names: PairNames) -> None:
        self._path, self._name = path, name
        self._namer = Namer(names)
        self._folder = FileFolder(names.image_folder or os.path.dirname(path))
        # Pictures elsewhere are known by their paths there.
        self._above = "" if names.image_folder else PurePath(name).parent.as_posix() + "/"
        self._above = self._above.removeprefix("./")

    def check_header(self, header: list[str]) -> None:
        """Raises MediaError where no line will have a picture, or none a text."""
        self._namer.columns(self._path, header, header, header)

    def found(self, number: int, record: dict[str, Any] | str) -> FoundPicture:
        uri = f"{self._path}:{number}"
        name = f"{self._name}:{number}"
        try:
            if isinstance(record, str):
                raise MediaError(record)
            field = self._namer.image_name(tuple(record))
            if field is None:
                raise MediaError(f"no field with the path of a picture among: {', '.join(record):.200}")
            value = record[field]
            if not isinstance(value, str) or not value:
                raise MediaError(f"{field} is no path: {value!r:.80}")
            file = self._folder.find(value)
            said = self._namer.said(record, besides=(field,))
        except MediaError as error:
            return FoundPicture(str(number), 0, number, name, uri, None, NOTHING_SAID, f"{uri}: {error}")
        picture = PictureFile(file.path, "file", None, None, None, file.size, file.modified_ns)
        name = self._above + file.path[len(self._folder.path.rstrip("/")) + 1 :]
        return FoundPicture(str(number), 0, number, name, file.path, picture, said)


def _records(path: str, names: PairNames) -> Iterator[NumberedRecord]:
    separator = _separator(path)
    if separator is None:
        return json_lines(path, names.max_text_bytes)
    return csv_records(path, separator, names.max_text_bytes)


def _separator(path: str) -> bytes | None:
    return SEPARATORS.get(PurePath(path).suffix.lower())
