"""Working days of the Chinese calendar: make-up workdays count, holidays don't; overrides have the last word.

The days come from PyPI `holidays` (country CN), which knows a year's days off and make-up workdays once the State
Council has announced them, in November of the year before. A year without a single substituted day is not announced:
its dates are *provisional*, and every deadline that touches it says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any, Final

import holidays

_LONGEST_D: Final = 3660


@dataclass(frozen=True, slots=True)
class DayReached:
    """The day on which a number of working days is complete. provisional: on the way lay a year not announced."""

    day: date
    provisional: bool


class WorkCalendar:
    """Which days are worked."""

    def __init__(self, *, worked: Iterable[date] = (), off: Iterable[date] = ()) -> None:
        """worked, off: the utility's own days, stronger than the table. Raises: ValueError for a day in both."""
        self._worked, self._off = frozenset(worked), frozenset(off)
        if both := self._worked & self._off:
            raise ValueError(f"{min(both).isoformat()} is given as worked and as off")

    def is_worked(self, day: date) -> bool:
        """True when people work on that day."""
        if day in self._off:
            return False
        return day in self._worked or bool(_table().is_working_day(day))

    def is_provisional(self, day: date) -> bool:
        """True when the day's year is not announced and no override speaks of the day."""
        return day not in self._worked | self._off and not _is_announced(day.year)

    def after(self, day: date, working_days: int) -> DayReached:
        """Return the day on which `working_days` [d] are over, counted from the next day.

        Accepted on 2026-02-13 with 5 working days: the 14th is a make-up workday, 15th to 23rd are off, so that the
        fifth day is the 27th. Raises: ValueError for less than 1 or for more than ten years of days.
        """
        if working_days < 1:
            raise ValueError(f"{working_days} working days; 1 or more are possible")
        provisional = False
        for _ in range(_LONGEST_D):
            day += timedelta(days=1)
            provisional = provisional or self.is_provisional(day)
            working_days -= self.is_worked(day)
            if not working_days:
                return DayReached(day, provisional)
        raise ValueError(f"no such working day within {_LONGEST_D} days")


@cache
def _table() -> Any:
    return holidays.country_holidays("CN", language="en_US")


@cache
def _is_announced(year: int) -> bool:
    days = holidays.country_holidays("CN", years=year, language="en_US")
    made_up = any(day.year == year for day in days.weekend_workdays)
    return made_up or any("substituted" in name for name in days.values())
