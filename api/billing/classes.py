"""The customer class that a period is billed by, where a usage point's class changed: the class at its boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import Bounds, Calendars, shift
from registry.models_books import Classification

_FAR_MS: Final = 2**62
_MONTHS: Final = 12
"""No calendar has longer periods."""


class ClassStay(NamedTuple):
    """A class of customers that a usage point belonged to: start <= time < end [ms UTC]; end None: still."""

    customer_class: str
    start: int
    end: int | None


def changed_classes(connection: Connection, first: str, last: str) -> dict[str, list[ClassStay]]:
    """Return the classes of those usage points, first <= id <= last, whose class ever changed; oldest first."""
    table = Classification.__table__
    found: dict[str, list[ClassStay]] = {}
    for row in connection.execute(
        sa.select(table)
        .where(table.c.usage_point_id >= first, table.c.usage_point_id <= last)
        .order_by(table.c.usage_point_id, table.c.from_at)
    ):
        found.setdefault(row.usage_point_id, []).append(ClassStay(row.customer_class, row.from_at, row.to_at))
    return found


def bounds_at(connection: Connection, calendars: Calendars, place: Any, period: str) -> Bounds | None:
    """Return a period of one usage point by the class that it belongs to. place: its row in the books."""
    stays = changed_classes(connection, place.id, place.id).get(place.id)
    if stays is None:
        return calendars.bounds(place.customer_class, place.medium, period, place.tz)
    found = period_of(calendars, stays, place.medium, period, place.tz)
    return None if found is None else found[1]


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
