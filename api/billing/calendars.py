"""Reading days 抄表日: which periods a customer class has, and the moments that bound them.

Period `2026-03` is the one that ends on its reading day in March; its boundary is 00:00 local of that day (of the
first day of a window) in the usage point's time zone. Pure: calendars are data, kept by `registry.billing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, get_args

from metering.clock import parse_day
from registry.books import CustomerClass, Medium

ANY: Final = ""
LAST_DAY: Final = 28
"""The last day that every month has."""
_PERIOD: Final = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")
_CLASSES: Final = (ANY, *get_args(CustomerClass))
_MEDIA: Final = (ANY, *get_args(Medium))


@dataclass(frozen=True, slots=True)
class Calendar:
    """When meters of a class are read. customer_class, medium: "" for any.

    first_day, last_day: the same for a fixed day, else a window (its first day is the boundary).
    every: every n-th month, counted so that `month` (1-12) is one of them. from_period, to_period: "" for no end.
    """

    customer_class: str
    medium: str
    first_day: int
    last_day: int
    every: int = 1
    month: int = 12
    from_period: str = ""
    to_period: str = ""

    def covers(self, period: str) -> bool:
        """True when it counts in that month, due or not."""
        return self.from_period <= period and (not self.to_period or period <= self.to_period)

    def due(self, period: str) -> bool:
        """True when a period ends in that month."""
        return self.covers(period) and (_months(period) - self.month) % self.every == 0


@dataclass(frozen=True, slots=True)
class ExtraDay:
    """An extra reading day (a price change) of a class: a line more inside its period. day: YYYY-MM-DD."""

    customer_class: str
    medium: str
    day: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A period of one usage point. start, end: [ms UTC].

    start_window, end_window: [ms UTC] end of the last reading day at each boundary. cuts: [ms UTC] 00:00 of extra
    reading days, start < cut < end. before: the period that ended at start. months: how many it covers.
    """

    period: str
    start: int
    end: int
    start_window: int
    end_window: int
    cuts: tuple[int, ...] = ()
    months: int = 1
    before: str = ""

    @property
    def windows(self) -> dict[int, int]:
        """Boundary -> end of its last reading day, both [ms UTC]."""
        return {self.start: self.start_window, self.end: self.end_window}


DEFAULTS: Final = (
    Calendar(ANY, ANY, 20, 20),
    Calendar("residential", ANY, 20, 20),
    Calendar("industrial", ANY, 20, 20),
    Calendar("commercial", ANY, 22, 23),
    Calendar("restaurant", ANY, 22, 23),
    Calendar("public", ANY, 20, 25),
    Calendar("public", "water", 20, 20, every=2),
    Calendar(ANY, "electricity", 20, 20),
)
"""The manuals' reading days, in force while the registry holds none of its own."""


@dataclass(frozen=True, slots=True)
class Calendars:
    """All calendars and extra days; answers for a class and medium. The most particular calendar speaks.

    otherwise: calendars for whom no rule is meant, so that no usage point drops out unseen.
    """

    rules: Sequence[Calendar] = DEFAULTS
    extra: Sequence[ExtraDay] = ()
    otherwise: Sequence[Calendar] = ()
    _found: dict[tuple[str, str, str], Calendar | None] = field(default_factory=dict, compare=False, repr=False)
    _bounds: dict[tuple[str, str, str, str], Bounds | None] = field(default_factory=dict, compare=False, repr=False)

    def rule(self, customer_class: str, medium: str, period: str) -> Calendar | None:
        """Return the calendar that counts for a class and medium in a month; None when there is none."""
        key = customer_class, medium, period
        if key not in self._found:
            self._found[key] = self._rule(customer_class, medium, period)
        return self._found[key]

    def _rule(self, customer_class: str, medium: str, period: str) -> Calendar | None:
        for rules in (self.rules, self.otherwise):
            for wanted in ((customer_class, medium), (customer_class, ANY), (ANY, medium), (ANY, ANY)):
                for rule in rules:
                    if (rule.customer_class, rule.medium) == wanted and rule.covers(period):
                        return rule
        return None

    def bounds(self, customer_class: str, medium: str, period: str, tz: str) -> Bounds | None:
        """Return the period's moments in a time zone; None when no period of this class ends in that month.

        It begins where the one before ended, also when the calendar changed in between.
        """
        key = customer_class, medium, period, tz
        if key not in self._bounds:
            self._bounds[key] = self._bounded(customer_class, medium, period, tz)
        return self._bounds[key]

    def _bounded(self, customer_class: str, medium: str, period: str, tz: str) -> Bounds | None:
        rule = self.rule(customer_class, medium, period)
        if rule is None or not rule.due(period):
            return None
        before, months = shift(period, -1), 1
        while True:
            former = self.rule(customer_class, medium, before)
            if former is None or former.due(before) or months >= 12:
                break
            before, months = shift(before, -1), months + 1
        if former is None:
            before, months, former = shift(period, -rule.every), rule.every, rule
        start, end = midnight(before, former.first_day, tz), midnight(period, rule.first_day, tz)
        days = (e.day for e in self.extra if e.customer_class in (ANY, customer_class) and e.medium in (ANY, medium))
        cuts = sorted({cut for day in days if start < (cut := parse_day(day, tz)) < end})
        windows = _after(before, former.last_day, tz), _after(period, rule.last_day, tz)
        return Bounds(period, start, end, *windows, tuple(cuts), months, before)


