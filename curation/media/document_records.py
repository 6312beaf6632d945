"""A record of an interleaved document as its list of nodes: MMC4's manner, OBELICS', or a list of `nodes`.

Nodes are those of `schemas.documents.NODE_ITEM`. Images are not opened: a node says where its bytes lie, or why they
cannot be had, so that an image that is not here costs the document nothing else. So does what is no node at all: it
keeps its place in the list, with its error.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from curation.hashing import bytes_digest
from curation.media.json_records import IMAGE_MARK, turns
from schemas.documents import IMAGE, TEXT

MAX_QUOTED = 200
"""Characters of a path or address that an error repeats."""

MAX_NODES = 20_000
"""Of a document that is read at all: one of 64 MiB could have millions, and each is an object in memory."""

MAX_NESTING = 100
"""Lists and mappings in each other. Python's own limit depends on who calls, so it could break later what it read."""

TOO_DEEP = f"nested more than {MAX_NESTING} deep"

TERMS = ("url", "title", "language", "licence", "license", "consent")
"""Keys of a record that are columns of a document, where their values are text."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,6}")
"""What a tag of a language looks like (BCP 47)."""

_CONTROL = re.compile("[\0-\x1f\x7f]")
"""What would break the lines of a report, and no image is called by."""

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, as a text has it that was cut in the middle of an emoji; UTF-8 cannot write it."""


def image(**known: Any) -> dict[str, Any]:
    """A node that is an image."""
    return {"node_kind": IMAGE, "text": None, "place": None, "url": None, "name": None, "error": None} | known


def text(value: str) -> dict[str, Any]:
    """A node that is a text."""
    return {"node_kind": TEXT, "text": writable(value), "place": None, "url": None, "name": None, "error": None}


def unreadable(error: str) -> dict[str, Any]:
    """A node that is neither, which fails; what cannot be read counts as a text."""
    return text("") | {"error": writable(error)}


