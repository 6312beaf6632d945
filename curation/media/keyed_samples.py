"""Members of a tar, or files of a folder, put together to samples by their key: `000012.jpg`, `000012.txt`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
"""As WebDataset has it: the key goes up to the first dot of the file's name."""


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
    """

    key: str
    nth: int
    ordinal: int
    parts: dict[str, Part] = field(default_factory=dict)
    problem: str | None = None


def keyed_samples(members: Iterable[Part], *, dotted: bool = False) -> list[KeyedSample[Part]]:
    """Samples in the order of their first parts.

    Parts of a key belong together wherever they stand, as long as none comes twice. Where one does, the key was written
    again: parts that stand next to each other are then a sample each, kept apart by `nth`. Where even neighbours repeat
    a part, nobody can say which belongs to which, and that sample has a `problem`.

    Args:
        dotted: names have dots in their keys: the extension is what follows the last one.
    """
    runs: dict[str, list[list[tuple[int, str, Part]]]] = {}
    last = None
    for ordinal, member in enumerate(members):
        named = _key_and_extension(member.name, dotted)
        if named is None:
            continue
        key, extension = named
        of_key = runs.setdefault(key, [])
        if key != last:
            of_key.append([])
            last = key
        of_key[-1].append((ordinal, extension, member))
    samples = [sample for key, of_key in runs.items() for sample in _of_key(key, of_key)]
    return sorted(samples, key=lambda sample: sample.ordinal)


def _of_key(key: str, runs: list[list[tuple[int, str, Part]]]) -> Iterable[KeyedSample[Part]]:
    together = [part for run in runs for part in run]
    if len({extension for _, extension, _ in together}) == len(together):
        runs = [together]
    for nth, run in enumerate(runs):
        sample: KeyedSample[Part] = KeyedSample(key, nth, run[0][0])
        for _, extension, member in run:
            if extension in sample.parts:
                sample.problem = f"{member.name} stands in it twice, so that its parts cannot be told apart"
            if member.refused:
                sample.problem = f"{member.name} is {member.refused}, which is not followed"
            sample.parts.setdefault(extension, member)
        yield sample


def _key_and_extension(name: str, dotted: bool) -> tuple[str, str] | None:
    """None for what is no part of any sample: hidden files, and WebDataset's `__notes__`."""
    base = name.rpartition("/")[2]
    if base.startswith(".") or (base.startswith("__") and base.endswith("__")):
        return None
    if dotted:
        key, _, extension = name.rpartition(".")
        return (key, extension.lower()) if key else (name, "")
    match = KEY.fullmatch(name)
    return (match[1], match[2].lower()) if match else (name, "")
