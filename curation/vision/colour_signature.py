"""A colour signature: 48 bytes that say roughly which colours an image has, and where.

A perceptual hash looks at brightness alone, and at none of it where an image changes along one axis only: the flags
of France, Italy and Mali, a mug in red and in blue, a photograph and its sepia print have one hash. A signature tells
them apart, and is nearly the same for what was scaled, compressed or balanced a little differently.

Averages are Pillow's, in whole numbers; what follows is whole numbers too, so the bytes are the same on every machine
that decodes the same pixels.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

CELLS = 4
"""Cells on a side. A part of a sixtieth of the image that goes from one strong colour to another still shows."""
SIGNATURE_BYTES = 3 * CELLS * CELLS

GREY_SHARE = 0.5
"""How much a difference of brightness counts beside one of colour. The hash compares brightness; it is asked here for
what has a hash that tells nothing, and images may be brighter as a whole, or richer in contrast."""

GREY_COLOUR = 6
"""Cb and Cr of an image without colours are no larger anywhere: a scan is never quite neutral."""

AT_ONCE = 1 << 15
"""Rows compared at a time; no result depends on it."""

Signatures = NDArray[np.uint8]
"""[n, 48]: brightness of the cells, row by row, then Cb, then Cr, each plus 128 (ITU-R BT.601)."""


def colour_signature(image: Image.Image) -> bytes:
    """The average colour of each of 4 x 4 cells of an image of mode RGB, as brightness, Cb and Cr."""
    cells = np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX), np.int64).reshape(-1, 3)
    red, green, blue = cells.T
    grey = 299 * red + 587 * green + 114 * blue
    values = np.stack(
        [
            (grey + 500) // 1000,
            128 + (564 * (1000 * blue - grey) + 500_000) // 1_000_000,
            128 + (713 * (1000 * red - grey) + 500_000) // 1_000_000,
        ]
    )
    return values.clip(0, 255).astype(np.uint8).tobytes()


def signatures_of(column: pa.ChunkedArray | pa.Array) -> Signatures:
    """The rows of a column of signatures; nulls are zeros."""
    filled = pc.fill_null(column.cast(pa.binary(SIGNATURE_BYTES)), bytes(SIGNATURE_BYTES))
    chunks = filled.chunks if isinstance(filled, pa.ChunkedArray) else [filled]
    flat = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * SIGNATURE_BYTES, chunk.offset * SIGNATURE_BYTES)
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, np.uint8), *flat]).reshape(-1, SIGNATURE_BYTES)


def colour_distance(a: Signatures, b: Signatures, *, grey_copies: bool = False) -> NDArray[np.float64]:
    """How far the colours of images are apart, row by row: in the cell where they differ most, of 255.

    It is the length of the difference in Cb, Cr and half of the brightness, the latter but for what all cells have in
    common. On photographs, JPEG of quality 10, WebP of quality 50 and half the size are within 4; gains of 5 % in red
    and −5 % in blue within 10; 20 % of brightness, contrast or saturation within 14; a tint of 15 %, a sepia print and
    another colour of the object are 18 and more.

    Args:
        grey_copies: an image without colours is compared by brightness alone, so that it is near to its original.
    """
    found = np.empty(len(a))
    for start in range(0, len(a), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        found[some] = _distances(a[some], b[some], grey_copies)
    return found


def _distances(a: Signatures, b: Signatures, grey_copies: bool) -> NDArray[np.float64]:
    cells = CELLS * CELLS
    left, right = a.astype(np.float64), b.astype(np.float64)
    grey = left[:, :cells] - right[:, :cells]
    grey -= grey.mean(axis=1, keepdims=True)
    colour = left[:, cells:] - right[:, cells:]
    if grey_copies:
        colour[_is_grey(a) | _is_grey(b)] = 0
    squares = colour[:, :cells] ** 2 + colour[:, cells:] ** 2 + (GREY_SHARE * grey) ** 2
    return np.asarray(np.sqrt(squares.max(axis=1, initial=0.0)))


def _is_grey(signatures: Signatures) -> NDArray[np.bool_]:
    """Which images are grey all over."""
    colours = signatures[:, CELLS * CELLS :].astype(np.int64) - 128
    return np.asarray(np.abs(colours).max(axis=1, initial=0) <= GREY_COLOUR)
