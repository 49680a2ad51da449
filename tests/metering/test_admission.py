"""Plausibility of time, value and identity; every boundary worked by hand."""

import pytest

from metering import admission
from metering.admission import ADMIT, TimeLimits, judge, judge_identity, judge_origin, judge_time, judge_values
from metering.reading import Reading

NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
MINUTE = 60_000
DAY = 86_400_000
LIMITS = TimeLimits()


@pytest.mark.parametrize(
    ("at", "decision", "reason"),
    [
        (NOW, "admit", ""),
        (NOW - 90 * DAY, "admit", ""),
        (NOW - 400 * DAY, "admit", ""),
        (NOW - 400 * DAY - 1, "quarantine", "time_past"),
        (NOW + MINUTE, "admit", ""),
        (NOW + MINUTE + 1, "suspect", "time_ahead"),
        (NOW + 5 * MINUTE, "suspect", "time_ahead"),
        (NOW + 5 * MINUTE + 1, "quarantine", "time_future"),
        (NOW + 10 * MINUTE, "quarantine", "time_future"),
        (NOW + 3653 * DAY, "quarantine", "time_future"),
        (0, "quarantine", "time_past"),  # 1970
        (946_684_800_000, "quarantine", "time_past"),  # 2000-01-01
        (4_291_747_200_000, "quarantine", "time_future"),  # 2106-01-01
        (1_772_323_200, "quarantine", "time_unit"),  # seconds given as milliseconds
        (1_772_323_200_000_000, "quarantine", "time_unit"),  # microseconds given as milliseconds
    ],
)
def test_time_is_judged_at_both_edges_of_the_window(at: int, decision: str, reason: str) -> None:
    verdict = judge_time(at, NOW, LIMITS)
    assert (verdict.decision, verdict.reason) == (decision, reason)


def test_leap_day_and_month_border_are_plausible_times() -> None:
    leap = 1_709_164_800_000  # 2024-02-29T00:00:00Z
    assert judge_time(leap, leap + DAY, LIMITS) is ADMIT
    border = 1_772_294_400_000  # 2026-02-28T16:00:00Z, the month border in Shanghai
    assert judge_time(border, NOW, LIMITS) is ADMIT


def test_window_is_what_is_admitted_without_doubt() -> None:
    low, high = LIMITS.window(NOW)
    assert (low, high) == (NOW - 400 * DAY, NOW + MINUTE)
    assert TimeLimits(earliest_ms=NOW - DAY).window(NOW)[0] == NOW - DAY


@pytest.mark.parametrize(
    ("micro", "reason"),
    [
        (0, ""),
        (-1, ""),
        (999_999_999_999_999, ""),  # 15 digits
        (10**18, ""),  # one significant digit is exact however large
        (123_456_789_012_345_678, "value_digits"),
        (9_223_372_036_854_775_807, "value_digits"),
        (-(2**63), "value_range"),
        (2**63, "value_range"),
        (10**29, "value_range"),
    ],
)
def test_values_must_fit_int64_and_survive_a_float(micro: int, reason: str) -> None:
    assert judge_values({"volume": 5, "flow": micro}).reason == reason


def test_reading_without_a_quantity_is_not_a_reading() -> None:
    assert judge_values({}).reason == "no_values"


@pytest.mark.parametrize(
    ("meter", "owner", "reason"),
    [
        ("WM-1", "gw-1", ""),
        ('表 1, "a"\n=x\'; DROP MEASUREMENT reading', "gw-1", ""),  # ugly, yet a name
        ("WM-1", None, "unknown_meter"),
        ("WM-1", "gw-2", "foreign_meter"),
        ("", "gw-1", "meter_id"),
        ("x" * 65, "gw-1", "meter_id"),
        ("a\0b", "gw-1", "meter_id"),
        ("a\ud800", "gw-1", "meter_id"),
    ],
)
def test_identity_asks_the_registry_and_the_letters(meter: str, owner: str | None, reason: str) -> None:
    assert judge_identity(meter, owner, "gw-1").reason == reason


def test_corrections_never_enter_and_estimates_only_when_switched_on() -> None:
    assert judge_origin("edited", "manual", estimates=True).reason == "edited"
    assert judge_origin("estimated", "estimate").reason == "estimate"
    assert judge_origin("valid", "estimate").reason == "estimate"
    assert judge_origin("estimated", "estimate", estimates=True) is ADMIT
    assert judge_origin("suspect", "push") is ADMIT


def test_a_refusal_outweighs_a_doubt() -> None:
    reading = Reading("WM-1", NOW + 2 * MINUTE, {})
    assert judge(reading, owner="gw-1", gateway="gw-1", now=NOW, limits=LIMITS).reason == "no_values"
    reading.values["volume"] = 1
    assert judge(reading, owner="gw-1", gateway="gw-1", now=NOW, limits=LIMITS).reason == "time_ahead"
    reading.read_at = NOW
    assert judge(reading, owner="gw-1", gateway="gw-1", now=NOW, limits=LIMITS) is ADMIT


def test_everything_below_the_quick_bound_is_exact_as_a_float() -> None:
    edge = admission.EXACT_MICRO - 1
    for micro in (edge, edge - 1, edge // 3, 123_456_789_012_345, -edge):
        assert judge_values({"volume": micro}) is ADMIT
        assert round(micro / 1_000_000 * 1_000_000) == micro
