"""The store: immutable objects under one root, each put whole and put once.

Local roots are plain folders; `s3://`, `gs://` and `az://` go through obstore. An object appears under its name whole
or not at all, and a name that is taken stays as it is: that one promise carries parts, versions and resuming.

Names come out of manifests and receipts that anybody may have written, so every method goes through one door
(`object_name`, and links on disk): no name leads out of the root.
"""

import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curation.errors import StoreError
from curation.hashing import CHUNK_BYTES, bytes_digest

TEMPORARY = ".tmp-"
STALE_AFTER_S = 24 * 3600
NO_HARD_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES)
"""Errors of file systems that cannot link, or not this file again; it is copied there."""
ROW_GROUP_ROWS = 4096
"""Of Parquet objects: what a unit reads of a part that holds a whole corpus, at least."""
_checked: set[tuple[str, str, str, int, int, int, int]] = set()
"""Files on disk that this process has compared with their digests, as they were then."""
MAX_BYTES = 1 << 53
"""More than any object has; less than an offset may be in any system."""
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://")


@dataclass(frozen=True)
class StoredObject:
    """An object's name, its size in bytes, and when it was put, in seconds since 1970."""

    name: str
    size: int
    modified_s: float


def object_name(name: str) -> str:
    """The name itself, if it is one that an object of a store may have.

    Raises:
        StoreError: it is absolute, leads upwards, or holds what no file system or service takes.
    """
    steps = name.split("/")
    control = any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    if control or "\\" in name or any(step in ("", ".", "..") for step in steps):
        raise StoreError(
            f"{name!r} is no name of an object: names are relative, without '..', backslashes and control characters"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{name!r} is no name of an object: it is not UTF-8") from error
    return name


class Store:
    """Objects under a root folder or URL. Cheap to pickle: a worker opens its own connection."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self.is_local = not SCHEME.match(self.root)
        if self.is_local:
            self.root = str(Path(self.root).expanduser().absolute())

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (self.root,))

    @cached_property
    def _remote(self) -> Any:
        from obstore.store import from_url

        return from_url(self.root)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root)

    def local_path(self, name: str) -> Path:
        """Where an object lies on disk. Only for a local store.

        Raises:
            StoreError: the name, or a link on the way, leads out of the store.
        """
        if not self.is_local:
            raise StoreError(f"{self.root} is not a local store")
        path = Path(self.root) / object_name(name)
        self._inside(path, name)
        return path

    def _entry(self, name: str) -> Path:
        """The object's place in its folder, which is inside the store; it may itself be a link to anywhere."""
        if not self.is_local:
            raise StoreError(f"{self.root} is not a local store")
        path = Path(self.root) / object_name(name)
        self._inside(path.parent, name)
        return path

    def _inside(self, path: Path, name: str) -> None:
        real = os.path.realpath(path)
        if real != self._real_root and not real.startswith(self._real_root.rstrip(os.sep) + os.sep):
            raise StoreError(f"{name} in {self.root} is a link that leads out of the store, to {real}: remove it")

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, name: str, xxh3: str = "") -> bytes:
        """All bytes of an object.

        Args:
            xxh3: the digest that it was written with, if it is known; then the bytes are compared with it.

        Raises:
            StoreError: naming the object that is missing, cannot be read, or is damaged.
        """
        with self._explained(f"read {name} from"):
            if self.is_local:
                data = self.local_path(name).read_bytes()
            else:
                import obstore

                data = bytes(obstore.get(self._remote, object_name(name)).bytes())
        if xxh3 and bytes_digest(data) != xxh3:
            raise damaged(name, self.root)
        return data

    def read_range(self, name: str, start: int, length: int, xxh3: str = "") -> bytes:
        """`length` bytes of an object from `start` on, compared with their own digest if it is given.

        Raises:
            StoreError: naming the object that is missing, cannot be read, is damaged, or has no such bytes.
        """
        if not (0 <= start <= MAX_BYTES and 0 <= length <= MAX_BYTES):
            raise StoreError(f"{name} in {self.root} cannot have {length} bytes at byte {start}: its index is damaged")
        with self._explained(f"read {name} from"):
            if self.is_local:
                with self.local_path(name).open("rb") as file:
                    # No more memory is taken than the file has bytes, whatever an index says.
                    length_here = max(0, os.fstat(file.fileno()).st_size - start)
                    file.seek(start)
                    data = file.read(min(length, length_here))
            else:
                import obstore

                data = bytes(obstore.get_range(self._remote, object_name(name), start=start, length=length))
        if len(data) < length or (xxh3 and bytes_digest(data) != xxh3):
            raise damaged(name, self.root, f" in the {length} bytes from byte {start}")
        return data

    def check(self, name: str, xxh3: str) -> None:
        """Compare an object with the digest that it was written with, in constant memory.

        A file that was compared by this process is not read again while its times, size and place on disk stay.

        Raises:
            StoreError: it is missing or damaged.
        """
        digest = xxhash.xxh3_128()
        if not self.is_local:
            import obstore

            with self._explained(f"read {name} from"):
                for chunk in obstore.get(self._remote, object_name(name)).stream(min_chunk_size=CHUNK_BYTES):
                    digest.update(bytes(chunk))
            if digest.hexdigest() != xxh3:
                raise damaged(name, self.root)
            return
        path = self.local_path(name)
        with self._explained(f"read {name} from"):
            status = path.stat()
            state = (self.root, name, xxh3, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            if state in _checked:
                return
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
        if digest.hexdigest() != xxh3:
            raise damaged(name, self.root)
        _checked.add(state)

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A large object as a file to read; elsewhere than on disk it is brought whole first."""
        if self.is_local:
            try:
                with self.local_path(name).open("rb") as file:
                    yield file
            except OSError as error:
                raise StoreError(f"cannot read {name} from {self.root}: {error}") from error
            return
        with tempfile.TemporaryFile() as copy:
            copy.write(self.read(name))
            copy.seek(0)
            yield copy

    def read_table(
        self,
        name: str,
        columns: list[str] | None = None,
        row_ids: Sequence[str] | None = None,
        *,
        xxh3: str = "",
    ) -> pa.Table:
        """A Parquet object; of `columns`, those that it has.

        Args:
            row_ids: only the rows with these, if the object has `row_id`; row groups without are not read.
            xxh3: the digest that the whole object was written with, if it is known; it is compared first.
        """
        if self.is_local and xxh3:
            self.check(name, xxh3)
        source = str(self.local_path(name)) if self.is_local else pa.BufferReader(self.read(name, xxh3))
        try:
            with pq.ParquetFile(source) as file:
                wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
                if row_ids is None or "row_id" not in file.schema_arrow.names:
                    return file.read(columns=wanted, use_threads=False)
                rows = file.read_row_groups(_groups_with(file, row_ids), columns=wanted, use_threads=False)
                return rows.filter(pc.is_in(rows["row_id"], pa.array(row_ids, pa.string())))
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"cannot read {name} from {self.root}: {_line(error)}") from error

    def read_schema(self, name: str) -> pa.Schema:
        """The columns of a Parquet object on disk; its rows are not read."""
        try:
            return pq.read_schema(str(self.local_path(name)))
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"cannot read {name} from {self.root}: {_line(error)}") from error

    def exists(self, name: str) -> bool:
        with self._explained(f"look for {name} in"):
            if self.is_local:
                return self.local_path(name).exists()
            import obstore

            try:
                obstore.head(self._remote, object_name(name))
            except FileNotFoundError:
                return False
        return True

    def names(self, prefix: str) -> list[str]:
        """Names of all objects below a folder, sorted."""
        if self.is_local:
            folder = self.local_path(prefix) if prefix else Path(self.root)
            found = (p.relative_to(self.root).as_posix() for p in folder.rglob("*") if p.is_file())
            return sorted(name for name in found if TEMPORARY not in name)
        return [found.name for found in self.objects(prefix)]

    def objects(self, prefix: str) -> list[StoredObject]:
        """All objects below a folder with their sizes and ages, sorted by name."""
        if self.is_local:
            states = ((name, self._state(name)) for name in self.names(prefix))
            return [StoredObject(name, state.st_size, state.st_mtime) for name, state in states if state]
        import obstore

        with self._explained(f"list {prefix or 'everything'} in"):
            where = object_name(prefix) if prefix else ""
            items = [item for page in obstore.list(self._remote, prefix=where) for item in page]
        found = [StoredObject(item["path"], item["size"], item["last_modified"].timestamp()) for item in items]
        return sorted(found, key=lambda one: one.name)

    def folders(self) -> list[str]:
        """Names of the folders at the root, sorted."""
        if self.is_local:
            root = Path(self.root)
            found = (p for p in (root.iterdir() if root.is_dir() else ()) if p.is_dir())
            return sorted(p.name for p in found if not p.is_symlink() or Path(self._real_root) in p.resolve().parents)
        import obstore

        with self._explained("list everything in"):
            return sorted(obstore.list_with_delimiter(self._remote)["common_prefixes"])

    def _state(self, name: str) -> os.stat_result | None:
        """Size and times of a file; None for one that was deleted since it was listed."""
        with suppress(FileNotFoundError):
            return self._entry(name).lstat()
        return None

    # -- writing ---------------------------------------------------------------------------------------------------

    def create(self, name: str, data: bytes) -> bool:
        """Put an object if its name is free.

        A service may put an object and lose the answer, so that the client's second try meets its own object. So there
        an object that holds these very bytes counts as ours, and bytes that must have one winner hold something of
        their own (a random token, say).

        Returns:
            True if this call put it, False if the name was taken.

        Raises:
            StoreError: when the disk is full or the store refuses; nothing is left under the name.
        """
        if not self.is_local:
            return self._put(name, data) or self._holds(name, data)
        folder, _, last = object_name(name).rpartition("/")
        with self._committing(folder, lambda: last, name) as (file, won):
            file.write(data)
        return bool(won)

    def ensure(self, name: str, data: bytes) -> bool:
        """Put an object unless it is there. True if it holds `data` now, False if it holds something else."""
        return self.create(name, data) or self._holds(name, data)

    def _holds(self, name: str, data: bytes) -> bool:
        """Whether an object has these very bytes; one that is gone by now has not."""
        try:
            return self.read(name) == data
        except StoreError:
            if self.exists(name):
                raise
            return False

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write a large object to; it is put under its name, if that is free, when the block ends."""
        folder, _, last = object_name(name).rpartition("/")
        with self._writing(folder, lambda: last, name) as (file, _):
            yield file

    @contextmanager
    def writing_content(self, folder: str, role: str, suffix: str) -> Iterator["ContentFile"]:
        """The same for an object that is named by its role and its content, which is known when the block ends.

        Raises:
            StoreError: besides, if the name is taken by an object that is damaged.
        """
        with self._writing(folder, lambda: content.name.rpartition("/")[2], f"{folder}/{role}{suffix}") as (
            file,
            taken,
        ):
            content = ContentFile(file, folder, role, suffix)
            yield content
        if taken:
            self.check(content.name, content.xxh3)

    @contextmanager
    def _writing(self, folder: str, last: Callable[[], str], shown: str) -> Iterator[tuple[IO[bytes], list[str]]]:
        """A file to write, and a list that names the object afterwards if its name was taken.

        Args:
            shown: in errors, where the name is not known yet.
        """
        taken: list[str] = []
        if self.is_local:
            with self._committing(folder, last, shown) as (file, won):
                yield file, taken
            if not won:
                taken.append(last())
            return
        with tempfile.TemporaryFile() as file:
            yield file, taken
            file.seek(0)
            name = f"{folder}/{last()}" if folder else last()
            if not self._put(name, file):
                taken.append(name)

    def link(self, existing: str, name: str) -> None:
        """Give an object a second name: a hard link on disk, a copy elsewhere. A name that is taken stays as it is."""
        if not self.is_local:
            import obstore
            from obstore.exceptions import AlreadyExistsError

            with self._explained(f"copy {existing} to {name} in"), suppress(AlreadyExistsError):
                obstore.copy(self._remote, object_name(existing), object_name(name))
            return
        original, target = self.local_path(existing), self._entry(name)
        with self._explained(f"write {name} to"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(original, target)
            except FileExistsError:
                return
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                with self.writing(name) as copy, original.open("rb") as source:
                    while chunk := source.read(CHUNK_BYTES):
                        copy.write(chunk)

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is fine. Of a link, the link goes and what it leads to stays."""
        if self.is_local:
            with self._explained(f"delete {name} in"):
                self._entry(name).unlink(missing_ok=True)
            return
        import obstore

        with self._explained(f"delete {name} in"), suppress(FileNotFoundError):
            obstore.delete(self._remote, object_name(name))

    def sweep(self) -> int:
        """Remove what killed writers left unfinished more than a day ago. Returns how many files went."""
        if not self.is_local:
            return 0
        oldest = time.time() - STALE_AFTER_S
        swept = 0
        for path in list(Path(self.root).rglob(f"{TEMPORARY}*")):
            with suppress(FileNotFoundError):  # another run's, and done by now
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    swept += 1
        return swept

    def _put(self, name: str, data: bytes | IO[bytes]) -> bool:
        """Put an object elsewhere than on disk, in one request, which alone can be made to have one winner."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._explained(f"write {name} to"):
            try:
                obstore.put(self._remote, object_name(name), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Errors of the disk or of the service in one line, with what could not be done."""
        try:
            yield
        except (OSError, _obstore_error()) as error:
            raise StoreError(f"cannot {what} {self.root}: {_line(error)}") from error

    @contextmanager
    def _committing(self, folder: str, last: Callable[[], str], shown: str) -> Iterator[tuple[IO[bytes], list[str]]]:
        """Write to a temporary file beside the target, sync it, link it: `link` has one winner, `rename` has many.

        Yields the file, and a list that names the object afterwards if it was free.
        """
        where = self.local_path(folder) if folder else Path(self.root)
        temporary: str | None = None
        won: list[str] = []
        try:
            where.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=where)
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                yield cast(IO[bytes], file), won
                file.flush()
                os.fsync(file.fileno())
            name = f"{folder}/{last()}" if folder else last()
            with suppress(FileExistsError):
                os.link(temporary, self._entry(name))
                won.append(name)
        except OSError as error:
            hint = "; free some space and run again, what is done is kept" if error.errno == errno.ENOSPC else ""
            raise StoreError(f"cannot write {shown} to {self.root}: {error.strerror or error}{hint}") from error
        finally:
            if temporary:
                Path(temporary).unlink(missing_ok=True)


class ContentFile:
    """A file that is written from its start, and named by what was written.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, file: IO[bytes], folder: str, role: str, suffix: str) -> None:
        self._file = file
        self._digest = xxhash.xxh3_128()
        self._frame = (folder, role, suffix)
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def xxh3(self) -> str:
        """Of all that was written, in hex."""
        return self._digest.hexdigest()

    @property
    def name(self) -> str:
        """Of the object, as `content_name` makes it."""
        folder, role, suffix = self._frame
        return content_name(folder, role, suffix, self.xxh3)


def content_name(folder: str, role: str, suffix: str, xxh3: str) -> str:
    """The name of an object that is named by its content, so that no two workers write one name differently."""
    return f"{folder}/{role}-{xxh3[:16]}{suffix}"


def damaged(name: str, root: str, where: str = "") -> StoreError:
    """The error of an object whose bytes are not those that were written, with what can be done."""
    folder = "/".join(name.split("/")[:3])
    remedy = f"; delete {folder} and run again to compute it again" if name.startswith("parts/") else ""
    return StoreError(f"{name} in {root} is damaged{where}: its bytes have changed since they were written{remedy}")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _groups_with(file: pq.ParquetFile, row_ids: Sequence[str]) -> list[int]:
    """Row groups whose `row_id`s may be among those given, by their least and greatest."""
    place = next(i for i in range(file.metadata.num_columns) if file.schema.column(i).path == "row_id")
    first, last = min(row_ids, default=""), max(row_ids, default="")
    groups = []
    for number in range(file.metadata.num_row_groups):
        found = file.metadata.row_group(number).column(place).statistics
        if found is None or not found.has_min_max or (found.max >= first and found.min <= last):
            groups.append(number)
    return groups


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet; the same table gives the same bytes, whether it was computed or read from such an object."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        row_group_size=ROW_GROUP_ROWS,
        use_compliant_nested_type=False,  # which would rename the values of lists, so that a copy has other bytes
    )
    return cast(bytes, sink.getvalue().to_pybytes())


def _obstore_error() -> type[Exception]:
    from obstore.exceptions import BaseError

    return cast(type[Exception], BaseError)
