"""JSON files that are one value: a list of records, COCO's captions, conversations as LLaVA has them.

Such a file may have a gigabyte. It is read a record at a time; COCO's, which has its images apart from their texts,
twice.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curation.errors import MediaError
from curation.media.decoded import MAX_WORK_BYTES, ROW_BYTES, file_budget
from curation.media.text_tables import (
    BOM,
    LINE_BYTES,
    MAX_DEPTH,
    SPLIT,
    NumberedRecord,
    is_deeper,
    json_too_large,
    opened,
)

CHUNK_CHARACTERS = 1 << 16
_MARK = re.compile(r"[^ \t\r\n]")

IMAGE_MARK = "<image>"
"""Where a conversation shows its image."""


def json_records(path: str, max_bytes: int) -> Iterator[NumberedRecord]:
    """The records of a file, numbered from 1: of a list its objects, of COCO's captions one for each image.

    A record of COCO's has `file_name`, `captions`, and what else the file says of the image. A file of another form has
    none. What is no object is told, and its neighbours are read.

    Raises:
        MediaError: the file cannot be read, or breaks off; records before that were given.
    """
    first = next(_items(path, max_bytes), None)
    if first is None:
        return
    if first[0] is None:
        for number, (_, value) in enumerate(_items(path, max_bytes), 1):
            yield number, _checked(value)
        return
    texts: dict[Any, list[str]] = {}
    held = file_budget(path, MAX_WORK_BYTES, SPLIT)
    for key, value in _items(path, max_bytes):
        if key == "annotations" and isinstance(value, dict) and isinstance(value.get("caption"), str):
            held.take(ROW_BYTES + len(value["caption"]))
            texts.setdefault(_key(value.get("image_id")), []).append(value["caption"].strip())
    number = 0
    for key, value in _items(path, max_bytes):
        if key == "images" and texts:
            number += 1
            record = _checked(value)
            if isinstance(record, dict):
                record = record | {"captions": texts.get(_key(record.get("id")), [])}
            yield number, record


def from_conversation(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose text is a conversation as one with a `caption`: what the model answers first.

    The question and the number of answers stay beside it, since an answer to a question need not say what is shown. Any
    other record is given back as it is.
    """
    rounds = turns(record)
    answers = [text for speaker, text in rounds if speaker == "gpt"]
    if not answers:
        return record
    asked = next((text for speaker, text in rounds if speaker == "human"), "")
    rest = {name: value for name, value in record.items() if name not in ("conversations", "messages")}
    shown = record.get("image", record.get("images"))
    if isinstance(shown, list):
        if len(shown) != 1:
            raise MediaError(f"a conversation about {len(shown)} images, which is no pair; documents take it")
        rest = {name: value for name, value in rest.items() if name != "images"} | {"image": shown[0]}
    question = asked.replace(IMAGE_MARK, "").strip()
    return rest | {"caption": answers[0].strip(), "question": question, "answers": len(answers)}


def turns(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Who (human, gpt, system) says what: `conversations` of from and value, or `messages` of role and content."""
    said = record.get("conversations", record.get("messages"))
    found = []
    for turn in said if isinstance(said, list) else ():
        if isinstance(turn, dict):
            speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
            if isinstance(speaker, str) and isinstance(text, str):
                found.append((_SPEAKERS.get(speaker, speaker), text))
    return found


_SPEAKERS = {"user": "human", "assistant": "gpt"}


def _key(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else None


def _checked(value: Any) -> dict[str, Any] | str:
    if not isinstance(value, dict):
        return "not a JSON object"
    return f"JSON nested deeper than {MAX_DEPTH}" if is_deeper(value, MAX_DEPTH) else value


def _items(path: str, max_bytes: int) -> Iterator[tuple[str | None, Any]]:
    """The values of a list, with no key; of an object those of its lists, each with the list's key."""
    text = _Text(path, max_bytes)
    work = file_budget(path, MAX_WORK_BYTES, SPLIT)
    try:
        match text.mark():
            case "[":
                for value in text.values():
                    work.take(LINE_BYTES)
                    yield None, value
            case "{":
                for _ in text.items("}"):
                    work.take(LINE_BYTES)
                    key = text.value()
                    if text.mark() != ":":
                        raise ValueError("a name without a value")
                    if text.mark() == "[":
                        for value in text.values():
                            work.take(LINE_BYTES)
                            yield str(key), value
                    else:
                        text.back()
                        text.value()
            case _:
                raise ValueError("neither a list nor an object")
    except RecursionError as error:
        raise MediaError(f"{path}: JSON nested deeper than {MAX_DEPTH}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise MediaError(f"{path}: not JSON, at character {text.position}: {' '.join(str(error).split())}") from error
    finally:
        text.close()


class _Text:
    """A file's text, of which a window is held."""

    def __init__(self, path: str, max_bytes: int) -> None:
        try:
            self._file = opened(path)
        except OSError as error:
            raise MediaError(f"{path}: cannot be read: {error.strerror}") from error
        self._max = max_bytes
        self._decoder = json.JSONDecoder()
        self._window, self._at, self._before = "", 0, 0
        self._rest = b""
        self._ended = False

    @property
    def position(self) -> int:
        return self._before + self._at

    def close(self) -> None:
        self._file.close()

    def mark(self) -> str:
        """The next character that is no space; "" at the end is an error."""
        while True:
            if found := _MARK.search(self._window, self._at):
                self._at = found.end()
                return found.group()
            self._at = len(self._window)
            if not self._more():
                raise ValueError("it ends early")

    def back(self) -> None:
        """Before the mark that was read."""
        self._at -= 1

    def values(self) -> Iterator[Any]:
        """The values of a list whose bracket was read."""
        for _ in self.items("]"):
            yield self.value()

    def items(self, end: str) -> Iterator[None]:
        """Stop before each item, until the end; commas between them are passed over."""
        before = ","
        while (mark := self.mark()) != end:
            if mark != ",":
                self.back()
                yield
            elif before == ",":
                raise ValueError("a comma, and no value before it")
            before = mark

    def value(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._at)
            except json.JSONDecodeError:
                if len(self._window) - self._at > self._max:
                    raise ValueError(f"a value of more than {self._max} characters, or none") from None
                # All that is held belongs to it.
                if reason := json_too_large(self._window, self._at):
                    raise ValueError(reason) from None
                if not self._more():
                    raise
                continue
            # A number may go on behind the window.
            if end == len(self._window) and self._more():
                continue
            self._at = end
            return value

    def _more(self) -> bool:
        """Read on, twice as much as is held, so that a long value is parsed few times."""
        if self._ended:
            return False
        data = self._file.read(max(CHUNK_CHARACTERS, len(self._window) - self._at))
        self._ended = not data
        data = self._rest + data
        if self.position == 0 and not self._window:
            data = data.removeprefix(BOM)
        text, used = _decoded(data, self._ended)
        self._rest = data[used:]
        self._before += self._at
        self._window, self._at = self._window[self._at :] + text, 0
        return bool(text) or not self._ended


def _decoded(data: bytes, final: bool) -> tuple[str, int]:
    """The text as far as its last character is whole, and how many bytes that is."""
    try:
        return data.decode(), len(data)
    except UnicodeDecodeError as error:
        if final or len(data) - error.start > 3:
            raise
        return data[: error.start].decode(), error.start
