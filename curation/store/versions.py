"""Versions: numbered manifests, put if absent. A manifest lists parts and shards with hashes, and never changes.

Whoever publishes claims a number first, so that nobody else writes into its folder. A claim can be made void, by
`VOID` in place of its manifest: whoever holds it then cannot publish under it, and begins again with what is known by
then.
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from curation.errors import StoreError
from curation.hashing import digest
from curation.sealing import seal, typed, unseal
from curation.store.layout import Amount
from curation.store.objects import Store, object_name
from curation.store.parts import PartFile, Receipt, checked_receipt

VOID = b"void\n"
"""In place of a manifest. No manifest is as short."""
NUMBER = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class NodeRecord:
    """One node of a version.

    Attributes:
        parts: the receipts' contents (`Receipt.content`).
        rows_in: what came in.
        made: what was made of it, by kind.
        counts: rows by kind and verdict; their sum is that of rows_in and made.
        reasons: rejected rows by kind and reason.
    """

    name: str
    fingerprint: str
    parts: list[dict[str, Any]]
    rows_in: int = 0
    made: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)

    def verdicts(self, verdict: str) -> int:
        """How many rows of any kind got a verdict here."""
        return sum(counts.get(verdict, 0) for counts in self.counts.values())


@dataclass(frozen=True)
class ShardRecord:
    """One shard as it lies in the version's folder, and the part that it was packed as."""

    path: str
    part_path: str
    subset: str
    size: int
    sha256: str
    samples: int


@dataclass(frozen=True)
class ShelfRecord:
    """What a pack's layout says of its subsets, so that a card can be written of a version alone.

    Attributes:
        node, source: the pack, and the map whose rows it packed.
        subsets: what each holds, in the order of the card.
        amounts, origins: as `curation.store.layout.Layout` has them.
    """

    node: str
    source: str
    subsets: dict[str, str]
    amounts: list[dict[str, Any]]
    origins: list[dict[str, Any]]


@dataclass(frozen=True)
class Version:
    """What a version is made of.

    Attributes:
        accepted: False where the run passed the recipe's limit of failures or kept nothing; kept for the audit.
        files: other files of the version's folder (card, indexes) with their hashes.
        withdrawn: what was withdrawn from the dataset when it was made: ids and URIs, as they were asked for.
    """

    dataset: str
    number: int
    parent: int | None
    recipe: dict[str, Any]
    engines: list[dict[str, Any]]
    nodes: list[NodeRecord]
    shards: list[ShardRecord]
    files: list[PartFile] = field(default_factory=list)
    limit: int | None = None
    accepted: bool = True
    verdict: str = ""
    shelves: list[ShelfRecord] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.number}"

    def content(self) -> str:
        """A digest of all that matters: two runs with the same content need one version."""
        value = asdict(self)
        for name in ("number", "parent", "files"):
            value.pop(name)
        for shard in value["shards"]:
            shard.pop("path")
        return digest(value)

    def node(self, name: str) -> NodeRecord | None:
        return next((node for node in self.nodes if node.name == name), None)

    def parts(self, name: str) -> list[dict[str, Any]]:
        """The receipts' contents of a node."""
        node = self.node(name)
        return [] if node is None else [_receipt(part) for part in node.parts]

    def receipts(self, name: str) -> list[Receipt]:
        return [Receipt(**part) for part in self.parts(name)]


def _receipt(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"files": {role: PartFile(**file) for role, file in content["files"].items()}}


def manifest_path(dataset: str, number: int) -> str:
    return f"{dataset}/_versions/{number}.json"


def version_numbers(store: Store, dataset: str) -> list[int]:
    """Numbers of the versions that are visible, in order."""
    return sorted(number for number, suffix, size in _entries(store, dataset) if suffix == "json" and size != len(VOID))


def datasets(store: Store) -> list[str]:
    """Names of the datasets in a store: those that were run, whether or not to a version."""
    return [name for name in store.folders() if store.names(f"{name}/_versions") or store.names(f"{name}/_runs")]


