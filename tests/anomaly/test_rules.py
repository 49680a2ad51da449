"""Every rule by hand: what it must see, and the ordinary situation it must not."""

from __future__ import annotations

import numpy as np

from anomaly.rules import (
    burst,
    comms_loss,
    drift,
    high_use,
    leak,
    leak_intermittent,
    reverse_flow,
    states,
    stuck,
    tamper,
    unauthorised,
    zero_use,
)


def col(*values: float) -> np.ndarray:
    """One meter's history, newest last."""
    return np.array(values, float)[:, None]


ONE = np.array([1.0])
YES, NO = np.array([True]), np.array([False])
CALM = np.zeros(45, bool)


def leak_of(smallest: np.ndarray, lower: np.ndarray, total: np.ndarray):
    return leak.continuous(
        smallest,
        lower,
        total,
        hours=1,
        resolution=0.001 * ONE,
        peers=0.02 * ONE,
        prior=0.05 * ONE,
        min_rate=0.003 * ONE,
        min_score=8 * ONE,
        max_habit=0.35 * ONE,
        flatness=1.35 * ONE,
    )


def test_three_days_without_a_still_hour_are_a_leak_where_hours_used_to_be_still():
    smallest = col(*[0.0] * 28, 0.03, 0.03, 0.03)
    total = col(*[0.5] * 28, 1.2, 1.2, 1.2)
    verdict = leak_of(smallest, smallest.copy(), total)
    assert verdict.on[0]
    assert verdict.proof(0)["rate_per_h"] == 0.03
    assert verdict.back_h[0] == 72


def test_boiler_whose_floor_is_not_flat_is_no_leak():
    smallest = col(*[0.0] * 28, 0.03, 0.03, 0.03)
    lower = col(*[0.0] * 28, 0.15, 0.15, 0.15)
    assert not leak_of(smallest, lower, col(*[0.5] * 28, 5, 5, 5)).on[0]


def test_use_that_rises_far_beyond_its_floor_is_no_leak():
    smallest = col(*[0.0] * 28, 0.03, 0.03, 0.03)
    assert not leak_of(smallest, smallest.copy(), col(*[0.5] * 28, 6, 6, 6)).on[0]


def test_meter_that_is_always_restless_is_not_judged_as_a_leak():
    smallest = col(*[0.15, 0.0] * 14, *[0.15] * 4)
    assert not leak_of(smallest, smallest.copy(), col(*[4.0] * 32)).on[0]


def test_unknown_days_neither_end_nor_lengthen_a_leak():
    smallest = col(*[0.0] * 28, 0.03, np.nan, 0.03, 0.03)
    assert leak_of(smallest, smallest.copy(), col(*[0.5] * 28, 1.2, np.nan, 1.2, 1.2)).back_h[0] == 72


def test_floor_that_rises_under_constant_use_is_a_masked_leak():
    floor = col(*[0.45] * 20, 0.9, 0.9, 0.9, 0.9)  # 0.15 -> 0.3 m³/h
    limits = {"hours": 3, "resolution": 0.01 * ONE, "min_rate": 0.01 * ONE, "min_rise": 0.15 * ONE}
    assert leak.floor_rise(floor, col(*[5.0] * 20, *[8.6] * 4), **limits).on[0]
    assert not leak.floor_rise(floor, col(*[5.0] * 20, *[30.0] * 4), **limits).on[0]  # a surge of work


def test_thirty_days_without_a_stop_are_a_micro_leak():
    kwargs = {"hours": 3, "resolution": 0.001 * ONE, "min_days": 30 * ONE, "flatness": 1.35 * ONE, "applies": YES}
    assert leak.micro(col(*[0.01] * 30), col(*[0.01] * 30), **kwargs).on[0]
    broken = col(*[0.01] * 15, 0.0, *[0.01] * 14)
    assert not leak.micro(broken, broken, **kwargs).on[0]


def test_daily_level_that_rises_and_stays_is_a_leak_in_daily_indexes():
    rng = np.random.default_rng(1)
    days = 0.45 + 0.05 * rng.standard_normal(37)
    days[-7:] += 0.6  # 25 L/h
    kwargs = {
        "peers": np.ones((37, 1)),
        "festival": np.zeros(37, bool),
        "min_rate": 0.003 * ONE,
        "max_rise": 1.25 * ONE,
        "min_score": 5.0,
        "days": 7,
    }
    assert leak.daily_shift(days[:, None], **kwargs).on[0]
    days[-4] = 0.1  # a quiet day: nothing runs on its own
    assert not leak.daily_shift(days[:, None], **kwargs).on[0]


def test_flow_held_for_six_hours_above_any_before_is_a_burst():
    kwargs = {"qmax": 4 * ONE, "min_share": 0.12 * ONE, "min_ratio": 2.2 * ONE}
    hours = col(1.2, 1.2, 1.1, 1.3, 1.2, 1.2)
    assert burst.burst(hours, held_before=0.1 * ONE, **kwargs).on[0]
    assert not burst.burst(hours, held_before=0.8 * ONE, **kwargs).on[0]
    assert not burst.burst(hours, held_before=np.inf * ONE, **kwargs).on[0]  # too young to say
    assert not burst.burst(col(1.2, 1.2, 0, 1.3, 1.2, 1.2), held_before=0.1 * ONE, **kwargs).on[0]


