"""Does a text belong to its image? Both are embedded, which is kept; then their cosine is compared with a limit.

Embedding is expensive and comparing is not, so they are stages of their own: a changed limit embeds nothing again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.diversity.clusters import embedding_matrix
from curation.engines.image_text_embedding import ImageTextEmbedder, Pixels, Vectors, cosines
from curation.errors import EngineMissing, MediaError, RecipeError
from curation.media.images import decode_image
from curation.ranges import Share
from curation.stage import Stage, fail, reject, with_column
from curation.text.languages import known_language
from curation.vision.image_checks import ALL_FORMATS, Format
from curation.vision.shared_images import LOCATORS, failed, images_of

EMBEDDING = pa.list_(pa.float32())


@dataclass(frozen=True)
class EmbedImage(Stage):
    """Embed each image: `image_embedding`, a unit vector.

    Images are decoded at draft scale, with the shorter side no smaller than `side`; the engine squeezes or crops them
    from there. A row whose image cannot be decoded fails alone.
    """

    engine: ImageTextEmbedder
    side: int = 512
    """Pixels; at least the side of what the model sees (64 for tiny-siglip, 224 to 512 for SigLIP)."""
    max_pixels: int = 64_000_000
    formats: tuple[Format, ...] = ALL_FORMATS
    decoded_bytes: int = 1 << 28
    """How many bytes of decoded images are held at a time; it changes no result. On a GPU it should hold the engine's
    batches; an image has some 1.5 MB."""

    reads = ("image_hash",)
    writes = ("image_embedding",)
    locators = LOCATORS
    packages = ("pillow", "numpy")
    optional_packages = ("pillow-heif",)
    version = 2
    costly = True

    def __post_init__(self) -> None:
        if self.side < 1:
            raise RecipeError(f"side: {self.side} is below 1")

    def fingerprint(self) -> str:
        """Whatever the memory."""
        return Stage.fingerprint(replace(self, decoded_bytes=EmbedImage.decoded_bytes))

    def __call__(self, images: pa.Table) -> pa.Table:
        outcomes: list[Any] = [None] * images.num_rows
        waiting: list[tuple[Pixels, list[int]]] = []
        held = 0
        for shared in images_of(images):
            decoded = shared.look(self.decode)
            if isinstance(decoded[0], Exception):
                for i, error in zip(shared.rows, decoded, strict=True):
                    outcomes[i] = error
                continue
            if held + decoded[0].nbytes > self.decoded_bytes:
                self.embed(waiting, outcomes)
                waiting, held = [], 0
            waiting.append((decoded[0], shared.rows))
            held += decoded[0].nbytes
        self.embed(waiting, outcomes)
        return with_vectors(images, "image_embedding", outcomes)

    def decode(self, data: bytes) -> Pixels:
        """An image's pixels, as the engine is given them."""
        return decode_image(data, max_pixels=self.max_pixels, draft_side=self.side, formats=self.formats)

    def embed(self, images: Sequence[tuple[Pixels, list[int]]], outcomes: list[Any]) -> None:
        """Write the vector of each image to the `outcomes` of its rows."""
        vectors = self.engine.embed_images([image for image, _ in images]) if images else ()
        for vector, (_, rows) in zip(vectors, images, strict=True):
            for i in rows:
                outcomes[i] = vector


@dataclass(frozen=True)
class EmbedText(Stage):
    """Embed the text of a column: `text_embedding`, a unit vector. A row without a text fails alone."""

    engine: ImageTextEmbedder
    column: str = "caption"
    max_characters: int = 4000
    """From the beginning of a text; models read some 64 words of it."""

    writes = ("text_embedding",)
    packages = ("numpy",)
    costly = True

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def __call__(self, rows: pa.Table) -> pa.Table:
        column = pc.utf8_slice_codeunits(rows[self.column].cast(pa.large_string()), 0, self.max_characters)
        texts: list[str | None] = column.to_pylist()
        once = list(dict.fromkeys(text for text in texts if text is not None))
        vectors: dict[str | None, Any] = dict(zip(once, self.engine.embed_texts(once), strict=True)) if once else {}
        nothing = MediaError(f"no text in {self.column}")
        return with_vectors(rows, "text_embedding", [vectors.get(text, nothing) for text in texts])


@dataclass(frozen=True)
class PairCheck(Stage):
    """Reject pairs whose image and text are too far apart in one checkpoint's space (LongCat-Flash-Omni, 3.1.2).

    `similarity` is the cosine of the two embeddings, `match_probability` SigLIP's sigma(exp(t') cos + b), null for a
    checkpoint without b. A limit means something for one `checkpoint` alone, so its id stands beside them.

    The threshold is low on purpose: it should reject captions of another image, while captions that say little, or say
    it oddly, keep the data varied. For SigLIP ViT-B-16 (exp(t') about 117, b about -13) sigma passes a half only at a
    cosine of .11, which many good captions do not reach; .05 is a sigma of some .001. Other checkpoints need another
    limit: look at how `similarity` is spread before you set it.

    A checkpoint that was trained on English says nothing of a Thai caption. Where `languages` lists those that it
    reads, pairs in any other have no similarity and are not judged; those of unknown language are.
    """

    engine: ImageTextEmbedder
    min_cosine: float | None = 0.05
    min_probability: float | None = None
    languages: tuple[str, ...] = ()
    measured: str | None = None
    """The column of texts whose language `CaptionLanguage` has measured, for texts of which no source says it."""
    min_confidence: Share = 0.9

    @property
    def reads(self) -> tuple[str, ...]:
        measures = (f"{self.measured}_language", f"{self.measured}_language_confidence") if self.measured else ()
        return ("image_embedding", "text_embedding", *(("language", *measures) if self.languages else ()))

    writes = ("similarity", "match_probability", "checkpoint")
    packages = ("numpy",)

    def __post_init__(self) -> None:
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise RecipeError(f"min_cosine: {self.min_cosine} is not within -1 and 1")
        if self.min_probability is not None and not 0 <= self.min_probability <= 1:
            raise RecipeError(f"min_probability: {self.min_probability} is not within 0 and 1")

    def __call__(self, pairs: pa.Table) -> pa.Table:
        there, images, texts = both_embeddings(pairs)
        checkpoint, probable = self.engine.checkpoint, self.engine.logit_bias is not None
        if self.min_probability is not None and not probable:
            raise EngineMissing(f"stage PairCheck: {checkpoint} has no bias and so no probability; set min_cosine")
        similarity = cosines(images, texts)
        probability = self.engine.match_probability(similarity) if probable else None
        judged = self.reads_text(pairs)
        for name, values in (("similarity", similarity), ("match_probability", probability)):
            column = spread(values, there)
            pairs = with_column(pairs, name, pc.if_else(judged, column, pa.scalar(None, column.type)))
        pairs = with_column(pairs, "checkpoint", pa.array([checkpoint] * pairs.num_rows, pa.string()))
        pairs = fail_where_absent(pairs, there)
        for column, limit in (("similarity", self.min_cosine), ("match_probability", self.min_probability)):
            if limit is not None:
                value = pairs[column]
                pairs = reject(pairs, pc.less(value, limit), "pair_mismatch", value=value, limit=limit)
        return pairs

    def reads_text(self, pairs: pa.Table) -> pa.Array:
        """Of which pairs the checkpoint may know the language."""
        if not self.languages:
            return pa.array([True] * pairs.num_rows, pa.bool_())
        known = known_language(pairs, "language", self.measured, self.min_confidence).to_pylist()
        return pa.array([code is None or code in self.languages for code in known], pa.bool_())


@dataclass(frozen=True)
class JointEmbedding(Stage):
    """One unit vector of a pair, from those of its image and its text: `embedding`.

    It is sqrt(w) image and sqrt(1 - w) text, one behind the other, w being `image_weight`. So the cosine of two pairs
    is the weighted mean of the cosines of their images and of their texts.
    """

    image_weight: float = 0.5

    reads = ("image_embedding", "text_embedding")
    writes = ("embedding",)
    packages = ("numpy",)

    def __post_init__(self) -> None:
        if not 0 <= self.image_weight <= 1:
            raise RecipeError(f"image_weight: {self.image_weight} is not within 0 and 1")

    def __call__(self, pairs: pa.Table) -> pa.Table:
        there, images, texts = both_embeddings(pairs)
        parts = [
            np.multiply(part, sqrt(weight), dtype=np.float64).astype(np.float32)
            for part, weight in ((images, self.image_weight), (texts, 1 - self.image_weight))
        ]
        pairs = with_column(pairs, "embedding", as_lists(np.concatenate(parts, axis=1), there))
        return fail_where_absent(pairs, there)


def both_embeddings(pairs: pa.Table) -> tuple[NDArray[np.bool_], Vectors, Vectors]:
    """Where a row has both its embeddings, and those of these rows, [n, dimensions] each."""
    columns = [pairs[name] for name in ("image_embedding", "text_embedding")]
    there = pc.and_(*(pc.is_valid(column) for column in columns))
    images, texts = (embedding_matrix(column.filter(there)) for column in columns)
    return there.to_numpy().astype(np.bool_), images, texts


def with_vectors(rows: pa.Table, name: str, outcomes: Sequence[Any]) -> pa.Table:
    """The rows with a column of vectors, those failed whose outcome is an error or is not finite."""
    broken = MediaError(f"the engine gave no finite {name}")
    outcomes = [
        outcome if isinstance(outcome, Exception) or np.isfinite(outcome).all() else broken for outcome in outcomes
    ]
    there = np.array([not isinstance(outcome, Exception) for outcome in outcomes], bool)
    vectors = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    matrix = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
    return failed(with_column(rows, name, as_lists(matrix, there)), outcomes)


def as_lists(matrix: Vectors, there: NDArray[np.bool_]) -> pa.Array:
    """A matrix as a column of lists, its rows standing where `there` is true; null elsewhere."""
    offsets = np.concatenate([[0], np.cumsum(there * matrix.shape[1])]).astype(np.int32)
    values = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=EMBEDDING, mask=pa.array(~there))


def spread(values: NDArray[np.float32] | None, there: NDArray[np.bool_]) -> pa.Array:
    """Values as a column, standing where `there` is true; null elsewhere, or throughout where there are none."""
    if values is None:
        return pa.nulls(len(there), pa.float32())
    column = np.zeros(len(there), np.float32)
    column[there] = values
    return pa.array(column, mask=~there)


def fail_where_absent(pairs: pa.Table, there: NDArray[np.bool_]) -> pa.Table:
    """The pairs, those failed that lack an embedding: what was not compared must not pass."""
    if there.all():
        return pairs
    absent = MediaError("the pair has no image_embedding or no text_embedding")
    return fail(pairs, [None if found else absent for found in there])
