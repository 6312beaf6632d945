"""Images from bytes: what the header says, and RGB pixels, whole or at a fraction of the size.

The format is decided by the first bytes alone, and only that format's reader sees the file: a file that is two things
at once is the image that it begins as, or nothing. Everything that a file can do wrong ends in a `MediaError`.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from stat import S_ISREG
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from curation.errors import MediaError, StageError
from curation.hashing import bytes_digest

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "avif", "tiff", "jpeg2000", "heic")
"""What can be read; HEIC with the extra of that name. Not among them, on purpose: formats that call other programs or
name other files (EPS, SVG)."""

MAX_SIDE = 2**31 - 1
"""The largest that PNG has. A negative width in a BMP comes out as more."""

MAX_PAGES = 10_000
"""Of a TIFF: pages are found one by one."""

MAX_SCANS = 500
"""A progressive JPEG has some ten scans. Each costs a pass over the image, so thousands of them are a bomb."""

STRIPE = 512
"""Lines of an image that are laid on a background together."""


@dataclass(frozen=True)
class ImageInfo:
    """What the header of an image says; no pixel is decoded for it."""

    format: str
    width: int
    """As it is shown: after the rotation that EXIF asks for."""
    height: int
    mode: str
    """Pillow's name for the kind of pixel: `L`, `RGB`, `CMYK`, `I;16`, `P` …"""
    frames: int
    """1 where it does not move; what the header claims where it is not counted (PNG, AVIF). Of a TIFF its pages."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    bytes: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def read_image(path: str, *, content: str | None = None, max_bytes: int = 1 << 28) -> bytes:
    """The bytes of a local file.

    Args:
        content: hash of the bytes when the file was scanned (`curation.hashing.bytes_digest`), which is made sure of.

    Raises:
        MediaError: not there, not a plain file, larger than `max_bytes`, or changed since.
    """
    try:
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise MediaError(f"{path}: not a plain file")
        if status.st_size > max_bytes:
            raise MediaError(f"{path}: {status.st_size} bytes, more than {max_bytes}")
        with open(path, "rb") as file:
            data = file.read(status.st_size + 1)  # a file that grows meanwhile has another hash
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened: {error.strerror}") from error
    if content is not None and bytes_digest(data) != content:
        raise MediaError(f"{path}: changed since it was scanned; run again")
    return data


def probe_image(data: bytes, *, formats: Sequence[str] = FORMATS) -> ImageInfo:
    """What the header says. A PNG, GIF or WebP that ends before its time is found here already.

    Args:
        formats: those of `FORMATS` that are wanted.

    Raises:
        MediaError: empty, of no wanted format, or with a header that cannot be read.
    """
    return _probed(data, formats)[0]


def decode_image(
    data: bytes,
    *,
    max_pixels: int,
    draft_side: int | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    formats: Sequence[str] = FORMATS,
) -> NDArray[np.uint8]:
    """The pixels of `open_image`, of shape (height, width, 3)."""
    image = open_image(data, max_pixels=max_pixels, draft_side=draft_side, background=background, formats=formats)
    return np.ascontiguousarray(image)


def open_image(
    data: bytes,
    *,
    max_pixels: int,
    draft_side: int | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    formats: Sequence[str] = FORMATS,
) -> Image.Image:
    """The image as it is shown, of mode RGB: turned as EXIF says, the first frame of several.

    Transparent pixels lie on `background`; where that would leave nothing to see (white on nothing, on white), they lie
    on its opposite. Of more than 8 bits the 8 are kept that the image uses: all but its brightest .1 % stay below
    256.
    CMYK is turned to RGB without regard to colour profiles, which are ignored throughout.

    A file that ends early, a PNG with a wrong checksum and a stream that its decoder refuses are errors. libjpeg mends
    damage in the middle of a JPEG by itself, so that is not found.

    Args:
        max_pixels: a header that claims more is refused before anything is decoded.
        draft_side: the shorter side may come out smaller, but not below this. A JPEG is decoded at 1/2, 1/4 or 1/8,
            which is much cheaper; what is still too large by a whole factor, and every other format, is averaged over
            squares of that factor. None decodes at full size.

    Raises:
        MediaError: as `probe_image`, too many pixels, or pixels that cannot be decoded.
    """
    # A switch of Pillow that any library of the process may have set; a torn file would then come out grey.
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise StageError("a library has set PIL.ImageFile.LOAD_TRUNCATED_IMAGES, which hides truncated files; unset it")
    info, image = _probed(data, formats)
    if info.pixels > max_pixels:
        raise MediaError(f"{info.width} x {info.height} pixels, more than {max_pixels}")
    with _explained(info.format):
        if info.format == "png":
            _check_png(data)
        if image is None:
            image = WebPImageFile(BytesIO(data))
        if draft_side is not None:
            image.draft(None, (draft_side, draft_side))
        image.load()
        pixels = _rgb(image, background)
        factor = min(pixels.size) // draft_side if draft_side else 1
        pixels = pixels.reduce(factor) if factor > 1 else pixels
        turn = _TURNS.get(info.orientation)
        return pixels if turn is None else pixels.transpose(turn)


@dataclass(frozen=True)
class _Structure:
    """What a walk over a file's blocks finds, without Pillow."""

    frames: int = 1
    exif: bytes | None = None
    size: tuple[int, int] | None = None
    mode: str | None = None