def bits(*hours: int) -> int:
    return sum(1 << hour for hour in hours)


def test_quiet_hours_that_run_again_and_again_are_an_intermittent_leak():
    day, night = bits(7, 12, 19), bits(1, 2, 3, 4, 5)
    active = col(*[day] * 27, *[day | night, day] * 4)
    steady = col(*[0] * 27, *[5, 0] * 4)
    total = col(*[0.4] * 27, *[0.65, 0.4] * 4)
    seen = col(*[(1 << 24) - 1] * 35)
    kwargs = {
        "recent_days": 8,
        "max_habit": 0.12 * ONE,
        "min_hours": 3 * ONE,
        "min_days": 4 * ONE,
        "min_run": 3 * ONE,
        "min_rate": 0.0045 * ONE,
        "max_rate": 0.065 * ONE,
    }
    verdict = leak_intermittent.intermittent(active, seen, steady, total, **kwargs)
    assert verdict.on[0]
    assert verdict.proof(0)["days_marked"] == 4
    heated = col(*[0.4] * 27, *[5.0, 0.4] * 4)  # far more than a drip: a boiler
    assert not leak_intermittent.intermittent(active, seen, steady, heated, **kwargs).on[0]


def zero(total: np.ndarray, *, festival: np.ndarray = CALM, business: np.ndarray = NO, excluded: np.ndarray = NO):
    return zero_use.zero_use(
        total,
        still_below=0.005 * ONE,
        festival=festival[-total.shape[0] :],
        min_days=7 * ONE,
        festival_days=6 * ONE,
        business=business,
        excluded=excluded,
    )


def test_week_at_rest_is_zero_use_of_a_home_that_never_rests():
    assert zero(col(*[0.4] * 30, *[0.0] * 7)).on[0]
    assert not zero(col(*[0.4] * 30, *[0.0] * 6)).on[0]


def test_missing_day_ends_a_zero_consumption_run():
    assert not zero(col(*[0.4] * 30, *[0.0] * 4, np.nan, *[0.0] * 4)).on[0]


def test_home_that_often_rests_must_rest_longer():
    assert not zero(col(*[0.4, 0.0, 0.0] * 10, *[0.0] * 8)).on[0]


def test_vacant_flat_was_never_used_and_is_no_zero_use():
    assert not zero(np.zeros((45, 1))).on[0]


def test_closed_valve_explains_rest():
    assert not zero(col(*[0.4] * 30, *[0.0] * 9), excluded=YES).on[0]


def test_shop_that_closes_for_the_festival_is_no_zero_use():
    festival = np.zeros(45, bool)
    festival[-16:] = True
    total = col(*[40.0] * 29, *[0.0] * 16)
    assert not zero(total, festival=festival, business=YES).on[0]
    assert zero(total, business=YES).on[0]


def test_index_long_at_rest_is_proposed_for_closing():
    verdict = zero_use.long_zero(np.zeros((95, 1)), still_below=0.005 * ONE, min_days=90 * ONE, excluded=NO)
    assert verdict.on[0]
    assert verdict.proof(0) == {"days_at_rest": 95.0}


def test_standing_load_that_stands_still_for_two_days_is_stuck():
    total = col(*[8.0] * 10, 0.0, 0.0)
    kwargs = {"still_below": 0.005 * ONE, "min_days": 2 * ONE, "excluded": NO}
    assert stuck.stuck(total, always_on=YES, **kwargs).on[0]
    assert not stuck.stuck(total, always_on=NO, **kwargs).on[0]


def test_always_on_needs_three_days_of_hours_without_rest():
    assert zero_use.always_on(col(0, 0, 0), col(24, 24, 24), max_share=0.02)[0]
    assert not zero_use.always_on(col(8, 8, 8), col(24, 24, 24), max_share=0.02)[0]
    assert not zero_use.always_on(col(0), col(24), max_share=0.02)[0]


def test_two_falls_are_reverse_flow_and_one_count_is_not():
    kwargs = {"resolution": 0.01 * ONE, "min_counts": 6 * ONE, "min_steps": 2 * ONE}
    assert reverse_flow.reverse_flow(col(0.1, -0.03, 0, -0.02), **kwargs).on[0]
    assert reverse_flow.reverse_flow(col(0.1, -0.07), **kwargs).on[0]
    assert not reverse_flow.reverse_flow(col(0.1, -0.03), **kwargs).on[0]


def high(total: np.ndarray, peers: np.ndarray | None = None, festival: np.ndarray = CALM):
    days = total.shape[0]
    return high_use.high_use(
        total,
        peers=np.ones((days, 1)) if peers is None else peers,
        festival=festival[-days:],
        month_limit=50 * ONE,
        min_ratio=1.8 * ONE,
        days=7,
    )


