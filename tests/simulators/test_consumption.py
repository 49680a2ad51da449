"""Consumption curves: exact, repeatable, monotone, and shaped like the customer they stand for."""

from __future__ import annotations

import itertools
import random

import pytest

from simulators.consumption import (
    CURVES,
    DAY_MS,
    ORIGIN_MS,
    QUARTER_MS,
    CountingCurve,
    SteadyCurve,
    make_curve,
)

HOUR_MS = 3_600_000
JANUARY = ORIGIN_MS + 740 * DAY_MS  # 2026-01-10, a Saturday
JULY = ORIGIN_MS + 920 * DAY_MS  # 2026-07-09, a Thursday


def _used(name: str, start: int, length: int, *, meter: str = "M1") -> int:
    curve = make_curve(name, seed=3, meter=meter)
    return curve.index(start + length) - curve.index(start)


@pytest.mark.parametrize("name", [c for c in CURVES if c != "counting"])
def test_index_never_falls_and_does_not_depend_on_who_asked_before(name: str) -> None:
    moments = sorted(random.Random(7).randrange(JANUARY, JANUARY + 5 * DAY_MS) for _ in range(400))
    forward = make_curve(name, seed=3, meter="M1")
    indexes = [forward.index(t) for t in moments]
    assert indexes == sorted(indexes)
    assert min(indexes) >= 0
    backward = make_curve(name, seed=3, meter="M1")
    assert [backward.index(t) for t in reversed(moments)] == indexes[::-1]


def test_seed_and_meter_both_decide_the_index() -> None:
    start = make_curve("household_gas", seed=1, meter="A").index(JANUARY)
    assert make_curve("household_gas", seed=1, meter="A").index(JANUARY) == start
    assert make_curve("household_gas", seed=2, meter="A").index(JANUARY) != start
    assert make_curve("household_gas", seed=1, meter="B").index(JANUARY) != start


def test_index_is_continuous_over_midnight_and_over_quarter_hours() -> None:
    curve = make_curve("factory_gas", seed=1, meter="A")
    for border in (JANUARY, JANUARY + 40 * QUARTER_MS):
        step = curve.index(border) - curve.index(border - 1)
        assert 0 <= step <= 200  # 900 m³ a day are 10 units of 10⁻⁶ m³ in a millisecond; peaks some times that


def test_boiler_burns_in_january_and_not_in_july() -> None:
    winter = _used("household_gas_boiler", JANUARY, 30 * DAY_MS)
    summer = _used("household_gas_boiler", JULY, 30 * DAY_MS)
    assert winter > 100_000_000  # more than 100 m³ a month
    assert summer < 60_000_000


def test_household_cooks_in_the_evening_and_not_at_three_in_the_morning() -> None:
    days = [JANUARY + n * DAY_MS for n in range(30)]
    night = sum(_used("household_gas", day + 2 * HOUR_MS, 2 * HOUR_MS) for day in days[:30])
    evening = sum(_used("household_gas", day + 17 * HOUR_MS, 4 * HOUR_MS) for day in days[:30])
    assert night == 0
    assert evening > 0


def test_two_shift_factory_rests_at_night_and_on_sunday() -> None:
    monday = JANUARY + 2 * DAY_MS
    sunday = JANUARY + DAY_MS
    night = _used("factory_gas", monday + 23 * HOUR_MS, 5 * HOUR_MS)
    shift = _used("factory_gas", monday + 8 * HOUR_MS, 5 * HOUR_MS)
    assert shift > 10 * night
    assert _used("factory_gas", monday, DAY_MS) > 2 * _used("factory_gas", sunday, DAY_MS)


def test_continuous_industry_never_stops_for_an_hour() -> None:
    curve = make_curve("continuous_industry_gas", seed=1, meter="A")
    indexes = [curve.index(JANUARY + n * HOUR_MS) for n in range(24 * 14)]
    assert min(b - a for a, b in itertools.pairwise(indexes)) > 10_000_000  # 10 m³ in any hour


def test_flow_agrees_with_the_index_of_its_quarter_hour() -> None:
    curve = make_curve("restaurant_gas", seed=1, meter="A")
    noon = JANUARY + 12 * HOUR_MS
    assert curve.flow(noon) * QUARTER_MS // HOUR_MS == curve.index(noon + QUARTER_MS) - curve.index(noon)


def test_counting_curve_gives_every_answer_its_own_index() -> None:
    curve = CountingCurve(step=1000, start_index=5_000)
    assert [curve.index(JANUARY) for _ in range(3)] == [5_000, 6_000, 7_000]
    with pytest.raises(ValueError, match="step"):
        CountingCurve(step=0)


def test_counting_curve_starts_on_its_own_step() -> None:
    assert make_curve("counting", seed=1, meter="A", start_index=12_345, step=1000).index(0) == 12_000


def test_steady_curve_counts_one_unit_an_hour_from_the_origin() -> None:
    curve = SteadyCurve(per_hour=1_000_000, start_index=7)
    assert curve.index(ORIGIN_MS - 5) == 7
    assert curve.index(ORIGIN_MS + 3 * HOUR_MS) == 3_000_007


def test_curve_stands_still_before_its_origin_and_after_its_end() -> None:
    curve = make_curve("household_water", seed=1, meter="A", start_index=10)
    assert curve.index(0) == curve.index(ORIGIN_MS) == 10
    end = ORIGIN_MS + 30 * 366 * DAY_MS
    assert curve.index(end) == curve.index(end + DAY_MS) > 10
    assert curve.flow(end) == 0


def test_unknown_curve_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match="household_gas"):
        make_curve("houshold_gas", seed=1, meter="A")
