"""Which meters should be read, and which were: one meaning for the overview's figures, the lists and the flow.

The read rate 抄见率 is the share of the meters due that were read in a window (`api.read_rate_window_s`).
"""

from __future__ import annotations

import sqlalchemy as sa

from registry.books import NOT_READ
from registry.models import Latest, Meter


def is_due() -> sa.ColumnElement[bool]:
    """A gateway is to read the meter."""
    return sa.and_(Meter.gateway_id.is_not(None), Meter.state.not_in(NOT_READ))


def is_read(since: int) -> sa.ColumnElement[bool]:
    """Its newest reading is not older than `since` [ms UTC] and may be used."""
    return sa.and_(Latest.read_at >= since, Latest.quality != "suspect")


def is_silent(since: int) -> sa.ColumnElement[bool]:
    """It is due and was not read since. For statements that join `latest` by an outer join."""
    return sa.and_(is_due(), sa.or_(Latest.meter.is_(None), sa.not_(is_read(since))))


def percent(read: int, due: int) -> str:
    """Return a rate [%] with one decimal, rounded down; "–" when nothing is due."""
    if not due:
        return "–"
    tenths = read * 1000 // due
    return f"{tenths // 10}.{tenths % 10}"


def is_below(read: int, due: int, target: float) -> bool:
    """True when a rate misses its target [%]; never when nothing is due."""
    return due > 0 and read * 100 < due * target
