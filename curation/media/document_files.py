"""Interleaved documents as they stand in files: lines of JSON, rows of Parquet and Arrow, HTML pages."""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import MediaError
from curation.hashing import bytes_digest, digest
from curation.media.arrow_files import ArrowDamage, arrow_batches
from curation.media.decoded import MAX_ROW_BYTES, MAX_WORK_BYTES, bounded_slices, file_budget
from curation.media.document_records import (
    MAX_NODES,
    MAX_QUOTED,
    TOO_DEEP,
    Cells,
    ImageFolder,
    as_json,
    document_of,
    image,
    scheme_of,
    text,
)
from curation.media.html_pages import DROPPED, MAX_DEPTH, Page, PageImage, read_page
from curation.media.json_records import json_records
from curation.media.parquet_batches import parquet_batches
from curation.media.text_tables import LINE_BYTES, SPLIT, json_too_large, opened
from curation.rows import source_id

ROWS_AT_ONCE = 16
"""Of Parquet: a row may hold the bytes of thirty images."""

MAX_UNFOUND = 100
"""Embedded images of a page whose data may stand there in another spelling; each is a search to the end of it."""

_BASE64 = re.compile(r"data:[^,]{0,200};base64,\s*([A-Za-z0-9+/=\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """What stands at one place of a file: a document, or the error that it is.

    Attributes:
        number: its place: rows count from 0, lines from 1, a page is 0.
        name: what people call it.
        content: the id of its content.
        fields: the columns of `schemas.documents.DOCUMENT_ENTRY` that it knows.
    """

    number: int
    name: str
    content: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    error: MediaError | None = None


def read_documents(
    file: dict[str, Any],
    *,
    max_document_bytes: int = 1 << 26,
    max_nodes: int = MAX_NODES,
    dropped: Iterable[str] = DROPPED,
    max_depth: int = MAX_DEPTH,
    body: bool = True,
) -> Iterator[Found]:
    """The documents of a listed file (`schemas.documents.DOCUMENT_LISTING`), in order.

    A line or row that cannot be read is a `Found` with an error, and what follows it is read. A file that breaks off
    ends in one.

    Args:
        max_document_bytes: a longer line, page or text of a row is an error; a longer line or page is never loaded.
        max_nodes: a document with more texts, or more images, is an error.
        dropped, max_depth, body: of HTML pages (`html_pages.read_page`).

    Raises:
        MediaError: the file cannot be opened, is not of its format, or is a page that is too long, too deep or has too
            many nodes.
    """
    images = ImageFolder(file["folder"], file["images"], tuple(file["roots"]))
    path = file["uri"]
    if file["format"] == "html":
        data = _page_bytes(path, max_document_bytes)
        try:
            page = read_page(data, dropped, max_depth, max_nodes, body)
            yield _page(file, data, page, images, max_document_bytes)
        except (MediaError, ValueError) as error:
            raise MediaError(f"{path}: {error}") from error
        return
    match file["format"]:
        case "jsonl":
            records = _lines(path, max_document_bytes)
        case "json":
            records = _records(path, max_document_bytes)
        case _:
            records = _rows(path, file["format"])
    for number, record in records:
        name = f"{file['name']}:{number}"
        if isinstance(record, MediaError):
            yield Found(number, name, error=record)
            continue
        try:
            place = {"path": path, "format": file["format"], "offset": number}
            fields = document_of(record, Cells(images, place), max_nodes)
            content, state = _content(digest(as_json(record)), fields["nodes"])
            yield Found(number, name, content, _sized(fields, max_document_bytes) | {"image_files": state})
        # A record may be anything that JSON can hold, and so may be what it leads to.
        except Exception as error:
            yield Found(number, name, error=MediaError(f"{path}:{number}: {error}"))


def _lines(path: str, max_bytes: int) -> Iterator[tuple[int, dict[str, Any] | MediaError]]:
    work = file_budget(path, MAX_WORK_BYTES, SPLIT)
    with _opened(path) as file:
        number = 0
        try:
            while line := file.readline(max_bytes + 1):
                number += 1
                work.take(LINE_BYTES)
                if len(line) > max_bytes:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(max_bytes)
                    yield number, MediaError(f"{path}:{number}: a line of more than {max_bytes} bytes")
                elif line.strip():
                    yield number, _line(path, number, line)
        except (OSError, pa.ArrowException) as error:  # a packed file that is damaged
            yield number + 1, MediaError(f"{path}: cannot be read from line {number + 1} on: {error}")


def _line(path: str, number: int, line: bytes) -> dict[str, Any] | MediaError:
    if reason := json_too_large(line):
        return MediaError(f"{path}:{number}: {reason}")
    try:
        record = json.loads(line)
    except RecursionError:
        return MediaError(f"{path}:{number}: {TOO_DEEP}")
    except ValueError as error:
        return MediaError(f"{path}:{number}: not JSON: {error}")
    return record if isinstance(record, dict) else MediaError(f"{path}:{number}: not a JSON object")


def _records(path: str, max_bytes: int) -> Iterator[tuple[int, dict[str, Any] | MediaError]]:
    for number, record in json_records(path, max_bytes):
        yield number, MediaError(f"{path}:{number}: {record}") if isinstance(record, str) else record


def _opened(path: str) -> Any:
    try:
        if not os.path.isfile(path):
            raise MediaError(f"{path}: {'not a plain file' if os.path.exists(path) else 'not found'}")
        return opened(path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened: {error.strerror}") from error


def _rows(path: str, format_: str) -> Iterator[tuple[int, dict[str, Any] | MediaError]]:
    """Rows from 0. A file that breaks off in the middle ends with an error in the place of its next row."""
    _opened(path).close()
    work = file_budget(path, MAX_WORK_BYTES, "split the file")
    number = 0
    try:
        for batch in _parquet_batches(path) if format_ == "parquet" else _arrow_batches(path):
            for part, size in bounded_slices(batch, ROWS_AT_ONCE):
                work.take(min(size, MAX_ROW_BYTES))
                if size > MAX_ROW_BYTES:
                    yield number, MediaError(f"{path}:{number}: a row of {size} bytes, more than {MAX_ROW_BYTES}")
                    number += 1
                    continue
                for row in _as_objects(path, part, number):
                    yield number, row
                    number += 1
    except (OSError, ValueError, pa.ArrowException) as error:
        if not number:
            raise MediaError(f"{path}: not {format_}, or damaged: {error}") from error
        lost = _row_count(path) - number if format_ == "parquet" else 0
        where = f"{path}: cannot be read from row {number} on: {error}"
        yield number, MediaError(where, lost if lost > 1 else None)


def _row_count(path: str) -> int:
    return int(pq.read_metadata(path).num_rows)


def _as_objects(path: str, rows: pa.RecordBatch, first: int) -> Iterator[dict[str, Any] | MediaError]:
    """Rows as Python objects; one that cannot be (a text that is not UTF-8) leaves its neighbours."""
    try:
        yield from rows.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if rows.num_rows == 1:
            yield MediaError(f"{path}:{first}: {error}")
            return
        for i in range(rows.num_rows):
            yield from _as_objects(path, rows.slice(i, 1), first + i)


def _parquet_batches(path: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from parquet_batches(file, path, group, None, ROWS_AT_ONCE)


def _arrow_batches(path: str) -> Iterator[pa.RecordBatch]:
    for batch in arrow_batches(path):
        if isinstance(batch, ArrowDamage):
            raise ValueError(batch.reason)
        yield batch


def _page_bytes(path: str, max_bytes: int) -> bytes:
    with _opened(path) as file:
        data: bytes = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise MediaError(f"{path}: a page of more than {max_bytes} bytes")
    return data


def _page(file: dict[str, Any], data: bytes, page: Page, images: ImageFolder, max_bytes: int) -> Found:
    nodes, position, unfound = [], 0, 0
    for block in page.blocks:
        if not isinstance(block, PageImage):
            nodes.append(text(block.text))
        elif scheme_of(block.source) == "data":
            node, position = _embedded(file["uri"], data if unfound < MAX_UNFOUND else b"", block.source, position)
            unfound += node["error"] is not None
            nodes.append(node | {"text": block.alt})
        else:
            nodes.append(_linked(block.source, page.base, images) | {"text": block.alt})
    metadata = as_json({"lang": page.language}) if page.language else None
    fields = {"url": page.url, "title": page.title, "nodes": nodes, "metadata": metadata}
    content, state = _content(bytes_digest(data), nodes)
    return Found(0, file["name"], content, _sized(fields, max_bytes) | {"image_files": state})


def _linked(source: str, base: str | None, images: ImageFolder) -> dict[str, Any]:
    """A page's image: an address on the web, or a file: below the page, or with "/" below the source's folder.

    Args:
        base: where the page's relative addresses begin, if it says so: on the web, or in another folder.
    """
    try:
        address = _joined(base, source) if base else source
        if address.startswith("//") or scheme_of(address):
            return images.find(address)
        path = unquote(urlsplit(address).path)
    except ValueError as error:
        return image(error=f"no address: {source:.{MAX_QUOTED}}: {error}")
    return images.find(os.path.join(images.folder, path.lstrip("/")) if path.startswith("/") else path)


def _joined(base: str, source: str) -> str:
    """An address that begins at a base; of one that is no address on the web, every ".." is kept, to be refused."""
    if base.startswith("//") or scheme_of(base) or source.startswith("/") or scheme_of(source):
        return urljoin(base, source)
    folder = urlsplit(base).path.rpartition("/")[0]
    return f"{folder}/{source}" if folder or base.startswith("/") else source


def _embedded(path: str, data: bytes, source: str, position: int) -> tuple[dict[str, Any], int]:
    """The node of an image that stands in the page's own bytes, and where in them the next may stand."""
    found = _BASE64.fullmatch(source)
    coded = found.group(1).encode() if found else b""
    try:
        base64.b64decode(coded)
    except binascii.Error:
        coded = b""
    start = data.find(coded, position) if coded else -1
    if start < 0:
        return image(error=f"embedded in a way that cannot be read: {source:.40}"), position
    place = {"path": path, "format": "base64", "offset": start, "size": len(coded)}
    return image(name=f"{source.partition(',')[0]:.{MAX_QUOTED}}", place=place), start + len(coded)


def _content(record: str, nodes: Sequence[dict[str, Any]]) -> tuple[str, str | None]:
    """The id of a content, of the record as it stands and the sizes of the files that it names; and those files' state.

    Two folders may have one page, and other images under the names in it.
    """
    places = (node["place"] for node in nodes if node["place"])
    states = [_state(place["path"]) for place in places if place["format"] == "file"]
    return source_id([record, digest([size for size, _ in states])]), digest(states) if states else None


def _state(path: str) -> tuple[int | None, int | None]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


def _sized(fields: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """The fields with the number of their texts' bytes.

    Raises:
        ValueError: they are too many, or half of a surrogate pair is among them, which UTF-8 cannot write.
    """
    try:
        as_json(fields).encode()
    except UnicodeEncodeError as error:
        raise ValueError("text that UTF-8 cannot write") from error
    size = sum(len((node["text"] or "").encode()) for node in fields["nodes"])
    if size > max_bytes:
        raise ValueError(f"a document of {size} bytes, more than {max_bytes}")
    return fields | {"document_bytes": size}
