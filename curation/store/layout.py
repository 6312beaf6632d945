"""How a row becomes a sample in a shard: what its parts are, and what the index says of it."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.stage import Stage


@dataclass(frozen=True)
class Amount:
    """What the card counts beside samples: the sum of a column, or how many different values it has.

    Attributes:
        heading: "hours", "images".
        per: what one of the heading is in the column's unit (3600 s to the hour); None counts different values.
    """

    heading: str
    column: str
    per: float | None = None


@dataclass(frozen=True)
class Layout(Stage):
    """The layout of a pipeline's samples. A stage by its `reads` and its fingerprint; it is asked sample by sample.

    Attributes:
        extensions: of the parts that every sample has.
        index: columns that go to the index beside the offsets; `language` is among them.
        subset: the column that says to which subset a row goes.
        split: the column that says to which split, which a shard has one of; empty where all rows are of one.
    """

    amounts: ClassVar[tuple[Amount, ...]] = ()
    """Counted of each subset and language, from columns of the index."""
    origins: ClassVar[tuple[Amount, ...]] = ()
    """Counted, besides, of each licence of the sources, from columns of the packed rows."""

    extensions: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    subset: str = "task"
    split: str = ""

    @property
    def apart(self) -> tuple[str, ...]:
        """Columns whose values never share a shard."""
        return (self.subset, self.split) if self.split else (self.subset,)

    @property
    def subsets(self) -> Mapping[str, str]:
        """What each subset holds, in a few words for the card."""
        return {}

    def extensions_in(self, subset: str) -> tuple[str, ...]:
        """Of the parts of every sample in one subset."""
        return self.extensions

    @abstractmethod
    def parts(self, row: dict[str, Any], payload: bytes) -> dict[str, bytes]:
        """The parts of a sample by extension."""
