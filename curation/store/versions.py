"""Versions: numbered manifests, put if absent. A manifest lists parts and shards with hashes, and never changes."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from curation.errors import StoreError
from curation.hashing import digest
from curation.store.objects import Store
from curation.store.parts import PartFile, Receipt


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
    return sorted(int(n) for n, suffix in _entries(store, dataset) if suffix == "json")


def datasets(store: Store) -> list[str]:
    """Names of the datasets in a store: those that were run, whether or not to a version."""
    return [name for name in store.folders() if store.names(f"{name}/_versions") or store.names(f"{name}/_runs")]


def read_version(store: Store, dataset: str, number: int | None = None) -> Version:
    """A version, the newest by default.

    Raises:
        StoreError: if there is none, with those that there are.
    """
    numbers = version_numbers(store, dataset)
    if not numbers:
        raise StoreError(f"{store.root} has no version of {dataset!r}; datasets here: {datasets(store) or 'none'}")
    if number is not None and number not in numbers:
        raise StoreError(f"{store.root} has no version {number} of {dataset!r}; versions: {numbers}")
    path = manifest_path(dataset, numbers[-1] if number is None else number)
    try:
        value = json.loads(store.read(path))
        value["nodes"] = [NodeRecord(**node) for node in value["nodes"]]
        value["shards"] = [ShardRecord(**shard) for shard in value["shards"]]
        value["shelves"] = [ShelfRecord(**shelf) for shelf in value.get("shelves", [])]
        value["files"] = [PartFile(**file) for file in value["files"]]
        return Version(**value)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def claim_number(store: Store, dataset: str, content: str, after: int) -> int:
    """A version number for a content; whoever has the same content gets the same number, in whatever order they ask.

    A claim says whose it is. Two equal runs share one, write the same bytes under the same names, and one of them puts
    the manifest; if either dies on the way, the other completes it. A claim that nobody completes leaves a gap in the
    numbers, and no more.

    Args:
        content: as `Version.content` names it.
        after: the newest version when that was compared: the same content in an older one is no reason to share.
    """
    while True:
        entries = _entries(store, dataset)
        for claimed in sorted({int(n) for n, suffix in entries if suffix == "claim" and int(n) > after}):
            if store.read(_claim_path(dataset, claimed)).decode(errors="replace") == content:
                return claimed
        number = max((int(n) for n, _ in entries), default=0) + 1
        if store.create(_claim_path(dataset, number), content.encode()):
            return number


def _claim_path(dataset: str, number: int) -> str:
    return f"{dataset}/_versions/{number}.claim"


def publish(store: Store, version: Version) -> tuple[Version, bool]:
    """Make a version visible, once everything that it lists is in place.

    Returns:
        The version, and True; or the equal one that another run has put under its number, and False.
    """
    data = json.dumps(asdict(version), sort_keys=True, indent=1).encode()
    if store.create(manifest_path(version.dataset, version.number), data):
        return version, True
    other = read_version(store, version.dataset, version.number)
    if other.content() != version.content():
        raise StoreError(f"version {version.name} already exists, with another content")
    return other, False


def end_version(store: Store, version: Version) -> None:
    """Remove a version: its manifest first, so that nobody finds half of it, then its folder."""
    store.delete(manifest_path(version.dataset, version.number))
    for name in store.names(version.name):
        store.delete(name)


def _entries(store: Store, dataset: str) -> list[tuple[str, str]]:
    names = [name.rsplit("/", 1)[1].split(".") for name in store.names(f"{dataset}/_versions")]
    return [(n[0], n[1]) for n in names if len(n) == 2 and n[0].isdigit() and n[1] in ("json", "claim")]
