"""Rendered scenes as files of images: shaded so that no two look alike, in many formats, whole or damaged.

A tiny SigLIP was trained on plain grounds. The shading here is as strong as it bears (measured: at a standard deviation
of 10 of 255 its AUC on combinations never trained on is what it is without, .998; at 15 it is .996), and strong enough
that perceptual hashes of different scenes lie apart.
"""

import random
import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from curation.proving.scenes import Scene, render

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
"""RGB [height, width, 3]."""

ImageFault = Literal["blank", "blurred", "tiny", "extreme_aspect", "placeholder", "truncated_file", "not_an_image"]
Copy = Literal["resized", "jpeg_50", "jpeg_30", "crop_5", "crop_15", "flipped"]
Unusual = Literal["cmyk", "sixteen_bit", "exif_rotated", "animated"]

SHADING = 10.0
"""Standard deviation of the shading, of 255."""
WAVES = 9
"""Frequencies of the shading on each axis, from 0 half periods to one fewer than this."""
GRAIN = (3.0, 5.0)
"""Standard deviations of the noise, of which an image has one; without any, shapes as bright as their ground are
blurred to a measure of brightness."""


def scene_pixels(scene: Scene, draw: random.Random, sides: tuple[int, int]) -> Pixels:
    """A scene as a square image of a side in pixels between these, shaded and grainy."""
    side = draw.randrange(sides[0], sides[1] + 1, 16)
    return shaded(render(scene, draw, side), draw)


def shaded(pixels: Pixels, draw: random.Random) -> Pixels:
    """The image with broad lights and shadows over it, drawn from the seed."""
    chance = np.random.default_rng(draw.getrandbits(64))
    heights = chance.normal(size=(WAVES, WAVES))
    heights[0, 0] = 0
    height, width = pixels.shape[:2]
    field = (_cosines(height) @ heights @ _cosines(width).T).astype(np.float32)
    field *= SHADING / field.std()
    field += chance.standard_normal(field.shape, np.float32) * np.float32(draw.choice(GRAIN))
    lit = pixels.astype(np.int16) + np.rint(field).astype(np.int16)[..., None]
    clipped: Pixels = np.clip(lit, 0, 255).astype(np.uint8)
    return clipped


def encoded(pixels: Pixels, format_: str, quality: int = 90) -> bytes:
    """A file of the image: jpeg, png or webp."""
    # Grain hardly shrinks, so more work on a PNG would save nothing.
    options = {"png": {"compress_level": 1}, "webp": {"quality": quality, "method": 1}}
    return _saved(_image(pixels), format_, **options.get(format_, {"quality": quality}))


def copied(pixels: Pixels, how: Copy, draw: random.Random) -> Pixels:
    """The image as a near duplicate has it, before it is encoded; for `jpeg_50` and `jpeg_30` as it is."""
    from PIL import Image

    image = _image(pixels)
    side = image.width
    match how:
        case "resized":
            other = draw.randrange(220, 400, 4)
            other += 40 if other == side else 0
            image = image.resize((other, other), Image.Resampling.LANCZOS)
        case "crop_5" | "crop_15":
            lost = round(side * (0.05 if how == "crop_5" else 0.15))
            left, top = draw.randint(0, lost), draw.randint(0, lost)
            image = image.crop((left, top, left + side - lost, top + side - lost))
        case "flipped":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def unusual(pixels: Pixels, how: Unusual, draw: random.Random) -> tuple[bytes, str]:
    """A good file of a kind that readers stumble over, and its extension."""
    from PIL import Image

    image = _image(pixels)
    match how:
        case "cmyk":
            return _saved(image.convert("CMYK"), "jpeg", quality=92), "jpg"
        case "sixteen_bit":
            return _png_of_16_bits(pixels), "png"
        case "exif_rotated":
            exif = Image.Exif()
            exif[0x0112] = 6  # shown after a quarter turn clockwise
            return _saved(image.transpose(Image.Transpose.ROTATE_90), "jpeg", quality=90, exif=exif), "jpg"
        case "animated":
            dark = image.point(lambda value: value // 2)
            if draw.random() < 0.5:
                frames = [frame.quantize(dither=Image.Dither.NONE) for frame in (image, dark)]
                return _saved(frames[0], "gif", save_all=True, append_images=frames[1:], duration=200), "gif"
            return _saved(image, "webp", save_all=True, append_images=[dark], duration=200, quality=90), "webp"


def spoiled(pixels: Pixels, fault: ImageFault, draw: random.Random) -> tuple[bytes, str]:
    """A file that is no image of its scene any more, and its extension."""
    from PIL import Image, ImageFilter

    side = pixels.shape[0]
    match fault:
        case "blank":
            ground = np.full_like(pixels, draw.randrange(256))
            return encoded(ground, draw.choice(("jpeg", "png"))), "jpg"
        case "blurred":
            radius = side * draw.uniform(0.05, 0.09)
            return _saved(_image(pixels).filter(ImageFilter.GaussianBlur(radius)), "jpeg", quality=90), "jpg"
        case "tiny":
            small = draw.randrange(16, 150)
            return _saved(_image(pixels).resize((small, small)), "jpeg", quality=90), "jpg"
        case "extreme_aspect":
            width, height = 4 * side, draw.randrange(210, 250)
            strip = _image(pixels).resize((max(width, 4 * height), height))
            return _saved(
                strip if draw.random() < 0.5 else strip.transpose(Image.Transpose.ROTATE_90), "jpeg", quality=90
            ), "jpg"
        case "placeholder":
            return encoded(_placeholder(side, draw), "png"), "png"
        case "truncated_file":
            format_, extension = draw.choice((("jpeg", "jpg"), ("png", "png"), ("webp", "webp")))
            data = encoded(pixels, format_)
            return data[: int(len(data) * draw.uniform(0.3, 0.8))], extension
        case "not_an_image":
            page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>"
            return draw.choice((page, b"", bytes(draw.randrange(256) for _ in range(4000)), b"GIF89a")), "jpg"


def _placeholder(side: int, draw: random.Random) -> Pixels:
    """Pale ground, and the outline of an image with a hill in it, a little darker."""
    from PIL import Image, ImageDraw

    ground = draw.randrange(225, 245)
    image = Image.new("RGB", (side, side), (ground,) * 3)
    canvas = ImageDraw.Draw(image)
    near, far, ink = side * 3 // 8, side * 5 // 8, (ground - draw.randrange(25, 40),) * 3
    canvas.rectangle((near, near, far, far), outline=ink, width=3)
    canvas.polygon([(near, far), ((near + far) // 2, (near + far) // 2), (far, far)], fill=ink)
    return np.asarray(image)


def _image(pixels: Pixels) -> "Image":
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels))


def _saved(image: "Image", format_: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _png_of_16_bits(pixels: Pixels) -> bytes:
    """Three channels of 16 bits, which Pillow reads but does not write."""
    height, width = pixels.shape[:2]
    deep = (pixels.astype(np.uint16) * 257).astype(">u2").reshape(height, -1)
    rows = b"".join(b"\x00" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _cosines(length: int) -> NDArray[np.float64]:
    """[length, WAVES]: half periods over the length."""
    places = (np.arange(length) + 0.5) / length
    waves: NDArray[np.float64] = np.cos(np.pi * places[:, None] * np.arange(WAVES))
    return waves
