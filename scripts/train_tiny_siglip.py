"""Train the embedded tiny SigLIP on rendered scenes, and write its weights: `python -m scripts.train_tiny_siglip`.

Two towers with the loss of SigLIP (Zhai et al. 2023, section 3.2): each image with each caption of a batch is one
yes-or-no question, sigma(exp(t') cos + b). A caption that is true of another image of the batch too counts as a yes.
Half of a batch are scenes of the other half with one point changed. Everything is drawn from the seed; the same torch
build on the same number of threads gives the same weights. Needs torch, onnx and pillow; takes some CPU-minutes.
"""

import argparse
import io
import json
import math
import random
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from curation.engines.tiny_siglip.inputs import CONTEXT, FIRST_WORD, PAD, PIXELS, numbered, read, seen
from curation.hashing import bytes_digest
from curation.proving.scenes import Caption, Change, Scene, changed, draw_scene, grammar_words, render, write_caption

FOLDER = Path(__file__).parents[1] / "curation" / "engines" / "tiny_siglip"
CHANGES: tuple[Change | None, ...] = ("colour", "shape", "size", "count", "background", "exchange", None)
"""How the second half of a batch differs from the first; None is another scene altogether."""
CHANGE_WEIGHTS = (3, 4, 2, 2, 1, 3, 5)
THINGS = (9, 8, 3)
"""How often scenes have one, two and three things."""
OPSET = 17


@dataclass(frozen=True)
class Size:
    """Of the two towers."""

    width: int = 128
    heads: int = 4
    image_layers: int = 4
    text_layers: int = 2
    stem: tuple[int, ...] = (32, 64, 64)
    """Channels of the convolutions before the last, each of which halves the side; patches are of 16 x 16 pixels."""


