"""A perceptual hash: 64 bits that stay nearly the same when a picture is scaled or compressed again.

All of it is arithmetic of integers, so the bits are the same on every machine that decodes the same pixels.
"""

from math import cos, pi

import numpy as np
from numpy.typing import NDArray

GRID = 32
"""Cells on a side of what is transformed, as in Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions" (2010), section 3.2.1."""

FRACTION_BITS = 8
"""Of an averaged cell, below the point."""

MAX_TAPS = 6
"""Where no cell touches more pixels, these are summed one after the other: twice as fast or more, the same sums."""


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness of shape (height, width): ITU-R BT.601 with weights in 1/256, rounded, so that 16 bits hold it."""
    weighted = rgb[..., 0] * np.uint16(77)
    weighted += rgb[..., 1] * np.uint16(150)
    weighted += rgb[..., 2] * np.uint16(29)
    weighted += np.uint16(128)
    brightness: NDArray[np.uint8] = (weighted >> np.uint16(8)).astype(np.uint8)
    return brightness


def area_average(plane: NDArray[np.uint8], height: int, width: int) -> NDArray[np.int64]:
    """The mean of each cell of a grid laid over the plane, in 1 / 2**FRACTION_BITS steps, rounded down.

    A pixel that lies in two cells counts in each by its share. A grid finer than the pixels repeats them.
    """
    rows, columns = plane.shape
    sums = _cell_sums(_cell_sums(plane, height).T, width).T
    means: NDArray[np.int64] = (sums << FRACTION_BITS) // (rows * columns)
    return means


def perceptual_hash(plane: NDArray[np.uint8]) -> int:
    """64 bits of a brightness plane: which of the lowest frequencies, 1 to 8 on each axis, are above their median.

    The picture is averaged to 32 x 32 cells, whatever its shape, and goes through a DCT-II. A plane of one brightness
    has hash 0. Bit 63 is the lowest frequency of both axes, then along the width.
    """
    cells = area_average(plane, GRID, GRID)
    waves = _COSINES @ cells @ _COSINES.T
    ordered = np.sort(waves, axis=None)
    # Above the median of 64 values: twice a value against the sum of the middle two.
    bits = 2 * waves > ordered[31] + ordered[32]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming_distance(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many of 64 bits differ, elementwise, broadcast."""
    differing: NDArray[np.uint8] = np.bitwise_count(np.bitwise_xor(a, b))
    return differing


def _cell_sums(plane: NDArray[np.integer], cells: int) -> NDArray[np.int64]:
    """Sums along axis 0 over `cells` equal stretches; a pixel weighs `cells`, so a stretch weighs `len(plane)`."""
    length = len(plane)
    stretches: NDArray[np.int64]
    if length < cells:
        stretches = np.repeat(plane, cells, axis=0).reshape(cells, length, -1).sum(axis=1, dtype=np.int64)
        return stretches
    if length % cells == 0:  # the common case, and much faster
        whole_pixels = plane.reshape(cells, length // cells, -1)
        stretches = whole_pixels.sum(axis=1, dtype=np.int64) * cells
        return stretches
    borders = np.arange(cells + 1) * length
    first = borders[:-1] // cells
    reach = int(((borders[1:] - 1) // cells - first).max()) + 1
    if reach <= MAX_TAPS:
        return _tapped(plane, cells, borders, first + np.arange(reach)[:, None])
    whole, part = borders // cells, borders % cells
    # Each stretch from its first pixel on, less the part before its border, and with that of the next one's.
    sums = np.add.reduceat(plane, whole[:-1], axis=0, dtype=np.int64) * cells
    stretches = sums + np.diff(plane[np.minimum(whole, length - 1)] * part[:, None], axis=0)
    return stretches


def _tapped(
    plane: NDArray[np.integer], cells: int, borders: NDArray[np.intp], pixels: NDArray[np.intp]
) -> NDArray[np.int64]:
    """The same where a stretch touches few pixels: the first of each stretch times its share, then the second, …"""
    length, peak = len(plane), int(plane.max(initial=0))
    type_ = np.int32 if peak * length < 2**31 else np.int64  # half the bytes; no sum passes peak * length
    shares = np.minimum((pixels + 1) * cells, borders[1:]) - np.maximum(pixels * cells, borders[:-1])
    shares = np.maximum(shares, 0).astype(type_)
    plane = np.ascontiguousarray(plane)
    sums = np.zeros((cells, plane.shape[1]), type_)
    for which, share in zip(np.minimum(pixels, length - 1), shares, strict=True):
        sums += plane[which] * share[:, None]
    return sums.astype(np.int64, copy=False)


_COSINES = np.array(
    [[round(2**14 * cos(pi * (2 * x + 1) * u / (2 * GRID))) for x in range(GRID)] for u in range(1, 9)], np.int64
)
