"""What is written in images: read once, and images that show writing and little else rejected."""

import unicodedata
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from curation.engines.text_reading import AnyTextReader, Pixels, RapidOcr, TextLine
from curation.media.images import decode_image
from curation.stage import Stage, reject, with_column
from curation.vision.image_checks import ALL_FORMATS, Format, flat_share
from curation.vision.shared_images import LOCATORS, measure_images

READ = {
    "text_in_image": pa.string(),
    "text_in_image_lines": pa.int32(),
    "text_in_image_share": pa.float64(),
    "text_in_image_confidence": pa.float64(),
    "image_edge_share": pa.float64(),
}


@dataclass(frozen=True)
class TextInImage(Stage):
    """Read what is written in each image, and measure what share of it the writing takes.

    An image without edges is not read: it has no text. This skips blank and smooth images only (2 ms in
    place of some 50); photographs have edges. The smallest and faintest word that RapidOCR read in renderings of 736
    pixels had an edge share of 0.0002.
    """

    engine: AnyTextReader = RapidOcr()
    side: int = 736
    """The shorter side, to which images are averaged down before they are read."""
    max_pixels: int = 64_000_000
    formats: tuple[Format, ...] = ALL_FORMATS
    max_characters: int = 4000
    """Of the text that is kept."""
    edge_step: int = 4
    """Neighbours whose red, green or blue differ by more are an edge; of 255."""
    min_edge_share: float = 0.0001
    """Images with a smaller share of edge pixels are not read; 0 reads all."""

    reads = ("image_hash",)
    writes = tuple(READ)
    locators = LOCATORS
    packages = ("pillow", "numpy")
    optional_packages = ("pillow-heif",)
    version = 2
    costly = True

    def __call__(self, images: pa.Table) -> pa.Table:
        return measure_images(images, READ, self.measure)

    def measure(self, data: bytes) -> dict[str, Any]:
        """The columns of `READ` for the bytes of one image."""
        image = decode_image(data, max_pixels=self.max_pixels, draft_side=self.side, formats=self.formats)
        edges = edge_share(image, self.edge_step)
        lines = self.engine.read([image])[0] if edges >= self.min_edge_share else []
        return {
            "text_in_image": "\n".join(line.text for line in lines)[: self.max_characters],
            "text_in_image_lines": len(lines),
            "text_in_image_share": text_share(lines, image.shape[0] * image.shape[1]),
            "text_in_image_confidence": text_confidence(lines),
            "image_edge_share": edges,
        }


@dataclass(frozen=True)
class NotOnlyText(Stage):
    """Reject images that are text, and captions that only repeat what is written in the image.

    The second teach reading, not seeing (T-MARS, Maini et al. 2023, which masks the text and compares embeddings again;
    here letters are compared). A limit of None is not applied.
    """

    max_text_share: float | None = 0.5
    """Of the image: pages have 0.6 and more, slides 0.2."""
    min_letters: int = 5
    """Letters and digits that an image of text has at least: readers take a disc for an O."""
    max_caption_share: float | None = None
    """Of the caption, that may be written in the image."""
    run_letters: pydantic.PositiveInt = 4
    """Letters in a row that are looked for. A page of 4,000 English letters has a fifth of the runs of 4 of any English
    caption, and half of those of 3."""
    column: str = "caption"

    writes = ("caption_in_image",)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text_in_image", "text_in_image_share", self.column)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        texts = [text or "" for text in pairs["text_in_image"].to_pylist()]
        captions = [caption or "" for caption in pairs[self.column].to_pylist()]
        written = [
            share_written(caption, text, self.run_letters) if text else 0.0
            for caption, text in zip(captions, texts, strict=True)
        ]
        pairs = with_column(pairs, "caption_in_image", written, pa.float64())
        if (limit := self.max_text_share) is not None:
            value = pairs["text_in_image_share"]
            enough = pa.array([len(_letters(text)) >= self.min_letters for text in texts], pa.bool_())
            mask = pc.and_(pc.greater(value, limit), enough)
            pairs = reject(pairs, mask, "image_is_text", value=value, limit=limit)
        if (limit := self.max_caption_share) is not None:
            value = pairs["caption_in_image"]
            pairs = reject(pairs, pc.greater(value, limit), "caption_is_text_in_image", value=value, limit=limit)
        return pairs


def edge_share(image: Pixels, step: int) -> float:
    """Share of pixels whose right or lower neighbour differs by more than `step`, in the channel with most of them."""
    return max(1 - flat_share(image[..., channel], step) for channel in range(3))


def text_share(lines: list[TextLine], pixels: int) -> float:
    """Area of the boxes over that of the image, at most 1; where boxes overlap it counts twice."""
    return min(1.0, sum(line.area for line in lines) / pixels)


def text_confidence(lines: list[TextLine]) -> float | None:
    """The mean over the letters of all lines; None without any."""
    letters = sum(len(line.text) for line in lines)
    return round(sum(line.confidence * len(line.text) for line in lines) / letters, 4) if letters else None


def share_written(caption: str, text: str, letters: int) -> float:
    """Share of a caption's runs of `letters` letters and digits that are anywhere in the image's text.

    Case, width, punctuation, spaces and line breaks do not count, since readers lose them; a wrong letter costs
    `letters` runs. A caption with fewer letters is one run; without any it has none, and the share is 0.
    """
    sought, written = _letters(caption), _letters(text)
    runs = [sought[i : i + letters] for i in range(max(1, len(sought) - letters + 1))] if sought else []
    there = {written[i : i + length] for length in {len(run) for run in runs} for i in range(len(written))}
    return sum(run in there for run in runs) / len(runs) if runs else 0.0


def _letters(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKC", text).casefold() if sign.isalnum())
