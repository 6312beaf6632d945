"""Garbage: parts that no version lists. A part that a run is about to use looks the same, so age counts as well."""

from collections.abc import Iterable

from curation.store.objects import Store, StoredObject
from curation.store.parts import receipt_path
from curation.store.versions import datasets, read_version, version_numbers


def garbage(store: Store, older_than_s: float, now_s: float) -> list[StoredObject]:
    """Objects below `parts/` that no version of any dataset lists, and that were put longer than `older_than_s` ago.

    Measures are no garbage: they are what a changed recipe would have to compute again.

    Args:
        now_s: seconds since 1970.

    Raises:
        StoreError: a version cannot be read, so that nobody knows what it lists.
    """
    listed = listed_parts(store)
    return [
        found
        for found in store.objects("parts")
        if "/".join(found.name.split("/")[:3]) not in listed and now_s - found.modified_s > older_than_s
    ]


def listed_parts(store: Store) -> set[str]:
    """Folders of the parts that versions list."""
    return {
        str(part["part"])
        for dataset in datasets(store)
        for number in version_numbers(store, dataset)
        for node in read_version(store, dataset, number).nodes
        for part in node.parts
    }


def remove(store: Store, objects: Iterable[StoredObject]) -> int:
    """Delete objects, receipts first: a part without its data must not look done. Returns the bytes that were freed."""
    freed = 0
    for found in sorted(objects, key=lambda one: (not one.name.endswith(receipt_path("")), one.name)):
        store.delete(found.name)
        freed += found.size
    return freed
