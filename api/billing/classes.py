"""The customer class that a period is billed by, where a usage point's class changed: the class at its boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from api.billing.calendars import Bounds, Calendars, shift

_FAR_MS: Final = 2**62
_MONTHS: Final = 12
"""No calendar has longer periods."""


class ClassStay(NamedTuple):
    """A class of customers that a usage point belonged to: start <= time < end [ms UTC]; end None: still."""

    customer_class: str
    start: int
    end: int | None


def period_of(
    calendars: Calendars, stays: Sequence[ClassStay], medium: str, period: str, tz: str
) -> tuple[str, Bounds] | None:
    """Return the class that a period belongs to, and its moments; None when no period ends in that month.

    stays: oldest first, without gaps. The class in force at its own reading day counts; where each of two classes
    has its day while the other one is in force, the older one does. It begins where the one before ended.
    """
    found = _at_boundary(calendars, stays, medium, period, tz)
    if found is None:
        return None
    customer_class, bounds = found
    before = period
    for months in range(1, _MONTHS + 1):
        before = shift(before, -1)
        former = _at_boundary(calendars, stays, medium, before, tz)
        if former is not None:
            start = former[1]
            cuts = tuple(cut for cut in bounds.cuts if cut > start.end)
            return customer_class, replace(
                bounds, start=start.end, start_window=start.end_window, cuts=cuts, months=months, before=before
            )
    return found


def _at_boundary(
    calendars: Calendars, stays: Sequence[ClassStay], medium: str, period: str, tz: str
) -> tuple[str, Bounds] | None:
    older: tuple[str, Bounds] | None = None
    for stay in stays:
        bounds = calendars.bounds(stay.customer_class, medium, period, tz)
        end = _FAR_MS if stay.end is None else stay.end
        if bounds is None or end <= bounds.start:
            continue
        if stay.start < bounds.end <= end:
            return stay.customer_class, bounds
        if older is None and stay.start < bounds.end:
            older = stay.customer_class, bounds
    return older
