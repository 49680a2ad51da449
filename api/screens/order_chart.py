"""The consumption around a finding as bars: where they stand in a picture of 720 by 160, drawn by the page itself.

Only for looking at: floats are in order here, and nothing is computed back from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from api.schemas_work_orders import Series, SeriesPoint
from api.screens.frame import Times
from metering.clock import parse_rfc3339

WIDTH: Final = 720
HEIGHT: Final = 160
_HOUR_MS: Final = 3_600_000
_GAP: Final = 0.15


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. said: what it stands for, as text."""

    x: float
    y: float
    width: float
    height: float
    said: str


@dataclass(frozen=True, slots=True)
class Chart:
    """name: "hours" or "days". mark: where the finding began, None when outside. gaps: intervals without a bar."""

    name: str
    unit: str
    bars: list[Bar]
    mark: float | None
    first: str
    last: str
    top: str
    gaps: int
    rows: list[tuple[str, str]]


def charts(series: Series | None, started_ms: int | None, times: Times) -> list[Chart]:
    """Return what can be drawn of the hours and of the days. started_ms: [ms UTC] when the finding began."""
    if series is None:
        return []
    begun = None if started_ms is None else datetime.fromtimestamp(started_ms / 1000, times.zone).date()
    hours = [(parse_rfc3339(point.at) // _HOUR_MS, times(point.at)[:16], point) for point in series.hours]
    days = [(date.fromisoformat(point.at).toordinal(), point.at, point) for point in series.days]
    found = [
        _chart("hours", series.unit, hours, None if started_ms is None else started_ms // _HOUR_MS),
        _chart("days", series.unit, days, None if begun is None else begun.toordinal()),
    ]
    return [chart for chart in found if chart is not None]


def _chart(name: str, unit: str, points: Sequence[tuple[int, str, SeriesPoint]], mark: int | None) -> Chart | None:
    known = [(place, said, float(point.consumption), point) for place, said, point in points if point.consumption]
    if not known:
        return None
    first, last = points[0][0], points[-1][0]
    wide = WIDTH / (last - first + 1)
    most = max([value for _, _, value, _ in known] + [1e-9])
    bars = []
    for place, said, value, point in known:
        tall = max(HEIGHT * value / most, 1.0 if value else 0.0)
        x = (place - first + _GAP / 2) * wide
        bars.append(Bar(x, HEIGHT - tall, wide * (1 - _GAP), tall, f"{said} · {point.consumption} {unit}"))
    inside = mark is not None and first <= mark <= last
    return Chart(
        name,
        unit,
        bars,
        (mark - first) * wide if inside and mark is not None else None,
        points[0][1],
        points[-1][1],
        max(known, key=lambda item: item[2])[3].consumption or "",
        last - first + 1 - len(known),
        [(said, point.consumption or "–") for _, said, point in points],
    )
