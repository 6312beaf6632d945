"""Images with captions, as img2dataset writes them: tars of `<key>.jpg`, `<key>.txt`, `<key>.json`, made from a seed.

An image is the mean of two crops of large canvases of noise, so that no two look alike; some are too small, too long,
blurred, or near copies of another, scaled and compressed again. Image `n` depends on the seed and on `n` alone: a
corpus of 20,000 is the beginning of one of 60,000, and shares its tars.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

PER_TAR = 1000
SIZES = ((640, 480), (480, 640), (512, 512), (800, 600), (500, 375))
CANVAS, CANVASES = 1600, 4
FAULTS = (("small", 0.04), ("long", 0.02), ("blurred", 0.02), ("copy", 0.04))
"""With their shares; the rest is good."""
WORDS = "red green blue old young small bright quiet house river dog cat tree street boat hill child bird door cloud"


def make_corpus(folder: Path, count: int, seed: int = 0, processes: int = 2) -> list[Path]:
    """The tars of a corpus of `count` images, whole tars only; those that are there stay."""
    if count % PER_TAR:
        raise ValueError(f"a corpus has whole tars of {PER_TAR} images, which {count} is not")
    folder.mkdir(parents=True, exist_ok=True)
    tars = [folder / f"{number:05d}.tar" for number in range(count // PER_TAR)]
    todo = [path for path in tars if not path.exists()]
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(_write_tar, todo, [seed] * len(todo)):
            pass
    return tars


def unpack(tars: Sequence[Path], folder: Path) -> Path:
    """The same as files, for those who read no tars, with a list of them: JSON lines of `images` and `text`."""
    folder.mkdir(parents=True)
    lines = []
    for path in tars:
        with tarfile.open(path) as tar:
            tar.extractall(folder, filter="data")
            for name in tar.getnames():
                if name.endswith(".jpg"):
                    caption = (folder / name).with_suffix(".txt").read_text()
                    lines.append(json.dumps({"text": caption, "images": [str(folder / name)]}))
    listed = folder / "pairs.jsonl"
    listed.write_text("\n".join(lines) + "\n")
    return listed


def _write_tar(path: Path, seed: int) -> None:
    first = int(path.stem) * PER_TAR
    unfinished = path.with_suffix(".part")
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(first, first + PER_TAR):
            for extension, data in _members(seed, number):
                info = tarfile.TarInfo(f"{number:09d}.{extension}")
                info.size = len(data)
                tar.addfile(info, BytesIO(data))
    os.rename(unfinished, path)


def _members(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    chance = np.random.default_rng([seed, number, 1])
    caption = " ".join(chance.choice(WORDS.split(), 7))
    yield "jpg", _jpeg(seed, number)
    yield "txt", caption.encode()
    yield "json", json.dumps({"key": f"{number:09d}", "url": f"http://invalid.test/{number}.jpg"}).encode()


def _jpeg(seed: int, number: int) -> bytes:
    fault = fault_of(seed, number)
    quality = 85
    if fault == "copy":
        original = number - 1
        image = _image(seed, original, fault_of(seed, original))
        width, height = image.size
        image, quality = image.resize((width * 9 // 10, height * 9 // 10), Image.Resampling.BICUBIC), 70
    else:
        image = _image(seed, number, fault)
    data = BytesIO()
    image.save(data, "JPEG", quality=quality)
    return data.getvalue()


def fault_of(seed: int, number: int) -> str:
    """What is wrong with an image; empty for a good one. No copy is of a copy, or of another tar."""
    drawn = np.random.default_rng([seed, number, 2]).random()
    for name, share in FAULTS:
        if drawn < share:
            alone = name != "copy" or (number % PER_TAR and fault_of(seed, number - 1) == "")
            return name if alone else ""
        drawn -= share
    return ""


def _image(seed: int, number: int, fault: str) -> Image.Image:
    chance = np.random.default_rng([seed, number, 3])
    width, height = {"small": (240, 200), "long": (1200, 300)}.get(fault) or SIZES[chance.integers(len(SIZES))]
    crops: list[Image.Image] = []
    for _ in range(2):
        canvas = _canvas(seed, int(chance.integers(CANVASES)))
        top, left = chance.integers(CANVAS - height), chance.integers(CANVAS - width)
        crop = canvas[top : top + height, left : left + width]
        turned = crop[:: chance.choice((-1, 1)), :: chance.choice((-1, 1))]
        crops.append(Image.fromarray(np.ascontiguousarray(turned)))
    image = Image.blend(crops[0], crops[1], 0.5)
    return image.filter(ImageFilter.GaussianBlur(12)) if fault == "blurred" else image


@lru_cache(maxsize=CANVASES)
def _canvas(seed: int, number: int) -> NDArray[np.uint8]:
    """Noise of many scales, the finer the fainter, of shape (CANVAS, CANVAS, 3)."""
    rng = np.random.default_rng([seed, number, 4])
    total = np.zeros((CANVAS, CANVAS, 3), np.float32)
    for power in range(2, 10):
        for channel in range(3):
            coarse = Image.fromarray(rng.normal(size=(2**power, 2**power)).astype(np.float32))
            total[..., channel] += np.asarray(coarse.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)) * 0.8**power
    canvas: NDArray[np.uint8] = np.clip(total / total.std() * 60 + 128, 0, 255).astype(np.uint8)
    return canvas
