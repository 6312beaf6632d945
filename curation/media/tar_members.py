"""The members of a tar and where their bytes lie, from its headers alone (POSIX.1-2017 pax, ustar, GNU).

`tarfile` takes a damaged header in the middle for the end, without a word; here the damage is reported, with its place.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from stat import S_ISREG
from typing import NamedTuple

from curation.errors import MediaError

BLOCK = 512
READ_AT_ONCE = 1 << 20
MAX_HEADER_BYTES = 1 << 20
"""Of a pax or GNU header that holds a long name; a name has some hundreds."""
MAX_NAME_BYTES = 1 << 14
"""Four times what Linux takes for a path; each name is held until the tar is read."""

PLAIN = frozenset((b"0", b"\0", b"7"))
OF_THE_NEXT = frozenset((b"L", b"K", b"x", b"X", b"g"))
"""Headers that say more of the next member, or of all (g)."""
PASSED_OVER = frozenset((b"5", b"V"))
"""Folders and volume labels."""
REFUSED = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "sparse"}
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How a packed tar begins, whatever it is called."""
PAX_KEYS = ("path", "size")
SPARSE = "GNU.sparse."
NO_CONTENT = PASSED_OVER | REFUSED.keys() - {b"S"}


class Member(NamedTuple):
    """One member: `size` bytes from `offset` on. `refused` says why it has no bytes that can be used."""

    name: str
    offset: int
    size: int
    refused: str | None = None


class Damage(NamedTuple):
    """Where the headers cannot be followed further, and why."""

    offset: int
    reason: str


@dataclass
class _Extended:
    """What pax and GNU headers say of the next member, or of all that follow."""

    path: str | None = None
    size: int | None = None
    sparse: bool = False
    of_all: dict[str, str] = field(default_factory=dict)

    def clear(self) -> None:
        self.path, self.size, self.sparse = self.of_all.get("path"), None, False
        if "size" in self.of_all:
            self.size = int(self.of_all["size"])


def tar_members(path: str) -> Iterator[Member | Damage]:
    """Members in their order, without folders; after the last one, the damage that ended the walk, if any.

    A tar that stands behind the end mark of another one (`cat a.tar b.tar`) is read on. A tar without an end mark was
    most likely cut there, and says so.

    Raises:
        MediaError: not a plain file, or nothing in it that is a tar; it names the file.
    """
    try:
        if not S_ISREG(os.stat(path).st_mode):
            raise MediaError(f"{path}: not a plain file")
        with open(path, "rb", buffering=0) as file:
            yield from _walk(path, file.fileno(), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}") from error


def _walk(path: str, fd: int, end: int) -> Iterator[Member | Damage]:
    at, ended, extended = 0, False, _Extended()
    if end == 0:
        raise MediaError(f"{path}: an empty file, which is no tar")
    while at < end:
        block = os.pread(fd, BLOCK, at)
        if len(block) == BLOCK and not block.strip(b"\0"):
            ended, at = True, _behind_zeros(fd, at, end)
            continue
        try:
            header = _Header(block)
            start, size = at + BLOCK, header.size
            if header.kind in PLAIN and extended.size is not None:
                size = extended.size
            if header.kind in NO_CONTENT:
                size = 0
            if size < 0 or start + size > end:
                name = extended.path or header.name
                raise ValueError(f"{name} of {size} bytes is cut off, {max(0, end - start)} are there")
            at_next = start + -(-size // BLOCK) * BLOCK
            if header.kind in OF_THE_NEXT:
                _extend(extended, header.kind, _content(fd, start, size))
                at, ended = at_next, False
                continue
        except ValueError as error:
            if at == 0:
                packed = next((name for sign, name in PACKED.items() if block.startswith(sign)), None)
                reason = f"{packed}; unpack it" if packed else error
                raise MediaError(f"{path}: not a tar: {reason}") from error
            yield Damage(at, str(error))
            return
        ended = False
        name = extended.path or header.name
        if header.kind not in PASSED_OVER and not (header.kind == b"\0" and name.endswith("/")):
            refused = None if header.kind in PLAIN else REFUSED.get(header.kind, f"of the unknown type {header.kind!r}")
            yield Member(name, start, size, "sparse" if extended.sparse else refused)
        extended.clear()
        at = at_next
    if not ended:
        yield Damage(end, "the file ends without the end mark of a tar")


class _Header:
    """One block of 512 bytes.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, block: bytes) -> None:
        if len(block) < BLOCK:
            raise ValueError(f"a header of {len(block)} bytes, where {BLOCK} belong")
        told = _number(block[148:156])
        total = sum(block) - sum(block[148:156]) + 8 * 32
        if told != total and told != _signed_sum(block):
            raise ValueError("no header: its checksum is wrong")
        self.kind = block[156:157]
        self.size = _number(block[124:136])
        name = block[:100].split(b"\0", 1)[0]
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
            name = prefix + b"/" + name
        self.name = _text(name)


def _signed_sum(block: bytes) -> int:
    """The checksum that old programs wrote, of signed bytes."""
    rest = block[:148] + block[156:]
    return sum(rest) - 256 * sum(byte > 127 for byte in rest) + 8 * 32


def _number(text: bytes) -> int:
    """Octal digits; or, where the first bit is set, base 256 (GNU)."""
    if text[0] & 0x80:
        return int.from_bytes(text[1:], "big") if text[0] == 0x80 else -1
    digits = text.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise ValueError(f"{digits!r} stands where a number belongs") from None


def _content(fd: int, start: int, size: int) -> bytes:
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {size} bytes, more than {MAX_HEADER_BYTES}")
    return os.pread(fd, size, start)


def _extend(extended: _Extended, kind: bytes, content: bytes) -> None:
    if kind == b"L":
        extended.path = _name(content.split(b"\0", 1)[0])
    if kind in (b"K", b"L"):
        return
    values = {key: value for key, value in _pax_records(content) if key in PAX_KEYS or key.startswith(SPARSE)}
    if kind == b"g":
        extended.of_all |= {key: value for key, value in values.items() if key in PAX_KEYS}
        extended.clear()
        return
    extended.path = _name(values["path"].encode()) if "path" in values else extended.path
    extended.size = int(values["size"]) if "size" in values else extended.size
    extended.sparse = any(name.startswith(SPARSE) for name in values)


def _pax_records(content: bytes) -> Iterator[tuple[str, str]]:
    """Records of the form `length key=value`, each with a line end."""
    while content:
        length, space, _ = content.partition(b" ")
        end = int(length) if length.isdigit() and len(length) < 10 else 0
        key, equals, value = content[len(length) + 1 : end].partition(b"=")
        if not space or not equals or end > len(content) or not value.endswith(b"\n"):
            raise ValueError("a pax header that cannot be read")
        yield _text(key), _text(value[:-1])
        content = content[end:]


def _behind_zeros(fd: int, at: int, end: int) -> int:
    """Where the first block begins that is not of zeros."""
    while at < end:
        chunk = os.pread(fd, READ_AT_ONCE, at)
        if not chunk:
            return end
        rest = chunk.lstrip(b"\0")
        if rest:
            return at + (len(chunk) - len(rest)) // BLOCK * BLOCK
        at += len(chunk)
    return at


def _name(name: bytes) -> str:
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(f"a name of {len(name)} bytes, more than {MAX_NAME_BYTES}")
    return _text(name)


def _text(name: bytes) -> str:
    """Names are bytes; those that are not UTF-8 are shown escaped."""
    return name.decode(errors="backslashreplace")
