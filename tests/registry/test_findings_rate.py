"""The rate of alarms: what a person was shown, per ten minutes, and when it is a flood."""

from __future__ import annotations

from dataclasses import replace

from registry import findings
from registry.database import Database
from registry.findings_rate import alarm_rate, in_flood
from registry.findings_settings import AlarmSettings
from tests.registry.test_findings import LEAK

MINUTE = 60_000
NOW = 1_772_323_200_000


def test_children_of_an_outage_do_not_count(database: Database) -> None:
    shown = [replace(LEAK, key=f"k{i}") for i in range(3)]
    hidden = [replace(LEAK, key=f"c{i}", parent_key="outage:1") for i in range(50)]
    with database.begin() as connection:
        findings.record(connection, [*shown, *hidden], now_ms=NOW)
        rate = alarm_rate(connection, NOW + 9 * MINUTE, AlarmSettings())
        assert (rate.now, rate.flood, rate.states) == (3, False, {"UNACK": 3, "DSUPR": 50})
        assert alarm_rate(connection, NOW + 10 * MINUTE, AlarmSettings()).now == 0


def test_a_flood_begins_at_ten_and_ends_below_five(database: Database) -> None:
    with database.begin() as connection:
        for minute in range(6):
            few = [replace(LEAK, key=f"k{minute}.{i}") for i in range(2)]
            findings.record(connection, few, now_ms=NOW + minute * MINUTE)
        rates = [alarm_rate(connection, NOW + m * MINUTE + 1, AlarmSettings()) for m in (3, 4, 12, 13, 14)]
    assert [(rate.now, rate.flood) for rate in rates] == [(8, False), (10, True), (6, True), (4, False), (2, False)]


def test_between_the_limits_it_stays_what_it_was() -> None:
    assert [in_flood(counts, begins=10, ends=5) for counts in ([9], [10], [10, 5], [10, 4, 9], [])] == [
        False,
        True,
        True,
        False,
        False,
    ]
