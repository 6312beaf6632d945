"""What a source says of an image: its texts, its address and terms, and all else as JSON."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from curation.errors import MediaError
from curation.hashing import bytes_digest

CAPTION_NAMES = ("caption", "text", "txt", "alt", "captions", "alt_text")
IMAGE_NAMES = (
    *("image", "jpg", "jpeg", "png", "webp", "img", "picture", "image_bytes"),
    *("image_path", "img_path", "file_name", "filename", "filepath", "path", "file"),
)
"""Names of columns and fields that are tried in this order; letters may be large or small."""
COMMON_EXTENSIONS = frozenset(("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"))
IMAGE_EXTENSIONS = COMMON_EXTENSIONS | frozenset(
    ("avif", "avifs", "heic", "heif", "hif", "tif", "tiff", "jp2", "j2k", "j2c", "jpx", "jpf", "apng", "dib")
)
"""Where a sample has images of both, those that are common are taken."""

MAX_NAMES = 1000
"""Of fields that are remembered for a message: every line of a stranger's file may have names of its own."""

TERM_NAMES = {
    "url": ("url", "image_url"),
    "language": ("language", "lang"),
    "licence": ("licence", "license"),
    "consent": ("consent",),
}


@dataclass(frozen=True)
class PairNames:
    """How a source calls things, and how much of them is taken.

    Attributes:
        caption: the field or column of the text, or its extension in a tar; None tries `CAPTION_NAMES`.
        image: that of the image; None tries `IMAGE_NAMES`, in a tar `IMAGE_EXTENSIONS`.
        image_folder: the folder that paths in tables are relative to and must stay in; None is the table's own.
        roots: folders into which links may lead besides.
    """

    caption: str | None = None
    image: str | None = None
    image_folder: str | None = None
    max_text_bytes: int = 1 << 24
    max_metadata_bytes: int = 1 << 14
    roots: tuple[str, ...] = ()


class Said(NamedTuple):
    """What a source says of one image. There is one caption at least, which may be None."""

    captions: Sequence[str | None]
    url: str | None
    language: str | None
    licence: str | None
    consent: str | None
    metadata: str | None


NOTHING_SAID = Said((None,), None, None, None, None, None)


class ImagePlace(NamedTuple):
    """Where an image's bytes lie (`schemas.places.PLACE`), and the state of the file that has them."""

    path: str
    format: str
    offset: int | None
    size: int | None
    column: str | None
    file_bytes: int | None
    modified_ns: int | None


class FoundImage(NamedTuple):
    """One image of a file with its captions, or why there is none.

    Attributes:
        key: what the source calls it.
        nth: counted up where a key stands in the file again; -1 for damage of the file, which is no image.
        ordinal: its place in the file.
        name: below the source; `uri`: the whole path, for people.
        hides: with an error, how many samples are lost with it, where that is known; None is one.
    """

    key: str
    nth: int
    ordinal: int
    name: str
    uri: str
    image: ImagePlace | None
    said: Said
    error: str | None = None
    hides: int | None = None


class Namer:
    """Finds captions and terms in records, by the names that they have there."""

    def __init__(self, names: PairNames) -> None:
        self._names = names
        self._known: dict[tuple[str, ...], dict[str, str]] = {}
        self._there: dict[str, None] = {}
        self._has_captions = False

    @property
    def lacks_captions(self) -> bool:
        """Whether no record so far has had the caption's field, or one that may be it."""
        return not self._has_captions

    def no_captions(self, path: str, samples: int) -> MediaError:
        """The error that no record of a file has a caption, with the names that stand there instead."""
        return MediaError(_no_name(path, "of texts", "caption", self._names.caption, [*self._there]), samples)

    def no_image(self, there: Sequence[str]) -> str:
        """Why no name among these has the image."""
        return _no_name("", "of images, or of their paths", "image", self._names.image, there)

    def said(self, record: Mapping[str, Any], besides: Iterable[str] = (), text: str | None = None) -> Said:
        """What a record says.

        Args:
            besides: fields that are no metadata, such as the image's path.
            text: the caption, where it stands elsewhere; the record's own is then metadata, if it is another.

        Raises:
            MediaError: a caption that is no text.
        """
        found = self._fields(tuple(record))
        captions = [text]
        of_caption = found.get("caption")
        if text is not None or of_caption is not None:
            self._has_captions = True
        elif self.lacks_captions and len(self._there) < MAX_NAMES:
            self._there |= dict.fromkeys(name for name in record if name not in besides)
        if text is None and of_caption is not None:
            captions = list(_captions(record[of_caption], of_caption))
        used = {*besides}
        if of_caption is not None and (text is None or record[of_caption] == text):
            used.add(of_caption)
        terms: dict[str, str | None] = {}
        for name in TERM_NAMES:
            value = record[found[name]] if name in found else None
            terms[name] = _term(name, value)
            if terms[name] is not None:
                used.add(found[name])
        rest = {name: value for name, value in record.items() if name not in used and value is not None}
        metadata = canonical_json(rest, self._names.max_metadata_bytes) if rest else None
        return Said(captions, terms["url"], terms["language"], terms["licence"], terms["consent"], metadata)

    def columns(
        self,
        path: str,
        images: Sequence[str],
        texts: Sequence[str],
        there: Sequence[str],
        samples: int | None = None,
    ) -> str:
        """The column of images, or of their paths, among those that may be it.

        Args:
            there: all columns; `samples`: how many rows the file has, where it says so.

        Raises:
            MediaError: there is none, or none of texts.
        """
        image = self.image_name(images)
        if image is None:
            raise MediaError(_no_name(path, "of images, or of their paths", "image", self._names.image, there), samples)
        caption = self.caption_name([name for name in texts if name != image])
        if caption is None:
            raise MediaError(_no_name(path, "of texts", "caption", self._names.caption, there), samples)
        self._has_captions = True
        return image

    def caption_name(self, names: Sequence[str]) -> str | None:
        """The one of `names` that has the caption."""
        return self._fields(tuple(names)).get("caption")

    def image_name(self, names: Sequence[str]) -> str | None:
        """The one of `names` that has the image or its path."""
        wanted = IMAGE_NAMES if self._names.image is None else (self._names.image,)
        return first_of(wanted, names)

    def _fields(self, names: tuple[str, ...]) -> dict[str, str]:
        if (known := self._known.get(names)) is None:
            captions = CAPTION_NAMES if self._names.caption is None else (self._names.caption,)
            wanted = {"caption": captions, **TERM_NAMES}
            found = ((name, first_of(tried, names)) for name, tried in wanted.items())
            known = {name: here for name, here in found if here is not None}
            if len(self._known) < MAX_NAMES:
                self._known[names] = known
        return known


