"""Verification: every object that a version rests on, read and compared with its hash."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from curation.errors import StageError, StoreError
from curation.sealing import unseal
from curation.store.measures import read_measures
from curation.store.objects import Store
from curation.store.parts import PartFile, Receipt, check_columns, parse_receipt, receipt_path
from curation.store.runs import read_run
from curation.store.shard_index import index_rows
from curation.store.tar_shards import verify_shard
from curation.store.versions import Version
from curation.store.withdrawals import read_withdrawal


def verify(store: Store, version: Version) -> Iterator[tuple[str, list[str]]]:
    """Each object of a version with what is wrong with it; an empty list where nothing is.

    Besides what the version lists these are the receipts of its parts, and what the next run would read: measures,
    recordings, withdrawals and run records. Damage in a shard is reported by sample.
    """
    for node in version.nodes:
        for receipt in version.receipts(node.name):
            if store.exists(path := receipt_path(receipt.part)):  # a listing has none; `--retry-failed` removes some
                yield path, _faults(_same_receipt, store, path, receipt)
            for file in receipt.files.values():
                yield file.path, _faults(_same_file, store, file)
    for file in version.files:
        yield file.path, _faults(store.check, file.path, file.xxh3)
    yield from _shards(store, version)
    for folder, read in (
        ("measures", read_measures),
        ("recordings", _unsealed),
        (f"{version.dataset}/_runs", read_run),
        (f"{version.dataset}/_withdrawn", read_withdrawal),
    ):
        for path in store.names(folder):
            yield path, _faults(read, store, path)


def _shards(store: Store, version: Version) -> Iterator[tuple[str, list[str]]]:
    """Shards as they lie in the version's folder, compared with their index sample by sample."""
    for subset in sorted({shard.subset for shard in version.shards}):
        index_path = f"{version.dataset}/{version.number}/index/{subset}.parquet"
        for shard in (shard for shard in version.shards if shard.subset == subset):
            try:
                index = store.read_table(index_path)
                check_columns(index.schema, index_path, role="index")
                rows = index_rows(index, shard.path.rsplit("/", 1)[1])
                with store.opened(shard.path) as tar:
                    found = verify_shard(cast(BinaryIO, tar), rows, shard.sha256, shard.path)
                yield shard.path, [str(damage) for damage in found]
            except (StoreError, StageError) as error:
                yield shard.path, [str(error)]


def _same_receipt(store: Store, path: str, receipt: Receipt) -> None:
    if parse_receipt(store.read(path), path).content() != receipt.content():
        raise StoreError(f"{path} is not the receipt that the version lists")


def _same_file(store: Store, file: PartFile) -> None:
    store.check(file.path, file.xxh3)
    if store.is_local and file.path.endswith(".parquet"):  # elsewhere it would be brought a second time
        check_columns(store.read_schema(file.path), file.path)


def _unsealed(store: Store, path: str) -> None:
    unseal(store.read(path), path)


def _faults(read: Callable[..., object], *arguments: object) -> list[str]:
    """What reading an object complains of."""
    try:
        read(*arguments)
    except StoreError as error:
        return [str(error)]
    return []
