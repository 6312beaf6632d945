"""Formats beyond those of the web, and images that a clipped range, a background or a profile would hide."""

import contextlib
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, TiffImagePlugin

from curation.errors import MediaError
from curation.media.images import decode_image, probe_image
from curation.vision.image_checks import ImageQuality, image_header
from tests.curation.media.test_images import chunk, encoded, photograph
from tests.curation.vision.test_entries import entries_of

LOSSLESS: dict[str, dict[str, Any]] = {
    "tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    "jpeg2000": {"format": "JPEG2000"},
}
LOSSY: dict[str, dict[str, Any]] = {"avif": {"format": "AVIF", "quality": 95, "subsampling": "4:4:4"}}


def saved(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def measured(data: bytes) -> dict[str, Any]:
    return ImageQuality().measure(data)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_format_is_known_by_its_first_bytes_and_decoded(kind: str) -> None:
    image = photograph()
    data = saved(image, **(LOSSLESS | LOSSY)[kind])
    info = probe_image(data)
    assert (info.format, info.width, info.height, info.frames) == (kind, *image.size, 1)
    pixels = decode_image(data, max_pixels=10**6).astype(int)
    difference = np.abs(pixels - np.asarray(image.convert("RGB")).astype(int))
    assert difference.max() == 0 if kind in LOSSLESS else difference.mean() < 8
    assert image_header(data)["image_format"] == kind


def test_heic_is_read_with_its_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    image = photograph()
    out = io.BytesIO()
    heif.from_pillow(image).save(out, quality=90)
    info = probe_image(out.getvalue())
    assert (info.format, info.width, info.height) == ("heic", *image.size)
    pixels = decode_image(out.getvalue(), max_pixels=10**6).astype(int)
    assert np.abs(pixels - np.asarray(image.convert("RGB")).astype(int)).mean() < 6


def test_heic_without_its_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MediaError, match=r"pip install 'omni-curation\[heic\]'"):
        probe_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_file_cut_short_is_an_error(kind: str) -> None:
    data = saved(photograph(), **(LOSSLESS | LOSSY)[kind])
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(MediaError):
            decode_image(data[: int(part * len(data))], max_pixels=10**6)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_damage_is_a_media_error_or_an_image(kind: str, data: st.DataObject) -> None:
    whole = bytearray(saved(photograph(), **(LOSSLESS | LOSSY)[kind]))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MediaError):
        assert decode_image(bytes(whole), max_pixels=10**6).dtype == np.uint8


def test_a_claim_of_many_pixels_is_refused_before_they_are_decoded() -> None:
    for options in ({"format": "TIFF", "compression": "tiff_deflate"}, {"format": "JPEG2000"}):
        with pytest.raises(MediaError, match="2000 x 2000 pixels"):
            decode_image(saved(Image.new("L", (2000, 2000)), **options), max_pixels=10**6)


def test_pages_and_frames_are_counted_and_the_first_is_shown() -> None:
    images = [Image.new("RGB", (50, 40), colour) for colour in ("red", "lime", "blue")]
    for options, kind in (({"format": "TIFF"}, "tiff"), ({"format": "AVIF", "quality": 100}, "avif")):
        data = saved(images[0], save_all=True, append_images=images[1:], **options)
        assert (probe_image(data).format, probe_image(data).frames) == (kind, 3)
        assert np.abs(decode_image(data, max_pixels=10**6)[20, 20].astype(int) - [255, 0, 0]).max() < 8


def test_a_tiff_whose_pages_lead_in_a_circle_ends() -> None:
    data = bytearray(saved(Image.new("L", (8, 8)), format="TIFF"))
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[end : end + 4] = first.to_bytes(4, "little")
    assert probe_image(bytes(data)).frames == 1


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_tiff_is_turned_as_it_says(orientation: int) -> None:
    image = photograph()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    data = saved(image, format="TIFF", tiffinfo=tags)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    upright = image.transpose(turns[orientation])
    info = probe_image(data)
    assert (info.width, info.height) == upright.size
    assert (decode_image(data, max_pixels=10**6) == np.asarray(upright.convert("RGB"))).all()


# What a clipped range, a background or a profile would hide


