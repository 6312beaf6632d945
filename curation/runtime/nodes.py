"""The nodes that a pipeline is made of: listings, maps, reduces, packs; values that can be sent to a worker."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.engines.engine import Engine
from curation.hashing import digest
from curation.paths import Resource
from curation.stage import Stage
from curation.store.layout import Layout
from curation.store.tar_shards import TAR_FORMAT


@dataclass(frozen=True)
class Unit:
    """How a node's input is cut to units of work (see `runtime.units`).

    Attributes:
        cost: the column that says what a row costs; None counts 1 a row.
        target: cost of a unit on average; a unit never passes twice this, unless one group alone does.
        together: the column whose equal values are never parted.
    """

    cost: str | None = None
    target: float = 1000.0
    together: str = "row_id"


WHOLE = Unit(target=float("inf"), together="kind")
"""Everything in one unit: for decisions over the whole corpus, on small columns."""


@dataclass(frozen=True)
class Listing:
    """The rows that a run starts from, known without opening any media."""

    name: str
    rows: pa.Table

    def fingerprint(self) -> str:
        return digest([self.name])


@dataclass(frozen=True)
class Map:
    """A chain of stages over the kept rows of `source`, unit by unit.

    Attributes:
        joins: reduces whose tables are joined to the rows, by the columns that they share.
    """

    name: str
    source: str
    stages: tuple[Stage, ...]
    unit: Unit = Unit()
    joins: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        return digest([self.name, self.unit.together, [stage.fingerprint() for stage in self.stages]])


@dataclass(frozen=True)
class Reduce:
    """A small table from some columns of all kept rows of `source`: percentiles, counts, quotas.

    Attributes:
        joins: as of a map: tables of earlier reduces whose columns the function reads too.
    """

    name: str
    source: str
    function: Stage
    joins: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        return digest([self.name, self.function.fingerprint()])


@dataclass(frozen=True)
class Pinned:
    """A reduce's table as an earlier version of the dataset made it."""

    name: str
    version: int

    def fingerprint(self) -> str:
        return digest([self.name, self.version])


@dataclass(frozen=True)
class Pack:
    """Kept rows of `source` with payloads, copied to shards; a shard holds rows of one subset (`layout.subset`)."""

    name: str
    source: str
    layout: Layout
    unit: Unit = Unit()

    def fingerprint(self) -> str:
        return digest([self.name, self.unit.together, self.layout.fingerprint(), TAR_FORMAT])


Node = Listing | Map | Reduce | Pinned | Pack


@dataclass(frozen=True)
class Pipeline:
    """A dataset's nodes in the order in which they run.

    Attributes:
        resources: what the recipe names by its path, which whoever does a unit must see.
    """

    dataset: str
    nodes: tuple[Node, ...]
    resources: tuple[Resource, ...] = ()

    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        return [stage for node in self.nodes for stage in stages_of(node)]

    def engines(self) -> list[Engine]:
        """Every engine that a stage names, once."""
        return list(dict.fromkeys(engine for stage in self.stages() for engine in stage.engines()))


def stages_of(node: Node) -> Sequence[Stage]:
    """The stages of a node."""
    match node:
        case Map():
            return node.stages
        case Reduce():
            return (node.function,)
        case Pack():
            return (node.layout,)
        case _:
            return ()
