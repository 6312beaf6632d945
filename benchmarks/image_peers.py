"""The job of `benchmarks/images.py` as users of Daft and of Data-Juicer would write it, run by a Python that has one.

    PYTHON image_peers.py daft PAIRS.jsonl --out FOLDER
    PYTHON image_peers.py data-juicer PAIRS.jsonl --out FOLDER

Each reads JSON lines with paths of files (the reader of tars in Daft 0.7.26 stands still for ever when it is given two
of them on two cores) and does what it has operators for. Neither does the whole job, to its own advantage:

- **Daft** reads, decodes and hashes images natively; blur is a function of the user's, as it has none. Duplicates are
  those of an equal hash (it can measure Hamming distances, but only between columns, so it would need a join of all
  pairs). Kept images go to Parquet with their bytes, as it writes no tars. No ledger, no hash of bytes.
- **Data-Juicer** reads JSON lines with paths of files, and has operators for size, aspect ratio and duplicates of an
  equal hash, fused to one decode. It has none for blur, and none is added. Kept pairs go to JSON lines with paths: no
  image is copied, no tar is written. No ledger, no hash of bytes.

This file imports nothing of the project.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SIDE, MAX_ASPECT, MIN_SHARPNESS = 256, 3.0, 10.0


def daft_job(listed: Path, out: Path) -> int:
    """Returns how many pairs are kept."""
    import daft
    import numpy as np
    from daft import DataType, Series, col
    from daft.functions import decode_image, download, image_hash, image_height, image_width
    from PIL import Image

    @daft.func.batch(return_dtype=DataType.float64())
    def sharpness(images: Series) -> Any:
        found = []
        for pixels in images.to_pylist():
            plane = Image.fromarray(pixels).convert("L")
            scale = SIDE / min(plane.size)
            if scale < 1:
                size = round(plane.width * scale), round(plane.height * scale)
                plane = plane.resize(size, Image.Resampling.BOX)
            p = np.asarray(plane, np.int16)
            laplacian = 4 * p[1:-1, 1:-1] - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]
            found.append(float(laplacian.var()))
        return found

    pairs = daft.read_json(str(listed))
    pairs = pairs.with_column("bytes", download(col("images").get(0)))
    pairs = pairs.with_column("image", decode_image(col("bytes"), mode="RGB"))
    pairs = pairs.with_columns({"width": image_width(col("image")), "height": image_height(col("image"))})
    pairs = pairs.where((col("width") >= SIDE) & (col("height") >= SIDE))
    pairs = pairs.where((col("width") <= MAX_ASPECT * col("height")) & (col("height") <= MAX_ASPECT * col("width")))
    pairs = pairs.with_columns({"sharpness": sharpness(col("image")), "phash": image_hash(col("image"))})
    pairs = pairs.where(col("sharpness") >= MIN_SHARPNESS).exclude("image")
    pairs = pairs.drop_duplicates("phash")
    written = pairs.write_parquet(str(out)).to_pydict()["path"]
    return int(daft.read_parquet([str(path) for path in written]).count_rows())


def data_juicer_job(listed: Path, out: Path) -> int:
    """Returns how many pairs are kept."""
    from data_juicer.config import init_configs
    from data_juicer.core.executor import DefaultExecutor

    process = [
        {"image_shape_filter": {"min_width": SIDE, "min_height": SIDE}},
        {"image_aspect_ratio_filter": {"min_ratio": 1 / MAX_ASPECT, "max_ratio": MAX_ASPECT}},
        {"image_deduplicator": {"method": "phash"}},
    ]
    # JSON is YAML.
    recipe = {
        "project_name": "images",
        "dataset_path": str(listed),
        "export_path": str(out / "kept.jsonl"),
        "work_dir": str(out),
        "ds_cache_dir": str(out / "cache"),
        "image_key": "images",
        "np": 1,
        "op_fusion": True,
        "open_tracer": False,
        "process": process,
    }
    path = out / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return len(DefaultExecutor(init_configs(["--config", str(path)])).run())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("peer", choices=("daft", "data-juicer"))
    arguments.add_argument("listed", type=Path, help="JSON lines of `images` and `text`")
    arguments.add_argument("--out", type=Path, required=True, help="a new folder")
    chosen = arguments.parse_args()
    chosen.out.mkdir(parents=True)
    job = daft_job if chosen.peer == "daft" else data_juicer_job
    kept = job(chosen.listed, chosen.out)
    # Data-Juicer puts a logger in place of the standard output.
    print(json.dumps({"kept": kept}), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
