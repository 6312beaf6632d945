"""Splits that a source has already: folders `train`, `test` and `validation`, files as `train-00000-of-00010`."""

import os
import re
from collections.abc import Iterable
from typing import Any, Literal

TRAIN, VALIDATION, TEST = "train", "validation", "test"

Splits = Literal["keep", "pool"]

_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_WORD = "(" + "|".join(sorted(_NAMES, key=len, reverse=True)) + ")"
_FOLDER = re.compile(rf"{_WORD}[-_]?\d*")
"""train, val2014; not `train_stations`."""
_FILE = re.compile(rf"(?:[a-z0-9.]+[-_])*?{_WORD}\d*(?:[-_.]\d+)*(?:[-_]of[-_]\d+)?(?:[-_.][0-9a-f]{{8,}})?")
"""train-00000-of-00010, captions_val2014, train-00000-of-00002-6ef3fd4e9f3c2a1b; not `test tubes`."""


def split_of(path: str, name: str, is_folder: bool) -> str | None:
    """The split that a listed file belongs to, by its path below the source; None where that tells of none.

    The innermost folder or name that tells counts. Of the folders beside a `dataset_dict.json` each is a split,
    whatever it is called. Names of loose images tell nothing: "photo of a train.jpg".

    Args:
        path: where it lies; `name` is its path below the source.
        is_folder: it stands for the loose files of a folder.
    """
    parts = name.lower().split("/")
    if not is_folder:
        stem = parts.pop().split(".")[0]
        if found := _FILE.fullmatch(stem):
            return _NAMES[found[1]]
    folder = path if is_folder else os.path.dirname(path)
    for part in reversed(parts):
        if found := _FOLDER.fullmatch(part):
            return _NAMES[found[1]]
        if os.path.isfile(os.path.join(os.path.dirname(folder), "dataset_dict.json")):
            return re.sub(r"[^a-z0-9]", "", part).lstrip("0123456789") or None
        folder = os.path.dirname(folder)
    return None


def with_splits(rows: list[dict[str, Any]], splits: Splits) -> dict[str, int]:
    """Write the `split` of listed files, and count their files by split.

    Where some files tell of one, the others are `train`. Pooled, or where none tells, no row has a split.
    """
    found = [split_of(row["uri"], row["name"], row["format"] == "files") for row in rows]
    told: dict[str, int] = {}
    for split in found if any(found) else ():
        told[split or TRAIN] = told.get(split or TRAIN, 0) + 1
    for row, split in zip(rows, found, strict=True):
        row["split"] = (split or TRAIN) if told and splits == "keep" else None
    return dict(sorted(told.items()))


def held_out_rank(split: str | None) -> int:
    """How strictly a split is held out: 0 for test, the highest for train. Of duplicates the lowest stays."""
    return {TEST: 0, VALIDATION: 1, TRAIN: 3, None: 3}.get(split, 2)


def most_held_out(splits: Iterable[str | None]) -> str | None:
    """The split of what stands in several: the one that it must not leak out of."""
    return min(splits, key=lambda split: (held_out_rank(split), split or ""))
