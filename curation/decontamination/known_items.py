"""Evaluation sets made ready to be looked up; in each process once, while they hold the same."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from curation.decontamination.audio_fingerprint import Bits, fingerprint
from curation.decontamination.audio_overlap import SoundIndex
from curation.decontamination.equal_keys import Positions
from curation.decontamination.evaluation_sets import EvaluationSet, known_fingerprint
from curation.decontamination.image_overlap import ImageIndex
from curation.decontamination.ngram_overlap import NgramIndex, NgramSize
from curation.errors import MediaError
from curation.hashing import bytes_digest, file_digest
from curation.media.audio import decode_blocks
from curation.media.images import read_image
from curation.vision.colour_signature import SIGNATURE_BYTES
from curation.vision.image_checks import ImageQuality

Sets = tuple[EvaluationSet, ...]
Index = TypeVar("Index")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Known(Generic[Index]):
    """Items of evaluation sets: an index of them; what each is called; the number of its set."""

    index: Index
    names: pa.Array
    sets: Positions

    def names_of(self, items: Positions) -> pa.Array:
        """Null for an item of -1."""
        return self.names.take(pa.array(items, mask=items < 0))

    def sets_of(self, items: Positions) -> Positions:
        """-1 for an item of -1."""
        return np.append(self.sets, -1)[items]


def known_texts(sets: Sets, size: NgramSize) -> Known[NgramIndex]:
    """The texts of sets.

    Raises:
        EvaluationSetError: one cannot be read; so do the other two.
    """
    return _texts(sets, _contents(sets), size)


def known_images(
    sets: Sets, quality: ImageQuality, distance: int, least: int, colour: float | None = None
) -> Known[ImageIndex]:
    """The images of sets, measured by `quality`; see `ImageIndex`."""
    return _images(sets, _contents(sets), quality, distance, least, colour)


def known_sounds(sets: Sets, min_frames: int) -> Known[SoundIndex]:
    """The recordings of sets; see `SoundIndex`."""
    return _sounds(sets, _contents(sets), min_frames)


def _contents(sets: Sets) -> tuple[str, ...]:
    return tuple(known_fingerprint(one) for one in sets)


@lru_cache(maxsize=4)
def _texts(sets: Sets, contents: tuple[str, ...], size: NgramSize) -> Known[NgramIndex]:
    texts, names, numbers = _items(sets, EvaluationSet.texts)
    return Known(NgramIndex(texts, numbers, size), names, numbers)


@lru_cache(maxsize=4)
def _images(
    sets: Sets, contents: tuple[str, ...], quality: ImageQuality, distance: int, least: int, colour: float | None
) -> Known[ImageIndex]:
    images, names, numbers = _items(sets, partial(_measured, quality=quality))
    content = [one for one, _, _ in images]
    hashes = np.array([one for _, one, _ in images], np.uint64)
    colours = np.frombuffer(b"".join(one for _, _, one in images), np.uint8).reshape(-1, SIGNATURE_BYTES)
    return Known(ImageIndex(content, hashes, numbers, distance, least, colours, colour), names, numbers)


@lru_cache(maxsize=4)
def _sounds(sets: Sets, contents: tuple[str, ...], min_frames: int) -> Known[SoundIndex]:
    sounds, names, numbers = _items(sets, _heard)
    bits, content = [one for _, one in sounds], [one for one, _ in sounds]
    return Known(SoundIndex(bits, numbers, min_frames, content), names, numbers)


def _items(
    sets: Sets, read: Callable[[EvaluationSet], Iterator[tuple[str, Item]]]
) -> tuple[list[Item], pa.Array, Positions]:
    """The items of all sets, in order; their names; the number of the set of each."""
    items: list[Item] = []
    names: list[str] = []
    numbers: list[int] = []
    for number, one in enumerate(sets):
        for name, item in read(one):
            items.append(item)
            # A name of a file need not be UTF-8; Arrow's strings are.
            names.append(f"{one.name}: {name}".encode(errors="backslashreplace").decode())
            numbers.append(number)
    return items, pa.array(names, pa.string()), np.array(numbers, np.int64)


def _measured(one: EvaluationSet, quality: ImageQuality) -> Iterator[tuple[str, tuple[str, int, bytes]]]:
    """Hash of the bytes, perceptual hash and colour signature of each image, with its name."""
    for name, item in one.media("image"):
        try:
            data = item if isinstance(item, bytes) else read_image(str(item))
            measured = quality.measure(data)
            yield name, (bytes_digest(data), measured["perceptual_hash"], measured["colour_signature"])
        except MediaError as error:
            raise one.error(f"{name}: {error}") from error


def _heard(one: EvaluationSet) -> Iterator[tuple[str, tuple[str, Bits]]]:
    """Hash of the bytes and fingerprint of each recording, with its name."""
    for name, item in one.media("audio"):
        try:
            if isinstance(item, Path):
                yield name, (file_digest(item), fingerprint(decode_blocks(str(item))))
                continue
            with tempfile.NamedTemporaryFile() as file:
                file.write(item)
                file.flush()
                yield name, (bytes_digest(item), fingerprint(decode_blocks(file.name)))
        except MediaError as error:
            raise one.error(f"{name}: {error}") from error
