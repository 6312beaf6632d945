"""The colour signature: flags, mugs and tints lie apart, copies of a photograph together; its bytes never change."""

import io
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from curation.diversity.duplicates import PerceptualDuplicates
from curation.vision.colour_signature import (
    SIGNATURE_BYTES,
    Signatures,
    colour_distance,
    colour_signature,
    signatures_of,
)
from curation.vision.image_checks import ImageQuality

QUALITY = ImageQuality()
DUPLICATES = PerceptualDuplicates()


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def kept(images: dict[str, bytes]) -> set[str]:
    """The images that stay."""
    measured = [QUALITY.measure(data) for data in images.values()]
    rows = pa.table(
        {
            "row_id": list(images),
            "perceptual_hash": pa.array([one["perceptual_hash"] for one in measured], pa.uint64()),
            "colour_signature": pa.array([one["colour_signature"] for one in measured], pa.binary(SIGNATURE_BYTES)),
        }
    )
    return set(images) - set(DUPLICATES(rows)["row_id"].to_pylist())


def stripes(*colours: str, upright: bool = True) -> Image.Image:
    image = Image.new("RGB", (600, 400))
    width, height = (600 // len(colours), 400) if upright else (600, -(-400 // len(colours)))
    for i, colour in enumerate(colours):
        x, y = (i * width, 0) if upright else (0, i * height)
        image.paste(colour, (x, y, x + width, y + height))
    return image


FLAGS = {
    "france": stripes("#0055A4", "#FFFFFF", "#EF4135"),
    "italy": stripes("#009246", "#FFFFFF", "#CE2B37"),
    "ireland": stripes("#169B62", "#FFFFFF", "#FF883E"),
    "ivory coast": stripes("#F77F00", "#FFFFFF", "#009E60"),
    "belgium": stripes("#000000", "#FDDA24", "#EF3340"),
    "romania": stripes("#002B7F", "#FCD116", "#CE1126"),
    "mali": stripes("#14B53A", "#FCD116", "#CE1126"),
    "guinea": stripes("#CE1126", "#FCD116", "#009460"),
    "nigeria": stripes("#008751", "#FFFFFF", "#008751"),
    "peru": stripes("#D91023", "#FFFFFF", "#D91023"),
    "germany": stripes("#000000", "#DD0000", "#FFCE00", upright=False),
    "netherlands": stripes("#AE1C28", "#FFFFFF", "#21468B", upright=False),
    "luxembourg": stripes("#EF3340", "#FFFFFF", "#00A2E1", upright=False),
    "hungary": stripes("#CE2939", "#FFFFFF", "#477050", upright=False),
    "austria": stripes("#EF3340", "#FFFFFF", "#EF3340", upright=False),
    "poland": stripes("#FFFFFF", "#DC143C", upright=False),
    "indonesia": stripes("#FF0000", "#FFFFFF", upright=False),
    "ukraine": stripes("#0057B7", "#FFD700", upright=False),
    "black and white": stripes("black", "white", "black"),
    "white and black": stripes("white", "black", "white"),
}


def mug(colour: str) -> Image.Image:
    """A product shot: the mug, its shadow and its handle, on white."""
    image = Image.new("RGB", (1000, 1000), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((180, 760, 860, 860), fill=(225, 225, 225))
    draw.ellipse((640, 340, 900, 660), outline=colour, width=50)
    draw.rectangle((260, 260, 720, 800), fill=colour)
    draw.ellipse((260, 220, 720, 300), fill=(90, 90, 90))
    return image.resize((500, 500), Image.Resampling.BOX)


MUGS = {c: mug(c) for c in ("#B22222", "#1E5AA8", "#2E7D32", "#F9A825", "#6A1B9A", "#00838F", "#E91E63", "#F4F4F4")}


def photograph(seed: int) -> Image.Image:
    """Coloured shapes under soft light, drawn large and averaged down, with grain."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (960, 720), tuple(chance.integers(60, 160, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        x, y, size = chance.integers((0, 0, 100), (750, 500, 300)).tolist()
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + size), fill=tuple(chance.integers(30, 230, 3).tolist()))
    pixels = np.asarray(image.resize((480, 360), Image.Resampling.BOX), np.float64)
    pixels *= np.linspace(0.8, 1.1, 480)[None, :, None]
    pixels += chance.normal(0, 3, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


PHOTOGRAPHS = [photograph(seed) for seed in range(12)]


def gains(image: Image.Image, *gain: float) -> Image.Image:
    """The channels brighter or darker, as another white balance has them."""
    return Image.fromarray((np.asarray(image, np.float64) * gain).clip(0, 255).astype(np.uint8))


def tint(image: Image.Image, colour: str, share: float) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, colour), share)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_flags_stay_apart(kind: str) -> None:
    assert kept({name: encoded(image, kind) for name, image in FLAGS.items()}) == set(FLAGS)


def test_mugs_of_all_colours_stay_apart() -> None:
    assert kept({colour: encoded(image) for colour, image in MUGS.items()}) == set(MUGS)


COPIES = {
    "jpeg 40": lambda image: encoded(image, quality=40),
    "webp 50": lambda image: encoded(image, "WEBP", quality=50),
    "half": lambda image: encoded(image.resize((240, 180), Image.Resampling.LANCZOS)),
    "larger": lambda image: encoded(image.resize((816, 612), Image.Resampling.BICUBIC)),
    "warmer": lambda image: encoded(gains(image, 1.05, 1.0, 0.95)),
    "cooler": lambda image: encoded(gains(image, 0.96, 1.0, 1.06)),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.15)),
    "paler": lambda image: encoded(ImageEnhance.Color(image).enhance(0.85)),
}


def twins(change: Any) -> list[bool]:
    """Of each photograph, whether it and its changed copy are one."""
    return [len(kept({"a": encoded(one, "PNG"), "b": change(one)})) == 1 for one in PHOTOGRAPHS]


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_photograph_stay_together(how: str) -> None:
    assert sum(twins(COPIES[how])) >= 11


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(tint(image, "#FF0000", 0.25)),
        lambda image: encoded(tint(image, "#0040FF", 0.25)),
        lambda image: encoded(tint(image, "#00A050", 0.35)),
        lambda image: encoded(gains(image.convert("L").convert("RGB"), 1.07, 0.93, 0.7)),
        lambda image: encoded(Image.merge("RGB", image.split()[::-1])),
        lambda image: encoded(image.convert("L")),
    ],
    ids=["red", "blue", "green", "sepia", "red for blue", "grey"],
)
def test_tints_stay_apart(change: Any) -> None:
    assert sum(twins(change)) == 0


def test_images_of_one_brightness_are_told_by_their_colour() -> None:
    """All have hash 0."""
    plain = {colour: Image.new("RGB", (300, 200), colour) for colour in ("white", "blue", "red", "green", "yellow")}
    assert {QUALITY.measure(encoded(image))["perceptual_hash"] for image in plain.values()} == {0}
    assert kept({name: encoded(image) for name, image in plain.items()}) == set(plain)


def signature(image: Image.Image) -> Signatures:
    return np.frombuffer(colour_signature(image), np.uint8)[None]


def test_the_distance_is_symmetric_and_zero_for_the_same() -> None:
    for one, other in combinations([signature(image) for image in PHOTOGRAPHS[:5]], 2):
        assert colour_distance(one, other) == colour_distance(other, one) > 0
        assert colour_distance(one, one) == 0


def test_what_all_cells_gain_in_brightness_is_no_difference_of_colour() -> None:
    assert colour_distance(signature(Image.new("RGB", (9, 9), "white")), signature(Image.new("RGB", (9, 9)))) == 0


def test_a_grey_copy_is_near_where_grey_copies_are_meant() -> None:
    image = PHOTOGRAPHS[0]
    one, grey = signature(image), signature(image.convert("L").convert("RGB"))
    assert colour_distance(one, grey) > 16 > 2 > colour_distance(one, grey, grey_copies=True)
    assert colour_distance(one, signature(PHOTOGRAPHS[1]), grey_copies=True) == colour_distance(
        one, signature(PHOTOGRAPHS[1])
    )


def test_a_change_of_the_signature_is_a_new_version_of_the_stage() -> None:
    plane = (np.add.outer(np.arange(60) * 7, np.arange(80) * 3)[..., None] * [1, 2, 3] % 256).astype(np.uint8)
    assert colour_signature(Image.fromarray(plane)).hex() == GOLDEN
    assert ImageQuality.version == 3


GOLDEN = "747f937e8d886a7f6b7c7f957f927e6c857f77817b788c848d857d747f78808864879b7f9c8768716f699197869c8064"


def test_signatures_of_a_column_are_its_rows_wherever_it_was_cut() -> None:
    names = [bytes([i] * SIGNATURE_BYTES) for i in range(5)]
    column = pa.chunked_array([pa.array(names[:3], pa.binary(48)), pa.array([*names[3:], None], pa.binary(48))])
    assert [bytes(row) for row in signatures_of(column)] == [*names, bytes(SIGNATURE_BYTES)]
    assert [bytes(row) for row in signatures_of(column.slice(1, 3))] == names[1:4]
    assert signatures_of(column.slice(0, 0)).shape == (0, SIGNATURE_BYTES)
