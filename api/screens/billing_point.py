"""One total as a clerk looks at it: its numbers, daily indexes, limits, earlier periods, readings on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.load import calendars_of
from api.billing.settings import BillingSettings
from api.billing.spoken import amount
from api.queries import billing, consumption
from api.schemas_billing import TotalDetail
from api.screens.frame import Times
from metering.quantities import UNITS, from_micro
from registry import office
from registry.models import Installation, Meter, UsagePoint
from registry.models_billing import BillingTotal
from registry.models_books import OfficeRow
from registry.roles import Actor

_TOTAL: Final = BillingTotal.__table__
_EARLIER: Final = 13
_DAYS: Final = 35
_OFFICE: Final = 5
_BAR_HEIGHT: Final = 60


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the table and of the little chart. height: of its bar, 0 to 60; None where an index is missing."""

    day: str
    index: str
    used: str | None
    mark: str
    height: int | None


@dataclass(frozen=True, slots=True)
class Hanging:
    """A meter that hung there in the period, with the billed register and its unit."""

    id: str
    serial: str
    quantity: str
    unit: str


@dataclass(frozen=True, slots=True)
class PointView:
    """Everything that the registry knows of one total. limits: (show above, read again above), decimal texts."""

    detail: TotalDetail
    address: str
    tz: str
    meters: list[Hanging]
    limits: tuple[str, str] | None
    earlier: list[dict[str, Any]]
    days: list[Day]
    days_of: str
    on_the_way: list[dict[str, Any]]
    next_point: str | None = None


def point_view(
    connection: Connection, caller: Actor, settings: BillingSettings, point: str, period: str, now: int
) -> PointView:
    """Return one total with what a clerk compares it with. Raises: ProblemError 404 when it is not his."""
    row = billing.require_total(connection, caller, point, period).total
    place = connection.execute(sa.select(UsagePoint.__table__).where(UsagePoint.id == point)).one()
    meters = _meters(connection, point, row["start_at"], row["end_at"])
    days, days_of = _days(connection, caller, meters, place.tz, min(now, row["end_at"] - 1))
    return PointView(
        billing.one_total(connection, caller, point, period),
        place.address,
        place.tz,
        [Hanging(each.id, each.serial, each.quantity, UNITS.get(each.quantity, "")) for each in meters],
        _limits(connection, settings, row, place.tz),
        _earlier(connection, point, period),
        days,
        days_of,
        _on_the_way(connection, [each.id for each in meters], row["start_at"]),
    )


def _meters(connection: Connection, point: str, start: int, end: int) -> Sequence[Any]:
    stay, meter = Installation.__table__, Meter.__table__
    wanted = (
        sa.select(meter, UsagePoint.medium)
        .select_from(stay.join(meter, meter.c.id == stay.c.meter_id))
        .join(UsagePoint, UsagePoint.id == stay.c.usage_point_id)
        .where(stay.c.usage_point_id == point, stay.c.installed_at < end)
        .where(sa.or_(stay.c.removed_at.is_(None), stay.c.removed_at > start))
        .order_by(stay.c.installed_at, stay.c.id)
    )
    return connection.execute(wanted).all()


def _limits(
    connection: Connection, settings: BillingSettings, row: Mapping[str, Any], tz: str
) -> tuple[str, str] | None:
    pair = settings.limits_of().get((row["customer_class"], row["medium"]))
    bounds = calendars_of(connection).bounds(row["customer_class"], row["medium"], row["period"], tz)
    if pair is None:
        return None
    months = bounds.months if bounds is not None else 1
    return from_micro(pair[0] * months), from_micro(pair[1] * months)


def _earlier(connection: Connection, point: str, period: str) -> list[dict[str, Any]]:
    names = ("period", "state", "cause", "consumption", "close_id")
    wanted = sa.select(*(_TOTAL.c[name] for name in names))
    wanted = wanted.where(_TOTAL.c.usage_point_id == point, _TOTAL.c.period != period)
    rows = connection.execute(wanted.order_by(_TOTAL.c.period.desc()).limit(_EARLIER)).mappings()
    return [{**row, "used": amount(row["consumption"])} for row in rows]


def _days(connection: Connection, caller: Actor, meters: Sequence[Any], tz: str, until: int) -> tuple[list[Day], str]:
    """Return the last days of the newest meter, oldest first, and that meter's id."""
    if not meters:
        return [], ""
    meter = meters[-1]
    last = datetime.fromtimestamp(until / 1000, Times(tz).zone).date()
    first = last - timedelta(days=_DAYS - 1)
    known = consumption.closings(connection, meter.id, caller.areas, first - timedelta(days=1), last)
    if not known:
        return [], meter.id
    cells = consumption.daily(known, first, last, consumption.limits_of_meter(meter._mapping))
    return _shown(cells, known), meter.id


def _shown(cells: Sequence[consumption.Cell], known: Mapping[date, tuple[int, int]]) -> list[Day]:
    most = max((abs(cell.micro) for cell in cells if cell.micro is not None), default=0) or 1
    found = []
    for cell in cells:
        closing = known.get(date.fromisoformat(cell.at))
        height = None if cell.micro is None else abs(cell.micro) * _BAR_HEIGHT // most
        index = from_micro(closing[1]) if closing is not None else ""
        found.append(Day(cell.at, index, amount(cell.micro), cell.mark, height))
    return found


def _on_the_way(connection: Connection, meters: Sequence[str], since: int) -> list[dict[str, Any]]:
    """Readings that the office brought since the period began, newest first, and where each is."""
    table = OfficeRow.__table__
    wanted = sa.select(table).where(table.c.meter.in_(meters), table.c.read_at >= since)
    rows = [dict(row) for row in connection.execute(wanted.order_by(table.c.id.desc()).limit(_OFFICE)).mappings()]
    fates = office.fates(connection, [row["id"] for row in rows])
    return [
        {
            **row,
            "values": {name: from_micro(micro) for name, micro in row["values"].items()},
            "fate": fates[row["id"]],
        }
        for row in rows
        if row["id"] in fates
    ]