def _no_name(path: str, what: str, key: str, given: str | None, there: Sequence[str]) -> str:
    """That a file has no column or field of a name, with those that it has, and the one that may be meant."""
    listed = ", ".join(there) or "none"
    where = f"{path}: " if path else ""
    if given is None:
        return f"{where}no column {what}, among: {listed:.300}; name it as source.{key}"
    small = {name.casefold(): name for name in there}
    if given.casefold() in small:
        return f"{where}source.{key}: {given!r} has no values {what}; there are: {listed:.300}"
    near = get_close_matches(given.casefold(), small, 1)
    hint = f"did you mean {small[near[0]]!r}? " if near else ""
    return f"{where}source.{key}: no column {given!r}; {hint}There are: {listed:.300}"


def first_of(wanted: Iterable[str], names: Sequence[str]) -> str | None:
    """The first of `wanted` that is among `names`; as it is written there, or but for large and small letters."""
    by_small = {name.casefold(): name for name in reversed(names)}
    for name in wanted:
        if name in names:
            return name
        if name.casefold() in by_small:
            return by_small[name.casefold()]
    return None


def canonical_json(values: Mapping[str, Any], max_bytes: int) -> str:
    """An object with its keys in order; numbers that are none in JSON become null, and bytes their hash.

    Where it would be longer than `max_bytes`, the longest values stay out, and `left_out` names them.
    """
    text = _json(values)
    if len(text) <= max_bytes and len(text.encode()) <= max_bytes:
        return text
    each = sorted((len(_json({name: value}).encode()), name) for name, value in values.items())
    left = max_bytes
    kept: dict[str, Any] = {}
    out: list[str] = []
    for size, name in each:
        left -= size
        if left >= 0:
            kept[name] = values[name]
        else:
            out.append(name)
    shown = [name[:100] for name in sorted(out)[:100]]
    return _json(kept | {"left_out": shown})


def _json(values: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (ValueError, TypeError, RecursionError):
        plain = _plain(values, 0)
        text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text


def _plain(value: Any, depth: int) -> Any:
    """The value in terms of JSON."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return _utf8(value)
        case bytes():
            return {"bytes": bytes_digest(value)}
        case Mapping() if depth < 100:
            return {_utf8(str(key)): _plain(one, depth + 1) for key, one in value.items()}
        case list() | tuple() if depth < 100:
            return [_plain(one, depth + 1) for one in value]
        case Mapping() | list() | tuple():
            return None
        case _:
            return _utf8(str(value))


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _captions(value: Any, name: str) -> Iterator[str | None]:
    values = value if isinstance(value, list) and value else [None if value == [] else value]
    for caption in values:
        if caption is not None and not isinstance(caption, str):
            raise MediaError(f"{name} is no text: {caption!r:.80}")
        yield caption if caption is None else _checked(caption, name)


def _checked(caption: str, name: str) -> str:
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"{name} has half a surrogate pair, which no text has: {error}") from error
    return caption


def _term(name: str, value: Any) -> str | None:
    """A term as text; a language only where it looks like a code, since some columns have "English"."""
    if not isinstance(value, str) or not value:
        return None
    if name == "language" and not (2 <= len(value) <= 3 and value.isascii() and value.isalpha() and value.islower()):
        return None
    return _utf8(value)
