"""Figures of a score: what was measured, what it should be, and whether it is."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

MOST_PROBLEMS = 5


@dataclass(frozen=True)
class Figure:
    """One line of a score.

    Attributes:
        value: None where there was nothing to measure.
        at_least, at_most: the target; both None where the figure is only shown.
        count: what it is a share of, for people.
        by: how it came about: reasons and how often.
        plain: the value is no share, and is not written as one.
    """

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    count: str = ""
    by: Mapping[str, int] = field(default_factory=dict)
    plain: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the value is what it should be; None without a target, or without a value."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        """The target, for people."""
        limits = ((">=", self.at_least), ("<=", self.at_most))
        if self.at_least is not None and self.at_least == self.at_most:
            limits = (("=", self.at_least),)  # type: ignore[assignment]
        return ", ".join(f"{sign} {self._written(limit)}" for sign, limit in limits if limit is not None)

    @property
    def shown(self) -> str:
        """The value, for people."""
        return "-" if self.value is None else self._written(self.value)

    def _written(self, value: float) -> str:
        return f"{value:.4g}" if self.plain else f"{value:.1%}"


def share(
    name: str,
    part: int,
    whole: int,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    by: Iterable[str] | Mapping[str, int] = (),
) -> Figure:
    """The figure of a part of a whole; `by` are the reasons of the part, one each, or counted."""
    counted = dict(Counter(by).most_common())
    return Figure(name, part / whole if whole else None, at_least, at_most, f"{part}/{whole}", counted)


@dataclass(frozen=True)
class FigureScore:
    """All figures of a run. `problems` says in words what no figure says."""

    figures: tuple[Figure, ...]
    problems: tuple[str, ...] = ()

    @property
    def missed(self) -> list[str]:
        """Names of the figures that are not what they should be."""
        return [figure.name for figure in self.figures if figure.met is False]

    def __getitem__(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        figures = [asdict(figure) | {"met": figure.met} for figure in self.figures]
        return {"figures": figures, "missed": self.missed, "problems": list(self.problems)}

    def json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def table(self) -> Table:
        """The figures for people, one a line, and the first problems."""
        table = Table("figure", "value", "target", "met", "of", "by", title="score against planted truth")
        marks = {True: "yes", False: "NO", None: ""}
        for figure in self.figures:
            by = ", ".join(f"{name} {count}" for name, count in figure.by.items())
            table.add_row(figure.name, figure.shown, figure.target, marks[figure.met], figure.count, by)
        for problem in self.problems[:MOST_PROBLEMS]:
            table.add_row("problem", "", "", "", "", problem)
        if len(self.problems) > MOST_PROBLEMS:
            more = len(self.problems) - MOST_PROBLEMS
            table.add_row("problems", "", "", "", "", f"… and {more} more: the same command with --json lists them")
        return table
