"""A span: the claim that a row is about this stretch of this source, in whole ticks of a rational rate."""

from fractions import Fraction
from typing import Any

import pyarrow as pa

SPAN = pa.struct(
    [
        pa.field("source", pa.string(), metadata={"description": "xxh3-128 of the media's bytes, in hex"}),
        pa.field("channel", pa.int16(), metadata={"description": "channel from 0; null is the mean of all"}),
        pa.field("start", pa.int64(), metadata={"description": "first tick", "unit": "ticks"}),
        pa.field("end", pa.int64(), metadata={"description": "tick after the last", "unit": "ticks"}),
        pa.field("rate_num", pa.int32(), metadata={"description": "ticks per second, numerator", "unit": "Hz"}),
        pa.field("rate_den", pa.int32(), metadata={"description": "ticks per second, denominator"}),
    ]
)


def span(source: str, start: int, end: int, rate: Fraction | int, channel: int | None = None) -> dict[str, Any]:
    """A span as the mapping that Arrow stores. `start` and `end` count ticks of `rate` per second."""
    ticks = Fraction(rate)
    return {
        "source": source,
        "channel": channel,
        "start": start,
        "end": end,
        "rate_num": ticks.numerator,
        "rate_den": ticks.denominator,
    }


def span_duration_s(value: dict[str, Any]) -> float:
    """Length of a span in seconds."""
    return float((value["end"] - value["start"]) * value["rate_den"] / value["rate_num"])