def test_week_at_three_times_the_habit_and_above_the_limit_is_high_use():
    verdict = high(col(*[1.0] * 30, *[3.0] * 7))
    assert verdict.on[0]
    assert verdict.proof(0)["month_rate"] == 90.0


def test_party_weekend_cold_wave_and_guests_are_no_high_use():
    assert not high(col(*[1.0] * 30, 1, 1, 1, 1, 6, 7, 6)).on[0]
    assert not high(col(*[1.0] * 30, *[3.0] * 7), peers=col(*[1.0] * 30, *[3.0] * 7)).on[0]
    festival = np.zeros(45, bool)
    festival[-5:] = True
    assert not high(col(*[1.0] * 30, *[3.0] * 7), festival=festival).on[0]


def test_household_above_the_limit_in_thirty_days_is_named_whatever_its_habit():
    assert high_use.month_over_limit(np.full((30, 1), 1.7), month_limit=50 * ONE, applies=YES).on[0]
    assert not high_use.month_over_limit(np.full((30, 1), 1.6), month_limit=50 * ONE, applies=YES).on[0]


def test_more_than_qmax_for_hours_is_over_range():
    assert high_use.over_range(col(4.5, 4.2), qmax=4 * ONE, min_ratio=ONE).on[0]
    assert not high_use.over_range(col(4.5, 3.9), qmax=4 * ONE, min_ratio=ONE).on[0]


def dropped(total: np.ndarray, peers: np.ndarray | None = None):
    return tamper.drop(
        total,
        peers=np.ones(total.shape) if peers is None else peers,
        still_below=0.005 * ONE,
        max_ratio=0.48 * ONE,
        min_ratio=0.08 * ONE,
        max_spread=0.5 * ONE,
    )


def test_two_weeks_at_a_third_of_the_habit_are_tampering():
    verdict = dropped(col(*[1.0] * 28, *[0.3] * 15))
    assert verdict.on[0]
    assert verdict.proof(0)["ratio"] == 0.3


def test_journey_weekends_and_warm_spell_are_no_tampering():
    assert not dropped(col(*[1.0] * 34, *[0.0] * 6, *[1.0] * 4)).on[0]
    week = [6.0] * 5 + [0.9] * 2
    assert not dropped(col(*week * 6, *week[:2])).on[0]
    level = col(*[1.0] * 29, *[0.3] * 15)
    assert not dropped(level, peers=level.copy()).on[0]


def test_magnet_flag_is_tampering_at_once():
    assert tamper.flagged(np.array([[False], [True]])).on[0]
    assert not tamper.flagged(np.zeros((3, 1), bool)).on[0]


def test_drift_is_a_slow_shift_of_a_regular_meter_not_a_jump():
    rng = np.random.default_rng(2)
    noise = 1 + 0.01 * rng.standard_normal(45)
    ramp = np.interp(np.arange(45), [0, 16, 31, 44], [1, 1, 0.85, 0.85])
    kwargs = {
        "peers": np.ones((45, 1)),
        "min_shift": 0.06 * ONE,
        "max_shift": 0.4 * ONE,
        "min_score": 7 * ONE,
        "days": 14,
    }
    assert drift.drift((10 * ramp * noise)[:, None], **kwargs).on[0]
    jump = np.where(np.arange(45) < 31, 1.0, 0.8)
    assert not drift.drift((10 * jump * noise)[:, None], **kwargs).on[0]


def test_use_behind_a_closed_valve_or_before_commissioning_is_unauthorised():
    kwargs = {"resolution": 0.01 * ONE, "min_counts": 3 * ONE}
    hours = col(0.0, 0.02, 0.05)
    assert unauthorised.unauthorised(hours, forbidden=np.ones((3, 1), bool), **kwargs).on[0]
    half = np.array([[False], [True], [False]])
    assert not unauthorised.unauthorised(hours, forbidden=half, **kwargs).on[0]


def test_silence_is_a_loss_after_its_limit_and_a_silent_group_is_an_outage():
    silent = np.array([60.0, 10.0, 60.0, 60.0, 60.0, 60.0])
    assert comms_loss.comms_loss(silent, min_hours=np.full(6, 52.0)).on.tolist() == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]
    parent = np.array([0, 0, 1, 1, 1, 1])
    down = comms_loss.outage(silent, parent, min_hours=6, min_share=0.6, fewest_meters=3)
    assert down.tolist() == [False, False, True, True, True, True]


def test_status_bit_counts_when_the_newest_reading_still_carries_it():
    known = np.ones((4, 1), bool)
    on = np.array([[True], [True], [True], [True]])
    assert states.reported(on, known, min_readings=3).on[0]
    assert not states.reported(np.array([[True], [True], [True], [False]]), known, min_readings=3).on[0]


def test_supply_balance_names_a_district_that_loses_a_third():
    sums, known = states.group_sums(np.array([3.0, 4.0, np.nan]), np.array([0, 0, -1]), 1)
    verdict = states.supply_balance(10 * ONE, sums, known, max_loss=0.2)
    assert verdict.on[0]
    assert verdict.proof(0)["loss_share"] == 0.3
