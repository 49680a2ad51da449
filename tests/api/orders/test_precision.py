"""What crews found as the truth of a back-test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anomaly.scoring import score
from api.orders.book import step
from api.orders.lifecycle import Deed, Step
from api.orders.precision import labels, precision
from api.orders.receipts import file_receipt
from api.orders.service import Orders
from registry import findings
from registry.database import Database
from registry.roles import console
from tests.api.orders.test_opening import LEAK, NOW, town
from tests.api.orders.test_receipts import GOOD
from tests.api.orders.test_service import clerk

__all__ = ["town"]

HOUR = 3_600_000
BOSS = console("test")
NAMES = {"UP-1": "M-1", "UP-2": "M-2", "UP-3": "M-3"}


def finished(town: Database, label: str, *facts: findings.FindingFacts) -> None:
    """Record, send somebody, and let him find `label` at each place."""
    with town.begin() as connection:
        findings.record(connection, facts, now_ms=NOW)
    one: Orders = clerk(town)
    before = one.turn().opened
    assert before == len(facts)
    with town.begin() as connection:
        for item in facts:
            number = int(item.usage_point.removeprefix("UP-"))
            step(connection, BOSS, number, Step(Deed.DISPATCH, assignee="li"), now_ms=NOW)
            file_receipt(connection, BOSS, number, replace(GOOD, label=label), now_ms=NOW + HOUR)


@pytest.fixture
def looked(town: Database) -> Database:
    """UP-1 was a leak, UP-2 was none."""
    finished(town, "true", LEAK)
    finished(town, "false", replace(LEAK, key="2", usage_point="UP-2"))
    return town


def test_true_is_an_event_false_is_ordinary_and_the_rest_is_not_judged(looked: Database) -> None:
    """Alarms of a trial: a hit at M-1, a false one at M-2, and one at M-3 where nobody looked: precision 1 of 2."""
    with looked.read() as connection:
        found = labels(connection, NAMES, since_ms=0, until_ms=NOW + HOUR)
    assert [(event.kind, event.start) for event in found.events["M-1"]] == [("leak", NOW / 1000 - 86_400)]
    assert [span[2] for span in found.ordinary["M-2"]] == ["false"]
    alarms = [{"meter_id": name, "kind": "leak", "detected_at": NOW / 1000} for name in NAMES.values()]
    result = score(alarms, found, intervals=dict.fromkeys(NAMES.values(), 3600.0), meter_days=90)
    assert (result.recall, result.precision) == (1.0, 0.5)
    assert [(alarm[0], alarm[3]) for alarm in result.false_alarms] == [("M-2", "false")]


def test_alarms_outside_the_labelled_span_count_neither_way(looked: Database) -> None:
    with looked.read() as connection:
        found = labels(connection, NAMES, since_ms=0, until_ms=NOW + HOUR)
    far = [{"meter_id": "M-2", "kind": "leak", "detected_at": NOW / 1000 + days * 86_400} for days in (-40, 40)]
    result = score(far, found, intervals={"M-2": 3600.0}, meter_days=90)
    assert result.false_alarms == []


def test_precision_by_rule_class_and_month(looked: Database) -> None:
    finished(looked, "not_looked", replace(LEAK, key="3", usage_point="UP-3"))
    with looked.read() as connection:
        (line,) = precision(connection)
        assert (line.rule, line.customer_class, line.month) == ("leak_continuous", "residential", "2026-02")
        assert (line.true, line.false, line.other_cause, line.not_looked) == (1, 1, 0, 1)
        assert line.precision == 0.5
        assert precision(connection, areas=frozenset({"south"})) == []
        assert precision(connection, since_ms=NOW + 1) == []
