"""The perceptual hash: the same for what looks the same, far apart for what does not, and the same bits everywhere."""

import io
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from curation.media.images import decode_image, open_image
from curation.vision.perceptual_hash import hamming_distance, perceptual_hash

NEAR = 6
"""Bits within which a scaled or compressed copy stays; the same limit keeps unrelated images apart."""

planes = arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70)))


def hash_of(image: Image.Image, kind: str = "PNG", **options: Any) -> int:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return perceptual_hash(open_image(buffer.getvalue(), max_pixels=10_000_000, draft_side=256).convert("L"))


def scene(seed: int) -> Image.Image:
    """Coloured shapes on a ground that stands out from them."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (384, 320), tuple(chance.integers(0, 90, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, size = chance.integers((0, 0, 40), (300, 240, 130)).tolist()
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + size), fill=tuple(chance.integers(90, 256, 3).tolist()))
    return image


def distances_of_copies(image: Image.Image) -> dict[str, int]:
    """Bits by which the copies of an image differ from it."""
    own = hash_of(image)
    copies = {f"jpeg {quality}": hash_of(image, "JPEG", quality=quality) for quality in (95, 75, 50, 30)}
    for scale in (0.3, 0.5, 0.75, 1.5, 2):
        size = (round(image.width * scale), round(image.height * scale))
        for name, filter_ in (("lanczos", Image.Resampling.LANCZOS), ("bilinear", Image.Resampling.BILINEAR)):
            copies[f"{name} {scale}"] = hash_of(image.resize(size, filter_), "JPEG", quality=85)
    copies["webp"] = hash_of(image, "WEBP", quality=60)
    return {name: (own ^ other).bit_count() for name, other in copies.items()}


def test_copies_of_real_images_stay_near_and_others_are_far(media: Path) -> None:
    files = sorted(path for path in (media / "images").iterdir() if path.stem != "truncated")
    images = [Image.fromarray(decode_image(path.read_bytes(), max_pixels=10_000_000)) for path in files]
    for image in images:
        assert max(distances_of_copies(image).values()) <= NEAR
    apart = [(hash_of(a) ^ hash_of(b)).bit_count() for a, b in combinations(images, 2)]
    assert min(apart) >= 3 * NEAR


def test_copies_of_rendered_scenes_stay_near_and_others_are_far() -> None:
    scenes = [scene(seed) for seed in range(25)]
    copies = [distance for one in scenes for distance in distances_of_copies(one).values()]
    assert sum(distance <= NEAR for distance in copies) / len(copies) >= 0.99
    hashes = np.array([hash_of(one) for one in scenes], np.uint64)
    apart = hamming_distance(hashes[:, None], hashes[None])[np.triu_indices(len(scenes), 1)]
    assert (apart <= NEAR).mean() <= 0.01
    assert 28 <= apart.mean() <= 36


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
@settings(max_examples=60, deadline=None)
def test_a_lossless_copy_has_the_same_hash(pixels: NDArray[np.uint8]) -> None:
    image = Image.fromarray(pixels)
    assert hash_of(image, "PNG") == hash_of(image, "WEBP", lossless=True) == hash_of(image, "BMP")


def test_the_bits_are_those_of_every_machine() -> None:
    y, x = np.mgrid[:48, :80]
    plane = ((x * 7 + y * 13 + x * y) % 251).astype(np.uint8)
    assert f"{perceptual_hash(Image.fromarray(plane)):016x}" == "c62ac50003af6fef"


def test_an_image_of_one_brightness_has_hash_zero() -> None:
    for shape in ((1, 1), (10_000, 1), (31, 47), (256, 256)):
        assert perceptual_hash(Image.fromarray(np.full(shape, 201, np.uint8))) == 0


@given(planes)
@settings(deadline=None)
def test_a_hash_is_of_64_bits_and_repeats(plane: NDArray[np.uint8]) -> None:
    first = perceptual_hash(Image.fromarray(plane))
    assert 0 <= first < 2**64
    assert perceptual_hash(Image.fromarray(np.asfortranarray(plane))) == first


@given(arrays(np.uint8, (32, 32)))
@settings(deadline=None)
def test_the_transform_is_the_dct_of_the_cells(plane: NDArray[np.uint8]) -> None:
    cells = plane.astype(np.float64)
    k, n = np.mgrid[1:9, :32]
    waves = np.cos(np.pi * (2 * n + 1) * k / 64)
    exact = waves @ cells @ waves.T
    margin = exact - np.median(exact)
    bits = np.array([int(bit) for bit in f"{perceptual_hash(Image.fromarray(plane)):064b}"], bool).reshape(8, 8)
    # Rounded cosines may decide only what lies on the median.
    clear = np.abs(margin) > 8
    assert (bits == (margin > 0))[clear].all()


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_distance_counts_differing_bits(a: int, b: int) -> None:
    assert hamming_distance(np.array([a], np.uint64), np.array([b], np.uint64)).tolist() == [(a ^ b).bit_count()]


@pytest.mark.parametrize("change", ["flip", "crop"])
def test_what_the_hash_does_not_see_through(media: Path, change: str) -> None:
    """A mirrored image, or one cropped by a tenth, is another to it: duplicates of that kind need embeddings."""
    image = Image.fromarray(decode_image((media / "images" / "chelsea.png").read_bytes(), max_pixels=10_000_000))
    width, height = image.size
    if change == "flip":
        other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    else:
        other = image.crop((width // 10, height // 10, width, height))
    assert (hash_of(image) ^ hash_of(other)).bit_count() > NEAR
