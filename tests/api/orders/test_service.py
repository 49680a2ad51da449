"""The orders' own clerk: what opens, is planned and is escalated without anybody asking, once."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.orders.book import step
from api.orders.escalation import Level
from api.orders.inspections import done_in
from api.orders.lifecycle import Deed, Step
from api.orders.receipts import file_receipt
from api.orders.service import Orders, run_orders
from api.orders.settings import OrderSettings
from metering.clock import ManualClock
from metering.errors import RegistryError, SettingsError
from registry import findings
from registry.database import Database
from registry.models import UsagePoint
from registry.models_work_orders import FollowUp, InspectionPlan, WorkOrder, WorkOrderStep
from tests.api.orders.test_opening import BOSS, LEAK, NOW, town
from tests.api.orders.test_receipts import GOOD

__all__ = ["town"]

HOUR = 3_600_000
QUIET = OrderSettings(inspections="off")


def clerk(town: Database, at: int = NOW, settings: OrderSettings = QUIET) -> Orders:
    return Orders(settings, town, ManualClock(at))


def record(town: Database, *facts: findings.FindingFacts) -> None:
    with town.begin() as connection:
        findings.record(connection, facts, now_ms=NOW)


def rows(town: Database, table: Any) -> list[Any]:
    with town.read() as connection:
        return list(connection.execute(sa.select(table)))


def escalations(town: Database) -> list[tuple[str, str]]:
    with town.read() as connection:
        steps = connection.execute(sa.select(WorkOrderStep).order_by(WorkOrderStep.number)).all()
    return [(row.data["level"], row.note) for row in steps if row.deed == "escalate"]


def test_a_leak_is_an_order_after_one_turn_and_no_second_after_the_next(town: Database) -> None:
    record(town, LEAK)
    assert clerk(town).turn().opened == 1
    again = clerk(town).turn()
    assert (again.opened, again.idle, len(rows(town, WorkOrder))) == (0, True, 1)


def test_more_findings_than_one_look_takes_are_all_seen_in_one_turn(town: Database) -> None:
    record(town, *(replace(LEAK, key=f"k{n}", usage_point=f"UP-{n % 40 + 1}") for n in range(450)))
    done = clerk(town).turn()
    assert (done.opened, done.joined) == (40, 410)


def test_findings_that_are_held_back_do_not_hide_those_of_another_district(town: Database) -> None:
    stuck = replace(LEAK, kind="stuck", rule="stuck", severity="minor")
    north = [replace(stuck, key=f"n{n}", usage_point=f"UP-{n % 39 + 1}") for n in range(300)]
    south = replace(stuck, key="s", usage_point="UP-40", district="south")
    record(town, *north, south)
    done = clerk(town, settings=QUIET.model_copy(update={"max_per_hour": 5})).turn()
    assert sorted({order.district for order in rows(town, WorkOrder)}) == ["north", "south"]
    assert (done.opened, done.held_back > 200) == (6, True)


def test_two_clerks_at_once_open_each_order_once(town: Database) -> None:
    record(town, *(replace(LEAK, key=f"k{n}", usage_point=f"UP-{n + 1}") for n in range(30)))
    clerks = [clerk(town), clerk(town)]
    threads = [threading.Thread(target=one.turn) for one in clerks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clerk(town).turn()
    assert len(rows(town, WorkOrder)) == 30


def test_before_and_at_each_promise_somebody_is_told_once(town: Database) -> None:
    """Respond within 1 h: told at 45 min (its last quarter) and at 1 h; finish within 24 h: at 20 h and at 24 h."""
    record(town, LEAK)
    clerk(town).turn()
    told = []
    for minutes in (0, 44, 45, 59, 60, 61, 19 * 60 + 59, 20 * 60, 24 * 60 - 1, 24 * 60, 48 * 60):
        told.append(clerk(town, NOW + minutes * 60_000).turn().escalated)
    assert told == [0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0]
    assert escalations(town) == [
        ("respond_near", "work must begin soon"),
        ("respond_over", "work should have begun"),
        ("due_near", "the deadline is near"),
        ("due_over", "the deadline is over"),
    ]
    assert rows(town, WorkOrder)[0].escalated == sum(Level)


def test_an_extension_lets_the_new_end_be_told_and_who_has_arrived_has_begun(town: Database) -> None:
    record(town, LEAK)
    clerk(town).turn()
    (order,) = rows(town, WorkOrder)
    with town.begin() as connection:
        step(connection, BOSS, order.id, Step(Deed.DISPATCH, assignee="li"), now_ms=NOW)
        step(connection, BOSS, order.id, Step(Deed.ARRIVE), now_ms=NOW)
    assert clerk(town, NOW + 2 * HOUR).turn().escalated == 0
    assert clerk(town, NOW + 24 * HOUR).turn().escalated == 1
    later = NOW + 30 * HOUR
    with town.begin() as connection:
        extend = Step(Deed.EXTEND, note="the customer is away", appointment_at=later)
        step(connection, BOSS, order.id, extend, now_ms=NOW + 24 * HOUR)
    assert clerk(town, later - HOUR).turn().escalated == 1
    assert clerk(town, later).turn().escalated == 1
    assert [level for level, _ in escalations(town)] == ["due_over", "due_near", "due_over"]


def test_yesterdays_finished_leak_is_called_back_and_days_of_standstill_are_caught_up(town: Database) -> None:
    record(town, LEAK)
    one = clerk(town)
    one.turn()
    with town.begin() as connection:
        step(connection, BOSS, 1, Step(Deed.DISPATCH, assignee="li"), now_ms=NOW)
        file_receipt(connection, BOSS, 1, GOOD, now_ms=NOW + HOUR)
    assert clerk(town, NOW + 4 * 24 * HOUR).turn().calls == 1  # the 13th is caught up with on the 17th
    assert [call.order_id for call in rows(town, FollowUp)] == [1]
    assert clerk(town, NOW + 4 * 24 * HOUR + HOUR).turn().calls == 0


def test_the_year_is_planned_once_and_todays_inspections_are_opened(town: Database) -> None:
    """Forty homes: about half are due in 2026; every one gets a working day from the 13th of February on."""
    settings = OrderSettings()
    done = clerk(town, settings=settings).turn()
    plans = rows(town, InspectionPlan)
    assert done.planned == len(plans) > 10
    assert min(plan.day for plan in plans) >= "2026-02-13"
    today = [plan for plan in plans if plan.day == "2026-02-13"]
    assert done.inspections == len(today) > 0
    assert {order.type for order in rows(town, WorkOrder)} == {"safety_inspection"}
    again = clerk(town, settings=settings).turn()
    assert (again.planned, again.inspections) == (0, 0)


def test_a_place_that_is_new_is_planned_with_the_next_month(town: Database) -> None:
    settings = OrderSettings(inspections_residential_years=1)
    clerk(town, settings=settings).turn()
    with town.begin() as connection:
        connection.execute(sa.insert(UsagePoint).values(id="UP-NEW", medium="gas", customer_class="restaurant"))
    assert clerk(town, settings=settings).turn().planned == 0
    assert clerk(town, NOW + 20 * 24 * HOUR, settings).turn().planned == 1


def test_a_year_without_a_working_day_left_stops_nothing(town: Database) -> None:
    off = OrderSettings(extra_off=tuple(date(2026, 12, day) for day in (30, 31)))
    new_years_eve = NOW + (date(2026, 12, 30) - date(2026, 2, 13)).days * 24 * HOUR
    assert clerk(town, new_years_eve, off).turn().planned == 0
    with town.read() as connection:
        assert done_in(connection, 2026) == (0, 0)


def test_a_registry_that_is_away_ends_nothing(town: Database) -> None:
    async def scenario() -> None:
        clock = ManualClock(NOW)
        real, calls = town.read, [0]

        def broken() -> Any:
            calls[0] += 1
            if calls[0] < 3:
                raise RegistryError("away")
            return real()

        town.read = broken  # type: ignore[method-assign]  # the house's only way to the registry
        work = asyncio.create_task(run_orders(QUIET, town, clock))
        for _ in range(3000):
            await asyncio.sleep(0.02)
            await clock.advance(2)
            if calls[0] > 6 and rows(town, WorkOrder):
                break
        town.read = real  # type: ignore[method-assign]  # as it was
        assert not work.done()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert rows(town, WorkOrder)

    record(town, LEAK)
    asyncio.run(scenario())


def test_a_policy_that_cannot_be_used_is_said_at_the_start(town: Database, tmp_path: Path) -> None:
    wrong = tmp_path / "policy.toml"
    wrong.write_text('version = "1"\nrule = []\nrules = 1\n')
    with pytest.raises(SettingsError, match="rules"):
        Orders(OrderSettings(policy=wrong), town, ManualClock(NOW))
