"""Shards: tar files whose bytes depend on their samples alone, and whose damage can be located sample by sample.

The layout is the one that all loaders of WebDataset shards agree on: USTAR, the parts of a sample adjacent and named
`key.extension`, keys unique and free of dots, the same extensions for every sample. Times, owners and modes are fixed.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import xxhash

from curation.errors import StageError, StoreError
from curation.hashing import CHUNK_BYTES, bytes_digest

TAR_FORMAT = 2
"""Raised by hand when the same samples would give other bytes, so that no shard of before is taken for one of now."""
BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES
"""A tar ends with two zero blocks, and is filled up to whole records (POSIX.1-1988, ustar)."""
MAX_PART_BYTES = 8**11 - 1
"""The size field of a USTAR header has eleven octal digits."""
MAX_NAME_BYTES = 100

SHARD_NAME = re.compile(r"([a-z][a-z0-9]*)-[0-9]{6,}\.tar")
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")
EXTENSION = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
MISSING_PARTS: Mapping[str, bytes] = {"json": b"null"}
"""What stands for a part that a sample lacks, where nothing at all would not be readable; elsewhere it is empty."""


@dataclass(frozen=True)
class Part:
    """One file of a sample: where its data lies in the shard, in bytes, and its xxh3-128 in hex."""

    extension: str
    offset: int
    size: int
    xxh3: str


@dataclass(frozen=True)
class IndexRow:
    """One sample of a shard: its bytes from the first header to the padding of the last part, and its parts."""

    key: str
    offset: int
    size: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class WrittenShard:
    """What is known of a shard once it is written."""

    rows: tuple[IndexRow, ...]
    size: int
    sha256: str


@dataclass(frozen=True)
class Damage:
    """One place where a shard is not what its index says. `key` and `extension` are None where no sample is hit."""

    shard: str
    key: str | None
    extension: str | None
    what: str

    def __str__(self) -> str:
        sample = "" if self.key is None else f": sample {self.key}"
        part = "" if self.extension is None else f".{self.extension}"
        return f"{self.shard}{sample}{part}: {self.what}"


def shard_name(split: str, number: int) -> str:
    """The file name of a split's shard. It begins with the split, so that a glob is enough to choose one."""
    name = f"{split}-{number:06d}.tar"
    shard_split(name)
    return name


def shard_split(name: str) -> str:
    """The split that a shard belongs to.

    Raises:
        StageError: not a name as `shard_name` makes them.
    """
    match = SHARD_NAME.fullmatch(name)
    if match is None:
        raise StageError(f"shard name {name!r} is not like train-000000.tar")
    return match.group(1)


def write_shard(
    file: BinaryIO, samples: Iterable[tuple[str, Mapping[str, bytes]]], extensions: Collection[str]
) -> WrittenShard:
    """Write samples, in the order given, as one tar. Holds one sample at a time; never seeks.

    Args:
        samples: key and parts by extension. A part that is absent is written as `MISSING_PARTS` says, else empty.
        extensions: those of every sample of the subset that the shard belongs to.

    Raises:
        StageError: a key or extension that loaders would misread, a key that comes twice, a part without a place in
            `extensions`, no sample at all.
        StoreError: a part too large for a tar of this kind.
    """
    order = sorted(extensions)
    for extension in order:
        if not EXTENSION.fullmatch(extension):
            raise StageError(f"extension {extension!r} is not of lower-case letters and digits, separated by dots")
    tape = _Tape(file)
    rows: list[IndexRow] = []
    seen: set[str] = set()
    for key, parts in samples:
        _check_sample(key, parts, order, seen)
        start = tape.position
        written = []
        for extension in order:
            data = parts.get(extension, MISSING_PARTS.get(extension, b""))
            tape.write(ustar_header(f"{key}.{extension}", len(data)))
            written.append(Part(extension, tape.position, len(data), bytes_digest(data)))
            tape.write(data)
            tape.write(bytes(_padding(len(data), BLOCK_BYTES)))
        rows.append(IndexRow(key, start, tape.position - start, tuple(written)))
    if not rows:
        raise StageError("a shard without samples, which loaders refuse")
    tape.write(bytes(_end_bytes(tape.position)))
    return WrittenShard(tuple(rows), tape.position, tape.sha256.hexdigest())