class Layer(nn.Module):
    """A transformer layer, normalised before attention and before the feed-forward part."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        rows, length, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)
        attended = (scores if bias is None else scores + bias).softmax(-1) @ v
        x = x + self.out(attended.transpose(1, 2).reshape(rows, length, width))
        fed: Tensor = x + self.feed(self.before_feed(x))
        return fed


class ImageTower(nn.Module):
    """Images [n, 64, 64, 3] to unit vectors [n, width]: four convolutions, which learn shapes much
    faster than one matrix for a patch (Xiao et al. 2021), and a ViT on their 4 x 4 places."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        channels = (3, *size.stem, size.width)
        convolutions = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)]
        for convolution in convolutions:  # keeps the signal's scale, without which nothing is learnt for long
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        self.stem = nn.ModuleList(convolutions)
        self.after_stem = nn.LayerNorm(size.width)
        self.place = nn.Parameter(0.02 * torch.randn((PIXELS // 16) ** 2, size.width))
        self.layers = nn.ModuleList(Layer(size.width, size.heads) for _ in range(size.image_layers))
        self.norm, self.head = nn.LayerNorm(size.width), nn.Linear(size.width, size.width, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2)
        for convolution in self.stem:
            x = F.gelu(convolution(x))
        x = self.after_stem(x.flatten(2).transpose(1, 2)) + self.place
        for layer in self.layers:
            x = layer(x)
        return F.normalize(self.head(self.norm(x).mean(1)), dim=-1)


class TextTower(nn.Module):
    """Word ids [n, length] to unit vectors [n, width]: a transformer, the mean over the words that are there."""

    def __init__(self, size: Size, words: int) -> None:
        super().__init__()
        self.word = nn.Parameter(0.05 * torch.randn(words, size.width))
        self.place = nn.Parameter(0.02 * torch.randn(CONTEXT, size.width))
        self.layers = nn.ModuleList(Layer(size.width, size.heads) for _ in range(size.text_layers))
        self.norm, self.head = nn.LayerNorm(size.width), nn.Linear(size.width, size.width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != PAD).float()
        x = self.word[ids] + self.place[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, -1e9 * (1 - there[:, None, None, :]))
        mean = (self.norm(x) * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        return F.normalize(self.head(mean), dim=-1)


@dataclass(frozen=True)
class Batch:
    """Images [n, 64, 64, 3], word ids [n, length], and +1 where a caption (column) is true of an image, else -1."""

    images: Tensor
    ids: Tensor
    truth: Tensor


def draw_batch(
    rows: int, draw: random.Random, vocabulary: dict[str, int], thing_weights: tuple[float, float, float]
) -> Batch:
    """Half of the rows are scenes, half are the same with one point changed."""
    scenes: list[Scene] = []
    for _ in range(rows // 2):
        scene = draw_scene(draw, thing_weights=thing_weights)
        change = draw.choices(CHANGES, CHANGE_WEIGHTS)[0]
        other = changed(scene, change, draw) if change else None
        scenes += [scene, other or draw_scene(draw, thing_weights=thing_weights)]
    captions = [
        write_caption(scene, draw, says_sizes=draw.random() > 0.15, says_background=draw.random() > 0.2)
        for scene in scenes
    ]
    images = np.stack([seen(roughened(render(scene, draw, draw.choice((64, 64, 96, 128))), draw)) for scene in scenes])
    ids = np.stack([read(caption.text, vocabulary, CONTEXT) for caption in captions])
    ids = ids[:, : (ids != PAD).sum(1).max()]
    return Batch(torch.from_numpy(images), torch.from_numpy(ids), torch.from_numpy(truth(scenes, captions)))


def roughened(image: NDArray[np.uint8], draw: random.Random) -> NDArray[np.uint8]:
    """Some images through JPEG, as images come."""
    if draw.random() > 0.25:
        return image
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=draw.randint(40, 95))
    return np.asarray(Image.open(file))


def truth(scenes: list[Scene], captions: list[Caption]) -> NDArray[np.float32]:
    """+1 where caption j holds for scene i, else -1, as [i, j]."""
    held = np.full((len(scenes), len(captions)), -1, np.float32)
    for sizes in (True, False):
        for ground in (True, False):
            claims = [Caption("", scene, sizes, ground).claim() for scene in scenes]
            number = {claim: k for k, claim in enumerate(claims)}
            kinds = np.array([number[claim] for claim in claims])
            columns = [j for j, c in enumerate(captions) if (c.says_sizes, c.says_background) == (sizes, ground)]
            held[:, columns] = np.where(kinds[:, None] == kinds[columns], 1, -1)
    return held


def train(size: Size, words: tuple[str, ...], steps: int, rows: int, peak: float, seed: int) -> "Trained":
    """AdamW, a short warm-up and half a cosine down."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    vocabulary = numbered(words)
    images, texts = ImageTower(size), TextTower(size, FIRST_WORD + len(words))
    scale, bias = nn.Parameter(torch.tensor(math.log(10))), nn.Parameter(torch.tensor(-math.log(rows - 1)))
    towers = [*images.parameters(), *texts.parameters()]
    groups = [
        {"params": [p for p in towers if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in towers if p.ndim == 1], "weight_decay": 0.0},
        {"params": [scale, bias], "weight_decay": 0.0, "faster": 10.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100)
        for group in optimiser.param_groups:
            group["lr"] = group.get("faster", 1.0) * peak * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = draw_batch(rows, draw, vocabulary, THINGS)
        logits = scale.exp() * images(batch.images) @ texts(batch.ids).T + bias
        loss = -F.logsigmoid(batch.truth * logits).sum() / rows
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*towers, scale, bias], 1.0)
        optimiser.step()
        if step % 50 == 0:
            print(
                f"step {step}: loss {loss.item():.3f}, t' {scale.item():.3f}, b {bias.item():.2f}, "
                f"CPU {time.process_time():.0f} s",
                flush=True,
            )
    return Trained(images.eval(), texts.eval(), scale.item(), bias.item())


@dataclass(frozen=True)
class Trained:
    """Both towers, t' and b."""

    images: ImageTower
    texts: TextTower
    logit_scale: float
    logit_bias: float


def as_onnx(tower: nn.Module, example: Tensor, name: str) -> bytes:
    """The tower for inputs of this shape, its weights in fp16 and widened when they are used."""
    file = io.BytesIO()
    names = {"input_names": [name], "output_names": ["embedding"]}
    torch.onnx.export(tower, (example,), file, dynamo=False, opset_version=OPSET, **names)  # type: ignore[arg-type]
    model = onnx.load_from_string(file.getvalue())
    widened = []
    for weights in model.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size > 1:
            widened.append(onnx.helper.make_node("Cast", [f"{weights.name}.half"], [weights.name], to=1))
            weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{weights.name}.half"))
    for node in reversed(widened):
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def save(trained: Trained, words: tuple[str, ...], folder: Path, how: dict[str, int | float | str]) -> str:
    """Both towers, the vocabulary, and what goes with them; returns the checkpoint's id, made of their bytes."""
    files = {
        "picture.onnx": as_onnx(trained.images, torch.zeros(1, PIXELS, PIXELS, 3), "picture"),
        "text.onnx": as_onnx(trained.texts, torch.ones(1, CONTEXT, dtype=torch.int64), "words"),
        "vocabulary.txt": "".join(f"{word}\n" for word in words).encode(),
    }
    numbers = {"logit_scale": round(trained.logit_scale, 4), "logit_bias": round(trained.logit_bias, 4)}
    checkpoint = f"tiny-siglip-{bytes_digest(b''.join(files.values()))[:12]}"
    about = {"checkpoint": checkpoint, **numbers, "trained": how}
    files["checkpoint.json"] = (json.dumps(about, indent=2) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return checkpoint


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--steps", type=int, default=1600)
    asked.add_argument("--rows", type=int, default=128, help="scenes in a batch")
    asked.add_argument("--peak", type=float, default=1.5e-3, help="highest learning rate")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--folder", type=Path, default=FOLDER)
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    words = grammar_words()
    trained = train(Size(), words, given.steps, given.rows, given.peak, given.seed)
    how = {"seed": given.seed, "steps": given.steps, "rows": given.rows, "peak": given.peak, "torch": torch.__version__}
    print(save(trained, words, given.folder, {**how, "threads": given.threads}))


if __name__ == "__main__":
    main()
