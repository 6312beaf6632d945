"""Pairing: each image of a document with the segment of its texts that describes it best, one to one.

LongCat-Flash-Omni (section 3.1.2) pairs "each image with its most relevant text segment by SigLIP similarity"; MMC4
(Zhu et al. 2023, section 2) does so by a linear assignment. An assignment of all images would give poor partners to
those that have none. Here an image may stay alone at the price of τ, the least similarity:

    max Σ (s_ij − τ) over pairs i, j in which no image and no segment comes twice

So the images that stay alone are part of the optimum, and not what a later limit leaves. Where the order is to be
preserved (manuals, videos), pairs may not cross besides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.clusters import Vectors, embedding_matrix, unit_vectors
from curation.stage import Stage, reject, with_column
from curation.vision.pair_check import as_lists
from schemas.documents import IMAGE

Order = Literal["free", "preserved"]

GRID = 2.0**20
"""Steps in a cosine of 1: sums of whole numbers are exact, so what is best does not depend on the order of adding."""

ALONE = -1

PAIRED = ("paired_with", "paired_ordinal", "paired_segment", "paired_text", "pair_similarity", "second_similarity")
"""Of an image: row id and ordinal of the text that it is paired with, the segment from 0 and its words, cosines."""


def on_grid(similarity: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Similarities rounded to whole steps of the grid."""
    rounded: NDArray[np.float64] = np.rint(np.asarray(similarity, np.float64) * GRID) / GRID
    return rounded


def gains(
    similarity: NDArray[np.floating[Any]], min_similarity: float, distance: NDArray[np.integer[Any]] | None = None
) -> NDArray[np.int64]:
    """What a pair is worth, [images, segments]; an image alone is worth 0.

    First counts the similarity above `min_similarity`, then, among equally similar ones, that more images have a
    partner, and that partners are near.

    Args:
        similarity: cosines; whole steps of the grid count.
        distance: from image to segment, not negative; all the same without it.
    """
    steps = np.rint(np.asarray(similarity, np.float64) * GRID).astype(np.int64) - int(np.ceil(min_similarity * GRID))
    if distance is None:
        distance = np.zeros(steps.shape, np.int64)
    furthest = int(distance.max(initial=0))
    weight = (furthest + 1) * max(steps.shape[0], 1) + 1  # so that no sum of closeness outweighs one step
    worth: NDArray[np.int64] = steps * weight + (furthest + 1 - distance)
    return worth


def pair_freely(worth: NDArray[np.int64]) -> NDArray[np.int64]:
    """The segment of each image, or `ALONE`, such that the sum of `gains` is the greatest: a linear assignment with a
    null column for each image."""
    from scipy.optimize import linear_sum_assignment

    images, segments = worth.shape
    with_null = np.concatenate([worth, np.zeros((images, images), np.int64)], axis=1).astype(np.float64)
    _, column = linear_sum_assignment(with_null, maximize=True)
    return np.where(column < segments, column, ALONE)


