"""Every doubt names its rule and version; a rule judges only readings from its effective date on."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from metering.reading import Reading
from metering.steps import limits_of
from registry import ledger
from registry.database import Database
from registry.models import Installation, Meter, UsagePoint
from registry.validation import MeterFacts, conflicts, load_facts, validate
from registry.validation_rules import RULES, Rule

T0 = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR = 3_600_000
M3 = 1_000_000
LIMITS = limits_of(digits=5, resolution=1000, qmax=6 * M3)
FACTS = {"M1": MeterFacts("M1", "volume", LIMITS, ((T0, T0 + 100 * HOUR), (T0 + 100 * HOUR, None)))}


def reading(hour: int, cubic_metres: float, meter: str = "M1", **more: Any) -> Reading:
    return Reading(meter, T0 + hour * HOUR, {"volume": round(cubic_metres * M3)}, **more)


def found(*readings: Reading, **more: Any) -> list[tuple[int, str, int, str]]:
    results = validate(readings, FACTS, **more)
    return [((r.read_at - T0) // HOUR, r.rule, r.version, r.reason) for r in results]


def test_an_ordinary_series_has_nothing_to_doubt() -> None:
    assert found(*(reading(hour, 10 + hour * 0.5) for hour in range(24))) == []


def test_one_bad_value_a_reset_and_an_unconfirmed_jump_are_named_by_steps() -> None:
    bad = found(reading(0, 100), reading(1, 0), reading(2, 101), reading(3, 102))
    assert bad == [(1, "step", 1, "transient")]
    reset = found(reading(0, 500), reading(1, 0), reading(2, 0.5), reading(3, 1))
    assert reset == [(1, "step", 1, "reset")]
    assert found(reading(0, 100), reading(1, 5000)) == [(1, "step", 1, "pending")]


def test_a_recorded_exchange_is_no_step_at_all() -> None:
    assert found(reading(98, 900), reading(99, 901), reading(101, 3), reading(102, 4)) == []


def test_a_frozen_clock_and_one_that_is_far_off_are_doubted() -> None:
    frozen = found(*(reading(hour, 10, meter_time=T0) for hour in range(3)))
    assert frozen == [(1, "clock_frozen", 1, "clock_frozen"), (2, "clock_frozen", 1, "clock_frozen")]
    assert found(reading(5, 10, meter_time=T0 + 7 * HOUR)) == [(5, "clock_off", 1, "clock_off")]


def test_unknown_meters_and_readings_from_before_the_installation_are_doubted() -> None:
    assert found(reading(0, 1, "X9")) == [(0, "unknown_meter", 1, "unknown_meter")]
    assert found(reading(-1, 1)) == [(-1, "outside_installation", 1, "not_installed")]


def test_a_rule_judges_from_its_effective_date_on_and_says_its_version() -> None:
    later = Rule("clock_off", 2, T0 + 10 * HOUR, {"most_s": 60})
    readings = [reading(hour, 10, meter_time=T0 + hour * HOUR + 300_000) for hour in (9, 10)]
    assert found(*readings) == []
    assert found(*readings, rules=(*RULES, later)) == [(10, "clock_off", 2, "clock_off")]


def test_facts_and_conflicts_come_out_of_the_registry(database: Database) -> None:
    refused = ledger.QuarantineRow("gw-1", "d1", T0, "conflict", "stored 1, now 2", b"{}", meter="M1", read_at=T0)
    with database.begin() as connection:
        connection.execute(sa.insert(UsagePoint), [{"id": "U1", "medium": "gas"}])
        facts = {"id": "M1", "medium": "gas", "quantity": "volume", "index_digits": 5, "resolution": 1000}
        connection.execute(sa.insert(Meter), [facts | {"qmax": 6 * M3}])
        connection.execute(sa.insert(Installation), [{"meter_id": "M1", "usage_point_id": "U1", "installed_at": T0}])
        ledger.add_quarantine(connection, [refused])
        assert load_facts(connection, ["M1", "X9"]) == {"M1": MeterFacts("M1", "volume", LIMITS, ((T0, None),))}
        (result,) = conflicts(connection, ["M1"], T0, T0 + 1)
    assert (result.rule, result.version, result.detail) == ("duplicate_key", 1, "stored 1, now 2")
