"""Sources of image-text pairs: folders, globs and files, listed without opening any of them."""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field

from curation.errors import SourceError
from curation.first_look import opened_files
from curation.hashing import digest
from curation.media.decoded import MAX_FILE_BYTES
from curation.media.folder_files import changed_ns
from curation.media.pair_files import FORMATS
from curation.media.pair_records import IMAGE_EXTENSIONS, PairNames
from curation.media.source_folders import Walk, allowed_roots, ending, skipped_text, with_notes
from curation.media.source_splits import Splits, with_splits
from curation.media.tar_pairs import SIDE_EXTENSIONS, is_part
from curation.media.text_tables import unpacked_name
from curation.paths import RecipePath
from curation.rows import unreadable_id
from schemas.pairs import PAIR_LISTING

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".tfrecord")
"""Known, and refused by name: images in them cannot be found by their place."""

TEXT_TABLES = frozenset(("jsonl", "csv"))
NAMES_IMAGES = TEXT_TABLES | {"parquet", "arrow", "json"}

NOTES = frozenset(("dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"))
"""Of `datasets`, beside its data."""


@dataclass(frozen=True)
class PairSource:
    """Where image-text pairs come from, and what is known of all of them.

    Files are known by their names: tars of WebDataset and img2dataset; Parquet and Arrow with images as bytes, as
    `datasets` writes them (`save_to_disk`), or as paths; `.jsonl`, `.csv` and `.tsv` that name images by path;
    folders of images with `.txt` or `.json` beside them (img2dataset's `files`).

    Images below a folder with a `.jsonl`, `.csv` or `.tsv` are pairs only as that says.

    Tables of text may be packed with gzip, bzip2 or zstd (`.jsonl.gz`). `.json` is a list of records, COCO's captions,
    or conversations as LLaVA has them.

    Not taken for pairs: the Parquet that img2dataset writes beside a tar or a folder of the same name, its
    `_stats.json`, the `cache-*.arrow` of `datasets`, hidden files, and stores of datasets. What is not taken is
    counted. Links are followed once, as far as they stay in the source.

    Attributes:
        path: a folder (searched below), a glob, or one file.
        caption, image: names of the fields, columns, or extensions in a tar; None tries those that are in use.
        image_folder: the folder that paths in tables are relative to; None is the table's own. No path leaves it.
        roots: folders into which links of the source may lead, besides its own.
        splits: `keep` keeps those that folders and files are named for (train, validation, test) in a column and in the
            names of shards; `pool` makes one of them.
        language: ISO 639-1 code of texts of which the source does not say more; None where it is not known.
        licence, consent: likewise; carried to the ledger and the card.
        max_decoded_bytes: what the texts and metadata of one file may have in all, or 32 times what the file has on
            disk, where that is more; a file that unfolds to more fails.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    path: RecipePath = ""
    caption: str | None = None
    image: str | None = None
    image_folder: RecipePath | None = None
    roots: tuple[RecipePath, ...] = ()
    splits: Splits = "keep"
    language: str | None = None
    licence: str | None = None
    consent: str | None = None
    max_decoded_bytes: Annotated[int, Field(gt=0)] = MAX_FILE_BYTES


def list_pairs(source: PairSource, limit: int | None = None) -> pa.Table:
    """One row per file (`schemas.pairs.PAIR_LISTING`), in order of their names; opens none.

    Args:
        limit: as many files as it takes to find so many pairs, chosen by the hash of their names.

    Raises:
        SourceError: nothing there, or nothing that has pairs.
    """
    if not source.path:
        raise SourceError("source.path is empty; give a folder, a glob or a file: --set source.path=/data/pairs")
    if source.image_folder is not None and not Path(source.image_folder).expanduser().is_dir():
        raise SourceError(f"source.image_folder: folder {source.image_folder} not found")
    try:
        walk = Walk(allowed_roots(_root(Path(source.path).expanduser().absolute()), _more_roots(source)))
        states = _States(source, walk.roots)
        found = {path: (name, format_) for path, name, format_ in _files(source, walk)}
        rows = [_row(source, path, name, format_, states, walk) for path, (name, format_) in found.items()]
    except OSError as error:
        raise SourceError(f"source.path: cannot read {source.path}: {error.strerror}") from error
    known = " ".join((*FORMATS, "and folders of images with .txt or .json beside them"))
    if not rows:
        skipped = f"; skipped: {skipped_text(walk.skipped)}" if walk.skipped.total() else ""
        raise SourceError(f"source.path: no pairs in {source.path}; known are {known}{skipped}")
    if all(row["format"] in PACKED for row in rows):
        raise SourceError(f"source.path: {rows[0]['error']}; known are {known}")
    told = with_splits(rows, source.splits)
    rows = opened_files(rows, limit)
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["row_id"])), PAIR_LISTING)
    return with_notes(table, walk.skipped, told, source.splits)


Found = tuple[str, str, str]
"""A file's path, its name below the source, and its format, which of a packed one is the end of its name."""


