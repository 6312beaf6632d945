"""A record of an interleaved document as its list of nodes: MMC4's manner, OBELICS', or a list of `nodes`.

Nodes are those of `schemas.documents.NODE_ITEM`. Pictures are not opened: a node says where its bytes lie, or why they
cannot be had, so that a picture that is not here costs the document nothing else.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curation.hashing import bytes_digest
from schemas.documents import IMAGE, TEXT

MAX_QUOTED = 200
"""Characters of a path or address that an error repeats."""

TERMS = ("url", "title", "language", "licence", "license", "consent")
"""Keys of a record that are columns of a document."""


def image(**known: Any) -> dict[str, Any]:
    """A node that is a picture."""
    return {"node_kind": IMAGE, "text": None, "place": None, "url": None, "name": None, "error": None} | known


def text(value: str) -> dict[str, Any]:
    """A node that is a text."""
    return {"node_kind": TEXT, "text": value, "place": None, "url": None, "name": None, "error": None}


def scheme_of(path: str) -> str:
    """The scheme of an address, in small letters; "" for a path, and for a drive ("C:")."""
    scheme, colon, _ = path.partition(":")
    return scheme.lower() if colon and scheme.isalpha() and len(scheme) > 1 else ""


@dataclass(frozen=True)
class PictureFolder:
    """Where the relative paths of a file's pictures begin (`images`), and what they must not leave (`folder`)."""

    folder: str
    images: str

    def find(self, path: str) -> dict[str, Any]:
        """The node of a picture that is called by a path, or by an address on the web, which is kept and not fetched.

        Paths come from strangers: what leads out of the folder, by `..`, by a link or from the root, has no place.
        """
        scheme = scheme_of(path)
        if path.startswith("//") or scheme in ("http", "https"):
            return image(url=path, name=os.path.basename(path.partition("?")[0]) or None)
        if scheme:
            return image(error=f"neither a path nor an address on the web: {path:.{MAX_QUOTED}}")
        full = os.path.normpath(os.path.join(self.images, path))
        if "\0" in path or not os.path.realpath(full).startswith(self._bound):
            return image(name=path, error=f"no file below {self.folder}: {path:.{MAX_QUOTED}}")
        return image(name=path, place={"path": full, "format": "file"})

    @cached_property
    def _bound(self) -> str:
        return os.path.realpath(self.folder).rstrip("/") + "/"


@dataclass(frozen=True)
class Cells:
    """Pictures of one record: a path, an address, or bytes (`{"bytes": …, "path": …}`, as `datasets` has them).

    Attributes:
        place: where the record stands, for pictures whose bytes stand in it.
    """

    pictures: PictureFolder
    place: dict[str, Any]

    def find(self, value: Any, column: str) -> dict[str, Any]:
        """The node of a picture that stands in `column`, written with dots and places in lists: `images.2`."""
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return image(name=string(value.get("path")), place=self.place | {"column": f"{column}.bytes"})
        if isinstance(value, bytes):
            return image(place=self.place | {"column": column})
        if isinstance(value, dict):
            value = value.get("path")
        if not isinstance(value, str) or not value:
            return image(error=f"{column} is neither a path, an address nor bytes: {value!r:.40}")
        return self.pictures.find(value)


def document_of(record: dict[str, Any], cells: Cells) -> dict[str, Any]:
    """The columns of a document that a record knows: its nodes, `TERMS`, and all else as `metadata`.

    Which manner it is written in shows in its keys. Of MMC4, `image_info` stays in the metadata, with the matching that
    MMC4 made; its `similarity_matrix`, which is large, does not.

    Raises:
        ValueError: no manner that is known, or lists that do not fit each other.
    """
    if isinstance(record.get("text_list"), list):
        nodes, used = _mmc4(record, cells.pictures), {"text_list", "similarity_matrix"}
    elif isinstance(record.get("texts"), list) and isinstance(record.get("images"), list):
        nodes, used = _obelics(record["texts"], record["images"], cells), {"texts", "images"}
    elif isinstance(record.get("nodes"), list):
        nodes, used = [_node(item, index, cells) for index, item in enumerate(record["nodes"])], {"nodes"}
    else:
        raise ValueError("no document: neither `text_list`, `texts` with `images`, nor `nodes`")
    terms = {name: string(record.get(name)) for name in TERMS}
    terms["licence"] = terms["licence"] or terms.pop("license")
    terms.pop("license", None)
    metadata = {key: value for key, value in record.items() if key not in used and key not in TERMS}
    return terms | {"nodes": nodes, "metadata": as_json(metadata) if metadata else None}


def as_json(value: Any) -> str:
    """A value as JSON; of bytes their digest, of what else JSON has no form for (a date) what people write for it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain)


def string(value: Any) -> str | None:
    """A value as text; None for nothing."""
    return None if value is None or value == "" else str(value)


def _mmc4(record: dict[str, Any], pictures: PictureFolder) -> list[dict[str, Any]]:
    """MMC4 (Zhu et al. 2023): each picture is matched with a text, and stands before it.

    Pictures of one text keep their order. One that is matched with no text of the list has no place among them.
    """
    texts = record["text_list"]
    before: dict[int, list[dict[str, Any]]] = {}
    stray: list[dict[str, Any]] = []
    for info in record.get("image_info") or ():
        name, url, index = info.get("image_name"), string(info.get("raw_url")), info.get("matched_text_index")
        if isinstance(name, str) and name:
            node = pictures.find(name)
        else:
            node = image(error=None if url else "neither image_name nor raw_url")
        node["url"] = node["url"] or url
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(texts):
            before.setdefault(index, []).append(node)
        else:
            stray.append(node | {"error": f"matched_text_index {index!r:.40} of {len(texts)} texts"})
    nodes: list[dict[str, Any]] = []
    for index, value in enumerate(texts):
        nodes += before.get(index, ())
        nodes += _texts(value, f"text_list[{index}]")
    return nodes + stray


def _obelics(texts: Sequence[Any], images: Sequence[Any], cells: Cells) -> list[dict[str, Any]]:
    """OBELICS (Laurençon et al. 2023): two lists of one length, of which one has a value at each place.

    Where both have one, the picture stands before the text.
    """
    if len(texts) != len(images):
        raise ValueError(f"{len(texts)} texts and {len(images)} images; they must be lists of one length")
    nodes: list[dict[str, Any]] = []
    for index, (value, picture) in enumerate(zip(texts, images, strict=True)):
        if picture is not None and picture != "":
            nodes.append(cells.find(picture, f"images.{index}"))
        nodes += _texts(value, f"texts[{index}]")
    return nodes


def _node(item: Any, index: int, cells: Cells) -> dict[str, Any]:
    """A node of a list: `{"text": …}`, or `{"image": …}` with its `text` and `url` where it has them."""
    if not isinstance(item, dict) or not (item.get("image") or isinstance(item.get("text"), str)):
        raise ValueError(f"nodes[{index}] has neither text nor image")
    if not item.get("image"):
        return text(item["text"])
    node = cells.find(item["image"], f"nodes.{index}.image")
    return node | {"text": string(item.get("text")), "url": node["url"] or string(item.get("url"))}


def _texts(value: Any, where: str) -> list[dict[str, Any]]:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where} is no text: {value!r:.40}")
    return [text(value)] if value and value.strip() else []


def _plain(value: Any) -> Any:
    return {"bytes": bytes_digest(value)} if isinstance(value, bytes) else str(value)