def read_version(store: Store, dataset: str, number: int | None = None) -> Version:
    """A version, the newest by default.

    Raises:
        StoreError: if there is none, with those that there are; or if its manifest is damaged, or names another
            version, or objects outside the folders of its parts and its own.
    """
    numbers = version_numbers(store, dataset)
    if not numbers:
        raise StoreError(f"{store.root} has no version of {dataset!r}; datasets here: {datasets(store) or 'none'}")
    if number is not None and number not in numbers:
        raise StoreError(f"{store.root} has no version {number} of {dataset!r}; versions: {numbers}")
    number = numbers[-1] if number is None else number
    path = manifest_path(dataset, number)
    return _checked(typed(Version, unseal(store.read(path), path), path), dataset, number, path)


def _checked(version: Version, dataset: str, number: int, path: str) -> Version:
    """The version itself, if everything in it is where it should be."""
    if (version.dataset, version.number) != (dataset, number):
        raise StoreError(f"{path} is damaged: it is the manifest of version {version.name!r}")
    for node in version.nodes:
        for part in node.parts:
            checked_receipt(typed(Receipt, part, f"{path}: node {node.name!r}"), path)
    for shelf in version.shelves:
        for amount in (*shelf.amounts, *shelf.origins):
            typed(Amount, amount, f"{path}: shelf {shelf.node!r}")
    packed = {file.path for node in version.nodes for part in node.parts for file in _receipt(part)["files"].values()}
    try:
        for place in (*(file.path for file in version.files), *(shard.path for shard in version.shards)):
            if not object_name(place).startswith(f"{dataset}/{number}/"):
                raise StoreError(f"{place!r} is not in the folder of version {version.name}")
        for shard in version.shards:
            if object_name(shard.part_path) not in packed:
                raise StoreError(f"the shard {shard.part_path!r} is in no part of it")
    except StoreError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return version


def claim_number(store: Store, dataset: str, content: str, after: int) -> int:
    """A version number for a content; whoever has the same content gets the same number, in whatever order they ask.

    A claim says whose it is. Two equal runs share one, write the same bytes under the same names, and one of them puts
    the manifest; if either dies on the way, the other completes it. A claim that nobody completes, or that was made
    void, leaves a gap in the numbers, and no more.

    Args:
        content: as `Version.content` names it.
        after: the newest version when that was compared: the same content in an older one is no reason to share.
    """
    while True:
        entries = _entries(store, dataset)
        void = {number for number, suffix, size in entries if suffix == "json" and size == len(VOID)}
        for claimed in sorted({n for n, suffix, _ in entries if suffix == "claim" and n > after} - void):
            if store.read(_claim_path(dataset, claimed)).decode(errors="replace") == content:
                return claimed
        number = max((number for number, _, _ in entries), default=0) + 1
        if store.create(_claim_path(dataset, number), content.encode()):
            return number


def _claim_path(dataset: str, number: int) -> str:
    return f"{dataset}/_versions/{number}.claim"


def void_claims(store: Store, dataset: str) -> None:
    """Make all numbers void that are claimed and not published."""
    entries = _entries(store, dataset)
    settled = {number for number, suffix, _ in entries if suffix == "json"}
    for number in sorted({number for number, _, _ in entries} - settled):
        store.create(manifest_path(dataset, number), VOID)


def publish(store: Store, version: Version) -> tuple[Version, bool] | None:
    """Make a version visible, once everything that it lists is in place.

    Returns:
        The version, and True; or the equal one that another run has put under its number, and False; None if the claim
        to the number was made void.
    """
    path = manifest_path(version.dataset, version.number)
    if store.create(path, seal(asdict(version))):
        return version, True
    if store.read(path) == VOID:
        return None
    other = read_version(store, version.dataset, version.number)
    if other.content() != version.content():
        raise StoreError(f"version {version.name} already exists, with another content")
    return other, False


def end_version(store: Store, version: Version) -> None:
    """Remove a version: its manifest first, so that half of it is never found, then its folder."""
    store.delete(manifest_path(version.dataset, version.number))
    remove_folder(store, version)


def remove_folder(store: Store, version: Version) -> None:
    """Remove the folder of a version that has no manifest."""
    for name in store.names(version.name):
        store.delete(name)


def _entries(store: Store, dataset: str) -> list[tuple[int, str, int]]:
    """Numbers that are taken, each with how (`json` or `claim`) and the object's size in bytes."""
    found = []
    for entry in store.objects(f"{dataset}/_versions"):
        number, _, suffix = entry.name.rsplit("/", 1)[1].partition(".")
        if NUMBER.fullmatch(number) and suffix in ("json", "claim"):
            found.append((int(number), suffix, entry.size))
    return found
