"""The store: immutable objects under one root, each put whole and put once.

Local roots are plain folders; `s3://`, `gs://` and `az://` go through obstore. An object appears under its name whole
or not at all, and a name that is taken stays as it is: that one promise carries parts, versions and resuming.
"""

import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import StoreError

TEMPORARY = ".tmp-"
STALE_AFTER_S = 24 * 3600
ROW_GROUP_ROWS = 4096
"""Of Parquet objects: what a unit reads of a part that holds a whole corpus, at least."""
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://")


@dataclass(frozen=True)
class StoredObject:
    """An object's name, its size in bytes, and when it was put, in seconds since 1970."""

    name: str
    size: int
    modified_s: float


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

    def local_path(self, name: str) -> Path:
        """Where an object lies on disk. Only for a local store."""
        if not self.is_local:
            raise StoreError(f"{self.root} is not a local store")
        return Path(self.root) / name

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """All bytes of an object.

        Raises:
            StoreError: naming the object that is not there or cannot be read.
        """
        with self._explained(f"read {name} from"):
            if self.is_local:
                return self.local_path(name).read_bytes()
            import obstore

            return bytes(obstore.get(self._remote, name).bytes())

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes of an object from `start` on."""
        with self._explained(f"read {name} from"):
            if self.is_local:
                with self.local_path(name).open("rb") as file:
                    file.seek(start)
                    return file.read(length)
            import obstore

            return bytes(obstore.get_range(self._remote, name, start=start, length=length))

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
        self, name: str, columns: list[str] | None = None, row_ids: Sequence[str] | None = None
    ) -> pa.Table:
        """A Parquet object; of `columns`, those that it has.

        Args:
            row_ids: only the rows with these, if the object has `row_id`; row groups without are not read.
        """
        source = pa.BufferReader(self.read(name)) if not self.is_local else str(self.local_path(name))
        try:
            with pq.ParquetFile(source) as file:
                wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
                if row_ids is None or "row_id" not in file.schema_arrow.names:
                    return file.read(columns=wanted, use_threads=False)
                rows = file.read_row_groups(_groups_with(file, row_ids), columns=wanted, use_threads=False)
                return rows.filter(pc.is_in(rows["row_id"], pa.array(row_ids, pa.string())))
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(f"cannot read {name} from {self.root}: {error}") from error

    def exists(self, name: str) -> bool:
        if self.is_local:
            return self.local_path(name).exists()
        import obstore

        with self._explained(f"look for {name} in"):
            try:
                obstore.head(self._remote, name)
            except FileNotFoundError:
                return False
        return True

    def names(self, prefix: str) -> list[str]:
        """Names of all objects below a folder, sorted."""
        if self.is_local:
            folder = self.local_path(prefix)
            found = (p.relative_to(self.root).as_posix() for p in folder.rglob("*") if p.is_file())
            return sorted(name for name in found if TEMPORARY not in name)
        return [found.name for found in self.objects(prefix)]

    def objects(self, prefix: str) -> list[StoredObject]:
        """All objects below a folder with their sizes and ages, sorted by name."""
        if self.is_local:
            found = []
            for name in self.names(prefix):
                with suppress(FileNotFoundError):  # deleted while we look
                    state = self.local_path(name).stat()
                    found.append(StoredObject(name, state.st_size, state.st_mtime))
            return found
        import obstore

        with self._explained(f"list {prefix or 'everything'} in"):
            items = [item for page in obstore.list(self._remote, prefix=prefix) for item in page]
        found = [StoredObject(item["path"], item["size"], item["last_modified"].timestamp()) for item in items]
        return sorted(found, key=lambda one: one.name)

    def folders(self) -> list[str]:
        """Names of the folders at the root, sorted."""
        if self.is_local:
            root = Path(self.root)
            return sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        import obstore

        with self._explained("list everything in"):
            return sorted(obstore.list_with_delimiter(self._remote)["common_prefixes"])

    # -- writing ---------------------------------------------------------------------------------------------------

    def create(self, name: str, data: bytes) -> bool:
        """Put an object if its name is free. True if this call put it, False if it was there.

        Raises:
            StoreError: when the disk is full or the store refuses; nothing is left under the name.
        """
        if self.is_local:
            with self._committing(name) as (file, won):
                file.write(data)
            return bool(won)
        return self._put(name, data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write a large object to; it is put under its name, if that is free, when the block ends."""
        if self.is_local:
            with self._committing(name) as (file, _):
                yield file
            return
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            self._put(name, file)

    def link(self, existing: str, name: str) -> None:
        """Give an object a second name: a hard link on disk, a copy elsewhere."""
        if not self.is_local:
            import obstore

            with self._explained(f"copy {existing} to {name} in"):
                obstore.copy(self._remote, existing, name)
            return
        target = self.local_path(name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(self.local_path(existing), target)
        except FileExistsError:
            return
        except OSError:
            with self.writing(name) as copy, self.local_path(existing).open("rb") as original:
                while chunk := original.read(1 << 20):
                    copy.write(chunk)

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is fine."""
        if self.is_local:
            self.local_path(name).unlink(missing_ok=True)
            return
        import obstore

        with self._explained(f"delete {name} in"), suppress(FileNotFoundError):
            obstore.delete(self._remote, name)

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
                obstore.put(self._remote, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Errors of the disk or of the service in one line, with what could not be done."""
        try:
            yield
        except (OSError, _obstore_error()) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise StoreError(f"cannot {what} {self.root}: {lines[0]}") from error

    @contextmanager
    def _committing(self, name: str) -> Iterator[tuple[IO[bytes], list[str]]]:
        """Write to a temporary file beside the target, sync it, link it: `link` has one winner, `rename` has many.

        Yields the file, and a list that names the object afterwards if it was free.
        """
        target = self.local_path(name)
        temporary: str | None = None
        won: list[str] = []
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                yield cast(IO[bytes], file), won
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(temporary, target)
                won.append(name)
        except OSError as error:
            hint = "; free some space and run again, what is done is kept" if error.errno == errno.ENOSPC else ""
            raise StoreError(f"cannot write {name} to {self.root}: {error.strerror or error}{hint}") from error
        finally:
            if temporary:
                Path(temporary).unlink(missing_ok=True)


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
    """A table as Parquet; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", compression_level=3, row_group_size=ROW_GROUP_ROWS)
    return cast(bytes, sink.getvalue().to_pybytes())


def _obstore_error() -> type[Exception]:
    from obstore.exceptions import BaseError

    return cast(type[Exception], BaseError)
