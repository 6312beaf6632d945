"""The job of `benchmarks/images.py` by hand: one process, one file, nothing between the image and the answer.

It reads the tars, hashes, judges size and aspect ratio by the header, decodes at draft scale, judges what shows
nothing, finds duplicates by perceptual hash, and writes a ledger and the kept images to tars with an index. It has no
units, no receipts, no lineage, no place to go on from when it is killed, and holds its tables in memory.

Two measures of an image:

- `same` calls the library's own measures, so that its verdicts must be the library's, image by image: what the
  pipeline costs beyond it is the pipeline's own;
- `lean` is what one would write for this job alone: Pillow's grey draft, its scaling, blur and a perceptual hash, in
  numpy. It measures no contrast, no colours, no entropy and no flat share; duplicates are told by grey alone.

Near hashes are found by the library's `hamming_pairs`, which is as lean as one would write it.
"""

import argparse
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from PIL import Image

from curation.diversity.near_hashes import hamming_pairs
from curation.text.caption_detail import CaptionDetail
from curation.vision.colour_signature import colour_distance

MIN_SIDE, MAX_ASPECT, MIN_SHARPNESS, MIN_CONTRAST, DISTANCE = 256, 3.0, 10.0, 4.0, 4
COLOUR_DISTANCE = 16.0
SHARD_BYTES = 256_000_000
SIDE = 256
COSINES = np.array([[cos(pi * (2 * x + 1) * u / 64) for x in range(32)] for u in range(1, 9)])

Measure = Callable[[bytes], dict[str, Any]]


@dataclass
class Pair:
    """One image and one text, where the image lies, and what became of them."""

    row_id: str
    image_hash: str
    caption: str
    metadata: str
    path: str
    offset: int
    size: int
    occurrences: list[str]
    width: int = 0
    height: int = 0
    measures: dict[str, Any] = field(default_factory=dict)
    verdict: str = "kept"
    reason: str | None = None
    value: float | None = None
    threshold: float | None = None
    error: str | None = None

    def go(
        self, verdict: str, reason: str, value: float | None, threshold: float | None, error: str | None = None
    ) -> None:
        self.verdict, self.reason, self.value = verdict, reason, value
        self.threshold, self.error = threshold, error


def run(tars: list[Path], out: Path, measure: Measure) -> dict[str, Any]:
    """The whole job. Returns how many pairs there are, by verdict and reason."""
    pairs = scan(tars, measure)
    reject_duplicates([pair for pair in pairs if pair.verdict == "kept"])
    write_ledger(pairs, out)
    kept = [pair for pair in pairs if pair.verdict == "kept"]
    export(kept, out)
    (out / "kept.json").write_text(json.dumps([pair.row_id for pair in kept]))
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.reason or pair.verdict] = counts.get(pair.reason or pair.verdict, 0) + 1
    return counts


def scan(tars: list[Path], measure: Measure) -> list[Pair]:
    """Every different pair, judged by its own image alone."""
    pairs: dict[str, Pair] = {}
    for path in tars:
        for key, parts, place in entries(path):
            data = parts["jpg"]
            image_hash = xxhash.xxh3_128_hexdigest(data)
            row_id = pair_id(image_hash, xxhash.xxh3_128_hexdigest(parts["txt"]))
            name = f"{path.name}/{key}"
            if row_id in pairs:
                pairs[row_id].occurrences.append(name)
                continue
            text, metadata = parts["txt"].decode(), parts["json"].decode()
            pair = Pair(row_id, image_hash, text, metadata, str(path), *place, occurrences=[name])
            judge(pair, data, measure)
            pairs[row_id] = pair
    return sorted(pairs.values(), key=lambda pair: pair.row_id)


def pair_id(image_hash: str, text_hash: str) -> str:
    """The same ids as the pipeline's, so that results can be compared; any hash of the two would do."""
    return xxhash.xxh3_128_hexdigest(json.dumps(["source", image_hash, text_hash], separators=(",", ":")).encode())


def entries(path: Path) -> Iterator[tuple[str, dict[str, bytes], tuple[int, int]]]:
    """Key, parts by extension, and offset and size of the image, of each sample of a tar."""
    with tarfile.open(path) as tar:
        key, place = "", (0, 0)
        parts: dict[str, bytes] = {}
        for member in tar:
            name, extension = member.name.split(".", 1)
            if name != key:
                if parts:
                    yield key, parts, place
                key, parts = name, {}
            file = tar.extractfile(member)
            assert file is not None
            parts[extension] = file.read()
            if extension == "jpg":
                place = (member.offset_data, member.size)
        if parts:
            yield key, parts, place


def judge(pair: Pair, data: bytes, measure: Measure) -> None:
    try:
        with Image.open(BytesIO(data)) as image:
            pair.width, pair.height = image.size
        short, long = sorted((pair.width, pair.height))
        if short < MIN_SIDE:
            pair.go("rejected", "image_too_small", short, MIN_SIDE)
        elif long / short > MAX_ASPECT:
            pair.go("rejected", "aspect_ratio", long / short, MAX_ASPECT)
        else:
            pair.measures = measure(data)
            if pair.measures.get("contrast", MIN_CONTRAST) < MIN_CONTRAST:
                pair.go("rejected", "image_blank", pair.measures["contrast"], MIN_CONTRAST)
            elif pair.measures["sharpness"] < MIN_SHARPNESS:
                pair.go("rejected", "image_blurred", pair.measures["sharpness"], MIN_SHARPNESS)
    # An image that cannot be read is one row of the ledger.
    except Exception as error:
        pair.go("failed", type(error).__name__, None, None, str(error))


