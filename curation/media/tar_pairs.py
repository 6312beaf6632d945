"""Pairs in tars, and in folders of loose files: images, texts and JSON that share a key.

As WebDataset reads them and img2dataset writes them (`--output_format webdataset` and `files`). Texts and JSON are
read; of an image only where it lies.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from curation.errors import MediaError
from curation.media.folder_files import FileFolder, changed_ns
from curation.media.keyed_samples import MAP_WORDS, TEXT_WORDS, KeyedSample, Part, keyed_samples
from curation.media.pair_records import (
    COMMON_EXTENSIONS,
    IMAGE_EXTENSIONS,
    NOTHING_SAID,
    FoundImage,
    ImagePlace,
    Namer,
    PairNames,
    Said,
)
from curation.media.tar_members import Damage, Member, tar_members
from curation.media.text_tables import json_object

Choose = Callable[[Sequence[tuple[str, int]]], Sequence[int]]
"""Places of those to take, of the keys of all, in order."""

SIDE_EXTENSIONS = frozenset(("txt", "json"))


class LooseFile(NamedTuple):
    """A file of a folder."""

    name: str
    path: str
    size: int
    modified_ns: int
    refused: str | None = None


def tar_pairs(path: str, name: str, names: PairNames, choose: Choose) -> Iterator[FoundImage]:
    """The samples of a tar, and the damage that ends it.

    Raises:
        MediaError: nothing in it can be read.
    """
    status = os.stat(path)
    members: list[Member] = []
    damage: Damage | None = None
    for one in tar_members(path):
        if isinstance(one, Damage):
            damage = one
        else:
            members.append(one)
    samples = keyed_samples(members, *_extensions(names))
    with open(path, "rb", buffering=0) as file:

        def read(member: Member, max_bytes: int) -> bytes:
            if member.size > max_bytes:
                raise MediaError(f"{member.name} has {member.size} bytes, more than {max_bytes}")
            data = os.pread(file.fileno(), member.size, member.offset)
            if len(data) < member.size:
                raise MediaError(f"{member.name}: the file ends before its {member.size} bytes")
            return data

        def image(member: Member) -> ImagePlace:
            place = (path, "tar", member.offset, member.size, None)
            return ImagePlace(*place, status.st_size, changed_ns(status))

        reader = _Reader(names, read, image)

        def found(sample: KeyedSample[Member]) -> FoundImage:
            cut = damage if damage and members[-1] in sample.parts.values() else None
            return reader.found(sample, f"{name}/{sample.key}", path, cut)

        chosen = choose([(sample.key, sample.nth) for sample in samples])
        yield from with_captions(path, reader.namer, (found(samples[i]) for i in chosen), names.caption is not None)
    if damage:
        yield damaged(path, name, damage.offset, f"byte {damage.offset}: {damage.reason}", len(members))


def folder_pairs(path: str, name: str, names: PairNames, choose: Choose) -> Iterator[FoundImage]:
    """The samples that lie loose in a folder; folders below it are others.

    Raises:
        MediaError: the folder cannot be read.
    """
    images, texts = _extensions(names)
    inside = FileFolder(path, names.roots)
    try:
        with os.scandir(path) as entries:
            there = sorted(
                e.name for e in entries if is_part(e.name, images | texts) and not e.is_dir(follow_symlinks=False)
            )
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}") from error
    files = [_loose(inside, file_name) for file_name in there]

    def read(file: LooseFile, max_bytes: int) -> bytes:
        if file.size > max_bytes:
            raise MediaError(f"{file.name} has {file.size} bytes, more than {max_bytes}")
        try:
            with open(file.path, "rb") as opened:
                return opened.read(max_bytes)
        except OSError as error:
            raise MediaError(f"{file.name}: cannot be read: {error.strerror}") from error

    reader = _Reader(names, read, lambda f: ImagePlace(f.path, "file", None, None, None, f.size, f.modified_ns))
    samples = keyed_samples(files, images, texts, loose=True)
    chosen = choose([(sample.key, sample.nth) for sample in samples])
    found = (reader.found(samples[i], f"{name}/{samples[i].key}", path, None) for i in chosen)
    yield from with_captions(path, reader.namer, found, names.caption is not None)


def _loose(folder: FileFolder, name: str) -> LooseFile:
    shown = name.encode(errors="backslashreplace").decode()
    if shown != name:
        return LooseFile(shown, "", 0, 0, "not named in UTF-8 (rename it)")
    try:
        found = folder.find(name)
    except MediaError:
        return LooseFile(name, "", 0, 0, "no plain file here")
    return LooseFile(name, found.path, found.size, found.modified_ns)


def is_part(file_name: str, extensions: frozenset[str] | set[str]) -> bool:
    """Whether a loose file belongs to a sample; `00000_stats.json` is a note of img2dataset's."""
    small = file_name.lower()
    known = any(small.endswith(f".{extension}") for extension in extensions)
    return known and not file_name.endswith("_stats.json")


