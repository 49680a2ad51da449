"""From findings to work orders: whom a finding sends, once, and what late data take back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from api.orders.book import step
from api.orders.lifecycle import Deed, Step
from api.orders.opening import Look, look
from api.orders.policy import load_policy
from api.orders.words import Result
from api.orders.working_days import WorkCalendar
from metering.clock import parse_rfc3339
from registry import findings
from registry.database import Database
from registry.findings_words import FindingFacts
from registry.models import UsagePoint
from registry.models_work_orders import WorkOrder, WorkOrderFinding
from registry.roles import Actor, Role

NOW = parse_rfc3339("2026-02-13T02:00:00Z")
BOSS = Actor("user:wu", frozenset({Role.SUPERVISOR}), areas=None)
POINTS = 40

LEAK = FindingFacts(
    key="UP-1|leak|1",
    usage_point="UP-1",
    meter="M-1",
    kind="leak",
    rule="leak_continuous",
    rule_version="1",
    severity="major",
    started_at=NOW - 86_400_000,
    detected_at=NOW,
    updated_at=NOW,
    cleared_at=None,
    withdrawn_at=None,
    withdrawn_why="",
    repeats=0,
    evidence={"rate_per_h": 0.31234, "days_without_still_window": 4},
    thresholds_version="1",
    gateway="gw-1",
    bus="bus-1",
    district="north",
)


@pytest.fixture
def town(database: Database) -> Database:
    with database.begin() as connection:
        rows = [
            {"id": f"UP-{n}", "medium": "gas", "customer_class": "residential", "district": "north"}
            for n in range(1, POINTS + 1)
        ]
        connection.execute(sa.insert(UsagePoint), rows)
    return database


def found(town: Database, *facts: FindingFacts, now_ms: int = NOW) -> None:
    with town.begin() as connection:
        findings.record(connection, facts, now_ms=now_ms)


def looked(town: Database, now_ms: int = NOW, max_per_hour: int = 20) -> Look:
    with town.begin() as connection:
        return look(connection, load_policy(), now_ms=now_ms, calendar=WorkCalendar(), max_per_hour=max_per_hour)


def orders(town: Database) -> list[Any]:
    with town.read() as connection:
        return list(connection.execute(sa.select(WorkOrder).order_by(WorkOrder.id)))


def test_a_leak_opens_an_urgent_order_with_its_reason_in_both_languages(town: Database) -> None:
    found(town, LEAK)
    assert len(looked(town).opened) == 1
    order = orders(town)[0]
    assert (order.place, order.type, order.priority, order.state) == ("UP-1", "leak_visit", "urgent", "accepted")
    assert order.policy == f"{load_policy().version}/leak-urgent"
    assert order.reason_en == (
        "flow that does not stop, 0.312 m³/h, 4 days without a still hour; since 2026-02-12 02:00 UTC"
    )
    assert order.reason_zh == "持续流量，疑似泄漏，0.312 m³/h，4 天无静止时段；自 2026-02-12 02:00 UTC 起"
    assert order.due_at == NOW + 24 * 3_600_000
    assert order.respond_by == NOW + 3_600_000


def test_a_second_look_opens_nothing_more(town: Database) -> None:
    found(town, LEAK)
    looked(town)
    assert looked(town) == Look()
    assert len(orders(town)) == 1


def test_two_findings_of_one_place_and_type_are_one_order(town: Database) -> None:
    found(town, LEAK, replace(LEAK, key="UP-1|micro", kind="leak_intermittent", severity="minor"))
    done = looked(town)
    assert (len(done.opened), done.joined) == (1, 1)


def test_a_finding_that_came_back_after_its_order_was_done_opens_another(town: Database) -> None:
    found(town, LEAK)
    order_id = looked(town).opened[0]
    with town.begin() as connection:
        for wanted in (
            Step(Deed.DISPATCH, assignee="li"),
            Step(Deed.ARRIVE),
            Step(Deed.FINISH, result=Result.PASSED),
        ):
            step(connection, BOSS, order_id, wanted, now_ms=NOW)
    assert looked(town).opened == []  # still the same occurrence: somebody has just been there
    found(town, replace(LEAK, cleared_at=NOW + 10, updated_at=NOW + 10), now_ms=NOW + 10)
    found(town, replace(LEAK, repeats=1, updated_at=NOW + 20), now_ms=NOW + 20)
    assert len(looked(town, NOW + 30).opened) == 1


def test_late_data_cancel_an_order_that_has_not_started_and_say_why(town: Database) -> None:
    found(town, LEAK)
    order_id = looked(town).opened[0]
    gone = replace(LEAK, withdrawn_at=NOW + 5, withdrawn_why="readings of the 12th arrived", updated_at=NOW + 5)
    found(town, gone, now_ms=NOW + 5)
    assert looked(town, NOW + 6).cancelled == [order_id]
    assert (orders(town)[0].state, orders(town)[0].result) == ("finished", "cancelled")
    assert looked(town, NOW + 7) == Look()


def test_more_than_the_cap_waits_for_the_next_hour_and_urgent_ones_never_wait(town: Database) -> None:
    stuck = [
        replace(LEAK, key=f"UP-{n}|stuck", usage_point=f"UP-{n}", meter=f"M-{n}", kind="stuck", rule="stuck")
        for n in range(1, 31)
    ]
    found(town, *stuck, replace(LEAK, key="late-leak", usage_point="UP-40"))
    first = looked(town)
    assert (len(first.opened), first.held_back) == (21, 10)
    assert looked(town, NOW + 1000).held_back == 10
    later = looked(town, NOW + 3_600_001)
    assert (len(later.opened), later.held_back) == (10, 0)


def test_an_outage_is_one_order_and_its_children_are_none(town: Database) -> None:
    parent = replace(
        LEAK, key="gw-1|outage", usage_point="", meter="", bus="", kind="info_outage", rule="outage", evidence={}
    )
    silent = [
        replace(
            parent,
            key=f"UP-{n}|silent",
            usage_point=f"UP-{n}",
            meter=f"M-{n}",
            kind="comms_loss",
            rule="comms_loss",
            parent_key=parent.key,
        )
        for n in range(1, POINTS + 1)
    ]
    found(town, parent, *silent)
    assert len(looked(town).opened) == 1
    assert [(order.place, order.type) for order in orders(town)] == [("gateway:gw-1", "communication_repair")]


def test_what_no_rule_of_the_policy_fits_opens_nothing(town: Database) -> None:
    found(town, replace(LEAK, kind="info_rollover", rule="rollover", severity="info"))
    assert looked(town) == Look()


def test_the_evidence_is_kept_as_it_was(town: Database) -> None:
    found(town, LEAK)
    looked(town)
    found(town, replace(LEAK, evidence={"rate_per_h": 9.9}, updated_at=NOW + 5), now_ms=NOW + 5)
    looked(town, NOW + 6)
    with town.read() as connection:
        kept = connection.execute(sa.select(WorkOrderFinding.evidence)).scalar_one()
    assert kept["evidence"] == {"rate_per_h": 0.31234, "days_without_still_window": 4}
    assert (kept["rule"], kept["rule_version"]) == ("leak_continuous", "1")
