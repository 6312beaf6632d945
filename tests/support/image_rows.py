"""Rows of images that lie in files, as the vision stages read them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curation.hashing import bytes_digest
from schemas.places import PLACE


def image_rows(folder: Path, images: Sequence[bytes | None], **columns: pa.Array | list[str | None]) -> pa.Table:
    """One row an image, which is written to `folder` under its hash; None is a row without one."""
    hashes = [None if data is None else bytes_digest(data) for data in images]
    for name, data in zip(hashes, images, strict=True):
        if name is not None and data is not None:
            (folder / name).write_bytes(data)
    names = [f"image {number}.jpg" for number in range(len(images))]
    places = [name and {"path": str(folder / name), "format": "file"} for name in hashes]
    return pa.table(
        {
            "row_id": names,
            "root": names,
            "ordinal": pa.array([0] * len(names), pa.int64()),
            "kind": pa.array(["pair"] * len(names), pa.string()),
            "uri": names,
            "image_hash": pa.array(hashes, pa.string()),
            "place": pa.array(places, PLACE),
            **columns,
        }
    )