def scene(most: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    grey = np.asarray(photograph().convert("L"), np.float64)
    return (grey / 255 * most).astype(np.uint16)


@pytest.mark.parametrize("most", [255, 1023, 4095, 65_535])
@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_a_dark_image_of_sixteen_bits_is_not_blank(most: int, format_: str) -> None:
    values = measured(saved(Image.fromarray(scene(most)), format=format_))
    whole = measured(saved(photograph().convert("L"), format="PNG"))
    assert values["contrast"] == pytest.approx(whole["contrast"], rel=0.1)
    bright = scene(most)
    bright[0, 0] = 65_535
    assert measured(saved(Image.fromarray(bright), format=format_))["contrast"] > 0.8 * values["contrast"]


@pytest.mark.parametrize("value", [0, 3, 4000, 65_535])
def test_a_blank_image_of_sixteen_bits_stays_blank(value: int) -> None:
    assert measured(saved(Image.fromarray(np.full((90, 90), value, np.uint16)), format="PNG"))["contrast"] == 0


def test_numbers_of_32_bits_and_fractions_are_scaled() -> None:
    grey = np.asarray(photograph().convert("L"))
    for values in (grey.astype(np.float32) / 255, grey.astype(np.float32) * 100, grey.astype(np.int32) * 65_536):
        assert measured(saved(Image.fromarray(values), format="TIFF"))["contrast"] > 10
    odd = grey.astype(np.float32)
    odd[0, 0], odd[1, 1] = np.nan, np.inf
    assert decode_image(saved(Image.fromarray(odd), format="TIFF"), max_pixels=10**6).shape[2] == 3


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (20, 120, 220)])
@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_a_drawing_on_nothing_shows_whatever_its_colour(colour: tuple[int, int, int], format_: str) -> None:
    image = Image.new("RGBA", (240, 240), (*colour, 0))
    for x in range(40, 200, 20):
        image.paste((*colour, 255), (x, 40, x + 9, 200))
    values = measured(saved(image, format=format_, **({"lossless": True} if format_ == "WEBP" else {})))
    assert values["contrast"] > 20 and values["sharpness"] > 100


def test_nothing_at_all_is_blank() -> None:
    for colour in ((255, 255, 255, 0), (255, 255, 255, 255)):
        assert measured(saved(Image.new("RGBA", (240, 240), colour), format="PNG"))["contrast"] == 0


def test_lab_and_cmyk_and_palettes_are_colours() -> None:
    from PIL import ImageCms

    red = Image.new("RGB", (64, 64), (200, 30, 30))
    lab = ImageCms.profileToProfile(
        red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    for image in (lab, red.convert("CMYK"), red.convert("P")):
        assert image is not None
        pixel = decode_image(saved(image, format="TIFF"), max_pixels=10**6)[30, 30].astype(int)
        assert np.abs(pixel - [200, 30, 30]).max() < 25, image.mode


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP", b"tEXt"])
@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_large_text_or_profile_fails_no_image(name: bytes, size: int) -> None:
    data = encoded(photograph(), "PNG")
    content = np.random.default_rng(0).integers(32, 127, size, np.uint8).tobytes()
    heads = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0", b"tEXt": b"a\0"}
    piece = chunk(name, heads[name] + (content if name == b"tEXt" else zlib.compress(content)))
    whole = data[:33] + piece + data[33:]
    assert probe_image(whole).bytes == len(whole)
    assert (decode_image(whole, max_pixels=10**6) == decode_image(data, max_pixels=10**6)).all()
    broken = data[:33] + chunk(b"zTXt", b"a\0\0no stream") + data[33:]
    assert (decode_image(broken, max_pixels=10**6) == decode_image(data, max_pixels=10**6)).all()


def test_texts_that_are_a_bomb_together_are_refused() -> None:
    data = encoded(photograph(), "PNG")
    piece = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))
    with pytest.raises(MediaError, match="too large"):
        probe_image(data[:33] + piece * 100 + data[33:])


@pytest.mark.parametrize("extension", ["jfif", "jpe", "JPG", "JPEG", "Jpg", "tif", "TIFF", "avif", "jp2"])
def test_endings_of_any_case_are_images(tmp_path: Path, extension: str) -> None:
    formats = {"tif": "TIFF", "tiff": "TIFF", "avif": "AVIF", "jp2": "JPEG2000"}
    data = saved(photograph(), format=formats.get(extension.lower(), "JPEG"))
    (tmp_path / f"a.{extension}").write_bytes(data)
    (tmp_path / "a.txt").write_text("a dog")
    good, bad = entries_of(tmp_path)
    assert [row["caption"] for row in good] == ["a dog"] and not bad
