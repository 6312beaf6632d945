"""Image-text pairs of some bytes each, in the files that people have them in: what tests of whole runs share."""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from curation.hashing import draw

THINGS = ("dog", "cat", "horse", "bridge", "castle", "harbour", "guitar", "violin", "apple", "orange", "train", "lamp")
"""The first are common, the last rare; all are in the starter lexicon."""

QUIET = ("embedder=null", "clusters=null", "semantic=null", "resampling=null", "concepts=null")
"""Settings for a run without models: checks, duplicates, export."""


@dataclass(frozen=True)
class Pair:
    """An image's bytes and a text, as they stand in a source."""

    key: str
    image: bytes
    caption: str | None


def image_bytes(number: int, width: int = 240, height: int = 200, format_: str = "jpeg") -> bytes:
    """A patchwork of colours that no other number has."""
    chance = np.random.default_rng(number)
    patches = chance.integers(0, 256, (10, 12, 3), np.uint8)
    image = Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)
    sink = io.BytesIO()
    image.save(sink, format_)
    return sink.getvalue()


def caption(number: int) -> str:
    """A sentence that names one thing, common ones more often, and its number."""
    lot = draw(0, str(number), "thing")
    thing = THINGS[min(int(len(THINGS) * lot**2.5), len(THINGS) - 1)]
    return f"An old {thing} stands beside the road at mile {number}."


def pairs(count: int, first: int = 0) -> list[Pair]:
    """Good pairs, all different."""
    return [Pair(f"{n:09d}", image_bytes(n), caption(n)) for n in range(first, first + count)]


def spoilt(pair: Pair) -> Pair:
    """The pair with half of its image."""
    return replace(pair, image=pair.image[: len(pair.image) // 2])


def write_tars(folder: Path, some: Sequence[Pair], shards: int = 1) -> Path:
    """WebDataset tars as img2dataset writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as tar:
            for pair in some[shard::shards]:
                known = {"url": f"http://example.org/{pair.key}.jpg", "licence": "CC0-1.0"}
                sample = {"__key__": pair.key, "jpg": pair.image, "json": json.dumps(known).encode()}
                tar.write(sample if pair.caption is None else sample | {"txt": pair.caption})
    return folder


def write_folder(folder: Path, some: Iterable[Pair]) -> Path:
    """Images, and a table of their names and texts."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for pair in some:
        (folder / "images" / f"{pair.key}.jpg").write_bytes(pair.image)
        lines.append(json.dumps({"file_name": f"images/{pair.key}.jpg", "text": pair.caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder
