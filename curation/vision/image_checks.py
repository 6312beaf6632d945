"""Checks of an image: its size from the header, then one decode at draft scale for everything that needs pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum, log2, sqrt
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from curation.errors import RecipeError
from curation.media.images import open_image, probe_image
from curation.stage import Stage, reject, with_column
from curation.vision.colour_signature import SIGNATURE_BYTES, colour_signature
from curation.vision.perceptual_hash import hamming_distance, perceptual_hash
from curation.vision.shared_images import LOCATORS, measure_images

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "avif", "tiff", "jpeg2000", "heic"]

ALL_FORMATS: tuple[Format, ...] = get_args(Format)

HEADER = {
    "image_format": pa.string(),
    "image_mode": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "short_side": pa.int32(),
    "aspect_ratio": pa.float64(),
    "frames": pa.int64(),
}

SAMPLE_SIDE = 128

QUALITY = {
    "contrast": pa.float64(),
    "sharpness": pa.float64(),
    "entropy": pa.float64(),
    "colours": pa.int32(),
    "flat_share": pa.float64(),
    "perceptual_hash": pa.uint64(),
    "colour_signature": pa.binary(SIGNATURE_BYTES),
}


@dataclass(frozen=True)
class ImageSize(Stage):
    """Reject images that are too small, too large or too long by what their headers say; no pixel is decoded.

    The limits are those of DataComp's basic filter (Gadre et al. 2023, appendix F); OBELICS has 150 and 2. A limit of
    None is not applied.
    """

    min_side: int = 200
    max_pixels: int | None = 64_000_000
    max_aspect_ratio: float | None = 3.0
    """Long side over short side."""
    max_frames: int | None = None
    formats: tuple[Format, ...] = ALL_FORMATS

    reads = ("image_hash",)
    writes = tuple(HEADER)
    locators = LOCATORS
    packages = ("pillow",)
    optional_packages = ("pillow-heif",)
    version = 2

    def __call__(self, images: pa.Table) -> pa.Table:
        images = measure_images(images, HEADER, partial(image_header, formats=self.formats))
        short_side = images["short_side"]
        mask = pc.less(short_side, self.min_side)
        images = reject(images, mask, "image_too_small", value=short_side, limit=self.min_side)
        pixels = pc.multiply(pc.cast(images["width"], pa.int64()), images["height"])
        for value, limit, reason in (
            (pixels, self.max_pixels, "too_many_pixels"),
            (images["aspect_ratio"], self.max_aspect_ratio, "aspect_ratio"),
            (images["frames"], self.max_frames, "too_many_frames"),
        ):
            if limit is not None:
                images = reject(images, pc.greater(value, limit), reason, value=value, limit=limit)
        return images


@dataclass(frozen=True)
class ImageQuality(Stage):
    """Decode each image once, at draft scale, and measure what `UsableImage` decides by, its perceptual hash and its
    colour signature.

    All measures are of the image with its shorter side averaged down to `side`, so that they mean the same for a
    photograph and its thumbnail; a smaller one is measured as it is.
    """

    side: int = 256
    max_pixels: int = 64_000_000
    flat_step: int = 2
    """Neighbours whose brightness differs by no more are flat; of 255."""
    formats: tuple[Format, ...] = ALL_FORMATS

    reads = ("image_hash",)
    writes = tuple(QUALITY)
    locators = LOCATORS
    packages = ("pillow", "numpy")
    optional_packages = ("pillow-heif",)
    costly = True
    version = 3

    def __post_init__(self) -> None:
        if self.side < 32:
            raise RecipeError(f"side: {self.side} is below 32, the grid of the perceptual hash")

    def __call__(self, images: pa.Table) -> pa.Table:
        return measure_images(images, QUALITY, self.measure)

    def measure(self, data: bytes) -> dict[str, Any]:
        """The measures of one image."""
        image = open_image(data, max_pixels=self.max_pixels, draft_side=self.side, formats=self.formats)
        grey, sample = at_side(image.convert("L"), self.side), sampled(image)
        plane = np.asarray(grey)
        return {
            "contrast": contrast(grey, sample),
            "sharpness": sharpness(plane),
            "entropy": entropy(grey),
            "colours": colours(np.asarray(sample)),
            "flat_share": flat_share(plane, self.flat_step),
            "perceptual_hash": perceptual_hash(grey),
            "colour_signature": colour_signature(image),
        }


@dataclass(frozen=True)
class UsableImage(Stage):
    """Reject images that show nothing: blank, blurred, a placeholder. A limit of None is not applied.

    A placeholder has a few pale colours on flat ground. Charts and logos come near it, so the limits take only what is
    plainer and fainter than these; those that a source is known to serve ("image not available") are recognised by
    their perceptual hash.
    """

    min_contrast: float | None = 4.0
    min_sharpness: float | None = 10.0
    min_entropy: float | None = None
    max_placeholder_colours: int | None = 4
    min_placeholder_flat_share: float = 0.98
    max_placeholder_contrast: float = 20.0
    known_placeholders: tuple[str, ...] = ()
    """Perceptual hashes, as 16 hexadecimal digits."""
    max_placeholder_distance: int = 4
    """Bits of 64 in which an image's hash may differ from that of a known placeholder."""

    reads = tuple(name for name in QUALITY if name != "colour_signature")
    writes = ("placeholder_distance",)

    def __post_init__(self) -> None:
        for known in self.known_placeholders:
            if len(known) != 16 or not set(known) <= set("0123456789abcdefABCDEF"):
                raise RecipeError(f"known_placeholders: {known!r} is not 16 hexadecimal digits")

    def __call__(self, images: pa.Table) -> pa.Table:
        distances = placeholder_distances(images["perceptual_hash"].to_pylist(), self.known_placeholders)
        images = with_column(images, "placeholder_distance", distances, pa.int32())
        for column, limit, reason in (
            ("contrast", self.min_contrast, "image_blank"),
            ("entropy", self.min_entropy, "image_plain"),
        ):
            if limit is not None:
                value = images[column]
                images = reject(images, pc.less(value, limit), reason, value=value, limit=limit)
        value, limit = images["placeholder_distance"], self.max_placeholder_distance
        images = reject(images, pc.less_equal(value, limit), "known_placeholder", value=value, limit=limit)
        if self.max_placeholder_colours is not None:
            value, limit = images["flat_share"], self.min_placeholder_flat_share
            few = pc.less_equal(images["colours"], self.max_placeholder_colours)
            faint = pc.less_equal(images["contrast"], self.max_placeholder_contrast)
            mask = pc.and_(pc.and_(few, faint), pc.greater_equal(value, limit))
            images = reject(images, mask, "placeholder", value=value, limit=limit)
        if self.min_sharpness is not None:
            value, limit = images["sharpness"], self.min_sharpness
            images = reject(images, pc.less(value, limit), "image_blurred", value=value, limit=limit)
        return images


def image_header(data: bytes, formats: Sequence[str] = ALL_FORMATS) -> dict[str, Any]:
    """The columns of `HEADER` for one image."""
    info = probe_image(data, formats=formats)
    short, long = sorted((info.width, info.height))
    return {
        "image_format": info.format,
        "image_mode": info.mode,
        "width": info.width,
        "height": info.height,
        "short_side": short,
        "aspect_ratio": long / short,
        "frames": info.frames,
    }


def at_side(grey: Image.Image, side: int) -> Image.Image:
    """The image with its shorter side averaged down to `side`; as it is where that is no longer."""
    short = min(grey.size)
    if short <= side:
        return grey
    width, height = (max(side, (length * side + short // 2) // short) for length in grey.size)
    return grey.resize((width, height), Image.Resampling.BOX)


def sampled(image: Image.Image) -> Image.Image:
    """Pixels of an image, as they are, in a grid of at most `SAMPLE_SIDE` a side: plenty for a count of colours."""
    return image.resize((min(image.width, SAMPLE_SIDE), min(image.height, SAMPLE_SIDE)), Image.Resampling.NEAREST)


def contrast(grey: Image.Image, sample: Image.Image) -> float:
    """The largest standard deviation: of brightness, or of a colour's channel in the sample.

    Red on green of one brightness is no blank image.
    """
    counts = np.array([*grey.histogram(), *sample.histogram()]).reshape(4, 256)
    return max(map(_spread, counts))


def entropy(grey: Image.Image) -> float:
    """Bits a pixel: −Σ p log2 p."""
    counts = [count for count in grey.histogram() if count]
    total = sum(counts)
    # Rounded, since the last digits of a logarithm are the machine's; never −0.
    return abs(round(log2(total) - fsum(count * log2(count) for count in counts) / total, 9))


def sharpness(plane: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000), with 4 neighbours; low where nothing has an edge."""
    values = plane.astype(np.int16)
    laplacian = np.zeros(values.shape, np.int16)
    laplacian[1:-1] += np.diff(values, n=2, axis=0)
    laplacian[:, 1:-1] += np.diff(values, n=2, axis=1)
    squares = np.multiply(laplacian, laplacian, dtype=np.int32)
    return _variance(laplacian.size, int(laplacian.sum()), int(squares.sum()))


def colours(sample: NDArray[np.uint8], share: float = 0.002) -> int:
    """How many of the 4,096 colours of 4 bits a channel fill more than `share` of the pixels [height, width, 3]."""
    red, green, blue = np.moveaxis(sample >> 4, 2, 0)
    names = red.astype(np.uint16) << 8 | green << 4 | blue
    return int(np.count_nonzero(np.bincount(names.reshape(-1)) > share * names.size))


def flat_share(plane: NDArray[np.uint8], step: int) -> float:
    """Share of pixels whose right and lower neighbours differ from them by at most `step`."""
    values = plane.astype(np.int16)
    flat = np.ones(values.shape, bool)
    flat[:-1] &= np.abs(np.diff(values, axis=0)) <= step
    flat[:, :-1] &= np.abs(np.diff(values, axis=1)) <= step
    return int(flat.sum()) / flat.size


def placeholder_distances(hashes: Sequence[int | None], known: Sequence[str]) -> list[int | None]:
    """Bits between each hash and the nearest known one; None where there is no hash, or none is known."""
    if not known:
        return [None] * len(hashes)
    marks = np.array([int(one, 16) for one in known], np.uint64)
    return [None if one is None else int(hamming_distance(np.array(one, np.uint64), marks).min()) for one in hashes]


def _spread(histogram: NDArray[np.intp]) -> float:
    """Standard deviation of values that were counted."""
    return sqrt(_variance(*(int(total) for total in _POWERS @ histogram)))


def _variance(count: int, total: int, squares: int) -> float:
    """From exact sums of 1, x and x²."""
    return (count * squares - total * total) / (count * count)


_POWERS = np.vander(np.arange(256), 3, increasing=True).T
"""1, x and x² of every brightness."""
