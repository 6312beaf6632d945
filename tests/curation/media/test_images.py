"""Images of every kind that people make, and of kinds that nobody should."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from curation.errors import MediaError, StageError
from curation.hashing import bytes_digest
from curation.media.images import FORMATS, decode_image, probe_image, read_image

MAX_PIXELS = 4_000_000


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """Smooth light with some grain: as hard to compress as a photograph."""
    grain = np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    light = 128 + 60 * np.sin(x / 17 + seed) + 50 * np.cos(y / 11)
    return Image.fromarray((light[..., None] + grain).clip(0, 255).astype(np.uint8))


def decoded(data: bytes, **options: Any) -> NDArray[np.uint8]:
    return decode_image(data, max_pixels=MAX_PIXELS, **options)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_claiming(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def webp_claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded(photograph(), "WEBP", exif=Image.Exif().tobytes() + b"x"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded(photograph(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded(photograph(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded(photograph(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


SAVED = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "webp with exif": ("WEBP", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
}


@pytest.mark.parametrize("name", SAVED)
def test_every_format_is_known_and_decoded(name: str) -> None:
    kind, options = SAVED[name]
    data = encoded(photograph(), kind, **options)
    info = probe_image(data)
    assert (info.format, info.width, info.height, info.frames) == (kind.lower(), 160, 120, 1)
    assert (info.orientation, info.bytes, info.pixels) == (1, len(data), 160 * 120)
    pixels = decoded(data)
    assert (pixels.shape, pixels.dtype) == ((120, 160, 3), np.uint8)
    assert np.abs(pixels.astype(int) - np.asarray(photograph())).mean() < 16


@pytest.mark.parametrize("name", SAVED)
def test_a_file_cut_anywhere_is_an_error(name: str) -> None:
    kind, options = SAVED[name]
    data = encoded(photograph(), kind, **options)
    for length in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))}):
        with pytest.raises(MediaError):
            decoded(data[:length])
        with pytest.raises(MediaError):
            decoded(data[:length], draft_side=16)


def test_a_moving_image_cut_behind_its_first_frame_is_an_error() -> None:
    images = [photograph(seed=seed) for seed in range(4)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(images[0], kind, save_all=True, append_images=images[1:])
        for share in (0.5, 0.8, 0.99):
            with pytest.raises(MediaError, match="ends"):
                decoded(data[: int(len(data) * share)])


def test_the_real_truncated_file_is_an_error(media: Path) -> None:
    with pytest.raises(MediaError):
        decoded((media / "images" / "truncated.jpg").read_bytes())


def test_real_images_are_what_their_headers_say(media: Path) -> None:
    for path in sorted((media / "images").iterdir()):
        if path.stem != "truncated":
            data = path.read_bytes()
            info = probe_image(data)
            assert decoded(data).shape == (info.height, info.width, 3)


def test_a_switch_of_pillow_that_hides_damage_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(StageError, match="LOAD_TRUNCATED_IMAGES"):
        decoded(encoded(photograph(), "JPEG"))


def test_a_limit_of_pillow_that_others_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(photograph(), kind) for kind in ("JPEG", "PNG", "GIF", "BMP")]
    before = [decoded(data) for data in files]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert all((decoded(data) == pixels).all() for data, pixels in zip(files, before, strict=True))


def test_nothing_global_in_pillow_changes() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, dict(Image.OPEN))
    decoded(encoded(photograph(), "PNG"))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, dict(Image.OPEN)) == before


@pytest.mark.parametrize("claiming", [png_claiming, webp_claiming, bmp_claiming, gif_claiming, jpeg_claiming])
def test_a_bomb_is_refused_by_its_header(claiming: Any) -> None:
    data = claiming(12_000, 11_000)
    info = probe_image(data)
    assert (info.width, info.height) == (12_000, 11_000)
    for draft_side in (None, 64):
        with pytest.raises(MediaError, match="12000 x 11000 pixels, more than 4000000"):
            decoded(data, draft_side=draft_side)


def test_a_side_that_no_image_has_is_refused() -> None:
    with pytest.raises(MediaError, match="4294967295 x 120 pixels"):
        probe_image(bmp_claiming(-1, 120))


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = encoded(photograph(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(MediaError, match="scans"):
        decoded(data[:-2] + scan * 1000 + data[-2:])


def test_text_in_a_png_that_swells_is_refused() -> None:
    data = encoded(photograph(), "PNG")
    swelling = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))
    with pytest.raises(MediaError):
        decoded(data[:33] + swelling + data[33:])


def test_a_flipped_byte_in_a_png_is_named() -> None:
    data = bytearray(encoded(photograph(), "PNG"))
    for at in range(60, len(data) - 20, len(data) // 20):
        data[at] ^= 0x10
        with pytest.raises(MediaError):
            decoded(bytes(data))
        data[at] ^= 0x10
    data[1000] ^= 1
    with pytest.raises(MediaError, match="checksum in 'IDAT'"):
        decoded(bytes(data))


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", encoded(photograph(), "JPEG"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text", b"this is an image.jpg"),
        ("html", b"<html><body>404</body></html>"),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("xml svg", b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "b">]><svg/>'),
        ("zip", zip_file()),
        ("pdf around a jpeg", b"%PDF-1.7\n" + encoded(photograph(), "JPEG")),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
        ("icon", encoded(photograph(), "ICO")),
        ("zeros", bytes(1000)),
        ("gif that is a script", b"GIF89a=1;alert(1)//" + bytes(40)),
        ("bmp that is a word", b"BMX racing"),
        ("magic alone", b"\xff\xd8\xff"),
        ("png magic alone", b"\x89PNG\r\n\x1a\n"),
        ("webp magic alone", b"RIFF\x04\0\0\0WEBP"),
        ("webp of sound", b"RIFF\x24\0\0\0WEBPfmt " + bytes(32)),
    ],
)
def test_what_is_no_image_is_refused_whatever_its_name(name: str, data: bytes) -> None:
    with pytest.raises(MediaError):
        probe_image(data)
    with pytest.raises(MediaError):
        decoded(data)


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(MediaError, match="empty file"):
        probe_image(b"")


def test_an_image_with_something_behind_it_is_that_image() -> None:
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        data = encoded(photograph(), kind)
        assert (decoded(data + zip_file()) == decoded(data)).all()


def test_formats_that_are_not_wanted_are_refused() -> None:
    data = encoded(photograph(), "GIF")
    with pytest.raises(MediaError, match="gif, which is none of jpeg, png"):
        probe_image(data, formats=("jpeg", "png"))
    with pytest.raises(MediaError, match="gif"):
        decoded(data, formats=("jpeg", "png"))
    assert probe_image(data, formats=("gif",)).format in FORMATS


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_exif_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph(), kind, exif=exif.tobytes())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    info = probe_image(data)
    assert (info.orientation, info.height, info.width) == (orientation, *expected.shape[:2])
    assert (decoded(data) == expected).all()
    assert decoded(data, draft_side=60).shape == (*(side // 2 for side in expected.shape[:2]), 3)


def test_exif_that_is_damaged_turns_nothing() -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0"):
        data = encoded(photograph(), "JPEG", exif=exif)
        assert probe_image(data).orientation == 1
        assert decoded(data).shape == (120, 160, 3)
    exif_of_nine = Image.Exif()
    exif_of_nine[0x0112] = 9
    assert probe_image(encoded(photograph(), "JPEG", exif=exif_of_nine.tobytes())).orientation == 1


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (64, 48), (0, 255, 255, 0)), "JPEG", quality=95)
    assert probe_image(data).mode == "CMYK"
    red = decoded(data, draft_side=24).reshape(-1, 3).mean(axis=0)
    assert red == pytest.approx([255, 0, 0], abs=12)


def test_sixteen_bits_keep_their_upper_eight() -> None:
    ramp = np.arange(0, 65_536, 16, dtype=np.uint16).reshape(64, 64)
    data = encoded(Image.fromarray(ramp), "PNG")
    assert probe_image(data).mode == "I;16"
    assert (decoded(data) == (ramp >> 8)[..., None]).all()


def test_what_is_transparent_lies_on_the_background() -> None:
    shown = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    shown.paste((200, 0, 0, 255), (0, 0, 20, 40))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        pixels = decoded(encoded(shown, kind, **options))
        assert pixels[0, 0].tolist() == [200, 0, 0]
        assert pixels[0, -1].tolist() == [255, 255, 255]
    grey = Image.new("LA", (40, 40), (0, 0))
    assert decoded(encoded(grey, "PNG"), background=(1, 2, 3))[0, 0].tolist() == [1, 2, 3]
    palette = Image.new("P", (40, 40), 3)
    palette.putpalette([0, 0, 0] * 4)
    for kind in ("PNG", "GIF"):
        assert decoded(encoded(palette, kind, transparency=3))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_mode_of_png_is_decoded(mode: str) -> None:
    grey = photograph().convert("L")
    saved = grey.convert(mode)
    assert (decoded(encoded(saved, "PNG")) == np.asarray(saved.convert("RGB"))).all()


def test_frames_are_counted_and_the_first_is_shown() -> None:
    images = [Image.new("RGB", (50, 40), colour) for colour in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(images[0], kind, save_all=True, append_images=images[1:], **options)
        assert probe_image(data).frames == 3
        assert decoded(data)[0, 0].tolist() == [255, 0, 0]


def test_images_as_thin_as_a_line_are_decoded() -> None:
    for size in ((1, 1), (10_000, 1), (1, 10_000)):
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
            data = encoded(Image.new("RGB", size, "red"), kind)
            assert decoded(data, draft_side=256).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(1536, 1024), (700, 301), (512, 512), (90, 4000), (63, 64)])
def test_a_draft_is_not_smaller_than_asked_and_looks_the_same(kind: str, size: tuple[int, int]) -> None:
    data = encoded(photograph(*size), kind)
    draft = decoded(data, draft_side=64)
    assert min(draft.shape[:2]) >= min(64, *size)
    assert min(draft.shape[:2]) < max(128, 64 * 2 + 1)
    small = photograph(*size).resize((draft.shape[1], draft.shape[0]), Image.Resampling.BOX)
    assert np.abs(draft.astype(int) - np.asarray(small)).mean() < 8


@given(arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3))))
@settings(max_examples=60, deadline=None)
def test_a_lossless_format_gives_the_pixels_back(pixels: NDArray[np.uint8]) -> None:
    image = Image.fromarray(pixels)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {})):
        assert (decoded(encoded(image, kind, **options)) == pixels).all()


@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]), data=st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_a_media_error_or_an_image(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(encoded(photograph(40, 30), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decoded(bytes(damaged)).ndim == 3
    except MediaError as error:
        assert str(error)


def test_a_file_is_read_if_it_is_still_the_one_that_was_scanned(tmp_path: Path) -> None:
    data = encoded(photograph(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert read_image(str(path), content=bytes_digest(data)) == data
    path.write_bytes(data + b"x")
    with pytest.raises(MediaError, match=r"a\.png: changed"):
        read_image(str(path), content=bytes_digest(data))
    with pytest.raises(MediaError, match=r"a\.png: .* more than 10"):
        read_image(str(path), max_bytes=10)
    with pytest.raises(MediaError, match=r"b\.png: cannot be opened"):
        read_image(str(tmp_path / "b.png"))
    with pytest.raises(MediaError, match="not a plain file"):
        read_image(str(tmp_path))
