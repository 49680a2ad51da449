"""Periodic safety inspections 安检: non-residential places yearly, residential ones every two years, spread evenly.

A year's plan gives every place that is due one local day. Each district's places, in the order of their addresses,
are laid out over the working days that are left, so that a team walks one street after the other and no day is full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, cast
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders.book import Request, open_or_join
from api.orders.deadlines import Deadline
from api.orders.words import Opens, OrderType, Priority
from api.orders.working_days import WorkCalendar
from registry.models import UsagePoint
from registry.models_work_orders import InspectionPlan, WorkOrder
from registry.roles import service

RESIDENTIAL: Final = ("residential", "residential_heating")
_BATCH: Final = 10_000
_PLANNED: Final = sa.insert(cast(sa.Table, InspectionPlan.__table__))
ACTOR: Final = service("orders")


@dataclass(frozen=True, slots=True)
class Cycle:
    """[years] between two inspections, and by when an order of a planned day must be done."""

    residential_years: int = 2
    other_years: int = 1
    deadline: str = "5 working days"


def plan_year(
    connection: Connection, year: int, *, first: date, calendar: WorkCalendar, cycle: Cycle | None = None
) -> int:
    """Plan the inspections of a year for the places that have none; return how many. first: no day before this one.

    A place is due when its last plan lies a whole cycle back. A residential place that was never planned is due in
    the year that its id falls into, so that the first two years share the work. Repeating it plans only new places.
    """
    cycle = cycle or Cycle()
    days = working_days(calendar, max(first, date(year, 1, 1)), date(year, 12, 31))
    # one after the other: memory holds one district
    return sum(
        plan_district(connection, district, year, days=days, cycle=cycle) for district in districts(connection)
    )


def plan_district(connection: Connection, district: str, year: int, *, days: Sequence[date], cycle: Cycle) -> int:
    """Plan the inspections of one district for the places that have none; return how many."""
    places = _due(connection, district, year, cycle)
    rows = [
        {"usage_point_id": place, "district": district, "year": year, "day": day.isoformat()}
        for place, day in zip(places, spread(len(places), days), strict=True)
    ]
    for start in range(0, len(rows), _BATCH):
        connection.execute(_PLANNED, rows[start : start + _BATCH])
    return len(rows)


def working_days(calendar: WorkCalendar, first: date, last: date) -> list[date]:
    """Return the days from `first` to `last` that are worked. Raises: ValueError when there is none."""
    span = (last - first).days + 1
    days = [day for day in (first + timedelta(days=number) for number in range(span)) if calendar.is_worked(day)]
    if not days:
        raise ValueError(f"no working day from {first} to {last}")
    return days


def spread(count: int, days: Sequence[date]) -> Iterator[date]:
    """Yield `count` days in their order, each as often as the others, at most once more."""
    for number in range(count):
        yield days[number * len(days) // count]


def districts(connection: Connection) -> Sequence[str]:
    """Return the districts with places."""
    return connection.execute(sa.select(UsagePoint.district).distinct().order_by(UsagePoint.district)).scalars().all()


def _due(connection: Connection, district: str, year: int, cycle: Cycle) -> list[str]:
    """The places of a district that are due in a year, in the order of their addresses."""
    last = (
        sa.select(sa.func.max(InspectionPlan.year))
        .where(InspectionPlan.usage_point_id == UsagePoint.id)
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(UsagePoint.id, UsagePoint.customer_class, last.label("year"))
        .where(UsagePoint.medium == "gas", UsagePoint.district == district)
        .order_by(UsagePoint.address, UsagePoint.id)
    )
    return [row.id for row in rows if _is_due(row, year, cycle)]


def _is_due(row: Any, year: int, cycle: Cycle) -> bool:
    years = cycle.residential_years if row.customer_class in RESIDENTIAL else cycle.other_years
    if row.year is not None:
        return bool(year - row.year >= years)
    return crc32(row.id.encode()) % years == year % years


def open_planned(
    connection: Connection, today: date, *, now_ms: int, calendar: WorkCalendar, tz: str, limit: int = 1_000
) -> list[int]:
    """Open the orders of the planned days up to `today`, each once; return their numbers."""
    rows = connection.execute(
        sa.select(InspectionPlan.id, InspectionPlan.usage_point_id, InspectionPlan.district)
        .where(InspectionPlan.order_id.is_(None), InspectionPlan.day <= today.isoformat())
        .order_by(InspectionPlan.day, InspectionPlan.id)
        .limit(limit)
    ).all()
    made = []
    for row in rows:
        request = Request(
            place=row.usage_point_id,
            usage_point_id=row.usage_point_id,
            district=row.district,
            type=OrderType.SAFETY_INSPECTION,
            priority=Priority.WAIT,
            opens=Opens.ITSELF,
            deadline=Deadline.parse(Cycle().deadline),
            reason_en="periodic safety inspection",
            reason_zh="定期安检",
            tz=tz,
            policy="calendar/safety-inspection",
        )
        opened = open_or_join(connection, ACTOR, request, now_ms=now_ms, calendar=calendar)
        connection.execute(
            sa.update(InspectionPlan).where(InspectionPlan.id == row.id).values(order_id=opened.order_id)
        )
        made.append(opened.order_id)
    return made


def done_in(connection: Connection, year: int) -> tuple[int, int]:
    """Return (planned, finished) inspections of a year."""
    finished = sa.func.count(WorkOrder.finished_at)
    row = connection.execute(
        sa.select(sa.func.count(), finished)
        .select_from(InspectionPlan)
        .outerjoin(WorkOrder, WorkOrder.id == InspectionPlan.order_id)
        .where(InspectionPlan.year == year)
    ).one()
    return int(row[0]), int(row[1])
