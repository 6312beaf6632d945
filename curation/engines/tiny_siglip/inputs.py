"""What the tiny SigLIP sees of an image and of a text; the same when it is trained and when it is asked."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

PIXELS = 64
"""Side of the image that it sees."""
CONTEXT = 32
"""Words of a text that it reads, and the start; what follows is not seen."""
START, UNKNOWN, PAD = 2, 1, 0
FIRST_WORD = 3
"""Word ids follow the order of `vocabulary.txt` from here on."""

_WORD = re.compile(r"[^\W\d_]+")


def seen(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image, RGB [height, width, 3], squeezed to [64, 64, 3] in [-1, 1], antialiased, whatever its aspect."""
    from PIL import Image

    if image.shape[:2] != (PIXELS, PIXELS):
        resized = Image.fromarray(image).resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    return image.astype(np.float32) / np.float32(127.5) - np.float32(1)


def read(text: str, vocabulary: Mapping[str, int], context: int = CONTEXT) -> NDArray[np.int64]:
    """Word ids [context]: the start, then each word of a text or UNKNOWN, filled up with PAD. Case is not seen."""
    ids = np.full(context, PAD, np.int64)
    words = [vocabulary.get(word, UNKNOWN) for word in _WORD.findall(text[: 64 * context].casefold())][: context - 1]
    ids[: len(words) + 1] = [START, *words]
    return ids


def numbered(words: Sequence[str]) -> dict[str, int]:
    """The id of each word of a vocabulary."""
    return {word: FIRST_WORD + k for k, word in enumerate(words)}