def ustar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a regular file: mode 0644, no owner, time 0.

    Raises:
        StageError: the name is longer than 100 bytes.
        StoreError: the size is beyond 8 GiB - 1.
    """
    if len(name) > MAX_NAME_BYTES:
        raise StageError(f"{name}: longer than the {MAX_NAME_BYTES} bytes that a tar of this kind has for a name")
    if size > MAX_PART_BYTES:
        raise StoreError(f"{name}: {size} bytes, but a part of a shard ends at {MAX_PART_BYTES}; make shorter samples")
    fields = [
        name.encode("ascii").ljust(MAX_NAME_BYTES, b"\0"),
        # \x00, not \0: a digit follows, with which \0 is another number once a formatter has joined the strings.
        b"0000644\x000000000\x000000000\x00",  # mode, uid, gid
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time of last change
        b" " * 8,  # the checksum counts itself as spaces
        b"0" + bytes(100),  # regular file, no link
        b"ustar\x0000",
        bytes(2 * 32 + 2 * 8 + 155 + 12),  # names of user and group, device, prefix, filling
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def read_member(file: BinaryIO, offset: int, size: int) -> bytes:
    """The data of one part, found by its place in the index.

    Raises:
        StoreError: the file ends before.
    """
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise StoreError(f"the shard ends {size - len(data)} bytes short of bytes {offset} to {offset + size}")
    return data


def verify_shard(file: BinaryIO, rows: Sequence[IndexRow], sha256: str, shard: str) -> list[Damage]:
    """Compare a shard with its index, byte for byte, in one pass and constant memory.

    Headers, padding and end are known from the index and compared; data is compared by hash. Any flipped bit is named
    with its sample, and a shard that was cut short with the first sample that is not whole.

    Args:
        rows: all rows of the shard's index.
        sha256: of the whole file, in hex.
        shard: its name, for the report.
    """
    file.seek(0)
    tape = _Tape(file)
    damages = []
    whole = 0
    ordered = sorted(rows, key=lambda row: row.offset)
    try:
        for row in ordered:
            damages += [Damage(shard, row.key, extension, what) for extension, what in _sample_faults(tape, row)]
            whole += 1
        if any(tape.read(_end_bytes(tape.position))):
            damages.append(Damage(shard, None, None, "bytes after the last sample are not zero"))
    except EOFError:
        lost = [row.key for row in ordered[whole:]]
        where = f"the shard is cut off at byte {tape.position}"
        if not lost:
            return [*damages, Damage(shard, None, None, f"{where}, after its last sample")]
        return [*damages, Damage(shard, lost[0], None, f"{where}, in this sample; {len(lost)} of {len(rows)} are lost")]
    if extra := tape.skip_rest():
        damages.append(Damage(shard, None, None, f"{extra} bytes too many at the end"))
    if not damages and tape.sha256.hexdigest() != sha256:
        damages.append(Damage(shard, None, None, "matches its index, but neither matches the sha256 of the version"))
    return damages


def _sample_faults(tape: "_Tape", row: IndexRow) -> Iterator[tuple[str | None, str]]:
    if row.offset != tape.position:
        yield None, f"the index puts it at byte {row.offset}, the samples before it end at {tape.position}"
    for part in row.parts:
        if tape.read(BLOCK_BYTES) != ustar_header(f"{row.key}.{part.extension}", part.size):
            yield part.extension, f"its tar header at byte {tape.position - BLOCK_BYTES} is damaged"
        if part.offset != tape.position:
            yield part.extension, f"the index puts its data at byte {part.offset}, its header ends at {tape.position}"
        if tape.digest(part.size) != part.xxh3:
            yield part.extension, f"its data, {part.size} bytes from byte {part.offset}, is damaged"
        if any(tape.read(_padding(part.size, BLOCK_BYTES))):
            yield part.extension, "the padding after its data is damaged"


def _check_sample(key: str, parts: Mapping[str, bytes], order: Sequence[str], seen: set[str]) -> None:
    if not KEY.fullmatch(key):
        raise StageError(f"sample key {key!r} is not of a-z, 0-9, _ and -, beginning with a letter or digit")
    if key in seen:
        raise StageError(f"sample key {key} comes twice in one shard")
    if stray := sorted(set(parts) - set(order)):
        raise StageError(f"sample {key} has parts {stray}, the subset has {list(order)}")
    seen.add(key)


def _padding(size: int, unit: int) -> int:
    return -size % unit


def _end_bytes(position: int) -> int:
    return 2 * BLOCK_BYTES + _padding(position + 2 * BLOCK_BYTES, RECORD_BYTES)


class _Tape:
    """A file that is written or read from its start, with its position and the sha256 of all that passed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.position = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self._passed(data)

    def read(self, size: int) -> bytes:
        return b"".join(self._chunks(size))

    def digest(self, size: int) -> str:
        """xxh3-128 of the next bytes, which are not kept."""
        state = xxhash.xxh3_128()
        for chunk in self._chunks(size):
            state.update(chunk)
        return state.hexdigest()

    def skip_rest(self) -> int:
        """How many bytes were left."""
        start = self.position
        while chunk := self.file.read(CHUNK_BYTES):
            self._passed(chunk)
        return self.position - start

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.file.read(min(size, CHUNK_BYTES))
            if not chunk:
                raise EOFError
            self._passed(chunk)
            size -= len(chunk)
            yield chunk

    def _passed(self, data: bytes) -> None:
        self.position += len(data)
        self.sha256.update(data)
