"""JSON objects that carry a checksum of their own bytes, so that one flipped bit is found when they are read.

The checksum is the first key of the object, and covers every byte after it:

    {"xxh3": "0123456789abcdef0123456789abcdef",
     "number": 1, …}
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from curation.errors import StoreError
from curation.hashing import bytes_digest

HEAD = b'{"xxh3": "'
DIGEST_LETTERS = 32
NECK = b'",\n'

T = TypeVar("T")

_adapters: dict[type, TypeAdapter[Any]] = {}


def seal(value: Mapping[str, Any]) -> bytes:
    """A mapping as JSON that carries its checksum. The same mapping gives the same bytes.

    Half of a surrogate pair has no UTF-8; it is written as an escape, and read again as what it was.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1)
    body = text.encode("utf-8", "backslashreplace").removeprefix(b"{")
    return HEAD + bytes_digest(body).encode() + NECK + body


def unseal(data: bytes, name: str, remedy: str = "") -> dict[str, Any]:
    """The mapping that was sealed.

    Args:
        name: of the object, for the error.
        remedy: what to do about it, for the error.

    Raises:
        StoreError: the bytes are not those that were written, or were never sealed.
    """
    digest, body = data[len(HEAD) : len(HEAD) + DIGEST_LETTERS], data[len(HEAD) + DIGEST_LETTERS + len(NECK) :]
    hint = remedy and f"; {remedy}"
    if data != HEAD + digest + NECK + body:
        raise StoreError(f"{name} is damaged, or of a release that wrote no checksums: it has none at its start{hint}")
    if bytes_digest(body).encode() != digest:
        raise StoreError(f"{name} is damaged: its bytes do not match its checksum{hint}")
    try:
        value: dict[str, Any] = json.loads(b"{" + body)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{name} is damaged: {str(error) or type(error).__name__}{hint}") from error
    return value


def typed(kind: type[T], value: Any, name: str) -> T:
    """A value as the dataclass that it was written from, every field of the declared type.

    Raises:
        StoreError: naming the object and the first field that is of another type, missing or unknown.
    """
    try:
        return _adapter(kind).validate_python(value, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise StoreError(f"{name} is damaged: {place}: {first['msg']}") from error


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    found: TypeAdapter[T] | None = _adapters.get(kind)
    if found is None:
        found = _adapters[kind] = TypeAdapter(kind)
    return found
