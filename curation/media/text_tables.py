"""Lines of JSON and CSV as records, with their numbers; a broken line is reported, and its neighbours are read."""

import io
import json
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa

from curation.errors import MediaError
from curation.media.decoded import MAX_WORK_BYTES, FileBudget, file_budget

BOM = b"\xef\xbb\xbf"
SEPARATORS = {".csv": b",", ".tsv": b"\t"}

PACKINGS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Of text, by the last end of a file's name."""
MAX_RECORD_BYTES = 1 << 24
READ_AT_ONCE = 1 << 20
SPLIT = "split the file"
LINE_BYTES = 64
"""What a line or a value counts for, however short, of what a file may take: time goes by them, not by their bytes."""

MAX_DEPTH = 100
"""Of objects and lists in one another."""

MAX_CONTAINERS = 1 << 20
MAX_VALUES = 1 << 22
"""Objects and lists, and all values, in one text of JSON: an empty list takes 3 bytes of it, and 60 of Python's."""

NumberedRecord = tuple[int, dict[str, Any] | str]
"""A line's number, from 1, and its record, or why it has none."""


def unpacked_name(name: str) -> str:
    """A file's name without the end that says how it is packed."""
    stem, end = os.path.splitext(name)
    return stem if end.lower() in PACKINGS else name


def opened(path: str) -> IO[bytes]:
    """A file to be read from its beginning to its end, unpacked if its name says that it is packed.

    Raises:
        OSError: it cannot be read, which reading on may raise too; or `TooLarge`, where it unfolds too far.
    """
    packing = PACKINGS.get(os.path.splitext(path)[1].lower())
    file: Any = io.FileIO(path) if packing is None else pa.CompressedInputStream(pa.OSFile(path), packing)
    return io.BufferedReader(_Bounded(file, file_budget(path, MAX_WORK_BYTES, SPLIT)), 1 << 16)


