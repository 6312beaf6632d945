"""Garbage: parts that no version lists.

A part that a run is about to use looks the same. Folders of parts that a run holds a lease on are spared, and age
counts as well: what a killed run left behind is found again when it is run again.
"""

from collections.abc import Iterable

from curation.store.leases import COLLECTION, RUN, Lease, held_leases, lapsed_leases
from curation.store.objects import Store, StoredObject
from curation.store.parts import receipt_path
from curation.store.versions import datasets, read_version, version_numbers


def collect(store: Store, older_than_s: float) -> tuple[list[StoredObject], list[str]]:
    """Delete garbage. Returns what was deleted, and the holders of the leases that may have spared some."""
    lease = Lease(store, COLLECTION, ())
    try:
        now_s = lease.take()
        # Runs that begin from here on see our lease, and wait.
        runs = [held for held in held_leases(store, now_s) if held.kind == RUN]
        found = garbage(store, older_than_s, now_s, {folder for held in runs for folder in held.folders})
        remove(store, found)
        for name in lapsed_leases(store, now_s):
            store.delete(name)
    finally:
        lease.give_back()
    return found, sorted(held.holder for held in runs)


def garbage(store: Store, older_than_s: float, now_s: float, leased: Iterable[str] = ()) -> list[StoredObject]:
    """Objects below `parts/` that no version of any dataset lists, and that were put longer than `older_than_s` ago.

    Measures are no garbage: they are what a changed recipe would have to compute again.

    Args:
        now_s: seconds since 1970.
        leased: folders that are spared: `parts/<fingerprint>`, or `parts` for all.

    Raises:
        StoreError: a version cannot be read, so that what it lists is unknown.
    """
    spared = frozenset(leased)
    # Listed last: what a version lists by then was put before.
    objects = store.objects("parts")
    listed = listed_parts(store)

    def is_used(name: str) -> bool:
        folders = name.split("/")
        return any("/".join(folders[:depth]) in spared for depth in (1, 2)) or "/".join(folders[:3]) in listed

    return [found for found in objects if not is_used(found.name) and now_s - found.modified_s > older_than_s]


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
