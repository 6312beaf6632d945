"""Files below a source: links are followed once and inside allowed roots, and what is not read is counted."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curation.errors import SourceError

LEADS_OUT = "links that lead out of the source (source.roots allows more folders)"
READ_ALREADY = "links to folders that are read already"
HIDDEN = "hidden files and folders"
SKIPPED, NOTES = b"skipped", b"notes"

TREATED = {
    "keep": "kept (source.splits: pool makes one of them)",
    "pool": "pooled, as source.splits says",
    "recordings": "pooled: recordings keep no splits, so run each as a source of its own to keep them apart",
}
"""What becomes of splits."""


@dataclass
class Folder:
    """A folder, its subfolders, and its files; hidden ones are in neither."""

    path: str
    folders: list[str]
    names: list[str]
    pruned: bool = False

    def prune(self) -> None:
        """Leave out what is below it."""
        self.pruned = True


def allowed_roots(folder: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """The folders, without links in their own paths, out of which no link of a source may lead.

    They are the source's own and those that are given. A snapshot in a cache of Hugging Face's (`snapshots/<revision>`,
    whose files are links to `blobs` beside it) has its repository's folder besides.

    Raises:
        SourceError: one that is given is no folder.
    """
    real = os.path.realpath(folder)
    roots = [real, *_repository(real)]
    for root in given:
        path = Path(root).expanduser()
        if not path.is_dir():
            raise SourceError(f"source.roots: the folder {root} does not exist")
        roots.append(os.path.realpath(path))
    return tuple(dict.fromkeys(roots))


def _repository(folder: str) -> Iterator[str]:
    path = Path(folder)
    for parent in (path, *path.parents):
        if parent.parent.name == "snapshots" and (parent.parent.parent / "blobs").is_dir():
            yield str(parent.parent.parent)
            return


def is_within(path: str, roots: Iterable[str]) -> bool:
    """Whether a path without links is one of the folders, or below one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


class Walk:
    """A walk over folders.

    Folders are found by their own paths first, then by links to those that were not; a link in a circle, or to a folder
    that was seen, is not followed.

    Attributes:
        skipped: what is not read, by why.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = tuple(roots)
        self.skipped: Counter[str] = Counter()
        self._seen: set[tuple[int, int]] = set()

    def below(self, folder: str) -> Iterator[Folder]:
        """The folder and those below it, each once over all walks of this object. What is below one may be pruned.

        Raises:
            OSError: one cannot be read.
        """
        waiting = [folder]
        while waiting:
            links: list[str] = []
            for start in waiting:
                yield from self._tree(start, links)
            waiting = [link for link in sorted(links) if self._leads_to_a_new_folder(link)]

    def _tree(self, start: str, links: list[str]) -> Iterator[Folder]:
        for here, folders, names in os.walk(start, onerror=_raise):
            if not self._is_new(here):
                self.skipped[READ_ALREADY] += 1
                folders.clear()
                continue
            self.skipped[HIDDEN] += sum(name.startswith(".") for name in (*folders, *names))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            there = [name for name in sorted(names) if not name.startswith(".")]
            found = Folder(here, list(folders), [name for name in there if self.may_read(os.path.join(here, name))])
            yield found
            if found.pruned:
                folders.clear()
                continue
            linked = [name for name in folders if os.path.islink(os.path.join(here, name))]
            links += [os.path.join(here, name) for name in linked]
            folders[:] = [name for name in folders if name not in linked]

    def may_read(self, path: str) -> bool:
        """Whether a file lies inside, wherever its name is a link to; one that leads out is counted.

        A link to nothing is read, which then fails by its name.
        """
        if not os.path.islink(path) or not os.path.exists(path) or is_within(os.path.realpath(path), self.roots):
            return True
        self.skipped[LEADS_OUT] += 1
        return False

    def _leads_to_a_new_folder(self, link: str) -> bool:
        if not is_within(os.path.realpath(link), self.roots):
            self.skipped[LEADS_OUT] += 1
            return False
        return True

    def _is_new(self, folder: str) -> bool:
        status = os.stat(folder)
        key = (status.st_dev, status.st_ino)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def skipped_text(skipped: Mapping[str, int]) -> str:
    """What was skipped, in words: `3 .docx, 1 links that lead out of …`; empty where nothing was."""
    return ", ".join(f"{count} {why}" for why, count in sorted(skipped.items()) if count)


def with_notes(
    listing: pa.Table, skipped: Mapping[str, int], splits: Mapping[str, int] | None = None, treated: str = "keep"
) -> pa.Table:
    """A listing that says what was skipped, and which splits it has, in its schema's metadata."""
    notes = []
    if any(skipped.values()):
        notes.append(f"skipped: {skipped_text(skipped)}")
    if splits:
        words = ", ".join(f"{name} {count}" for name, count in splits.items())
        notes.append(f"splits, by files: {words}; {TREATED[treated]}")
    told = {why: count for why, count in sorted(skipped.items()) if count}
    metadata = {SKIPPED: json.dumps(told), NOTES: json.dumps(notes)}
    return listing.replace_schema_metadata(metadata if notes else None)


def skipped_of(listing: pa.Table) -> dict[str, int]:
    """What a listing says was skipped."""
    told: dict[str, int] = json.loads((listing.schema.metadata or {}).get(SKIPPED, b"{}"))
    return told


def notes_of(listing: pa.Table) -> list[str]:
    """What people should know of a listing, a line each."""
    notes: list[str] = json.loads((listing.schema.metadata or {}).get(NOTES, b"[]"))
    return notes


def ending(name: str) -> str:
    """By what a file that no reader knows is counted: the end of its name."""
    end = os.path.splitext(name.lower())[1]
    return end if 1 < len(end) <= 12 and end.isascii() and end.isprintable() else "files without an extension"


def _raise(error: OSError) -> None:
    raise error