def _root(path: Path) -> str:
    """The folder that names begin in."""
    if path.is_dir():
        return str(path)
    if path.exists() or not glob.has_magic(str(path)):
        return str(path.parent)
    return str(Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1])))


def _more_roots(source: PairSource) -> list[str]:
    return [*source.roots, *([source.image_folder] if source.image_folder else [])]


def _files(source: PairSource, walk: Walk) -> Iterator[Found]:
    path = Path(source.path).expanduser().absolute()
    root = Path(_root(path))
    if path.is_dir():
        yield from _below(source, walk, path, path)
    elif path.exists():
        yield from _one(path, path.name, walk)
    elif glob.has_magic(str(path)):
        for match in _matches(root, path.relative_to(root)):
            if match.is_dir():
                yield from _below(source, walk, match, root)
            elif walk.may_read(str(match)):
                yield from _one(match, match.relative_to(root).as_posix(), walk)
    else:
        raise SourceError(f"source.path: {source.path} not found")


def _one(path: Path, name: str, walk: Walk) -> Iterator[Found]:
    if format_ := _format(path.name):
        yield str(path), name, format_
    else:
        walk.skipped[ending(path.name)] += 1


def _matches(root: Path, pattern: Path) -> Iterator[Path]:
    try:
        yield from root.glob(str(pattern))
    except (ValueError, NotImplementedError) as error:
        raise SourceError(f"source.path: {root / pattern} is not a glob that can be read: {error}") from error


def _below(source: PairSource, walk: Walk, folder: Path, root: Path) -> Iterator[Found]:
    """The files of a folder and of those below it."""
    described: set[str] = set()
    for found in walk.below(str(folder)):
        here, folders, there = found.path, found.folders, set(found.names)
        if _is_store(here, folders):
            found.prune()
            walk.skipped["stores of datasets"] += 1
            continue
        below = os.path.relpath(here, root)
        formats = {name: format_ for name in found.names if (format_ := _format(name))}
        has_samples = _has_samples(source, there)
        for name, format_ in list(formats.items()):
            if _is_note(name, format_, there, folders) or (format_ == "json" and has_samples):
                del formats[name]
            elif format_ in TEXT_TABLES:
                described.add(here)
        for name, format_ in formats.items():
            yield os.path.join(here, name), os.path.normpath(os.path.join(below, name)), format_
        # A table names the images below it: they are then its pairs, and no others.
        if os.path.dirname(here) in described:
            described.add(here)
        if here not in described and has_samples:
            yield here, below if below != "." else os.path.basename(here), "files"
        _count_rest(source, walk, there - formats.keys(), here in described, has_samples)


def _is_note(name: str, format_: str, there: set[str], folders: list[str]) -> bool:
    """Whether a file is what img2dataset or `datasets` write beside their data."""
    stem = name.rpartition(".")[0]
    match format_:
        case "parquet":
            return f"{stem}.tar" in there or stem in folders
        case "arrow":
            return name.startswith("cache-")
        case "json":
            return name in NOTES or name.endswith("_stats.json")
        case _:
            return False


def _count_rest(source: PairSource, walk: Walk, names: set[str], described: bool, has_samples: bool) -> None:
    """Count the files of a folder that nothing reads."""
    images, texts = _loose_extensions(source)
    for name in names:
        format_ = _format(name)
        if format_ is not None and _is_note(name, format_, names | {f"{name.rpartition('.')[0]}.tar"}, []):
            walk.skipped["notes of img2dataset and datasets"] += 1
        elif is_part(name, images):
            if not described and not has_samples:
                walk.skipped["images without a text beside them, unless a table names them"] += 1
        elif not (has_samples and not described and is_part(name, texts)):
            walk.skipped[ending(name)] += 1


