"""Paths that a recipe names: each is resolved once, where the recipe is read, and shown as it was resolved.

A key that holds a path says so by its type (`RecipePath`), so that whoever adds one need not think of folders. What is
written in a file of a recipe begins in that file's folder, what stands in a `--set` in the caller's; `~` is the home of
whoever reads the recipe. Workers are then given absolute paths, whatever their own working folder is.
"""

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, GetCoreSchemaHandler

from curation.errors import ResourceMissing

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?\[]")


class Written(str):
    """A text of a recipe that knows the folder in which paths in it begin."""

    folder: str

    def __new__(cls, text: str, folder: str) -> "Written":
        made = super().__new__(cls, text)
        made.folder = folder
        return made


@dataclass(frozen=True)
class PathKey:
    """Marks a key of a recipe as a path.

    Attributes:
        words: values that are no path ("starter").
        prefix: what stands before a path ("local-dir:"); without it the value is a name.
        names: a pattern of values that are the name of something instead, such as a model's.
        there: a name is a path all the same where there is a folder of that name.
    """

    words: tuple[str, ...] = ()
    prefix: str = ""
    names: str = ""
    there: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return BeforeValidator(self.resolved).__get_pydantic_core_schema__(source, handler)

    def resolved(self, value: Any) -> Any:
        """The value with its path made absolute; anything that is no path stays as it is."""
        if not isinstance(value, str) or not self.is_path(value):
            return value
        folder = value.folder if isinstance(value, Written) else os.getcwd()
        return self.prefix + resolve(value.removeprefix(self.prefix), folder)

    def is_path(self, value: str) -> bool:
        """Whether a value of this key is a path."""
        path = value.removeprefix(self.prefix)
        if not path or value in self.words or not value.startswith(self.prefix) or _SCHEME.match(path):
            return False
        if not self.names or not re.fullmatch(self.names, path):
            return True
        folder = value.folder if isinstance(value, Written) else ""
        return self.there and _is_folder(Path(folder, path))

    def path(self, value: str) -> Path:
        """The path in a value that holds one."""
        return Path(value.removeprefix(self.prefix))


RecipePath = Annotated[str, PathKey()]
"""The type of a recipe's key that is a path; empty where none is given."""
ModelFolder = Annotated[str, PathKey(prefix="local-dir:")]
"""The type of a key that names a model of a hub, or a folder with `local-dir:` before it."""
HubOrFolder = Annotated[str, PathKey(names=r"\w[\w.-]*(/[\w.-]+)?", there=True)]
"""The type of a key that names a size of a model, one of a hub (`owner/name`), or a folder."""
SizeOrCheckpoint = Annotated[str, PathKey(names=r"(?!.*\.pt$)\w[\w.-]*")]
"""The type of a key that names a size of a model, or a `.pt` file."""


@dataclass(frozen=True)
class Resource:
    """A path that a recipe names, by its key, with what it needs to be seen by every worker.

    Attributes:
        size: of a file when the run was planned; None for a folder, or for what was not there then.
    """

    key: str
    path: str
    size: int | None = None


def resolve(text: str, folder: str) -> str:
    """An absolute path. `..` is folded, unless a link makes it lead elsewhere than it reads.

    Raises:
        ValueError: no file can be called that: a null byte, half of a character, a name that is too long.
    """
    written = Path(folder, os.path.expanduser(text))
    try:
        os.stat(written)
    except ValueError as error:
        raise ValueError(f"no file can be called that ({error})") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise ValueError(f"no file can be called that ({error.strerror})") from error
    if ".." not in written.parts:
        return str(written)
    folded = os.path.normpath(written)
    return folded if os.path.realpath(folded) == os.path.realpath(written) else str(written)


def located(value: Any, folder: str) -> Any:
    """A recipe's value with every text in it knowing its folder."""
    if isinstance(value, str):
        return Written(value, folder)
    if isinstance(value, dict):
        return {key: located(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [located(inner, folder) for inner in value]
    return value


def resources_of(value: Any, key: str = "") -> Iterator[Resource]:
    """Every path that a recipe, or a part of it, names, by its key."""
    if isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from resources_of(inner, f"{key}.{place}")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from resources_of(inner, f"{key}.{name}")
    elif isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
        marks = path_keys(type(value))
        names = type(value).model_fields if isinstance(value, BaseModel) else [f.name for f in fields(value)]
        for name in names:
            inner, where = getattr(value, name), f"{key}.{name}".lstrip(".")
            mark = marks.get(name)
            if mark is None:
                yield from resources_of(inner, where)
            elif isinstance(inner, str) and mark.is_path(inner):
                path = _without_magic(mark.path(inner))
                yield Resource(where, str(path), path.stat().st_size if path.is_file() else None)


def path_keys(cls: type) -> dict[str, PathKey]:
    """Which fields of a recipe's model, a stage or an engine are paths."""
    if cls not in _path_keys:
        _path_keys[cls] = _found_path_keys(cls)
    return _path_keys[cls]


_path_keys: dict[type, dict[str, PathKey]] = {}


def _found_path_keys(cls: type) -> dict[str, PathKey]:
    found = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        marks = [mark for part in (hint, *get_args(hint)) for mark in getattr(part, "__metadata__", ())]
        if mark := next((mark for mark in marks if isinstance(mark, PathKey)), None):
            found[name] = mark
    return found


def check_seen(resources: Iterable[Resource]) -> None:
    """Make sure that what a recipe names can be read here.

    Raises:
        ResourceMissing: naming this host, the path and its key.
    """
    for resource in resources:
        path = Path(resource.path)
        try:
            status = path.stat()
            mode = os.R_OK | (os.X_OK if path.is_dir() else 0)
            if not os.access(path, mode):
                reason = "may not be read by this user"
            elif resource.size is not None and path.is_file() and status.st_size != resource.size:
                reason = f"has {status.st_size} bytes, and {resource.size} where the run was planned"
            else:
                continue
        except OSError as error:
            reason = f"cannot be seen ({error.strerror or error})"
        raise ResourceMissing(
            f"host {socket.gethostname()}: {resource.path} ({resource.key}) {reason}; "
            "every worker must see what the recipe names, under the same path"
        )


def _without_magic(path: Path) -> Path:
    """Of a glob, the folder that it begins in."""
    if _exists(path):
        return path
    parts = path.parts
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), None)
    return path if first is None else Path(*parts[:first])


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
