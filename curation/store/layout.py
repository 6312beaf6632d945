"""How a row becomes a sample in a shard: what its parts are, and what the index says of it."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.stage import Stage


@dataclass(frozen=True)
class Layout(Stage):
    """The layout of a pipeline's samples. A stage by its `reads` and its fingerprint; it is asked sample by sample.

    Attributes:
        extensions: of the parts that every sample has.
        index: columns that go to the index beside the offsets.
        subset: the column that says to which subset a row goes.
    """

    extensions: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    subset: str = "task"

    @property
    def subsets(self) -> Mapping[str, str]:
        """What each subset holds, in a few words for the card."""
        return {}

    @abstractmethod
    def parts(self, row: dict[str, Any], payload: bytes) -> dict[str, bytes]:
        """The parts of a sample by extension."""