def _extensions(names: PairNames) -> tuple[frozenset[str], frozenset[str]]:
    """Of images, and of what stands beside them."""
    images = IMAGE_EXTENSIONS | ({names.image.lower()} if names.image else set())
    return images, SIDE_EXTENSIONS | ({names.caption.lower()} if names.caption else set())


def damaged(path: str, name: str, offset: int, reason: str, ordinal: int, hides: int | None = None) -> FoundImage:
    """The damage of a file, as a row of its own. Its message names the file and the place.

    Args:
        hides: how many samples are lost with it, where that is known.
    """
    where = f"{path}: {' '.join(reason.split())}"
    return FoundImage(str(offset), -1, ordinal, f"{name}@{offset}", path, None, NOTHING_SAID, where, hides)


def with_captions(path: str, namer: Namer, images: Iterable[FoundImage], asked: bool = True) -> Iterator[FoundImage]:
    """The images, where one of them at least has the field of captions.

    Raises:
        MediaError: none has, and captions were `asked` for: the field is called otherwise.
    """
    waiting: list[FoundImage] = []
    for one in images:
        waiting.append(one)
        if not asked or not namer.lacks_captions:
            yield from waiting
            waiting.clear()
    if any(one.error is None for one in waiting):
        raise namer.no_captions(path, len(waiting))
    yield from waiting


class _Reader:
    """From samples to images with captions."""

    def __init__(self, names: PairNames, read: Callable[[Any, int], bytes], image: Callable[[Any], ImagePlace]) -> None:
        self._names = names
        self._read = read
        self._image = image
        self.namer = Namer(names)

    def found(self, sample: KeyedSample[Part], name: str, path: str, cut: Damage | None) -> FoundImage:
        """A sample's image, or why it has none."""
        first = next(iter(sample.parts.values()))
        uri = f"{path}/{first.name}"
        image, said, problem, hides = None, NOTHING_SAID, sample.problem, sample.hides
        try:
            if problem is None:
                parts = dict(sample.parts)
                if len(here := self._image_extensions(sample)) != 1:
                    hides = max(1, len(here))
                    raise MediaError(self._no_image(sample, here))
                member = parts.pop(here[0])
                uri = f"{path}/{member.name}"
                said = self._said(parts)
                image = self._image(member)
                if cut and said.captions == [None]:
                    raise MediaError(f"no caption: the file is damaged behind it, at byte {cut.offset}")
        except MediaError as error:
            problem = str(error)
        if problem is None:
            return FoundImage(sample.key, sample.nth, sample.ordinal, name, uri, image, said)
        if cut and "damaged" not in problem:
            problem += f"; the file is damaged behind it, at byte {cut.offset}"
        lost = hides if hides > 1 else None
        where = f"{path}: {sample.key}: {problem}"
        return FoundImage(sample.key, sample.nth, sample.ordinal, name, uri, None, NOTHING_SAID, where, lost)

    def _image_extensions(self, sample: KeyedSample[Part]) -> list[str]:
        """Of the parts that may be the image: those of a plain extension, else of one as `img.jpg`, no `seg.png`."""
        if (wanted := self._names.image) is not None:
            return [wanted.lower()] if wanted.lower() in sample.parts else []
        for extensions in (COMMON_EXTENSIONS, IMAGE_EXTENSIONS):
            plain = [extension for extension in sample.parts if extension in extensions]
            worded = [part for part, before in _before(sample.parts, extensions) if not {*before} & MAP_WORDS]
            if found := plain or worded:
                return found
        return []

    def _no_image(self, sample: KeyedSample[Part], here: list[str]) -> str:
        there = ", ".join(sample.parts)
        if here:
            return f"more images than one ({there:.200}); name the one to take as source.image"
        wanted = self._names.image
        return f"no image{'' if wanted is None else f' {wanted}'}; there are: {there:.200}"

    def _said(self, parts: dict[str, Part]) -> Said:
        record = self._record(parts.pop("json")) if "json" in parts else {}
        wanted = self._names.caption
        text = None
        if wanted is None or self.namer.caption_name(tuple(record)) is None:
            extension = "txt" if wanted is None else wanted.lower()
            if wanted is None and extension not in parts:
                texts = [part for part, before in _before(parts, {"txt"}) if {*before} <= TEXT_WORDS]
                extension = texts[0] if len(texts) == 1 else extension
            if extension in parts:
                text = self._text(parts.pop(extension))
        if parts:
            record["other_parts"] = sorted(parts)
        return self.namer.said(record, text=text)

    def _text(self, member: Part) -> str:
        try:
            return self._read(member, self._names.max_text_bytes).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MediaError(f"{member.name} is not UTF-8: {error}") from error

    def _record(self, member: Part) -> dict[str, Any]:
        record = json_object(self._read(member, self._names.max_text_bytes))
        if isinstance(record, str):
            raise MediaError(f"{member.name} is {record}")
        return record


def _before(parts: Iterable[str], extensions: Collection[str]) -> list[tuple[str, list[str]]]:
    """Those of `parts` that end in one of the extensions, with the words before it."""
    split = ((part, *part.rpartition(".")[::2]) for part in parts)
    return [(part, before.split(".")) for part, before, last in split if before and last in extensions]