class _Bounded(io.RawIOBase):
    """A file of which no more is read than its budget allows: of one that is packed, or has holes."""

    def __init__(self, file: Any, budget: FileBudget) -> None:
        self._file, self._budget = file, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer))
        self._budget.take(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def json_lines(path: str, max_bytes: int) -> Iterator[NumberedRecord]:
    """The objects of a file of JSON lines; empty lines are none.

    Raises:
        MediaError: the file cannot be read.
    """
    try:
        work = file_budget(path, MAX_WORK_BYTES, SPLIT)
        with opened(path) as file:
            number = 0
            while line := file.readline(max_bytes + 1):
                number += 1
                work.take(LINE_BYTES)
                if number == 1:
                    line = line.removeprefix(BOM)
                if len(line) > max_bytes and not line.endswith(b"\n"):
                    while (rest := file.readline(max_bytes)) and not rest.endswith(b"\n"):
                        pass
                    yield number, f"a line of more than {max_bytes} bytes"
                elif line.strip():
                    yield number, json_object(line)
    except (OSError, pa.ArrowException) as error:
        raise MediaError(f"{path}: cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())


def json_object(data: bytes) -> dict[str, Any] | str:
    """The object that some JSON holds, or what is wrong with it.

    How deep Python reads depends on how deep it is called itself; so there is a limit, which is the same everywhere.
    """
    if reason := json_too_large(data):
        return reason
    try:
        value = json.loads(data)
    except RecursionError:
        return f"JSON nested deeper than {MAX_DEPTH}"
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(value, dict):
        return "not a JSON object"
    return f"JSON nested deeper than {MAX_DEPTH}" if is_deeper(value, MAX_DEPTH) else value


def json_too_large(data: bytes | str, start: int = 0) -> str | None:
    """Why a text of JSON is not read, if it may hold too many values; signs within its texts count too."""
    if isinstance(data, str):
        objects, lists, commas = (data.count(sign, start) for sign in "{[,")
    else:
        objects, lists, commas = (data.count(sign, start) for sign in (b"{", b"[", b","))
    if objects + lists > MAX_CONTAINERS or commas > MAX_VALUES:
        return f"JSON with more than {MAX_CONTAINERS} objects and lists, or {MAX_VALUES} values"
    return None


def is_deeper(value: dict[str, Any], depth: int) -> bool:
    """Whether objects and lists stand in one another deeper than this."""
    inner: list[Any] = [value]
    for _ in range(depth):
        inner = [
            one
            for outer in inner
            for one in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(one, (dict, list))
        ]
        if not inner:
            return False
    return True


def csv_header(path: str, separator: bytes = b",", max_bytes: int = MAX_RECORD_BYTES) -> list[str]:
    """The names in the first line of a CSV file.

    Raises:
        MediaError: the file cannot be read, or has no header that can be.
    """
    with _mapped(path) as data:
        return _header(path, data, _Fields(separator, max_bytes))[0]


def csv_records(path: str, separator: bytes = b",", max_bytes: int = MAX_RECORD_BYTES) -> Iterator[NumberedRecord]:
    """The records of a CSV file (RFC 4180) whose first line has the names; empty fields are None.

    A quote inside of a field that does not begin with one is a quote. A record that is broken costs its first line
    alone: a quote that is never closed would otherwise swallow all that follow. So does one of more than `max_bytes`.

    Raises:
        MediaError: the file cannot be read, or has no header that can be.
    """
    with _mapped(path) as data:
        fields = _Fields(separator, max_bytes)
        header, at = _header(path, data, fields)
        number = 1 + _line_ends(data, 0, at)
        work = file_budget(path, MAX_WORK_BYTES, SPLIT)
        while at < len(data):
            work.take(LINE_BYTES)
            values, behind = fields.of_record(data, at)
            if isinstance(values, list) and len(values) != len(header) and values != [None]:
                values = f"{len(values)} fields, where the header has {len(header)}"
            if isinstance(values, str):
                behind = _line_end(data, at)
                yield number, values
            elif values != [None]:
                yield number, dict(zip(header, values, strict=True))
            number += _line_ends(data, at, behind)
            at = behind


@contextmanager
def _mapped(path: str) -> Iterator[mmap.mmap]:
    try:
        with _plain_file(path) as file:
            if not os.fstat(file.fileno()).st_size:
                raise MediaError(f"{path}: an empty file, without a header")
            file_budget(path, MAX_WORK_BYTES, SPLIT).take(os.fstat(file.fileno()).st_size)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except (OSError, pa.ArrowException) as error:
        raise MediaError(f"{path}: cannot be read: {_reason(error)}") from error


@contextmanager
def _plain_file(path: str) -> Iterator[IO[bytes]]:
    """The file; where it is packed, a temporary one with what is in it."""
    if unpacked_name(path) == path:
        with open(path, "rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as plain, opened(path) as packed:
        shutil.copyfileobj(packed, plain, READ_AT_ONCE)
        plain.flush()
        yield plain


def _header(path: str, data: mmap.mmap, fields: "_Fields") -> tuple[list[str], int]:
    """The names, and where the line behind them begins."""
    at = len(BOM) if data[: len(BOM)] == BOM else 0
    while at < len(data):
        values, at = fields.of_record(data, at)
        if isinstance(values, str):
            raise MediaError(f"{path}: its header cannot be read: {values}")
        if values != [None]:
            names = [value or "" for value in values]
            if len(set(names)) < len(names):
                raise MediaError(f"{path}: its header repeats a name: {', '.join(names):.200}")
            return names, at
    raise MediaError(f"{path}: no header")


def _line_ends(data: mmap.mmap, start: int, end: int) -> int:
    """How many lines end in a stretch; a record that is too long is no reason to hold it."""
    return sum(data[at : min(at + READ_AT_ONCE, end)].count(b"\n") for at in range(start, end, READ_AT_ONCE))


def _line_end(data: mmap.mmap, at: int) -> int:
    """Where the next line begins."""
    end = data.find(b"\n", at)
    return len(data) if end < 0 else end + 1


class _Fields:
    """The grammar of a record, for one separator; no more than `max_bytes` of one are looked at."""

    def __init__(self, separator: bytes, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        mark = re.escape(separator)
        # Possessive (++): a quote that is never closed costs one pass, not one for each of its bytes.
        quoted = rb'"((?:[^"]++|"")*+)"'
        plain = rb'((?:[^"\n%b][^\n%b]*+)?)' % (mark, mark)
        self._field = re.compile(rb"(?:%b|%b)(%b|\r?\n|\r?\Z)" % (quoted, plain, mark))
        self._separator = separator

    def of_record(self, data: mmap.mmap, at: int) -> tuple[list[str | None] | str, int]:
        """The fields of the record that begins at a byte, or what is wrong; and where the next one begins."""
        values: list[str | None] = []
        limit = min(len(data), at + self._max_bytes)
        while True:
            match = self._field.match(data, at, limit)
            if limit < len(data) and (match is None or match.end() == limit):
                return f"a record of more than {self._max_bytes} bytes, or a quote that is not closed", at
            if match is None:
                return "a quote that is not closed, or text behind a closed one", at
            quoted, plain, end = match.groups()
            try:
                if quoted is not None:
                    values.append(quoted.replace(b'""', b'"').decode())
                else:
                    text = plain if end == self._separator else plain.removesuffix(b"\r")
                    values.append(text.decode() or None)
            except UnicodeDecodeError as error:
                return f"not UTF-8: {error}", at
            at = match.end()
            if end != self._separator:
                return values, at
