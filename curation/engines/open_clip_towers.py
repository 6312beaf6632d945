"""open_clip's models as an engine holds them: from a folder, on one thread, with nothing fetched and no code run."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import EngineMissing
from curation.hashing import file_digest
from curation.meter import advance

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""Names under which open_clip looks for weights in a folder, in its order."""


class OpenClipTowers:
    """An open_clip model, with its own preprocessing and tokenizer, on one thread."""

    def __init__(self, folder: Path, device: str) -> None:
        declare_torchvision_operators()
        import open_clip
        import torch

        packages_for(folder)
        torch.set_num_threads(1)
        name = f"local-dir:{folder}"
        try:
            model, preprocess = open_clip.create_model_from_pretrained(name, device=device, weights_only=True)
            self.tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # several libraries read these files, each with errors of its own
            first_line = next(iter(str(error).splitlines()), type(error).__name__)
            raise EngineMissing(f"engine open-clip: {folder} cannot be loaded on {device}: {first_line}") from error
        self.model, self.preprocess, self.device = model.eval(), preprocess, device
        self.folder = folder
        self.logit_scale: float = model.logit_scale.item()
        bias = getattr(model, "logit_bias", None)
        self.logit_bias: float | None = None if bias is None else bias.item()

    @cached_property
    def content(self) -> str:
        """Hash of the weights."""
        path = weights_file(self.folder)
        assert path, "it was loaded from there"
        return file_digest(path)

    def embed(
        self, encode: Callable[[Sequence[Any]], Any], rows: Sequence[Any], batch_size: int
    ) -> NDArray[np.float32]:
        """Unit vectors of the rows, `batch_size` at a time; the last batch is filled up with its own first row."""
        import torch

        found: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                batch = list(rows[start : start + batch_size])
                filled = batch + batch[:1] * (batch_size - len(batch))
                vectors = torch.nn.functional.normalize(encode(filled).float(), dim=-1)
                found.append(vectors[: len(batch)].cpu().numpy())
                advance(len(batch))
        return np.concatenate(found) if found else np.zeros((0, self.dimensions), np.float32)

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.embed(self.texts, [""], 1).shape[1])

    def images(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        """The model's features of images, not of unit length."""
        import torch
        from PIL import Image

        seen = torch.stack([self.preprocess(Image.fromarray(image)) for image in images])
        return self.model.encode_image(seen.to(self.device))

    def texts(self, texts: Sequence[str]) -> Any:
        """The model's features of texts, not of unit length."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.device))


def weights_file(folder: Path) -> Path | None:
    """The file that open_clip takes the weights from."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def declare_torchvision_operators() -> None:
    """Let torchvision be imported where its compiled operators are not those of this torch; none of them is used."""
    import torch

    signatures = {
        "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    _load_compiled_operators()
    for name, signature in signatures.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", signature)


def _load_compiled_operators() -> None:
    """Torchvision's library of compiled operators, where it is there and fits this torch, as its import would do."""
    from importlib.util import find_spec

    import torch

    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in sorted(Path(folder).glob("_C.*")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:  # built for another torch: what it would define is declared instead
                continue


def packages_for(folder: Path) -> tuple[str, ...]:
    """The distributions that a checkpoint's towers and tokenizer need besides open_clip, as its config says.

    Raises:
        EngineMissing: a tower or the tokenizer would come from a hub, or the tokenizer asks to run code of its own.
    """
    try:
        towers = json.loads((folder / CONFIG).read_text("utf-8"))["model_cfg"]
        text, vision = dict(towers["text_cfg"]), dict(towers["vision_cfg"])
        asked = dict(text.get("tokenizer_kwargs") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise EngineMissing(f"engine open-clip: {folder / CONFIG} is no config: {error}") from error
    if text.get("hf_model_name") or ":" in str(vision.get("timm_model_name")):
        raise EngineMissing(f"engine open-clip: a tower of {folder} would come from a hub; take another model")
    if asked.get("trust_remote_code"):
        raise EngineMissing(f"engine open-clip: the tokenizer of {folder} asks to run its own code; it is not run")
    if text.get("hf_tokenizer_name") and not any(folder.glob("*token*")):
        raise EngineMissing(f"engine open-clip: {folder} has no tokenizer; it lies beside the weights on the hub")
    wanted = {"timm": vision.get("timm_model_name"), "transformers": text.get("hf_tokenizer_name")}
    return tuple(package for package, used in wanted.items() if used)