def midnight(period: str, day: int, tz: str) -> int:
    """Return [ms UTC] of 00:00 local of a day of a month. Where a clock change skips midnight: the first moment."""
    return parse_day(f"{period}-{day:02d}", tz)


def _after(period: str, day: int, tz: str) -> int:
    following = date.fromisoformat(f"{period}-{day:02d}") + timedelta(days=1)
    return parse_day(following.isoformat(), tz)


def shift(period: str, months: int) -> str:
    """Return the period so many months later: shift("2026-01", -1) is "2025-12"."""
    year, month = divmod(_months(period) + months - 1, 12)
    return f"{year:04d}-{month + 1:02d}"


def _months(period: str) -> int:
    return int(period[:4]) * 12 + int(period[5:])


def check_period(text: str) -> str:
    """Return a period as it is. Raises: ValueError when it is none."""
    if not _PERIOD.fullmatch(text):
        raise ValueError(f'"{text}" is no period; write a month such as 2026-03')
    return text


def check_calendar(new: Calendar, others: Iterable[Calendar] = ()) -> None:
    """Refuse what cannot be read or contradicts `others`. Raises: ValueError that says what is allowed."""
    for name, value, allowed in (
        ("customer_class", new.customer_class, _CLASSES),
        ("medium", new.medium, _MEDIA),
    ):
        if value not in allowed:
            raise ValueError(f'{name} = "{value}": allowed are {", ".join(repr(word) for word in allowed)}')
    if not 1 <= new.first_day <= new.last_day <= LAST_DAY:
        raise ValueError(
            f"reading days {new.first_day}-{new.last_day}: allowed are days 1 to {LAST_DAY}, which every month has, "
            "the first not after the last"
        )
    if new.every not in (1, 2, 3, 4, 6, 12) or not 1 <= new.month <= 12:
        raise ValueError(f"every {new.every} months from month {new.month}: allowed are 1, 2, 3, 4, 6, 12 and 1-12")
    for end in (new.from_period, new.to_period):
        if end:
            check_period(end)
    if new.to_period and new.to_period < new.from_period:
        raise ValueError(f"from {new.from_period} to {new.to_period}: it ends before it begins")
    for other in others:
        if (other.customer_class, other.medium) == (new.customer_class, new.medium) and _overlap(new, other):
            raise ValueError(
                f'calendar of class "{new.customer_class}", medium "{new.medium}" overlaps the one from '
                f"{other.from_period or 'the beginning'} to {other.to_period or 'ever'}; end that one first"
            )


def _overlap(one: Calendar, two: Calendar) -> bool:
    late = max(one.from_period, two.from_period)
    ends = [rule.to_period for rule in (one, two) if rule.to_period]
    return not ends or late <= min(ends)


def check_extra_day(new: ExtraDay, others: Iterable[ExtraDay] = ()) -> None:
    """Refuse a day that does not exist or stands already. Raises: ValueError."""
    try:
        date.fromisoformat(new.day)
    except ValueError:
        raise ValueError(f'day = "{new.day}": write a date that exists, such as 2026-04-01') from None
    if any((o.customer_class, o.medium, o.day) == (new.customer_class, new.medium, new.day) for o in others):
        raise ValueError(f"the extra reading day {new.day} stands already")