def pair_in_order(worth: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `pair_freely`, with the segments of later images after those of earlier ones: by dynamic programming."""
    images, segments = worth.shape
    best = np.zeros((images + 1, segments + 1), np.int64)
    for i in range(images):
        with_pair = np.maximum(best[i, 1:], best[i, :-1] + worth[i])
        best[i + 1, 1:] = np.maximum.accumulate(with_pair)
    partner = np.full(images, ALONE, np.int64)
    j = segments
    for i in reversed(range(images)):
        # The first segment up to which as much can be had; the image has it, or none.
        j = int(np.searchsorted(best[i + 1, : j + 1], best[i + 1, j]))
        if best[i + 1, j] > best[i, j]:
            partner[i] = j = j - 1
    return partner


def free_segments(partner: NDArray[np.int64], segments: int, order: Order) -> Iterator[NDArray[np.int64]]:
    """For each image, the segments that it could have with all other pairs as they are."""
    taken = np.zeros(segments, bool)
    taken[partner[partner != ALONE]] = True
    for i in range(len(partner)):
        free = ~taken
        if partner[i] != ALONE:
            free[partner[i]] = True
        if order == "preserved":
            free[: int(partner[:i].max(initial=ALONE)) + 1] = False
            after = partner[i + 1 :][partner[i + 1 :] != ALONE]
            free[int(after.min(initial=segments)) :] = False
        yield np.flatnonzero(free)


@dataclass(frozen=True)
class Unpaired(Stage):
    """Leave all images where they are, with no text of their own: the columns of pairs are null.

    For cleaning without an engine, which knows nothing of what an image shows.
    """

    writes = ("paired_with", "paired_text", "pair_similarity", "match_probability", "checkpoint", "embedding")

    def __call__(self, nodes: pa.Table) -> pa.Table:
        numbers = ("pair_similarity", "match_probability")
        for name in self.writes:
            type_ = pa.float64() if name in numbers else pa.list_(pa.float32()) if name == "embedding" else pa.string()
            nodes = with_column(nodes, name, pa.nulls(nodes.num_rows, type_))
        return nodes


@dataclass(frozen=True)
class PairImages(Stage):
    """Pair the images of a document with segments of its texts; reject those that stay alone (`unpaired_image`).

    The rows are the nodes of whole documents. An image gets the vector of its segment as `text_embedding`. Of one that
    stays alone, the similarity is that to the best segment that was free for it, none if there was none; of any
    image, `second_similarity` is that to the best of all others.

    Attributes:
        min_similarity: τ, a cosine that holds for one checkpoint alone.
        order: preserved where texts and images follow one course of events.
    """

    min_similarity: float = 0.05
    order: Order = "free"

    reads = ("node_kind", "image_embedding", "segments", "segment_embeddings")
    writes = (*PAIRED, "text_embedding")
    drops = ("segments", "segment_embeddings")
    packages = ("numpy", "scipy")
    extra = "vision"

    def __call__(self, nodes: pa.Table) -> pa.Table:
        images, texts = _Vectors.of_images(nodes), _Vectors.of_segments(nodes)
        partner = np.full(nodes.num_rows, ALONE, np.int64)
        similarity, second = np.full((2, nodes.num_rows), np.nan)
        for places in _documents(nodes["root"].to_pylist(), nodes["ordinal"].to_pylist()):
            mine, theirs = images.at(places), texts.at(places)
            if not len(mine) or not len(theirs):
                continue
            cosines = on_grid(images.vectors[mine] @ texts.vectors[theirs].T)
            found = self.paired(cosines, _distances(images.owner[mine], texts.owner[theirs], places))
            row = images.owner[mine]
            partner[row] = np.where(found != ALONE, theirs[found], ALONE)
            similarity[row], second[row] = similarities(cosines, found, self.order)
        nodes = _with_partners(nodes, texts, partner)
        nodes = with_column(nodes, "pair_similarity", pa.array(similarity, from_pandas=True))
        nodes = with_column(nodes, "second_similarity", pa.array(second, from_pandas=True))
        alone = pc.and_(pc.equal(nodes["node_kind"], IMAGE), pc.is_null(nodes["paired_with"]))
        return reject(nodes, alone, "unpaired_image", value=nodes["pair_similarity"], limit=self.min_similarity)

    def paired(self, cosines: NDArray[np.float64], distances: NDArray[np.int64]) -> NDArray[np.int64]:
        """The segment of each image of one document, or `ALONE`."""
        worth = gains(cosines, self.min_similarity, distances)
        return pair_freely(worth) if self.order == "free" else pair_in_order(worth)


@dataclass(frozen=True)
class _Vectors:
    """Unit vectors [n, d], on a grid on which their products are exact.

    Attributes:
        owner: the row of the table that each belongs to, ascending.
        number: the how many-th of that row it is.
        given: as they came.
    """

    vectors: NDArray[np.float64]
    owner: NDArray[np.int64]
    number: NDArray[np.int64]
    given: Vectors

    @classmethod
    def of_images(cls, nodes: pa.Table) -> "_Vectors":
        counts = np.array(pc.fill_null(pc.equal(nodes["node_kind"], IMAGE), False), np.int64)
        lists = nodes["image_embedding"].filter(pa.array(counts.astype(bool)))
        return cls._of(embedding_matrix(lists), counts)

    @classmethod
    def of_segments(cls, nodes: pa.Table) -> "_Vectors":
        counts = np.array(pc.fill_null(pc.list_value_length(nodes["segments"]), 0), np.int64)
        flat = pc.list_flatten(nodes["segment_embeddings"]).to_numpy()
        return cls._of(flat.reshape(int(counts.sum()), -1) if counts.any() else np.zeros((0, 1), np.float32), counts)

    @classmethod
    def _of(cls, given: Vectors, counts: NDArray[np.int64]) -> "_Vectors":
        owner = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cls(unit_vectors(given) if len(given) else np.zeros((0, 1)), owner, number, given)

    def at(self, places: Sequence[int]) -> NDArray[np.int64]:
        """Positions of the vectors of some rows, in the order of these rows."""
        starts, ends = (np.searchsorted(self.owner, places, side) for side in ("left", "right"))
        return np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])


def similarities(
    cosines: NDArray[np.float64], partner: NDArray[np.int64], order: Order
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each image the similarity to its segment, or else to the best that was free; and to the best of all others.

    NaN where there is none.
    """
    first, second = np.full((2, len(partner)), np.nan)
    for i, free in enumerate(free_segments(partner, cosines.shape[1], order)):
        others = cosines[i]
        if len(free):
            j = partner[i] if partner[i] != ALONE else free[np.argmax(cosines[i, free])]
            first[i] = cosines[i, j]
            others = np.delete(others, j)
        if len(others):
            second[i] = others.max()
    return first, second


def _with_partners(nodes: pa.Table, texts: _Vectors, partner: NDArray[np.int64]) -> pa.Table:
    """The rows with what is known of the segment that each is paired with, null for those that have none."""
    there = partner != ALONE
    segment = partner[there]
    owner = np.full(len(partner), ALONE)
    owner[there] = texts.owner[segment]
    number = np.zeros(len(partner), np.int32)
    number[there] = texts.number[segment]
    text = pa.array(owner, mask=~there)
    nodes = with_column(nodes, "paired_with", nodes["row_id"].take(text))
    nodes = with_column(nodes, "paired_ordinal", nodes["ordinal"].take(text))
    nodes = with_column(nodes, "paired_segment", pa.array(number, mask=~there))
    words = np.full(len(partner), ALONE)
    words[there] = segment
    nodes = with_column(nodes, "paired_text", pc.list_flatten(nodes["segments"]).take(pa.array(words, mask=~there)))
    return with_column(nodes, "text_embedding", as_lists(texts.given[segment], there))


def _documents(roots: Sequence[str], ordinals: Sequence[int]) -> Iterator[list[int]]:
    """The places of the rows of each document, in the order in which they stand there."""
    order = sorted(range(len(roots)), key=lambda i: (roots[i], ordinals[i]))
    for _, places in groupby(order, key=lambda i: roots[i]):
        yield list(places)


def _distances(images: NDArray[np.int64], segments: NDArray[np.int64], places: Sequence[int]) -> NDArray[np.int64]:
    """Nodes from each image to each segment, twice, and one more where the text comes first."""
    at = {place: i for i, place in enumerate(places)}
    image_at, segment_at = (np.array([at[int(i)] for i in some], np.int64) for some in (images, segments))
    away = segment_at[None, :] - image_at[:, None]
    distances: NDArray[np.int64] = 2 * np.abs(away) + (away < 0)
    return distances
