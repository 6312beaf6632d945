"""A perceptual hash: 64 bits that stay nearly the same when an image is scaled or compressed again.

Scaling and brightness are Pillow's, in whole numbers; what follows is whole numbers too. So the bits are the same on
every machine that decodes the same pixels.
"""

from math import cos, pi

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID = 32
"""Cells on a side of what is transformed, as in Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions" (2010), section 3.2.1."""


def perceptual_hash(grey: Image.Image) -> int:
    """64 bits of an image of brightness (mode `L`): which of its lowest frequencies are above their median.

    The image is scaled to 32 x 32 cells, whatever its shape, and goes through a DCT-II, of which frequencies 1 to 8
    on each axis are looked at. An image of one brightness has hash 0. Bit 63 is the lowest frequency of both axes,
    then along the width.
    """
    # Scaled with a triangle: with a box, pixels on the border of a cell fall to one side, and fine patterns alias.
    cells = np.asarray(grey.resize((GRID, GRID), Image.Resampling.BILINEAR), np.int64)
    waves = _COSINES @ cells @ _COSINES.T
    ordered = np.sort(waves, axis=None)
    # Above the median of 64 values: twice a value against the sum of the middle two.
    bits = 2 * waves > ordered[31] + ordered[32]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming_distance(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many of 64 bits differ, elementwise, broadcast."""
    differing: NDArray[np.uint8] = np.bitwise_count(np.bitwise_xor(a, b))
    return differing


_COSINES = np.array(
    [[round(2**14 * cos(pi * (2 * x + 1) * u / (2 * GRID))) for x in range(GRID)] for u in range(1, 9)], np.int64
)
