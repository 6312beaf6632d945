"""Duplicates among documents: images that many documents show, or one shows twice; documents with the same texts.

A logo, an icon or an advertisement is in no document for what the document says. OBELICS (Laurençon et al. 2023; its
script 06_02) drops images whose address comes more than ten times; MMC4 (Zhu et al. 2023) goes by perceptual hashes,
and keeps one image of those that look the same in a document. Here an image is its bytes, or its perceptual hash.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.duplicates import Looks
from curation.diversity.near_hashes import MOST_SHARED, near_pairs
from curation.hashing import digest
from curation.ranges import Count, Positive
from curation.stage import Stage, reject, with_column
from curation.vision.colour_signature import colour_distance, signatures_of
from schemas.documents import TEXT

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSpread(Stage):
    """Count the documents that show an image, as it is or almost: `image_documents`, a reduce joined by image.

    Two images are almost one where their perceptual hashes differ in at most `distance` bits and their colours by at
    most `max_colour_distance` (null leaves colour out). Each counts those near to itself, not those near to these:
    chains of small steps connect images that have nothing to do with each other. Of images whose hashes collide by
    the thousand each is compared with 256 at most. Rows are nodes; images that one document alone shows have no row.
    """

    distance: int = 4
    max_colour_distance: Positive | None = 16.0

    writes = ("image_hash", "image_documents")
    packages = ("numpy",)
    version = 2

    @property
    def reads(self) -> tuple[str, ...]:
        return ("image_hash", "perceptual_hash", *(() if self.max_colour_distance is None else ("colour_signature",)))

    def __call__(self, nodes: pa.Table) -> pa.Table:
        nodes = nodes.filter(pc.is_valid(nodes["image_hash"]))
        images, first, image = np.unique(nodes["image_hash"].to_numpy(), return_index=True, return_inverse=True)
        look, near = self._looks(nodes.take(pa.array(first)))
        document = nodes["root"].combine_chunks().dictionary_encode().indices.to_numpy()
        documents = spread(look[image], document, near)[look]
        several = np.flatnonzero(documents > 1)
        columns = pa.array(images[several], pa.string()), pa.array(documents[several], pa.int64())
        return pa.table(dict(zip(self.writes, columns, strict=True)))

    def _looks(self, images: pa.Table) -> tuple[Numbers, Numbers]:
        """A number for how each image looks, from 0, and pairs [n, 2] of those that are near.

        One without a hash looks like no other.
        """
        known = images["perceptual_hash"].is_valid().to_numpy()
        seen = images.filter(pa.array(known))
        hashes = seen["perceptual_hash"].cast(pa.uint64(), safe=False).to_numpy()
        limit = self.max_colour_distance
        looks = Looks(
            hashes, None if limit is None else signatures_of(seen["colour_signature"]), self.distance, limit or 0.0
        )
        different, one, number = np.unique(looks.numbers(), return_index=True, return_inverse=True)
        look = np.full(len(known), -1)
        look[known] = number
        look[~known] = len(different) + np.arange(int((~known).sum()))
        return look, near_pairs(hashes[one], self.distance, lambda a, b: looks.agree(one[a], one[b]), MOST_SHARED)


def spread(look: Numbers, document: Numbers, near: Numbers) -> Numbers:
    """How many documents show each look or one near it, from what each node shows.

    Args:
        look, document: numbers from 0, one of each a node.
        near: pairs of looks [n, 2].
    """
    shown = np.unique(np.stack([look, document], axis=1).astype(np.int64), axis=0)
    count = int(look.max(initial=-1)) + 1
    documents: Numbers = np.bincount(shown[:, 0], minlength=count)
    border = np.searchsorted(shown[:, 0], np.arange(count + 1))
    neighbours: dict[int, list[int]] = {}
    for left, right in near.tolist():
        neighbours.setdefault(left, [left]).append(right)
        neighbours.setdefault(right, [right]).append(left)
    for one, all_ in neighbours.items():
        documents[one] = len(np.unique(np.concatenate([shown[border[i] : border[i + 1], 1] for i in all_])))
    return documents


@dataclass(frozen=True)
class CommonImages(Stage):
    """Reject images that more than `max_documents` documents show (`ImageSpread`)."""

    max_documents: Count = 10

    reads = ("image_documents",)

    def __call__(self, images: pa.Table) -> pa.Table:
        count, limit = images["image_documents"], self.max_documents
        return reject(images, pc.greater(count, limit), "common_image", value=count, limit=limit)


@dataclass(frozen=True)
class OncePerDocument(Stage):
    """Reject images that their document has shown before, as they are or almost; the first stays.

    The rows are the images of whole documents. Screens of a manual and frames of a film are near to each other and
    no repeats, so bits of the perceptual hash that may differ are few: none, unless `distance` says so. Colours may
    differ by `max_colour_distance`; null leaves them out.
    """

    distance: int = 0
    max_colour_distance: Positive | None = 16.0

    packages = ("numpy",)
    version = 2

    @property
    def reads(self) -> tuple[str, ...]:
        return ("image_hash", "perceptual_hash", *(() if self.max_colour_distance is None else ("colour_signature",)))

    def __call__(self, images: pa.Table) -> pa.Table:
        wanted = images.select(["root", "ordinal", *self.reads]).append_column("at", pa.array(range(images.num_rows)))
        rows = wanted.sort_by([("root", "ascending"), ("ordinal", "ascending")]).to_pylist()
        again = np.zeros(images.num_rows, bool)
        for _, group in groupby(rows, key=lambda row: row["root"]):
            mine = list(group)
            shown = [(row["image_hash"], row["perceptual_hash"], row.get("colour_signature")) for row in mine]
            again[[row["at"] for row in mine]] = seen_before(shown, self.distance, self.max_colour_distance)
        return reject(images, again, "repeated_image")


def seen_before(
    images: Sequence[tuple[str, int | None, bytes | None]], distance: int, colour: float | None
) -> list[bool]:
    """Which images of one document, by content, perceptual hash and colours, stay away for one that came before."""
    kept: set[str] = set()
    looks: list[tuple[int, bytes | None]] = []
    seen = []
    for content, look, colours in images:
        near = look is not None and any(
            (look ^ other).bit_count() <= distance and _near_colours(colours, others, colour) for other, others in looks
        )
        seen.append(content in kept or near)
        if not seen[-1]:
            kept.add(content)
            looks += [] if look is None else [(look, colours)]
    return seen


def _near_colours(one: bytes | None, other: bytes | None, limit: float | None) -> bool:
    if limit is None or one is None or other is None or one == other:
        return True
    a, b = (np.frombuffer(colours, np.uint8)[None] for colours in (one, other))
    return bool(colour_distance(a, b)[0] <= limit)


@dataclass(frozen=True)
class TextsDigest(Stage):
    """Measure what texts a document has, whatever their order, case, width and spaces: `texts_digest`.

    Null where it has none, so that such documents are nobody's duplicates.
    """

    reads = ("nodes",)
    writes = ("texts_digest",)

    def __call__(self, documents: pa.Table) -> pa.Table:
        lists = documents["nodes"].combine_chunks()
        items = pa.Table.from_struct_array(pc.list_flatten(lists))
        is_text = pc.equal(items["node_kind"], TEXT)
        of = pc.list_parent_indices(lists).filter(is_text.combine_chunks())
        texts: list[set[str]] = [set() for _ in range(len(lists))]
        for place, text in zip(of.to_pylist(), items["text"].filter(is_text).to_pylist(), strict=True):
            texts[place].add(plain(text))
        digests = [digest(sorted(some - {""})) if some - {""} else None for some in texts]
        return with_column(documents, "texts_digest", digests, pa.string())


def plain(text: str) -> str:
    """A text by which duplicates are recognised: NFKC, casefolded, with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