def _is_store(here: str, folders: list[str]) -> bool:
    """Whether a folder is a store of datasets: what a run made of pairs is no source of more."""
    return "parts" in folders and any(os.path.isdir(os.path.join(here, name, "_runs")) for name in folders)


def _has_samples(source: PairSource, names: set[str]) -> bool:
    images, texts = _loose_extensions(source)
    stems = {name.rpartition(".")[0] for name in names if is_part(name, images)}
    return any(is_part(name, texts) and name.rpartition(".")[0] in stems for name in names)


def _loose_extensions(source: PairSource) -> tuple[set[str], set[str]]:
    """Of images, and of what stands beside them."""
    images = set(IMAGE_EXTENSIONS) if source.image is None else {source.image.lower()}
    return images, set(SIDE_EXTENSIONS) | ({source.caption.lower()} if source.caption else set())


def _format(name: str) -> str | None:
    small = name.lower()
    for end in PACKED:
        if small.endswith(end):
            return end
    plain = unpacked_name(small)
    format_ = FORMATS.get(os.path.splitext(plain)[1])
    return format_ if plain == small or format_ in TEXT_TABLES or format_ == "json" else None


def _row(source: PairSource, path: str, name: str, format_: str, states: "_States", walk: Walk) -> dict[str, Any]:
    error = None
    if format_ in PACKED:
        error = f"{path}: pairs are not read out of {format_}; unpack it"
    size, modified = _status(path)
    beside = None
    if format_ == "files":
        size = modified = None
        beside = states.of_samples(path)
    elif format_ in NAMES_IMAGES:
        beside = states.of_images(str(names_of(source).image_folder or os.path.dirname(path)))
    try:
        (path + name).encode()
    except UnicodeEncodeError:
        path, name = (text.encode(errors="backslashreplace").decode() for text in (path, name))
        error = f"{path}: its name is not UTF-8; rename it"
    row_id = unreadable_id(path)
    return {
        "row_id": row_id,
        "root": row_id,
        "ordinal": 0,
        "kind": "listing",
        "uri": path,
        "name": name,
        "format": format_,
        "size_bytes": size,
        "modified_ns": modified,
        "beside": beside,
        "roots": walk.roots,
        "language": source.language,
        "licence": source.licence,
        "consent": source.consent,
        "error": error,
    }


def names_of(source: PairSource) -> PairNames:
    """How the source calls things."""
    folder = source.image_folder and str(Path(source.image_folder).expanduser().absolute())
    return PairNames(caption=source.caption, image=source.image, image_folder=folder or None)


class _States:
    """Hashes of names, sizes and times of the loose files that a listed one may name; None where there are none.

    A changed image changes them, so that its table is read again.
    """

    def __init__(self, source: PairSource, roots: tuple[str, ...]) -> None:
        self._images, texts = _loose_extensions(source)
        if source.image is not None:
            self._images |= IMAGE_EXTENSIONS
        self._parts = self._images | texts
        self._roots = roots
        self._known: dict[str, str | None] = {}

    def of_images(self, folder: str) -> str | None:
        """Of all images below a folder."""
        if folder not in self._known:
            below = ((found.path, found.names) for found in Walk(self._roots).below(folder))
            self._known[folder] = _state(folder, below, lambda name: is_part(name, self._images))
        return self._known[folder]

    def of_samples(self, folder: str) -> str | None:
        """Of the images and texts in a folder."""
        return _state(folder, [(folder, os.listdir(folder))], lambda name: is_part(name, self._parts))


def _state(folder: str, below: Any, wanted: Callable[[str], bool]) -> str | None:
    files = [
        [os.path.relpath(here, folder), name, *_status(os.path.join(here, name))]
        for here, names in below
        for name in names
        if wanted(name)
    ]
    return digest(sorted(files, key=lambda file: (file[0], file[1]))) if files else None


def _status(path: str) -> tuple[int | None, int | None]:
    """Size and time of change; None for a file that is not there, which reading it will say."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, changed_ns(status)
