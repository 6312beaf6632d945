"""Nodes written down one step after the other, where a recipe may leave steps out."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from curation.runtime.nodes import Map, Node, Reduce, Unit
from curation.stage import Stage


@dataclass
class Steps:
    """Nodes so far, and the stages that wait for the next map.

    A decision by a reduce's table is two things: the reduce, and a stage of whichever map comes next. So stages wait
    (`then`) until something needs what they decided (`map`).
    """

    nodes: list[Node]
    waiting: list[Stage] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)

    @property
    def last(self) -> str:
        """The node whose rows the next one takes: the last that has rows."""
        return next(node.name for node in reversed(self.nodes) if not isinstance(node, Reduce))

    def then(self, *stages: Stage, joins: Iterable[str] = ()) -> None:
        """Stages for the next map, and the reduces that they read."""
        self.waiting += stages
        self.joins += joins

    def map(self, name: str, unit: Unit) -> None:
        """A map of all stages that wait; none where none does."""
        if self.waiting:
            joins = tuple(dict.fromkeys(self.joins))
            self.nodes.append(Map(name, self.last, tuple(self.waiting), unit, joins))
            self.waiting, self.joins = [], []

    def reduce(self, name: str, function: Stage, joins: Iterable[str] = ()) -> None:
        """A reduce of the last map's rows."""
        self.nodes.append(Reduce(name, self.last, function, tuple(joins)))
