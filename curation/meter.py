"""How far this process is with the unit at hand: a few counters, for whoever shows progress. They decide nothing.

A stage that works row by row counts as it goes (`advance`); who reads (`beat`) may be another thread.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Beat:
    """A moment of a unit.

    Attributes:
        stage: that is at work; `place` of `stages`, from 0.
        rows: that came to the stage.
        done: of those, as far as the stage counts them.
        seconds: since the stage began.
    """

    stage: str
    place: int
    stages: int
    rows: int
    done: int
    seconds: float


class _Meter:
    stage = ""
    place = stages = rows = done = 0
    began_s = 0.0


_meter = _Meter()


def enter(stage: str, place: int, stages: int, rows: int) -> None:
    """A stage begins with so many rows."""
    _meter.stage, _meter.place, _meter.stages = stage, place, stages
    _meter.rows, _meter.done, _meter.began_s = rows, 0, time.monotonic()


def advance(rows: int = 1) -> None:
    """The stage is done with some more rows."""
    _meter.done += rows


def counted(values: Iterable[Value]) -> Iterator[Value]:
    """The same values, one row each."""
    for value in values:
        yield value
        advance()


def leave() -> None:
    """The unit has ended."""
    _meter.stage = ""


def beat() -> Beat | None:
    """Where the unit stands; None where there is none."""
    if not _meter.stage:
        return None
    done, seconds = min(_meter.done, _meter.rows), time.monotonic() - _meter.began_s
    return Beat(_meter.stage, _meter.place, _meter.stages, _meter.rows, done, seconds)
