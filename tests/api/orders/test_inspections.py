"""Periodic inspections: who is due in which year, and an even spread over days and districts."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest
import sqlalchemy as sa

from api.orders.inspections import done_in, open_planned, plan_year, spread, working_days
from api.orders.working_days import WorkCalendar
from metering.clock import parse_rfc3339
from registry.database import Database
from registry.models import UsagePoint
from registry.models_work_orders import InspectionPlan, WorkOrder

CALENDAR = WorkCalendar()
NEW_YEAR = date(2026, 1, 1)


@pytest.fixture
def town(database: Database) -> Database:
    rows = [
        {
            "id": f"{'R' if number % 10 else 'C'}-{number:04}",
            "medium": "gas",
            "customer_class": "residential" if number % 10 else "commercial",
            "district": "north" if number < 600 else "south",
            "address": f"Street {number // 50}",
        }
        for number in range(1000)
    ]
    rows.append({**rows[0], "id": "W-1", "medium": "water"})
    with database.begin() as connection:
        connection.execute(sa.insert(UsagePoint), rows)
    return database


def plan(town: Database, year: int, first: date = NEW_YEAR) -> int:
    with town.begin() as connection:
        return plan_year(connection, year, first=first, calendar=CALENDAR)


def days(town: Database, year: int, prefix: str = "") -> Counter[str]:
    with town.read() as connection:
        rows = connection.execute(sa.select(InspectionPlan).where(InspectionPlan.year == year)).all()
    return Counter(row.day for row in rows if row.usage_point_id.startswith(prefix))


def test_businesses_come_every_year_and_homes_every_second(town: Database) -> None:
    first, second, third = (plan(town, year) for year in (2026, 2027, 2028))
    assert days(town, 2026, "C").total() == days(town, 2027, "C").total() == 100
    assert days(town, 2026, "R").total() + days(town, 2027, "R").total() == 900
    assert (first, second) == (days(town, 2026).total(), days(town, 2027).total())
    assert third == first  # the homes of the first year again


def test_no_working_day_is_crowded_and_no_day_off_is_used(town: Database) -> None:
    made = plan(town, 2026)
    used = days(town, 2026)
    workable = working_days(CALENDAR, NEW_YEAR, date(2026, 12, 31))
    assert all(CALENDAR.is_worked(date.fromisoformat(day)) for day in used)
    # two districts, each laid out evenly: at most one more than the average of each
    assert max(used.values()) <= made // len(workable) + 2


def test_planning_twice_plans_only_new_places(town: Database) -> None:
    plan(town, 2026)
    with town.begin() as connection:
        connection.execute(sa.insert(UsagePoint).values(id="C-new", medium="gas", customer_class="commercial"))
    assert plan(town, 2026, first=date(2026, 7, 1)) == 1
    assert min(days(town, 2026, "C-new")) >= "2026-07-01"


def test_orders_open_on_their_day_and_once(town: Database) -> None:
    plan(town, 2026)
    now_ms = parse_rfc3339("2026-01-05T01:00:00Z")

    def opened() -> list[int]:
        with town.begin() as connection:
            return open_planned(connection, date(2026, 1, 5), now_ms=now_ms, calendar=CALENDAR, tz="Asia/Shanghai")

    due = sum(count for day, count in days(town, 2026).items() if day <= "2026-01-05")
    assert len(opened()) == due > 0
    assert opened() == []
    with town.read() as connection:
        orders = connection.execute(sa.select(WorkOrder)).all()
        assert done_in(connection, 2026) == (days(town, 2026).total(), 0)
    assert {(order.type, order.state, order.due_rule) for order in orders} == {
        ("safety_inspection", "accepted", "5 working days")
    }


def test_a_spread_uses_every_day_equally() -> None:
    week = [date(2026, 3, day) for day in range(2, 7)]
    assert Counter(spread(12, week)).most_common() == [(week[0], 3), (week[2], 3), *((week[n], 2) for n in (1, 3, 4))]


def test_a_time_without_a_working_day_is_refused() -> None:
    with pytest.raises(ValueError, match="no working day"):
        working_days(CALENDAR, date(2026, 2, 15), date(2026, 2, 23))
