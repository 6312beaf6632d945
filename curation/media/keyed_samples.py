"""Members of a tar, or files of a folder, put together to samples by their key: `000012.jpg`, `000012.txt`.

The key is what stands before the extension, which is read from the right, since names have dots in them
(`10.1000_fig1.jpg`, `Track 2.0 (live).txt`). WebDataset cuts at the first dot; where a name has one dot both say the
same. More than what follows the last dot belongs to the extension in these cases alone:

1. The source names it: `image: left.jpg`, `caption: en.txt`.
2. A part of a known kind stands before it (`PART_WORDS`): `000012.seg.png`, `000012.img.jpg`, `000012.jpg.json`.
3. In a tar, what stands before it is a word (`000012.left.jpg`), `000012` has parts of its own, and `000012.left` is
   no sample: it has no image, or nothing that stands beside one.

By 2 and 3 no two samples become one: where two names that differ in such words have an image and a text each, they
are two samples.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
MAX_WORDS = 8
"""Of an extension. A name may be a megabyte of them."""

IMAGE_WORDS = frozenset(("img", "image", "image", "photo", "rgb", "jpg", "jpeg", "png", "webp", "gif", "avif"))
TEXT_WORDS = IMAGE_WORDS | frozenset(("caption", "captions", "text", "txt", "alt", "prompt", "output", "outputs"))
"""Words before an extension with which a text is still the sample's own (`key.caption.txt`)."""
MAP_WORDS = frozenset(("seg", "segmentation", "mask", "depth", "edge", "edges", "thumb", "thumbnail", "target"))
"""Words before an extension with which an image is none that a text tells of."""
PART_WORDS = (
    IMAGE_WORDS
    | TEXT_WORDS
    | MAP_WORDS
    | frozenset(("cls", "json", "meta", "metadata", "info", "index", "input", "label", "bbox", "latent", "embedding"))
)
"""Words before an extension that belong to it."""


class Named(Protocol):
    """A member or a file: what it is called, and why it cannot be used, if so."""

    @property
    def name(self) -> str: ...

    @property
    def refused(self) -> str | None: ...


Part = TypeVar("Part", bound=Named)


@dataclass
class KeyedSample(Generic[Part]):
    """The parts of one key, by their extensions in lower case.

    Attributes:
        nth: 0; counted up where a key stands in the file again.
        ordinal: place of its first part among all parts of the file.
        problem: why it cannot be used.
        hides: how many samples it stands for, where it has a problem.
    """

    key: str
    nth: int
    ordinal: int
    parts: dict[str, Part] = field(default_factory=dict)
    problem: str | None = None
    hides: int = 1


def keyed_samples(
    members: Iterable[Part], images: Collection[str], texts: Collection[str], *, loose: bool = False
) -> list[KeyedSample[Part]]:
    """Samples in the order of their first parts.

    Parts of a key belong together wherever they stand, as long as none comes twice. Where one does, the key was written
    again: parts that stand next to each other are then a sample each, kept apart by `nth`. Where even neighbours repeat
    a part, nobody can say which belongs to which, and that sample has a `problem`.

    Args:
        images, texts: extensions of images and of what stands beside them; those with dots are known as such.
        loose: files of a folder, among which an image is always a sample of its own (rule 3 is for tars).
    """
    dotted = sorted((one for one in {*images, *texts} if "." in one), key=len, reverse=True)
    named: list[tuple[int, str, str, Part]] = []
    for ordinal, member in enumerate(members):
        if (both := _stem_and_extension(member.name, dotted)) is not None:
            named.append((ordinal, *both, member))
    has: dict[str, set[str]] = {}
    for _, stem, extension, _ in named:
        has.setdefault(stem, set()).add(extension)
    keys = _Keys(has, frozenset(images), frozenset(texts), loose).by_stem()
    runs: dict[str, list[list[tuple[int, str, Part]]]] = {}
    last = None
    for ordinal, stem, extension, member in named:
        key = keys[stem]
        of_key = runs.setdefault(key, [])
        if key != last:
            of_key.append([])
            last = key
        words = stem[len(key) + 1 :].lower()
        of_key[-1].append((ordinal, f"{words}.{extension}" if words else extension, member))
    samples = [sample for key, of_key in runs.items() for sample in _of_key(key, of_key)]
    return sorted(samples, key=lambda sample: sample.ordinal)


