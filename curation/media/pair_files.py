"""Files that have image-text pairs, by their formats: each as images with captions, without their bytes."""

import heapq
import os
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from curation.errors import MediaError
from curation.hashing import draw
from curation.media.folder_files import FileFolder, FolderFile
from curation.media.json_records import from_conversation, json_records
from curation.media.pair_records import NOTHING_SAID, FoundImage, ImagePlace, Namer, PairNames
from curation.media.source_folders import is_within
from curation.media.table_pairs import arrow_pairs, parquet_pairs
from curation.media.tar_pairs import Choose, folder_pairs, tar_pairs, with_captions
from curation.media.text_tables import SEPARATORS, NumberedRecord, csv_header, csv_records, json_lines, unpacked_name

FORMATS = {
    ".tar": "tar",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
"""By the ends of files' names. `files` is a folder of images with texts beside them."""


def images_of(
    path: str, format_: str, name: str, names: PairNames, file_id: str, at_most: int | None = None
) -> Iterator[FoundImage]:
    """The images of a file in its order, with all their captions; then its damage, where it has some.

    Args:
        name: the file's path below the source.
        file_id: what draws are made from.
        at_most: take so many images, those with the least draw of their keys.

    Raises:
        MediaError: the file cannot be opened, or has no column of images or texts; it names the file.
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
            case "jsonl" | "json" | "csv":
                yield from _line_pairs(path, name, names, None if at_most is None else choose)
            case _:
                raise MediaError(f"{path}: {format_} is not read; known are {', '.join(sorted(FORMATS))}")
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}") from error


def key_draw(file_id: str, key: str, nth: int) -> float:
    """The draw of an image, by which a first look takes it or not."""
    return draw(0, f"{file_id}/{nth}/{key}", "limit")


def _line_pairs(path: str, name: str, names: PairNames, choose: Choose | None) -> Iterator[FoundImage]:
    """The lines of JSON lines, CSV or TSV, which name images by their paths."""
    chosen: set[int] | None = None
    if choose is not None:
        numbers = [number for number, _ in _records(path, names)]
        chosen = {numbers[i] for i in choose([(str(number), 0) for number in numbers])}
    lines = _Lines(path, name, names)
    if separator := _separator(path):
        lines.check_header(csv_header(path, separator, names.max_text_bytes))
    if _is_json(path) and names.image is None and not lines.has_image(next(_records(path, names), (0, ""))[1]):
        return  # one of the many files of JSON that have no pairs
    records = (
        lines.found(number, record) for number, record in _records(path, names) if chosen is None or number in chosen
    )
    yield from with_captions(path, lines.namer, records)


class _Lines:
    """From records of lines to images."""

    def __init__(self, path: str, name: str, names: PairNames) -> None:
        self._path, self._name = path, name
        self.namer = Namer(names)
        here = os.path.dirname(path)
        folders = [names.image_folder] if names.image_folder else [here, *_image_folders(path, names.roots)]
        self._folders = [FileFolder(folder, names.roots) for folder in folders]
        # Images elsewhere are known by their paths there.
        above = PurePath(name).parent.as_posix()
        self._above = ["" if names.image_folder else os.path.join(above, os.path.relpath(one, here)) for one in folders]

    def check_header(self, header: list[str]) -> None:
        """Raises MediaError where no line will have an image, or none a text."""
        self.namer.columns(self._path, header, header, header)

    def has_image(self, record: dict[str, Any] | str) -> bool:
        """Whether a record names an image."""
        if isinstance(record, str):
            return False
        return "images" in record or self.namer.image_name(tuple(record)) is not None

    def found(self, number: int, record: dict[str, Any] | str) -> FoundImage:
        uri = f"{self._path}:{number}"
        name = f"{self._name}:{number}"
        try:
            if isinstance(record, str):
                raise MediaError(record)
            record = from_conversation(record)
            field = self.namer.image_name(tuple(record))
            if field is None:
                raise MediaError(self.namer.no_image([*record]))
            value = record[field]
            if not isinstance(value, str) or not value:
                raise MediaError(f"{field} is no path: {value!r:.80}")
            file, above = self._find(value)
            said = self.namer.said(record, besides=(field,))
        except MediaError as error:
            return FoundImage(str(number), 0, number, name, uri, None, NOTHING_SAID, f"{uri}: {error}")
        image = ImagePlace(file.path, "file", None, None, None, file.size, file.modified_ns)
        return FoundImage(str(number), 0, number, os.path.normpath(above), file.path, image, said)

    def _find(self, value: str) -> tuple[FolderFile, str]:
        """The file of that name in the first folder that has it, and its name below the source."""
        missing: MediaError | None = None
        for folder, above in zip(self._folders, self._above, strict=True):
            try:
                file = folder.find(value)
            except MediaError as error:
                missing = missing or error
                continue
            return file, os.path.join(above, os.path.relpath(file.path, folder.path))
        assert missing is not None
        raise missing


def _image_folders(path: str, roots: Sequence[str]) -> list[str]:
    """Where COCO has the images of `annotations/captions_val2014.json`: in `val2014` or `images/val2014` beside it."""
    folder = os.path.dirname(path)
    parent = os.path.dirname(folder)
    if os.path.basename(folder) != "annotations" or not is_within(os.path.realpath(parent), roots):
        return []
    name = PurePath(unpacked_name(path)).stem.rpartition("_")[2]
    wanted = (os.path.join(parent, name), os.path.join(parent, "images", name), os.path.join(parent, "images"))
    return [one for one in wanted if os.path.isdir(one)]


def _records(path: str, names: PairNames) -> Iterator[NumberedRecord]:
    if separator := _separator(path):
        return csv_records(path, separator, names.max_text_bytes)
    if _is_json(path):
        return json_records(path, names.max_text_bytes)
    return json_lines(path, names.max_text_bytes)


def _is_json(path: str) -> bool:
    return PurePath(unpacked_name(path)).suffix.lower() == ".json"


def _separator(path: str) -> bytes | None:
    return SEPARATORS.get(PurePath(unpacked_name(path)).suffix.lower())
