"""The calendar of a scenario: days off, the Spring Festival, the season of heating, the reading day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from metering.settings import SettingsModel
from simulators.fleet.model import Floats

_MONTH_DAY: Final = r"^(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])$"
_SUNDAY: Final = 6
_JITTER_DAYS: Final = 10
"""Boilers are switched on and off within so many days of the season's dates."""
_WARM_C: Final = 17.0
"""No boiler of `simulators.fleet.use` heats above 15.5 °C."""


class CalendarSettings(SettingsModel):
    """The city's year. holidays: local days on which shops and works live as on a Sunday, workdays: as on a Monday.

    spring_festival: its first day 春节, when people travel and shops close. heating_from, heating_until: the season
    (MM-DD) in which boilers burn; each customer begins and ends it within some days of that. reading_day: of all
    classes; the product's own calendars when absent.
    """

    holidays: tuple[date, ...] = ()
    workdays: tuple[date, ...] = ()
    spring_festival: date | None = None
    heating_from: Annotated[str, Field(pattern=_MONTH_DAY)] = "11-07"
    heating_until: Annotated[str, Field(pattern=_MONTH_DAY)] = "03-25"
    reading_day: Annotated[int, Field(ge=1, le=28)] | None = None


def check_calendar(calendar: CalendarSettings) -> Iterator[tuple[str, object, str]]:
    """Yield (field, value, what is wrong) for what contradicts itself."""
    for day in sorted(set(calendar.holidays) & set(calendar.workdays)):
        yield "workdays", day.isoformat(), "stands among the holidays too; a day is one or the other"
    if calendar.heating_from == calendar.heating_until:
        yield "heating_until", calendar.heating_until, "is the day on which the season begins; name another"


def weekdays_of(calendar: CalendarSettings, first: date, count: int) -> Floats:
    """Return the weekday (0 Monday) by which each day from `first` on is lived; a holiday is a Sunday."""
    days = [first + timedelta(days=number) for number in range(count)]
    free, worked = set(calendar.holidays), set(calendar.workdays)
    return np.array([_SUNDAY if d in free else 0 if d in worked else d.weekday() for d in days], dtype=np.float64)


def heated(calendar: CalendarSettings, first: date, warm: Floats, rng: np.random.Generator) -> tuple[Floats, int]:
    """Return the temperatures [°C] by which a customer heats, and the first day (from 0) on which he does.

    warm: daily means from `first` on. Outside of his season it is never cold to him. A first day of 0 or less: he
    heats from the beginning; `warm.size` or more: not in these days.
    """
    on, off = (int(n) for n in rng.integers(-_JITTER_DAYS, _JITTER_DAYS + 1, 2))
    seen = np.array([_in_season(calendar, first + timedelta(days=n), on, off) for n in range(warm.size)])
    felt = np.where(seen, warm, np.maximum(warm, _WARM_C))
    return np.asarray(felt, dtype=np.float64), int(np.argmax(seen)) if seen.any() else warm.size


def _in_season(calendar: CalendarSettings, day: date, on: int, off: int) -> bool:
    begin = _days_since(calendar.heating_from, day - timedelta(days=on))
    end = _days_since(calendar.heating_until, day - timedelta(days=off))
    return begin < end


def _days_since(month_day: str, day: date) -> int:
    """Return how many days ago this day of the year was last."""
    month, number = map(int, month_day.split("-"))
    this = date(day.year, month, number)
    return (day - (this if this <= day else date(day.year - 1, month, number))).days
