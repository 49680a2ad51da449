"""Alarms per ten minutes as a small picture: bars, and the two limits of EEMUA 191 / ISA-18.2 as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEIGHT: Final = 60
_STEP: Final = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """One ten minutes. ago_min: [min] how long ago it began. flood: it reached the flood's limit."""

    x: int
    y: float
    height: float
    count: int
    ago_min: int
    flood: bool


@dataclass(frozen=True, slots=True)
class RateChart:
    """Everything that the page draws, in units of the picture. average: per ten minutes, with one decimal."""

    width: int
    bars: list[Bar]
    manageable_y: float
    flood_y: float
    most: int
    average: str


def rate_chart(counts: Sequence[int], *, manageable: int, flood: int) -> RateChart:
    """Return the picture of `counts` (alarms of each ten minutes, oldest first)."""
    top = max(flood + 1, *counts)

    def y(count: int) -> float:
        return round(HEIGHT - count * HEIGHT / top, 1)

    bars = [
        Bar(
            place * _STEP + 1,
            y(count),
            round(HEIGHT - y(count), 1),
            count,
            (len(counts) - place) * 10,
            count >= flood,
        )
        for place, count in enumerate(counts)
    ]
    tenths = sum(counts) * 10 // max(1, len(counts))
    average = f"{tenths // 10}.{tenths % 10}"
    return RateChart(len(counts) * _STEP, bars, y(manageable), y(flood), max(counts), average)
