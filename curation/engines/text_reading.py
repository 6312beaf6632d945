"""Text reading: images in, the lines of text that are written in them out."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from curation.engines.engine import Engine, loaded
from curation.errors import MediaError
from curation.hashing import digest, file_digest

Pixels = NDArray[np.uint8]
"""RGB [height, width, 3]."""

Point = tuple[float, float]
"""x from the left, y from the top, in pixels of the image."""


Share = Annotated[float, pydantic.Field(ge=0, le=1)]


class ImageUnreadable(MediaError):
    """A reader cannot take this image."""


@dataclass(frozen=True)
class TextLine:
    """A line of text, and where in the image it stands."""

    text: str
    box: tuple[Point, Point, Point, Point]
    """Its corners, clockwise from the upper left."""
    confidence: float
    """0 to 1."""

    @property
    def area(self) -> float:
        """Of its box, in square pixels (Gauss's formula)."""
        turned = (*self.box[1:], self.box[0])
        return abs(sum(x * v - u * y for (x, y), (u, v) in zip(self.box, turned, strict=True))) / 2


@dataclass(frozen=True)
class TextReader(Engine):
    """What every engine of this capability does. An image's lines do not depend on the images beside it."""

    @abstractmethod
    def read(self, images: Sequence[Pixels]) -> list[list[TextLine]]:
        """The lines of each image in reading order, top to bottom and left to right; none where there is no text.

        A line has a letter or a digit.

        Raises:
            ImageUnreadable: an image is not RGB of 8 bits, or the model does not take it.
            EngineMissing: the engine cannot be loaded.
        """


_WEIGHTS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}
"""Models in RapidOCR's wheel: which find lines, read them, and tell those that stand on their head."""


@dataclass(frozen=True)
class RapidOcr(TextReader):
    """PP-OCRv6 (small) on ONNX Runtime, as RapidOCR's wheel bundles it; one thread, nothing is downloaded.

    Lines are looked for in the image shrunk to `detection_side`, and read at its own size. Type of 1/80 of the long
    side and more is read without an error in renderings, and an image without text costs some 50 ms.
    """

    packages: ClassVar[tuple[str, ...]] = ("rapidocr", "onnxruntime", "opencv-python-headless", "pyclipper", "shapely")
    extra: ClassVar[str] = "text-reading"
    code_licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = "Apache-2.0"
    limits: ClassVar[str] = (
        "reads Chinese, Japanese and Latin letters, no Cyrillic, Arabic, Korean or Thai, no letter with two "
        "marks (Vietnamese); misses type below 1/80 of the long side; takes a disc for an O; not tried on handwriting; "
        "a dense page costs seconds"
    )

    engine: Literal["rapidocr"] = "rapidocr"
    detection_side: pydantic.PositiveInt = 480
    """Long side in pixels at which lines are looked for; a smaller image is not enlarged."""
    max_side: pydantic.PositiveInt = 2000
    """Long side in pixels at which lines are read; a larger image is shrunk to it first."""
    box_threshold: Share = 0.5
    """Least mean probability of text in a box."""
    min_confidence: Share = 0.5
    """Lines read with less are left out."""
    turn_lines: bool = True
    """Whether lines that stand on their head are turned before they are read."""

    def missing(self) -> str | None:
        """As for every engine; also where the wheel has not the models that it should, which would be downloaded."""
        if reason := super().missing():
            return reason
        absent = next((name for name, path in self._weights().items() if not path.is_file()), None)
        if absent is None:
            return None
        file = self._weights()[absent]
        return f"engine rapidocr: {file} does not exist; pip install --force-reinstall --no-deps 'rapidocr>=3.10,<4'"

    def fingerprint(self) -> str:
        """With the content of the weights."""
        weights = {name: file_digest(path) for name, path in self._weights().items() if path.is_file()}
        return digest([super().fingerprint(), weights])

    def load(self) -> Any:
        """All three models, in this process."""
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        options = "EngineConfig.onnxruntime"
        return RapidOCR(
            params={
                "Global.log_level": "critical",  # an image without text is no warning
                "Global.text_score": self.min_confidence,
                "Global.max_side_len": self.max_side,
                "Global.use_cls": self.turn_lines,
                f"{options}.intra_op_num_threads": 1,
                f"{options}.inter_op_num_threads": 1,
                "Det.limit_type": "max",
                "Det.limit_side_len": self.detection_side,
                "Det.box_thresh": self.box_threshold,
                # A path is opened and never fetched.
                **{f"{name}.model_path": str(path) for name, path in self._weights().items()},
            }
        )

    def read(self, images: Sequence[Pixels]) -> list[list[TextLine]]:
        reader = loaded(self)
        return [self._lines(reader, image) for image in images]

    def _lines(self, reader: Any, image: Pixels) -> list[TextLine]:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ImageUnreadable(f"not uint8 [height, width, 3] but {image.dtype} {list(image.shape)}")
        height, width = image.shape[:2]
        try:
            found = reader(np.ascontiguousarray(image[..., ::-1]))  # it takes BGR
        except Exception as error:  # what OpenCV and ONNX Runtime raise has no common name
            raise ImageUnreadable(f"{width} x {height} pixels: {error}") from error
        if found.txts is None:
            return []
        return [
            TextLine(text, _corners(box), round(float(score), 4))
            for text, box, score in zip(found.txts, found.boxes, found.scores, strict=True)
            if any(map(str.isalnum, text))  # a triangle is read as "▲"
        ]

    def _weights(self) -> dict[str, Path]:
        """The files in the wheel; found without importing the package."""
        spec = find_spec("rapidocr")
        if spec is None or spec.origin is None:
            return {}
        return {name: Path(spec.origin).parent / "models" / file for name, file in _WEIGHTS.items()}


AnyTextReader = RapidOcr
"""The type of a recipe's key that holds a text reader; there is one so far."""


def _corners(box: NDArray[Any]) -> tuple[Point, Point, Point, Point]:
    one, two, three, four = ((float(x), float(y)) for x, y in box)
    return one, two, three, four