def lean_measures(data: bytes) -> dict[str, Any]:
    """Variance of the Laplacian, and 64 bits of a DCT."""
    image = Image.open(BytesIO(data))
    image.draft("L", (SIDE, SIDE))
    plane = image.convert("L")
    scale = SIDE / min(plane.size)
    if scale < 1:
        plane = plane.resize((round(plane.width * scale), round(plane.height * scale)), Image.Resampling.BOX)
    values = np.asarray(plane, np.int16)
    laplacian = 4 * values[1:-1, 1:-1] - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    cells = np.asarray(plane.resize((32, 32), Image.Resampling.BOX), np.float64)
    waves = COSINES @ cells @ COSINES.T
    bits = np.packbits(waves > np.median(waves))
    return {"sharpness": float(laplacian.var()), "perceptual_hash": int.from_bytes(bits.tobytes(), "big")}


def same_measures() -> Measure:
    """Those of the pipeline."""
    from curation.vision.image_checks import ImageQuality

    return ImageQuality().measure


def reject_duplicates(pairs: list[Pair]) -> None:
    """Of pairs whose hashes and, where they are measured, colours are near, the best stays: by size, by different words
    of the caption, by id. One goes where it is near to one that stays.

    Pairs of one image stay or go together.
    """
    detail = CaptionDetail().measure
    told = [int(detail(pair.caption)["detail"]) for pair in pairs]
    best = sorted(range(len(pairs)), key=lambda i: (-min(pairs[i].width, pairs[i].height), -told[i], pairs[i].row_id))
    hashes = np.array([int(pairs[i].measures["perceptual_hash"]) for i in best], np.uint64)
    near: dict[int, list[int]] = {}
    pairs_found = hamming_pairs(hashes, DISTANCE)
    signatures = b"".join(bytes(pairs[i].measures.get("colour_signature", b"")) for i in best)
    if signatures:
        colours = np.frombuffer(signatures, np.uint8).reshape(len(best), -1)
        apart = colour_distance(colours[pairs_found[:, 0]], colours[pairs_found[:, 1]])
        pairs_found = pairs_found[apart <= COLOUR_DISTANCE]
    for left, right in pairs_found.tolist():
        near.setdefault(right, []).append(left)
    stays: dict[str, bool] = {}
    for place, i in enumerate(best):
        pair = pairs[i]
        gone = [best[j] for j in near.get(place, ()) if stays[pairs[best[j]].image_hash]]
        if stays.setdefault(pair.image_hash, not gone) is False:
            pair.go("rejected", "perceptual_duplicate", None, None)


def write_ledger(pairs: list[Pair], out: Path) -> None:
    """A row a pair: what it is, what was measured, what was decided and by which number."""
    names = ("row_id", "image_hash", "path", "occurrences", "width", "height")
    columns: dict[str, Any] = {name: [getattr(pair, name) for pair in pairs] for name in names}
    for name in ("verdict", "reason", "value", "threshold", "error"):
        columns[name] = [getattr(pair, name) for pair in pairs]
    measured = next((pair.measures for pair in pairs if pair.measures), {})
    for name in measured:
        type_ = pa.uint64() if name == "perceptual_hash" else None
        columns[name] = pa.array([pair.measures.get(name) for pair in pairs], type_)
    pq.write_table(pa.table(columns), out / "ledger.parquet", compression="zstd")


def export(pairs: list[Pair], out: Path) -> None:
    """The kept images, as they came, with caption and what is known of them; and where each lies."""
    index: list[dict[str, Any]] = []
    waiting = sorted(pairs, key=lambda pair: (pair.path, pair.offset))
    number = 0
    while waiting:
        with tarfile.open(out / f"train-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
            count = 0
            while count < len(waiting) and shard.offset < SHARD_BYTES:
                index.append({"shard": number, **write_sample(shard, waiting[count])})
                count += 1
        del waiting[:count]
        number += 1
    pq.write_table(pa.Table.from_pylist(index), out / "index.parquet", compression="zstd")


def write_sample(shard: tarfile.TarFile, pair: Pair) -> dict[str, Any]:
    """One pair at the end of a shard. Returns where it lies."""
    with open(pair.path, "rb") as file:
        file.seek(pair.offset)
        data = file.read(pair.size)
    if xxhash.xxh3_128_hexdigest(data) != pair.image_hash:
        raise ValueError(f"{pair.path} has changed")
    known = {"row_id": pair.row_id, "caption": pair.caption, "width": pair.width, "height": pair.height}
    known |= {"source": pair.metadata, "occurrences": pair.occurrences, **pair.measures}
    start = shard.offset
    for extension, part in (("jpg", data), ("json", json.dumps(known).encode()), ("txt", pair.caption.encode())):
        info = tarfile.TarInfo(f"{pair.row_id}.{extension}")
        info.size = len(part)
        shard.addfile(info, BytesIO(part))
    return {"key": pair.row_id, "offset": start, "size": shard.offset - start}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("tars", type=Path, nargs="+")
    arguments.add_argument("--out", type=Path, required=True, help="a new folder")
    arguments.add_argument("--measures", choices=("same", "lean"), default="same")
    chosen = arguments.parse_args()
    chosen.out.mkdir(parents=True)
    counts = run(chosen.tars, chosen.out, same_measures() if chosen.measures == "same" else lean_measures)
    print(json.dumps({"kept": counts["kept"], "verdicts": counts}))


if __name__ == "__main__":
    main()
