"""Verification: every object that a version lists, read and compared with its hash."""

from collections.abc import Iterator
from typing import BinaryIO, cast

from curation.errors import StoreError
from curation.hashing import bytes_digest
from curation.store.objects import Store
from curation.store.parts import PartFile
from curation.store.shard_index import index_rows
from curation.store.tar_shards import verify_shard
from curation.store.versions import Version


def verify(store: Store, version: Version) -> Iterator[tuple[str, list[str]]]:
    """Each object of a version with what is wrong with it; an empty list where nothing is.

    A shard's damage is told by the sample that it hits.
    """
    for node in version.nodes:
        for receipt in version.receipts(node.name):
            for file in receipt.files.values():
                if file.xxh3:
                    yield file.path, _damage(store, file)
    for file in version.files:
        yield file.path, _damage(store, file)
    for subset in sorted({shard.subset for shard in version.shards}):
        index_path = f"{version.dataset}/{version.number}/index/{subset}.parquet"
        for shard in (shard for shard in version.shards if shard.subset == subset):
            try:
                rows = index_rows(store.read_table(index_path), shard.path.rsplit("/", 1)[1])
                with store.opened(shard.path) as tar:
                    found = verify_shard(cast(BinaryIO, tar), rows, shard.sha256, shard.path)
                yield shard.path, [str(damage) for damage in found]
            except StoreError as error:
                yield shard.path, [str(error)]


def _damage(store: Store, file: PartFile) -> list[str]:
    try:
        data = store.read(file.path)
    except StoreError as error:
        return [str(error)]
    if len(data) != file.size:
        return [f"{file.path}: {len(data)} bytes, {file.size} were written"]
    return [] if bytes_digest(data) == file.xxh3 else [f"{file.path}: its bytes have changed"]
