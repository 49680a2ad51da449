"""Change the rules of billing in the registry, checked and audited: calendars, extra days, calorific values."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import Calendar, ExtraDay, check_calendar, check_extra_day, check_period
from registry import audit
from registry.billing import latest_closed
from registry.models_billing import BillingCalendar, BillingExtraDay, CalorificValue
from registry.refusals import RefusedError
from registry.roles import Actor

_MOST = 20_000_000
"""[10⁻⁶ kWh/m³] more than any gas holds at base conditions, pure propane excepted."""


def calendars(connection: Connection) -> list[dict[str, Any]]:
    """Return the registry's calendars, oldest first; for classes without one the manuals' are in force."""
    table = BillingCalendar.__table__
    return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]


def add_calendar(connection: Connection, actor: Actor, new: Calendar, *, now: int) -> int:
    """Add a calendar and return its number. Raises: RefusedError that says what is allowed."""
    others = [_calendar(row) for row in calendars(connection)]
    try:
        check_calendar(new, others)
    except ValueError as error:
        raise RefusedError("invalid", str(error)) from None
    _check_open(connection, new.from_period or "0000-00", "a calendar")
    row = asdict_of(new) | {"created_by": actor.name, "created_at": now, "version": 1}
    key = connection.execute(sa.insert(BillingCalendar).values(row)).inserted_primary_key
    number = int(key[0]) if key else 0
    audit.append(connection, actor, "calendar.add", "billing_calendar", number, at=now, after=asdict_of(new))
    return number


def end_calendar(connection: Connection, actor: Actor, number: int, last_period: str, *, now: int) -> None:
    """Let a calendar count up to and with a period, so that another may follow. Raises: RefusedError."""
    found = [row for row in calendars(connection) if row["id"] == number]
    if not found:
        raise RefusedError("unknown", f"no calendar has the number {number}")
    try:
        check_period(last_period)
    except ValueError as error:
        raise RefusedError("invalid", str(error)) from None
    if last_period < found[0]["from_period"]:
        raise RefusedError(
            "invalid", f"calendar {number} begins with {found[0]['from_period']}; it cannot end before"
        )
    _check_open(connection, last_period, "the end of a calendar", inclusive=True)
    connection.execute(
        sa.update(BillingCalendar)
        .where(BillingCalendar.id == number)
        .values(to_period=last_period, version=found[0]["version"] + 1)
    )
    before, after = {"to_period": found[0]["to_period"]}, {"to_period": last_period}
    audit.append(connection, actor, "calendar.end", "billing_calendar", number, at=now, before=before, after=after)


def add_extra_day(connection: Connection, actor: Actor, new: ExtraDay, *, now: int) -> int:
    """Add an extra reading day and return its number. Raises: RefusedError."""
    table = BillingExtraDay.__table__
    others = [ExtraDay(r.customer_class, r.medium, r.day) for r in connection.execute(sa.select(table))]
    try:
        check_extra_day(new, others)
    except ValueError as error:
        raise RefusedError("invalid", str(error)) from None
    row = {"customer_class": new.customer_class, "medium": new.medium, "day": new.day, "reason": new.reason}
    key = connection.execute(
        sa.insert(BillingExtraDay).values(**row, created_by=actor.name, created_at=now)
    ).inserted_primary_key
    number = int(key[0]) if key else 0
    audit.append(connection, actor, "extra_day.add", "billing_extra_day", number, at=now, after=row)
    return number


def set_calorific_value(
    connection: Connection, actor: Actor, from_day: str, value: int, *, now: int, district: str = ""
) -> int:
    """Say what a cubic metre holds from a local day on [10⁻⁶ kWh/m³]; return its number. Raises: RefusedError."""
    try:
        date.fromisoformat(from_day)
    except ValueError:
        raise RefusedError("invalid", f'"{from_day}": write a date that exists, such as 2026-04-01') from None
    if not 0 < value <= _MOST:
        raise RefusedError("invalid", f"calorific value {value} (10⁻⁶ kWh/m³): allowed are 1 to {_MOST}")
    known = connection.execute(
        sa.select(CalorificValue.id).where(CalorificValue.district == district, CalorificValue.from_day == from_day)
    ).first()
    if known is not None:
        raise RefusedError(
            "conflict", f"a calorific value from {from_day} on stands already; it is never overwritten"
        )
    row = {"district": district, "from_day": from_day, "value": value}
    key = connection.execute(
        sa.insert(CalorificValue).values(**row, created_by=actor.name, created_at=now)
    ).inserted_primary_key
    number = int(key[0]) if key else 0
    audit.append(connection, actor, "calorific_value.set", "calorific_value", number, at=now, after=row)
    return number


def _check_open(connection: Connection, period: str, what: str, *, inclusive: bool = False) -> None:
    """A rule must not reach back into closed periods. inclusive: the named period itself may be closed."""
    closed = latest_closed(connection)
    if closed is not None and (period < closed or (period == closed and not inclusive)):
        raise RefusedError(
            "conflict", f"{what} must not reach into a closed period: {closed} is closed, begin with a later one"
        )


def _calendar(row: dict[str, Any]) -> Calendar:
    return Calendar(**{name: row[name] for name in Calendar.__dataclass_fields__})


def asdict_of(calendar: Calendar) -> dict[str, Any]:
    """Return a calendar's facts by name."""
    return asdict(calendar)
