"""Follow-up calls: everything that was paid or leaked, and a tenth of the rest that leaves no worker out."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from api.orders.follow_up import Share, answer, draw, needed, plan_day
from api.orders.lifecycle import StepError
from metering.clock import parse_rfc3339
from registry.database import Database
from registry.models_work_orders import FollowUp, Receipt, WorkOrder
from registry.roles import Actor, Role

SHANGHAI = "Asia/Shanghai"
DESK = Actor("user:chen", frozenset({Role.DISPATCHER}), areas=None)


def done(
    database: Database, day: str, worker: str, *, kind: str = "meter_test", amount: str = "", count: int = 1
) -> None:
    at = parse_rfc3339(f"{day}T04:00:00Z")
    with database.begin() as connection:
        for _ in range(count):
            order_id = connection.execute(
                sa.insert(WorkOrder)
                .values(
                    place="UP-1",
                    type=kind,
                    priority="soon",
                    state="finished",
                    result="passed",
                    opened_at=at,
                    opened_by="user:chen",
                    reason_en="",
                    reason_zh="",
                    due_at=at,
                    due_rule="24 h",
                    finished_at=at,
                    visits=1,
                )
                .returning(WorkOrder.id)
            ).scalar_one()
            connection.execute(
                sa.insert(Receipt).values(
                    order_id=order_id,
                    visit=1,
                    worker=worker,
                    arrived_at=at,
                    result="passed",
                    index_seen={},
                    materials=[],
                    amount=amount,
                    filed_by=f"user:{worker}",
                    filed_at=at,
                )
            )


def planned(database: Database, day: date) -> list[int]:
    with database.begin() as connection:
        return plan_day(connection, day, tz=SHANGHAI, share=Share(seed=1), now_ms=0)


def calls(database: Database) -> dict[str, int]:
    with database.read() as connection:
        rows = connection.execute(
            sa.select(Receipt.worker, sa.func.count())
            .join(FollowUp, FollowUp.order_id == Receipt.order_id)
            .group_by(Receipt.worker)
        )
        return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize(("finished", "calls"), [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_a_tenth_is_rounded_up(finished: int, calls: int) -> None:
    assert needed(finished, 0.1) == calls


def test_a_draw_repeats_itself_and_never_takes_more_than_the_share() -> None:
    orders = list(range(100, 130))
    first = draw(orders, 0, 30, share=0.1, seed="a")
    assert len(first) == 3
    assert first == draw(orders[::-1], 0, 30, share=0.1, seed="a")
    assert draw(orders, 3, 30, share=0.1, seed="a") == []


def test_leak_repairs_and_paid_repairs_are_all_called(database: Database) -> None:
    done(database, "2026-03-02", "li", kind="leak_visit", count=7)
    done(database, "2026-03-02", "li", amount="35.50", count=4)
    done(database, "2026-03-02", "li", amount="0", count=5)
    assert len(planned(database, date(2026, 3, 2))) == 7 + 4 + 1


def test_every_worker_of_a_month_is_covered_evenly(database: Database) -> None:
    day = date(2026, 3, 2)
    for number in range(20):
        done(database, (day + timedelta(days=number)).isoformat(), "li", count=2)
        done(database, (day + timedelta(days=number)).isoformat(), "zhao", count=1)
    done(database, "2026-03-05", "qian")
    for number in range(20):
        planned(database, day + timedelta(days=number))
    # 40, 20 and 1 finished: a tenth each, rounded up
    assert calls(database) == {"li": 4, "zhao": 2, "qian": 1}


def test_a_second_run_plans_nothing_new(database: Database) -> None:
    done(database, "2026-03-02", "li", count=12)
    assert len(planned(database, date(2026, 3, 2))) == 2
    assert planned(database, date(2026, 3, 2)) == []


def test_the_call_is_due_three_to_five_days_later(database: Database) -> None:
    done(database, "2026-03-02", "li")
    planned(database, date(2026, 3, 2))
    with database.read() as connection:
        call = connection.execute(sa.select(FollowUp)).one()
    # from 00:00 on the 5th to 24:00 on the 7th in Shanghai
    assert call.begins_at == parse_rfc3339("2026-03-04T16:00:00Z")
    assert call.ends_at == parse_rfc3339("2026-03-07T16:00:00Z")


def test_nobody_calls_about_his_own_work_and_nobody_calls_twice(database: Database) -> None:
    done(database, "2026-03-02", "li")
    order_id = planned(database, date(2026, 3, 2))[0]
    with database.begin() as connection, pytest.raises(StepError, match="did the work"):
        answer(connection, Actor("user:li"), order_id, satisfied=True, note="", now_ms=1)
    with database.begin() as connection:
        answer(connection, DESK, order_id, satisfied=False, note="still smells", now_ms=1)
    with database.begin() as connection, pytest.raises(StepError, match="user:chen has called already"):
        answer(connection, DESK, order_id, satisfied=True, note="", now_ms=2)
    with database.begin() as connection, pytest.raises(StepError, match="no follow-up call"):
        answer(connection, DESK, order_id + 1, satisfied=True, note="", now_ms=2)
