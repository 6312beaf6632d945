"""Sensitive images: scored by an engine, rejected above a threshold. Nothing looks for them unless a recipe asks."""

from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.engines.image_safety import AnyImageSafety, OpenNsfw
from curation.media.images import decode_image
from curation.stage import Stage, reject
from curation.vision.image_checks import ALL_FORMATS, Format
from curation.vision.shared_images import LOCATORS, measure_images

SCORED = {"sensitive_score": pa.float64()}


@dataclass(frozen=True)
class SensitiveScore(Stage):
    """Measure how likely each image is sensitive, as the engine says: `sensitive_score`, 0 to 1."""

    engine: AnyImageSafety = OpenNsfw()
    side: int = 256
    """The shorter side, to which images are averaged down first."""
    max_pixels: int = 64_000_000
    formats: tuple[Format, ...] = ALL_FORMATS

    reads = ("image_hash",)
    writes = tuple(SCORED)
    locators = LOCATORS
    packages = ("pillow", "numpy")
    optional_packages = ("pillow-heif",)
    costly = True

    def __call__(self, images: pa.Table) -> pa.Table:
        return measure_images(images, SCORED, self.measure)

    def measure(self, data: bytes) -> dict[str, Any]:
        """The score of one image."""
        image = decode_image(data, max_pixels=self.max_pixels, draft_side=self.side, formats=self.formats)
        return {"sensitive_score": self.engine.score([image])[0]}


@dataclass(frozen=True)
class NotSensitive(Stage):
    """Reject images with a `sensitive_score` above `max_score`.

    OpenNSFW's authors call below .2 safe and above .8 not; what lies between them is for people to decide.
    """

    max_score: Annotated[float, Field(ge=0, le=1)] = 0.8

    reads = ("sensitive_score",)

    def __call__(self, images: pa.Table) -> pa.Table:
        value, limit = images["sensitive_score"], self.max_score
        return reject(images, pc.greater(value, limit), "sensitive_image", value=value, limit=limit)