def _probed(data: bytes, formats: Sequence[str]) -> tuple[ImageInfo, ImageFile.ImageFile | None]:
    """The header's claims, and the opened file where Pillow was needed for them.

    Readers are called by name, not through `Image.open`: its limit of pixels and its list of formats are global.
    """
    kind = _format(data, formats)
    with _explained(kind):
        size, data = len(data), _without_ancillary(data) if kind == "png" else data
        structure = _WALKS[kind](data)
        # Pillow's reader of WebP makes a canvas of the claimed size at once.
        image = None if kind == "webp" else _reader(kind)(BytesIO(data))
        width, height = structure.size or (image.size if image else (0, 0))
        mode = structure.mode or (image.mode if image else "")
        frames = max(1, getattr(image, "n_frames", 1)) if kind in ("avif", "heic") else structure.frames
        orientation = _orientation(structure.exif or (image.info.get("exif") if image else None))
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise MediaError(f"{kind} of {width} x {height} pixels")
    if orientation >= 5:
        width, height = height, width
    return ImageInfo(kind, width, height, mode, frames, orientation, size), image


def _format(data: bytes, formats: Sequence[str]) -> str:
    if not data:
        raise MediaError("empty file")
    if data.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif data.startswith((b"GIF87a", b"GIF89a")):
        kind = "gif"
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kind = "webp"
    elif data.startswith(b"BM"):
        kind = "bmp"
    elif data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        kind = "tiff"
    elif data.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")):
        kind = "jpeg2000"
    elif data[4:8] == b"ftyp" and (coded := _coding(data)):
        kind = coded
    else:
        raise MediaError(f"begins with {data[:12]!r}: none of {', '.join(formats)}")
    if kind not in formats:
        raise MediaError(f"{kind}, which is none of {', '.join(formats)}")
    return kind


