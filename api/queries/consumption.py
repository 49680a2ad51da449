"""What one meter let pass per hour, day and month, with gaps and backward steps marked: nothing is filled in.

A cell is the difference of the indexes at its two ends. An end without an index near enough is a gap, and a gap is
None, never 0. What a step between two indexes means is decided by `metering.steps` alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, moment_seen
from api.billing.chain import limits_for
from metering.quantities import Quantity, from_micro
from metering.steps import PLAIN, Step, StepLimits, relate
from metering.store import ReadingStore
from registry.models import Closing

HOUR_S: Final = 3600
MOST_READINGS: Final = 50_000
NIGHT: Final = range(2, 5)
"""Hours of the night, local, whose smallest consumption tells of leaks."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Consumption of one hour, day or month. at: its name on the axis. micro: None for a gap.

    mark: "", "gap", "reverse", "rollover", or what `metering.steps` calls a step that no flow explains.
    index: [micro] at its end, None where none was read near enough.
    """

    at: str
    micro: int | None
    mark: str = ""
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Consumption:
    """All cells of one meter. night_minimum: the smallest hour of the nights shown [micro], None without one."""

    hours: list[Cell]
    days: list[Cell]
    months: list[Cell]
    night_minimum: int | None
    complete: bool = True
    """False when the meter has more readings than one page looks at."""
    heat: list[tuple[int, int, int]] = field(default_factory=list)
    """(hour, place of the day, micro) of every hour that is known."""
    heat_days: list[str] = field(default_factory=list)
    nights: list[Cell] = field(default_factory=list)
    """The smallest hour of each night; a gap where an hour of the night is not known."""


def limits_of_meter(meter: Mapping[str, Any]) -> StepLimits:
    """Return what a meter of the registry can do; where its book is silent, what billing takes for its medium."""
    return limits_for(meter["medium"], "", meter["index_digits"], meter["resolution"], meter["qmax"])


def closings(
    connection: Connection, meter: str, areas: Areas, first: date, last: date
) -> dict[date, tuple[int, int]]:
    """Return (read_at, index) of the local days first … last that have a closing."""
    table = Closing.__table__
    statement = sa.select(table.c.day, table.c.read_at, table.c.index).where(
        table.c.meter == meter,
        table.c.day >= first.isoformat(),
        table.c.day <= last.isoformat(),
        moment_seen(areas, table.c.meter, table.c.read_at),
    )
    return {date.fromisoformat(day): (read_at, index) for day, read_at, index in connection.execute(statement)}


def daily(known: Mapping[date, tuple[int, int]], first: date, last: date, limits: StepLimits) -> list[Cell]:
    """Return one cell per day: its closing minus that of the day before."""
    cells = []
    for day in _days(first, last):
        before, after = known.get(day - timedelta(days=1)), known.get(day)
        cells.append(_cell(day.isoformat(), before, after, limits))
    return cells


def monthly(days: Sequence[Cell]) -> list[Cell]:
    """Add days up to calendar months; a month with a gap is a gap, for its sum would be an invention."""
    months: dict[str, list[Cell]] = {}
    for cell in days:
        months.setdefault(cell.at[:7], []).append(cell)
    found = []
    for name, cells in months.items():
        amounts = [cell.micro for cell in cells if cell.micro is not None]
        whole = len(amounts) == len(cells)
        last = next((cell.index for cell in reversed(cells) if cell.index is not None), None)
        found.append(Cell(name, sum(amounts) if whole else None, "" if whole else "gap", last))
    return found


def hourly(
    store: ReadingStore,
    meter: str,
    quantity: str,
    *,
    first: datetime,
    last: datetime,
    lead_s: int,
    limits: StepLimits,
) -> tuple[list[Cell], bool]:
    """Return one cell per hour of first … last (aware, whole hours), and whether all readings were looked at.

    lead_s: [s] how old an index may be at the end of an hour and still stand for it.
    """
    t0, t1 = round(first.timestamp() * 1000) - lead_s * 1000, round(last.timestamp() * 1000) + 1
    rows = list(store.range([meter], t0, t1, quantities=[cast(Quantity, quantity)], limit=MOST_READINGS))
    times = [row.read_at for row in rows]
    ends: list[tuple[int, int] | None] = []
    names = []
    zone = first.tzinfo
    for start in _hours(first, last):
        at = round(start.timestamp() * 1000)
        place = bisect_right(times, at) - 1
        near = place >= 0 and at - times[place] <= lead_s * 1000
        ends.append((times[place], rows[place].values[cast(Quantity, quantity)]) if near else None)
        names.append(f"{start.astimezone(zone):%Y-%m-%d %H}")
    cells = [_cell(names[i], ends[i], ends[i + 1], limits) for i in range(len(ends) - 1)]
    return cells, len(rows) < MOST_READINGS


def _cell(name: str, before: tuple[int, int] | None, after: tuple[int, int] | None, limits: StepLimits) -> Cell:
    index = after[1] if after is not None else None
    if before is None or after is None or before[0] == after[0]:
        return Cell(name, None, "gap", index)
    result = relate(before[1], after[1], (after[0] - before[0]) // 1000, limits)
    if result.step not in PLAIN:
        return Cell(name, None, result.step.name.lower(), index)
    marked = result.step in (Step.REVERSE, Step.ROLLOVER)
    return Cell(name, result.consumption, result.step.name.lower() if marked else "", index)


def whole(hours: list[Cell], days: list[Cell], *, complete: bool) -> Consumption:
    """Put the cells together: months, heat map, night minimum."""
    heat_days = list(dict.fromkeys(cell.at[:10] for cell in hours))
    place = {day: number for number, day in enumerate(heat_days)}
    heat = [(int(c.at[11:13]), place[c.at[:10]], c.micro) for c in hours if c.micro is not None]
    night = [micro for hour, _, micro in heat if hour in NIGHT]
    nights = _nights(heat, heat_days)
    return Consumption(hours, days, monthly(days), min(night, default=None), complete, heat, heat_days, nights)


def _nights(heat: Sequence[tuple[int, int, int]], days: Sequence[str]) -> list[Cell]:
    known: dict[int, list[int]] = {}
    for hour, day, micro in heat:
        if hour in NIGHT:
            known.setdefault(day, []).append(micro)
    whole = {day: min(amounts) for day, amounts in known.items() if len(amounts) == len(NIGHT)}
    return [Cell(name, whole.get(day), "" if day in whole else "gap") for day, name in enumerate(days)]


def shown(consumption: Consumption, unit: str) -> dict[str, Any]:
    """Return what the charts draw: decimal strings, None for gaps."""

    def series(cells: Sequence[Cell]) -> list[dict[str, Any]]:
        return [
            {"at": cell.at, "value": _text(cell.micro), "mark": cell.mark, "index": _text(cell.index)}
            for cell in cells
        ]

    return {
        "unit": unit.replace("m3", "m³"),
        "hours": series(consumption.hours),
        "days": series(consumption.days),
        "months": series(consumption.months),
        "nights": series(consumption.nights),
        "heat": {
            "hours": [f"{hour:02d}" for hour in range(24)],
            "days": consumption.heat_days,
            "cells": [[hour, day, from_micro(micro)] for hour, day, micro in consumption.heat],
        },
        "complete": consumption.complete,
    }


def _text(micro: int | None) -> str | None:
    return None if micro is None else from_micro(micro)


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _hours(first: datetime, last: datetime) -> Iterator[datetime]:
    """Whole hours in real time: a day of 23 or 25 hours has as many."""
    at = first.timestamp()
    zone: tzinfo | None = first.tzinfo
    while at <= last.timestamp():
        yield datetime.fromtimestamp(at, zone)
        at += HOUR_S
