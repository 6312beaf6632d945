"""Interleaved documents as files: lists in the manner of MMC4 and of OBELICS, and HTML pages with local images."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

IMAGES = "pictures"
"""The folder of the images, beside the file that names them."""
ROWS = pa.schema(
    [
        ("texts", pa.list_(pa.string())),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("url", pa.string()),
    ]
)
"""OBELICS' lists with the images' bytes, as `datasets` writes them."""


@dataclass(frozen=True)
class PlantedImage:
    """An image to write: its name, and its bytes; None for a file that is named and not there."""

    name: str
    data: bytes | None


Node = str | PlantedImage
"""A text, or an image."""


@dataclass(frozen=True)
class Written:
    """A document to write; `broken` ones are cut in the middle, where the manner of the file allows it."""

    url: str
    nodes: tuple[Node, ...]
    broken: bool = False


def write_mmc4(path: Path, documents: Sequence[Written]) -> None:
    """One object a line; each image is matched with the text that follows it, so that it stands before that."""
    _write_lines(path, documents, [_mmc4(one) for one in documents])


def write_obelics(path: Path, documents: Sequence[Written]) -> None:
    """One object a line: two lists of one length, one of which has a value at each place."""
    _write_lines(path, documents, [_obelics(one, lambda image: f"{IMAGES}/{image.name}") for one in documents])


def write_obelics_rows(path: Path, documents: Sequence[Written]) -> None:
    """The same as rows of Parquet, with the images' bytes."""
    rows = [_obelics(one, lambda image: {"bytes": image.data, "path": image.name}) for one in documents]
    pq.write_table(pa.Table.from_pylist(rows, ROWS), path, row_group_size=16)


def write_page(path: Path, document: Written) -> None:
    """One page: paragraphs, and images without a word beside them."""
    write_images(path.parent, document)
    blocks = [
        f'<div><img src="{IMAGES}/{node.name}"></div>'
        if isinstance(node, PlantedImage)
        else f"<p>{html.escape(node)}</p>"
        for node in document.nodes
    ]
    head = f'<meta charset="utf-8"><title>Shapes</title><link rel="canonical" href="{document.url}">'
    menu = "<nav><a href='/'>Home</a> <a href='/all'>All pages</a></nav>"
    body = "\n".join(blocks)
    page = f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head>\n<body>{menu}\n{body}\n</body></html>\n"
    path.write_text(page, encoding="utf-8")


def write_images(folder: Path, document: Written) -> None:
    """The images of a document that are there."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for node in document.nodes:
        if isinstance(node, PlantedImage) and node.data is not None:
            (folder / IMAGES / node.name).write_bytes(node.data)


def _mmc4(document: Written) -> dict[str, Any]:
    texts = [node for node in document.nodes if isinstance(node, str)]
    before = 0
    images = []
    for node in document.nodes:
        if isinstance(node, str):
            before += 1
        else:
            address = f"https://pictures.example.org/{node.name}"
            about = {"image_name": f"{IMAGES}/{node.name}", "raw_url": address, "matched_text_index": before}
            images.append(about | {"matched_sim": 0.25})
    return {"text_list": texts, "image_info": images, "url": document.url}


def _obelics(document: Written, cell: Any) -> dict[str, Any]:
    return {
        "texts": [node if isinstance(node, str) else None for node in document.nodes],
        "images": [None if isinstance(node, str) else cell(node) for node in document.nodes],
        "url": document.url,
    }


def _write_lines(path: Path, documents: Sequence[Written], records: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for document, record in zip(documents, records, strict=True):
            write_images(path.parent, document)
            line = json.dumps(record, ensure_ascii=False)
            file.write((line[: 2 * len(line) // 3] if document.broken else line) + "\n")