def _coding(data: bytes) -> str | None:
    """How the images of a container (ISO/IEC 14496-12) are coded, by its brands: avif or heic."""
    end = min(len(data), max(16, int.from_bytes(data[:4], "big")), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    heic = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
    return "heic" if brands & {*heic} else None


def _reader(kind: str) -> type[ImageFile.ImageFile]:
    if kind != "heic":
        return _READERS[kind]
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MediaError("heic, which needs pillow-heif; pip install 'omni-curation[heic]'") from error
    opened: type[ImageFile.ImageFile] = HeifImageFile
    return opened


@contextmanager
def _explained(kind: str) -> Iterator[None]:
    try:
        yield
    except MediaError:
        raise
    # Pillow's readers raise whatever a damaged file leads them to, from IndexError to SyntaxError.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise MediaError(f"{kind} that cannot be decoded: {reason}") from error


def _orientation(exif: bytes | None) -> int:
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(ExifTags.Base.Orientation, 1)
    # Every viewer shows an image whose EXIF is damaged, unturned.
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by its orientation (Exif 2.32, tag 0x0112)."""


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    if image.has_transparency_data:
        opaque = _opaque(image, background)
        if _is_one_colour([opaque]) and not _is_one_colour(one.convert("RGBA") for one in _stripes(image)):
            # White on nothing, on white: what is drawn shows on the opposite alone.
            red, green, blue = (255 - value for value in background)
            opaque = _opaque(image, (red, green, blue))
        return opaque
    return image.convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    turned = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert turned is not None
    return turned


def _stripes(image: Image.Image) -> Iterator[Image.Image]:
    for top in range(0, image.height, STRIPE):
        yield image.crop((0, top, image.width, min(top + STRIPE, image.height)))


def _is_one_colour(images: Iterable[Image.Image]) -> bool:
    """Whether all pixels of all of them are equal."""
    extremes = np.array([np.reshape(image.getextrema(), (-1, 2)) for image in images])
    return bool((extremes[..., 0].min(axis=0) == extremes[..., 1].max(axis=0)).all())


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey of more than 8 bits as 8, a stripe at a time.

    Whole numbers lose as many lower bits as are too many for all but the brightest .1 %; of other numbers 0 to 1, or to
    255, or to the greatest is the whole range.
    """
    grey = np.empty(values.shape, np.uint8)
    stripes = [slice(top, top + STRIPE) for top in range(0, len(values), STRIPE)]
    if np.issubdtype(values.dtype, np.integer):
        counts = np.zeros(33, np.int64)  # of numbers by their length in bits
        for stripe in stripes:
            _, bits = np.frexp(np.maximum(values[stripe], 0).astype(np.float64))
            counts += np.bincount(bits.reshape(-1), minlength=33)
        length = int(np.searchsorted(np.cumsum(counts), 0.999 * values.size))
        for stripe in stripes:
            grey[stripe] = np.minimum(np.maximum(values[stripe], 0) >> max(0, length - 8), 255)
        return grey
    top = max(float(np.nanmax(values[stripe], initial=0.0, where=np.isfinite(values[stripe]))) for stripe in stripes)
    scale = 255.0 if top <= 1 else 255.0 / top if top > 255 else 1.0
    for stripe in stripes:
        finite = np.nan_to_num(values[stripe], nan=0.0, posinf=0.0, neginf=0.0)
        grey[stripe] = np.clip(np.rint(finite * scale), 0, 255)
    return grey


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The image on a background; a stripe at a time, since each step makes another copy."""
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIPE):
        box = (0, top, image.width, min(top + STRIPE, image.height))
        stripe = image.crop(box).convert("RGBA")
        canvas = Image.new("RGBA", stripe.size, (*background, 255))
        opaque.paste(Image.alpha_composite(canvas, stripe).convert("RGB"), box)
    return opaque


def _walk_jpeg(data: bytes) -> _Structure:
    # Within coded data 0xFF is followed by 0, so a stray start of scan is rare: one in 64 KiB of what lies behind it.
    if (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise MediaError(f"jpeg of {scans} scans, more than {MAX_SCANS}")
    return _Structure()


def _walk_nothing(data: bytes) -> _Structure:
    return _Structure()


def _walk_tiff(data: bytes) -> _Structure:
    """Count the pages (TIFF 6.0, section 2; BigTIFF); a chain of them that leads in a circle ends there."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    is_big = 43 in data[2:4]
    width, entry, at = (8, 20, 8) if is_big else (4, 12, 4)
    counted = 8 if is_big else 2
    seen: set[int] = set()
    place = int.from_bytes(data[at : at + width], order)
    while 0 < place < len(data) and place not in seen and len(seen) < MAX_PAGES:
        seen.add(place)
        entries = int.from_bytes(data[place : place + counted], order)
        place += counted + entries * entry
        place = int.from_bytes(data[place : place + width], order)
    if not seen:
        raise MediaError("tiff without a page")
    return _Structure(len(seen))


def _walk_jpeg2000(data: bytes) -> _Structure:
    """Look for the end of the code (ISO/IEC 15444-1): its decoder shows what there is of a file that was cut."""
    start, end = 0, len(data)
    if data[:4] != b"\xff\x4f\xff\x51":
        at, start = 0, -1
        while at + 8 <= len(data):
            length, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
            if length == 1:
                length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
            length = length or len(data) - at
            if name == b"jp2c":
                start, end = at + head, at + length
                break
            if length < head:
                break
            at += length
        if start < 0:
            raise MediaError("jpeg2000 without an image")
    if end > len(data) or b"\xff\xd9" not in data[max(start, end - 16) : end]:
        raise MediaError("jpeg2000 that ends before its time")
    return _Structure()


MAX_ANCILLARY_BYTES = 1 << 25
"""Of texts and colour profiles together, unpacked; the largest profiles have some MiB."""

KEPT_CHUNKS = frozenset((b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"))


def _without_ancillary(data: bytes) -> bytes:
    """A PNG without texts and colour profiles, which nothing here looks at, and of which Pillow refuses those of 1 MiB.

    Chunks that are needed, and what says how it is shown, stay.

    Raises:
        MediaError: they unpack to more than `MAX_ANCILLARY_BYTES`: a bomb for whoever reads the file next.
    """
    if not any(name in data for name in (b"zTXt", b"iTXt", b"iCCP", b"tEXt")):
        return data
    pieces, left = [data[:8]], MAX_ANCILLARY_BYTES
    try:
        for name, start, end in _png_chunks(data):
            if not name[0] & 0x20 or name in KEPT_CHUNKS:
                pieces.append(data[start - 8 : end + 4])
            elif (packed := _packed(name, data[start:end])) is not None:
                left -= _unpacked_size(packed, left)
                if left < 0:
                    break
    except MediaError:
        return data  # which says what is wrong
    if left < 0:
        raise MediaError(f"png whose texts or colour profile are too large: more than {MAX_ANCILLARY_BYTES} bytes")
    return b"".join(pieces)


def _packed(name: bytes, content: bytes) -> bytes | None:
    """What is packed with zlib in a chunk of text or of a profile (PNG 3rd edition, 11.3)."""
    rest = content.partition(b"\0")[2]
    if name in (b"zTXt", b"iCCP"):
        return rest[1:]
    if name == b"iTXt" and rest[:1] == b"\1":
        return rest[2:].split(b"\0", 2)[-1]
    return None


def _unpacked_size(packed: bytes, most: int) -> int:
    """Bytes that it unpacks to, counted up to one more than `most`; what cannot be unpacked counts as far as it can."""
    unpacker, size = zlib.decompressobj(), 0
    try:
        while packed and size <= most:
            size += len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
    except zlib.error:
        pass  # nobody reads it, so that it is broken does no harm
    return size


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name of each chunk, and where its content begins and ends (PNG 3rd edition, section 5.3)."""
    start = 8
    while start + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + 8 + length
        if end + 4 > len(data):
            break
        yield name, start + 8, end
        if name == b"IEND":
            return
        start = end + 4
    raise MediaError("png that ends before its last chunk")


def _walk_png(data: bytes) -> _Structure:
    frames, exif = 1, None
    for name, start, end in _png_chunks(data):
        if name == b"acTL" and end - start == 8:
            frames = max(1, struct.unpack_from(">I", data, start)[0])
        elif name == b"eXIf":
            exif = data[start:end]
    return _Structure(frames, exif)


def _check_png(data: bytes) -> None:
    """Pillow checks no sum of pixel data; chunks that are needed have an upper-case first letter."""
    for name, start, end in _png_chunks(data):
        needed = not name[0] & 0x20
        if needed and zlib.crc32(memoryview(data)[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise MediaError(f"png with a wrong checksum in {name.decode('latin-1')!r} at byte {start - 8}")


def _walk_gif(data: bytes) -> _Structure:
    """Count the frames (GIF89a specification, appendix B); Pillow would decode its way to the last."""

    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    def after_blocks(at: int) -> int:
        while length := data[at]:
            at += length + 1
        return at + 1

    frames = 0
    try:
        at = 13 + table(data[10])
        while (mark := data[at]) != 0x3B:
            if mark == 0x2C:
                frames += 1
                at = after_blocks(at + 11 + table(data[at + 9]))
            elif mark == 0x21:
                at = after_blocks(at + 2)
            elif mark == 0:  # padding between blocks, which some writers leave
                at += 1
            else:
                raise MediaError(f"gif with an unknown block {mark:#04x} at byte {at}")
    except IndexError:
        raise MediaError("gif that ends before its trailer") from None
    if not frames:
        raise MediaError("gif without a frame")
    return _Structure(frames)


def _walk_webp(data: bytes) -> _Structure:
    """Size, frames and EXIF from the chunks (RFC 9649, section 2)."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) or end < 30:
        raise MediaError(f"webp that ends too early: {len(data)} bytes of {end}")
    frames, exif, at = 0, None, 12
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise MediaError(f"webp whose chunk at byte {at} ends behind its file")
        if name == b"ANMF":
            frames += 1
        elif name == b"EXIF":
            exif = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    size, mode = _webp_canvas(data)
    return _Structure(max(1, frames), exif, size, mode)


def _webp_canvas(data: bytes) -> tuple[tuple[int, int], str]:
    first = data[12:16]
    if first == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return (width, height), "RGBA" if data[20] & 0x10 else "RGB"
    if first == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), "RGBA" if bits >> 28 & 1 else "RGB"
    if first == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return (width & 0x3FFF, height & 0x3FFF), "RGB"
    raise MediaError("webp without an image")


_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "avif": AvifImageFile,
    "tiff": TiffImageFile,
    "jpeg2000": Jpeg2KImageFile,
}

_WALKS = {
    "jpeg": _walk_jpeg,
    "png": _walk_png,
    "webp": _walk_webp,
    "gif": _walk_gif,
    "bmp": _walk_nothing,
    "avif": _walk_nothing,
    "heic": _walk_nothing,
    "tiff": _walk_tiff,
    "jpeg2000": _walk_jpeg2000,
}
