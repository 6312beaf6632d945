"""The image of a sample: its original bytes, untouched, or encoded again where a recipe asks for it."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import pyarrow as pa
from PIL import Image

from curation.errors import RecipeError
from curation.media.images import decode_image
from curation.media.places import read_place
from curation.stage import Stage, fail, with_column

EXTENSIONS = {
    **{"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp"},
    **{"avif": "avif", "tiff": "tif", "jpeg2000": "jp2", "heic": "heic"},
}
"""Of a part in a shard, by the image's format."""


@dataclass(frozen=True)
class EncodeImage(Stage):
    """Take each pair's image into its sample.

    `original` copies the file's bytes as they are. Any other format decodes the image as it is shown (turned as EXIF
    says, the first frame of several, on white, without metadata), brings its longer side down to `max_side` and encodes
    it again; then and only then `quality` counts.
    """

    format: Literal["original", "jpeg", "webp", "png"] = "original"
    max_side: int | None = None
    quality: int = 90
    max_pixels: int = 64_000_000

    reads = ("image_hash", "image_format")
    writes = ("payload", "payload_bytes", "image_type")
    locators = ("place", "uri")
    packages = ("pillow",)
    optional_packages = ("pillow-heif",)
    version = 2

    def __post_init__(self) -> None:
        if self.format == "original" and self.max_side is not None:
            raise RecipeError("image.max_side: the original is not scaled; choose an image.format too")
        if not 1 <= self.quality <= 100:
            raise RecipeError(f"image.quality: {self.quality} is not in 1 to 100")

    def __call__(self, pairs: pa.Table) -> pa.Table:
        payloads: list[bytes | None] = []
        errors: list[BaseException | None] = []
        for row in pairs.select(["place", "image_hash"]).to_pylist():
            try:
                payloads.append(self.encoded(read_place(row["place"], content=row["image_hash"])))
                errors.append(None)
            except Exception as error:
                payloads.append(None)
                errors.append(error)
        sizes = [None if data is None else len(data) for data in payloads]
        types = pairs["image_format"].to_pylist() if self.format == "original" else [self.format] * len(sizes)
        pairs = with_column(pairs, "payload", payloads, pa.large_binary())
        pairs = with_column(pairs, "payload_bytes", sizes, pa.int64())
        pairs = with_column(pairs, "image_type", [EXTENSIONS[type_] for type_ in types], pa.string())
        return fail(pairs, errors) if any(errors) else pairs

    def encoded(self, data: bytes) -> bytes:
        """The bytes that go to the shard.

        Raises:
            MediaError: the image cannot be decoded.
        """
        if self.format == "original":
            return data
        # Decoded at a fraction of its size, a large image stays larger than what is wanted of it.
        draft_side = None if self.max_side is None else 2 * self.max_side
        image = Image.fromarray(decode_image(data, max_pixels=self.max_pixels, draft_side=draft_side))
        if self.max_side is not None:
            image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS, reducing_gap=None)
        options: dict[str, Any] = {} if self.format == "png" else {"quality": self.quality}
        sink = BytesIO()
        image.save(sink, self.format, **options)
        return sink.getvalue()
