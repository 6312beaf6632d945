"""Image-text embedding: images and texts in, unit vectors of one space out, in which matching ones lie close."""

import json
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from curation.engines.engine import Engine, loaded, missing_package
from curation.engines.open_clip_towers import CONFIG, OpenClipTowers, packages_for, weights_file
from curation.engines.tiny_siglip import inputs
from curation.errors import CurateError, EngineMissing
from curation.hashing import digest, file_digest
from curation.meter import counted
from curation.paths import ModelFolder

Pixels = NDArray[np.uint8]
"""RGB [height, width, 3]."""
Vectors = NDArray[np.float32]
"""[n, dimensions], each row of length 1."""

TINY_FOLDER = Path(inputs.__file__).parent


class NotAnImage(CurateError):
    """An array that is no RGB image of 8 bits."""


@dataclass(frozen=True)
class ImageTextEmbedder(Engine):
    """What every engine of this capability does. A row's vector does not depend on the rows beside it.

    An image and a text match with the cosine of their vectors (`cosines`), or with the probability that a SigLIP gives
    to it (`match_probability`). A limit in either holds for one `checkpoint` alone.
    """

    @abstractmethod
    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        """One vector per image, whatever the sizes.

        Raises:
            NotAnImage: an image is not RGB of 8 bits.
            EngineMissing: the engine cannot be loaded.
        """

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """One vector per text; what lies beyond the model's context is not read.

        Raises:
            EngineMissing: the engine cannot be loaded.
        """

    @property
    @abstractmethod
    def checkpoint(self) -> str:
        """Names the weights; stands beside every limit that was chosen for them."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """t' of SigLIP: cosines are multiplied by its exponential."""

    @property
    @abstractmethod
    def logit_bias(self) -> float | None:
        """b of SigLIP; None where the checkpoint has none (CLIP)."""

    def match_probability(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """sigma(exp(t') cos + b) (Zhai et al. 2023, section 3.2), of any shape.

        Raises:
            CurateError: the checkpoint has no bias, so that it gives no probability.
        """
        if self.logit_bias is None:
            raise CurateError(f"{self.checkpoint} has no bias, so it gives no probability: use a limit in cosine")
        logits = np.exp(self.logit_scale) * cosines.astype(np.float64) + self.logit_bias
        probabilities: NDArray[np.float32] = (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)
        return probabilities


def cosines(images: Vectors, texts: Vectors) -> NDArray[np.float32]:
    """The cosine of each row of unit vectors with the same row of the other, [n]."""
    found: NDArray[np.float32] = np.multiply(images, texts, dtype=np.float64).sum(axis=1).astype(np.float32)
    return found


@dataclass(frozen=True)
class TinySiglip(ImageTextEmbedder):
    """A SigLIP of our own, embedded: trained on rendered shapes by `scripts/train_tiny_siglip.py`, run one by one.

    It proves pipelines; it judges no photograph (`curation/engines/tiny_siglip/card.md`).
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "pillow")
    code_licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = "Apache-2.0"
    limits: ClassVar[str] = (
        "knows rendered scenes of a few shapes, colours, sizes and counts, and the words for them; nothing of "
        "photographs, of other words, or of where things are"
    )

    engine: Literal["tiny-siglip"] = "tiny-siglip"

    @property
    def checkpoint(self) -> str:
        """Named by the content of its weights and its vocabulary."""
        return str(_tiny_about()["checkpoint"])

    @property
    def logit_scale(self) -> float:
        """As trained."""
        return float(_tiny_about()["logit_scale"])

    @property
    def logit_bias(self) -> float:
        """As trained."""
        return float(_tiny_about()["logit_bias"])

    def fingerprint(self) -> str:
        """With the content of the weights."""
        return digest([super().fingerprint(), _tiny_about()])

    def load(self) -> "TinyTowers":
        return TinyTowers(TINY_FOLDER)

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        towers: TinyTowers = loaded(self)
        rows = (inputs.seen(rgb(image))[None] for image in images)
        return np.concatenate([np.zeros((0, towers.dimensions), np.float32), *counted(map(towers.image, rows))])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        towers: TinyTowers = loaded(self)
        rows = (inputs.read(text, towers.vocabulary)[None] for text in texts)
        return np.concatenate([np.zeros((0, towers.dimensions), np.float32), *counted(map(towers.text, rows))])


class TinyTowers:
    """Both towers of the tiny SigLIP, each a function of one row, and its vocabulary."""

    def __init__(self, folder: Path) -> None:
        self.image = _one_row(folder / "picture.onnx")
        self.text = _one_row(folder / "text.onnx")
        self.vocabulary = inputs.numbered((folder / "vocabulary.txt").read_text("utf-8").split())
        self.dimensions = self.text(inputs.read("", self.vocabulary)[None]).shape[1]


@dataclass(frozen=True)
class OpenClip(ImageTextEmbedder):
    """A CLIP or SigLIP checkpoint in open_clip's format: of the hub's local cache, or of a folder. Downloads nothing.

    Weights are safetensors, or pickles of which only tensors are read; no code of a checkpoint is run.
    """

    packages: ClassVar[tuple[str, ...]] = ("open-clip-torch", "torch", "torchvision", "pillow")
    optional_packages: ClassVar[tuple[str, ...]] = ("timm", "transformers", "tokenizers", "ftfy")
    extra: ClassVar[str] = "open-clip"
    code_licence: ClassVar[str] = "MIT"
    limits: ClassVar[str] = "sees an image at a few hundred pixels a side, squeezed or cropped as its checkpoint asks"

    engine: Literal["open-clip"] = "open-clip"
    model: ModelFolder = "timm/ViT-B-16-SigLIP"
    """`owner/name` (or `hf-hub:owner/name`) in the hub's local cache, or `local-dir:FOLDER` with open_clip_config.json,
    weights, and the tokenizer's files where the config names one."""
    licence: str = "unknown"
    """SPDX identifier of the weights, as their publisher states it."""
    device: str = "cpu"
    """As torch names it: cpu, cuda, cuda:1, mps."""
    batch_size: pydantic.PositiveInt = 1
    """Rows that the model sees at once; the last batch is filled up, so that every batch has one shape."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights_licence", self.licence)

    @property
    def repeatable(self) -> bool:  # type: ignore[override]
        """Whether two calls give the same: on a CPU with one thread, row by row."""
        return self.device == "cpu" and self.batch_size == 1

    @property
    def label(self) -> str:
        """Engine and model."""
        return f"{self.engine}:{Path(self._named()).name}"

    def missing(self) -> str | None:
        """As for every engine; for weights the command that downloads them, which nothing here does."""
        if reason := super().missing():
            return reason
        folder = self._folder()
        if folder is None:
            return f"engine open-clip: the model {self.model} is not here; {self.how_to_get()}"
        if not (folder / CONFIG).is_file() or not weights_file(folder):
            absent = "weights" if (folder / CONFIG).is_file() else CONFIG
            return f"engine open-clip: {folder} has no {absent}; {self.how_to_get()}"
        try:
            reason = missing_package(packages_for(folder), self.extra)
        except EngineMissing as refusal:
            return str(refusal)
        return reason and f"engine open-clip: {reason}"

    def how_to_get(self) -> str:
        """The command that downloads the model, or where its name is a folder a usual one."""
        name = self._named()
        repository = name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not self._is_folder() else OpenClip.model
        return f"`hf download {repository} --local-dir DIR` brings it, then `model: local-dir:DIR`"

    def fingerprint(self) -> str:
        """Of the parameters and of the content of config, weights and tokenizer, wherever these lie."""
        folder = self._folder()
        content = file_digest(folder) if folder else self.model
        return digest([Engine.fingerprint(replace(self, model="")), content])

    @property
    def checkpoint(self) -> str:
        """Named by its weights' content."""
        towers: OpenClipTowers = loaded(self)
        return f"{Path(self._named()).name}-{towers.content[:12]}"

    @property
    def logit_scale(self) -> float:
        """As the checkpoint has it."""
        towers: OpenClipTowers = loaded(self)
        return towers.logit_scale

    @property
    def logit_bias(self) -> float | None:
        """As the checkpoint has it."""
        towers: OpenClipTowers = loaded(self)
        return towers.logit_bias

    def load(self) -> OpenClipTowers:
        folder = self._folder()
        if folder is None:
            raise EngineMissing(self.missing() or self.model)
        return OpenClipTowers(folder, self.device)

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        towers: OpenClipTowers = loaded(self)
        return towers.embed(towers.images, [rgb(image) for image in images], self.batch_size)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        towers: OpenClipTowers = loaded(self)
        return towers.embed(towers.texts, texts, self.batch_size)

    def _is_folder(self) -> bool:
        return self.model.startswith("local-dir:")

    def _named(self) -> str:
        return self.model.removeprefix("local-dir:").removeprefix("hf-hub:")

    def _folder(self) -> Path | None:
        """The checkpoint's folder, or its snapshot in the hub's cache; None where it is not here."""
        if self._is_folder():
            folder = Path(self._named())
            return folder if folder.is_dir() else None
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            return None
        try:
            return Path(snapshot_download(self._named(), local_files_only=True))
        except (OSError, ValueError):  # not in the cache; or no name that could be
            return None


AnyImageTextEmbedder = Annotated[TinySiglip | OpenClip, pydantic.Discriminator("engine")]
"""The type of a recipe's key that holds an image-text embedder."""


def rgb(image: Pixels) -> Pixels:
    """The image, if it is one.

    Raises:
        NotAnImage: it is not RGB of 8 bits, or has no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise NotAnImage(f"an image is uint8 [height, width, 3]; this is {image.dtype} {list(image.shape)}")
    return np.ascontiguousarray(image)


def _tiny_about() -> dict[str, Any]:
    about: dict[str, Any] = json.loads((TINY_FOLDER / "checkpoint.json").read_text("utf-8"))
    return about


def _one_row(path: Path) -> Callable[[NDArray[Any]], Vectors]:
    """A tower on one thread: its input to its embedding."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    (name,) = (taken.name for taken in session.get_inputs())

    def embed(row: NDArray[Any]) -> Vectors:
        vectors: Vectors = session.run(["embedding"], {name: row})[0]
        return vectors

    return embed