def writable(value: str) -> str:
    """The text with U+FFFD for what UTF-8 cannot write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return _HALF.sub("\ufffd", value)
    return value


def scheme_of(path: str) -> str:
    """The scheme of an address, in small letters; "" for a path, and for a drive ("C:")."""
    scheme, colon, _ = path.partition(":")
    return scheme.lower() if colon and scheme.isalpha() and len(scheme) > 1 else ""


@dataclass(frozen=True)
class ImageFolder:
    """Where the relative paths of a file's images begin (`images`), and what they must not leave (`folder`).

    `roots` are folders into which links may lead besides.
    """

    folder: str
    images: str
    roots: tuple[str, ...] = ()

    def find(self, path: str) -> dict[str, Any]:
        """The node of an image that is called by a path, or by an address on the web, which is kept and not fetched.

        Paths come from strangers: what leads out of the folder, by `..`, by a link or from the root, has no place.
        """
        if (readable := writable(path)) != path:
            return image(name=readable, error=f"a name that UTF-8 cannot write: {readable:.{MAX_QUOTED}}")
        if _CONTROL.search(path):
            return image(name=repr(path), error=f"a name with control characters: {path!r:.{MAX_QUOTED}}")
        scheme = scheme_of(path)
        if path.startswith("//") or scheme in ("http", "https"):
            return image(url=path, name=os.path.basename(path.partition("?")[0]) or None)
        if scheme:
            return image(error=f"neither a path nor an address on the web: {path:.{MAX_QUOTED}}")
        full = os.path.normpath(os.path.join(self.images, path))
        real = os.path.realpath(full)
        inside = real.startswith(self._bound)
        if not inside and full.startswith(self.folder.rstrip("/") + "/"):
            inside = any(real.startswith(root.rstrip("/") + "/") for root in self.roots)
        if not inside:
            return image(name=path, error=f"no file below {self.folder}: {path:.{MAX_QUOTED}}")
        return image(name=path, place={"path": full, "format": "file"})

    @cached_property
    def _bound(self) -> str:
        return os.path.realpath(self.folder).rstrip("/") + "/"


@dataclass(frozen=True)
class Cells:
    """Images of one record: a path, an address, or bytes (`{"bytes": …, "path": …}`, as `datasets` has them).

    Attributes:
        place: where the record stands, for images whose bytes stand in it.
    """

    images: ImageFolder
    place: dict[str, Any]

    def find(self, value: Any, column: str) -> dict[str, Any]:
        """The node of an image that stands in `column`, written with dots and places in lists: `images.2`."""
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return image(name=string(value.get("path")), place=self.place | {"column": f"{column}.bytes"})
        if isinstance(value, bytes):
            return image(place=self.place | {"column": column})
        if isinstance(value, dict):
            value = value.get("path")
        if not isinstance(value, str) or not value:
            return image(error=writable(f"{column} is neither a path, an address nor bytes: {value!r:.40}"))
        return self.images.find(value)


def document_of(record: dict[str, Any], cells: Cells, max_nodes: int = MAX_NODES) -> dict[str, Any]:
    """The columns of a document that a record knows: its nodes, `TERMS`, and all else as `metadata`.

    Which manner it is written in shows in its keys. Of MMC4, `image_info` stays in the metadata, with the matching that
    MMC4 made; its `similarity_matrix`, which is large, does not. So does one of `TERMS` that is no text, or a language
    that is none.

    Raises:
        ValueError: no manner that is known, lists that do not fit each other, too many nodes, or nested too deep.
    """
    _check_nesting(record)
    for name in ("text_list", "image_info", "texts", "images", "nodes"):
        if isinstance(record.get(name), list) and len(record[name]) > max_nodes:
            raise ValueError(f"{len(record[name])} {name}, more than {max_nodes}")
    if isinstance(record.get("text_list"), list):
        nodes, used = _mmc4(record, cells.images), {"text_list", "similarity_matrix"}
    elif isinstance(record.get("texts"), list) and isinstance(record.get("images"), list):
        nodes, used = _obelics(record["texts"], record["images"], cells), {"texts", "images"}
    elif isinstance(record.get("nodes"), list):
        nodes, used = [_node(item, index, cells) for index, item in enumerate(record["nodes"])], {"nodes"}
    elif rounds := turns(record):
        nodes, used = _conversation(record, rounds, cells), {"image", "images"}
    else:
        keys = ", ".join(map(str, record)) or "none"
        raise ValueError(
            "no document: neither `text_list`, `texts` with `images`, `nodes` nor `conversations` among its keys:"
            f" {keys:.300}"
        )
    known = {name: writable(record[name]) for name in TERMS if isinstance(record.get(name), str)}
    if not _LANGUAGE.fullmatch(known.get("language", "")):
        known.pop("language", None)
    terms: dict[str, Any] = {name: known.get(name) or None for name in TERMS if name != "license"}
    terms["licence"] = terms["licence"] or known.get("license") or None
    used |= {name for name in TERMS if name in known or record.get(name) in (None, "")}
    metadata = {key: value for key, value in record.items() if key not in used}
    return terms | {"nodes": nodes, "metadata": as_json(metadata) if metadata else None}


def as_json(value: Any) -> str:
    """A value as JSON; of bytes their digest, of what else JSON has no form for (a date) what people write for it.

    Numbers that are none (NaN, infinity) are null: Python's JSON has them, that of others does not.
    """
    try:
        written = json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain, allow_nan=False)
    except ValueError:
        written = json.dumps(_finite(value), ensure_ascii=False, sort_keys=True, default=_plain)
    return writable(written)


def string(value: Any) -> str | None:
    """A value as text; None for nothing, and for what is no text."""
    return writable(value) if isinstance(value, str) and value else None


def _check_nesting(record: dict[str, Any]) -> None:
    level: list[Any] = [record]
    for _ in range(MAX_NESTING):
        inside = chain.from_iterable(value.values() if isinstance(value, dict) else value for value in level)
        level = [value for value in inside if isinstance(value, (dict, list))]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mmc4(record: dict[str, Any], images: ImageFolder) -> list[dict[str, Any]]:
    """MMC4 (Zhu et al. 2023): each image is matched with a text, and stands before it.

    Images of one text keep their order. One that is matched with no text of the list has no place among them.
    """
    texts, infos = record["text_list"], record.get("image_info") or []
    if not isinstance(infos, list):
        raise ValueError(f"image_info is no list: {infos!r:.40}")
    before: dict[int, list[dict[str, Any]]] = {}
    stray: list[dict[str, Any]] = []
    for number, info in enumerate(infos):
        if not isinstance(info, dict):
            stray.append(image(error=writable(f"image_info[{number}] is no mapping: {info!r:.40}")))
            continue
        name, url, index = info.get("image_name"), string(info.get("raw_url")), info.get("matched_text_index")
        if isinstance(name, str) and name:
            node = images.find(name)
        else:
            node = image(error=None if url else "neither image_name nor raw_url")
        node["url"] = node["url"] or url
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(texts):
            before.setdefault(index, []).append(node)
        else:
            stray.append(node | {"error": writable(f"matched_text_index {index!r:.40} of {len(texts)} texts")})
    nodes: list[dict[str, Any]] = []
    for index, value in enumerate(texts):
        nodes += before.get(index, ())
        nodes += _texts(value, f"text_list[{index}]")
    return nodes + stray


def _obelics(texts: Sequence[Any], images: Sequence[Any], cells: Cells) -> list[dict[str, Any]]:
    """OBELICS (Laurençon et al. 2023): two lists of one length, of which one has a value at each place.

    Where both have one, the image stands before the text.
    """
    if len(texts) != len(images):
        raise ValueError(f"{len(texts)} texts and {len(images)} images; they must be lists of one length")
    nodes: list[dict[str, Any]] = []
    for index, (value, shown) in enumerate(zip(texts, images, strict=True)):
        if shown is not None and shown != "":
            nodes.append(cells.find(shown, f"images.{index}"))
        nodes += _texts(value, f"texts[{index}]")
    return nodes


def _conversation(record: dict[str, Any], rounds: Sequence[tuple[str, str]], cells: Cells) -> list[dict[str, Any]]:
    """A conversation (LLaVA, Liu et al. 2023): what is said, turn by turn, with an image at each `<image>`.

    Images without a mark stand before all; a mark without an image is left out.
    """
    shown = record.get("image", record.get("images"))
    images = shown if isinstance(shown, list) else [] if shown is None or shown == "" else [shown]
    column = "image" if "image" in record else "images"
    found = [
        cells.find(one, f"{column}.{index}" if isinstance(shown, list) else column) for index, one in enumerate(images)
    ]
    marks = sum(said.count(IMAGE_MARK) for _, said in rounds)
    nodes, left = found[: max(0, len(found) - marks)], found[max(0, len(found) - marks) :]
    for _, said in rounds:
        for number, piece in enumerate(said.split(IMAGE_MARK)):
            if number and left:
                nodes.append(left.pop(0))
            nodes += [text(piece.strip())] if piece.strip() else []
    return nodes


def _node(item: Any, index: int, cells: Cells) -> dict[str, Any]:
    """A node of a list: `{"text": …}`, or `{"image": …}` with its `text` and `url` where it has them."""
    if not isinstance(item, dict) or not (item.get("image") or isinstance(item.get("text"), str)):
        return unreadable(f"nodes[{index}] has neither text nor image: {item!r:.40}")
    if not item.get("image"):
        return text(item["text"])
    node = cells.find(item["image"], f"nodes.{index}.image")
    return node | {"text": string(item.get("text")), "url": node["url"] or string(item.get("url"))}


def _texts(value: Any, where: str) -> list[dict[str, Any]]:
    if value is not None and not isinstance(value, str):
        return [unreadable(f"{where} is no text: {value!r:.40}")]
    return [text(value)] if value and value.strip() else []


def _plain(value: Any) -> Any:
    return {"bytes": bytes_digest(value)} if isinstance(value, bytes) else str(value)