def _of_key(key: str, runs: list[list[tuple[int, str, Part]]]) -> Iterable[KeyedSample[Part]]:
    together = [part for run in runs for part in run]
    if len({extension for _, extension, _ in together}) == len(together):
        runs = [together]
    for nth, run in enumerate(runs):
        sample: KeyedSample[Part] = KeyedSample(key, nth, run[0][0])
        times: dict[str, int] = {}
        for _, extension, member in run:
            times[extension] = times.get(extension, 0) + 1
            if extension in sample.parts:
                sample.problem = f"{member.name} appears twice in it, so its parts cannot be told apart"
            if member.refused:
                sample.problem = f"{member.name} is {member.refused}, which is not followed"
            sample.parts.setdefault(extension, member)
        sample.hides = max(times.values())
        yield sample


def _stem_and_extension(name: str, dotted: list[str]) -> tuple[str, str] | None:
    """None for what is no part of any sample: hidden files, and WebDataset's `__notes__`."""
    base = name.rpartition("/")[2]
    if base.startswith(".") or (base.startswith("__") and base.endswith("__")):
        return None
    small = base.lower()
    for extension in dotted:
        if small.endswith(f".{extension}") and len(base) > len(extension) + 1:
            return name[: -len(extension) - 1], extension
    stem, dot, extension = base.rpartition(".")
    return (name[: -len(extension) - 1], extension.lower()) if dot and stem else (name, "")


class _Keys:
    """Which key the parts of a stem (a name up to its last dot) belong to."""

    def __init__(self, has: dict[str, set[str]], images: frozenset[str], texts: frozenset[str], loose: bool) -> None:
        self._has = has
        self._images, self._texts, self._loose = images, texts, loose

    def by_stem(self) -> dict[str, str]:
        keys = self._by_known_words()
        if self._loose:
            return keys
        has: dict[str, set[str]] = {}
        for stem, key in keys.items():
            has.setdefault(key, set()).update(self._has[stem])
        return {stem: self._enclosing(key, has) for stem, key in keys.items()}

    def _by_known_words(self) -> dict[str, str]:
        """Rule 2, where it makes no two samples one."""
        groups: dict[str, list[str]] = {}
        for stem in self._has:
            groups.setdefault(_without(stem, PART_WORDS), []).append(stem)
        keys: dict[str, str] = {}
        for key, stems in groups.items():
            whole = [stem for stem in stems if self._is_sample(self._has[stem])]
            together = len(whole) < 2 and (len(stems) > len(whole) or stems == [key])
            if self._loose:
                # Of loose files only notes on an image are parts of another name: 12.jpg, 12.jpg.json.
                together = together and sum(bool(self._has[stem] & self._images) for stem in stems) < 2
            keys |= {stem: key if together else stem for stem in stems}
        return keys

    def _enclosing(self, key: str, has: dict[str, set[str]]) -> str:
        """Rule 3."""
        outer: str | None = key
        for _ in range(MAX_WORDS):
            if self._is_sample(has.get(key, set())) or outer is None:
                break
            outer = _cut_word(outer)
            key = outer if outer in has else key
        return key

    def _is_sample(self, extensions: set[str]) -> bool:
        return bool(extensions & self._images and extensions & self._texts)


def _without(stem: str, words: frozenset[str]) -> str:
    for _ in range(MAX_WORDS):
        if (cut := _cut_word(stem)) is None or stem[len(cut) + 1 :].lower() not in words:
            break
        stem = cut
    return stem


def _cut_word(stem: str) -> str | None:
    """The stem without its last word; None where it has no other, or what stands there is no word."""
    before, dot, word = stem.rpartition(".")
    base = before.rpartition("/")[2]
    return before if dot and base and "/" not in word and WORD.fullmatch(word) else None
