"""Files that a table names by their paths: found below one folder, and nowhere else."""

import os
from collections.abc import Sequence
from functools import lru_cache
from stat import S_ISLNK, S_ISREG
from typing import NamedTuple

from curation.errors import MediaError

LAST_NS = 2**63 - 1
"""The year 2262. A file may say that it was changed after it; a column of 64 bits holds no more."""


def changed_ns(status: os.stat_result) -> int:
    """When a file was changed last, in ns, as far as 64 bits hold it."""
    return max(-LAST_NS, min(status.st_mtime_ns, LAST_NS))


class FolderFile(NamedTuple):
    """A plain file, its size and when it was changed."""

    path: str
    size: int
    modified_ns: int


class FileFolder:
    """A folder that strangers' paths must not leave, by `..`, by a root, or by links.

    Args:
        roots: folders, without links in their own paths, into which a link may lead besides.
    """

    def __init__(self, path: str, roots: Sequence[str] = ()) -> None:
        self.path = os.path.abspath(path)
        self._real = (os.path.realpath(path), *roots)
        self._real_parent = lru_cache(maxsize=4096)(os.path.realpath)

    def find(self, name: str) -> FolderFile:
        """The file of that name.

        Raises:
            MediaError: not there, outside, not a plain file, or not named in UTF-8; it quotes the name.
        """
        shown = f"{name!r:.200}"
        if "://" in name[:16]:
            raise MediaError(f"{shown} is an address; images are read from files: download them first (img2dataset)")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise MediaError(f"{shown}: its name is not UTF-8; rename it") from error
        path = os.path.normpath(os.path.join(self.path, name))
        if not _within(path, self.path):
            raise MediaError(f"{shown} leads out of {self.path}, and is not followed")
        try:
            status = os.lstat(path)
            real = os.path.join(self._real_parent(os.path.dirname(path)), os.path.basename(path))
            if S_ISLNK(status.st_mode):
                real, status = os.path.realpath(path), os.stat(path)
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise MediaError(f"{shown} below {self.path}: {reason}") from error
        if not any(_within(real, root) for root in self._real):
            raise MediaError(f"{shown} leads out of {self.path} by a link, and is not followed")
        if not S_ISREG(status.st_mode):
            raise MediaError(f"{shown} below {self.path}: not a plain file")
        return FolderFile(path, status.st_size, changed_ns(status))


def _within(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/") and path != folder
