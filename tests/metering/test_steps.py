"""Steps between two indexes: every kind worked by hand, and arrays equal to scalars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.steps import (
    Step,
    StepLimits,
    classify,
    classify_many,
    limit_arrays,
    limits_of,
    relate,
)

M = 1_000_000
G4 = limits_of(digits=5, resolution=10_000, qmax=4 * M)  # a G2.5 household meter: 0.01 m³, Qmax 4 m³/h, 99999


def step(before: float, after: float, following: float | None = None, *, hours: float = 1, limits: StepLimits = G4):
    later = None if following is None else round(following * M)
    return classify(
        round(before * M),
        round(after * M),
        elapsed_s=round(hours * 3600),
        limits=limits,
        following=later,
        following_s=3600,
    )


def test_possible_flow_is_forward_and_exact():
    result = step(5623.81, 5624.16)
    assert (result.step, result.consumption) == (Step.FORWARD, 350_000)


def test_first_index_says_nothing():
    assert classify(None, 5, elapsed_s=0, limits=G4).step is Step.NONE


def test_rollover_adds_what_passed_on_both_sides_of_zero():
    result = step(99999.62, 0.02)
    assert (result.step, result.consumption) == (Step.ROLLOVER, 400_000)  # 0.38 + 0.02 m³


def test_fall_that_flow_explains_is_reverse():
    result = step(120.00, 119.93)
    assert (result.step, result.consumption) == (Step.REVERSE, -70_000)


def test_fall_of_one_count_is_jitter_not_reverse():
    result = step(120.00, 119.99)
    assert (result.step, result.consumption) == (Step.JITTER, 0)


def test_jump_without_a_following_index_is_held():
    assert step(2332.1, 9999.9).step is Step.PENDING


@pytest.mark.parametrize("bad", [9999.9, 0.0, 2650.1, 23321.0], ids=["all nines", "zero", "digit", "shift"])
def test_bad_value_is_transient_when_the_next_index_fits_the_old_level(bad: float):
    assert step(2332.1, bad, 2332.3).step is Step.TRANSIENT


def test_new_level_is_an_exchange_when_the_next_index_confirms_it():
    assert step(1009.85, 37.5, 37.6).step is Step.EXCHANGE


def test_level_at_zero_is_a_reset():
    assert step(1009.85, 0.01, 0.03).step is Step.RESET


def test_jump_up_that_stays_is_over_range():
    assert step(1009.85, 1100.0, 1100.2).step is Step.OVER_RANGE


@pytest.mark.parametrize(("factor", "scale"), [(10, 1), (100, 2), (1000, 3), (0.1, -1), (0.01, -2), (0.001, -3)])
def test_level_times_a_power_of_ten_is_a_unit_change(factor: float, scale: int):
    result = step(1347.6, 1347.7 * factor, 1347.8 * factor)
    assert (result.step, result.scale) == (Step.UNIT_CHANGE, scale)


def test_scaled_values_after_an_exchange_to_a_small_index_are_not_a_unit_change():
    # 0.05 m³ is far from 1009.85 / 10, / 100 and / 1000
    assert step(1009.85, 0.05, 0.09).step is Step.EXCHANGE


@pytest.mark.parametrize(("up", "back"), [(103.0, 100.1), (98.0, 100.1)])
def test_large_step_that_the_next_index_takes_back_was_a_bad_value(up: float, back: float):
    assert step(100.0, up, back).step is Step.TRANSIENT


def test_zero_near_the_top_of_the_counter_is_a_rollover_only_when_the_next_index_goes_on_from_it():
    assert step(99998.14, 0.0, 99998.18).step is Step.TRANSIENT
    assert step(99998.14, 0.0, 0.05).step is Step.ROLLOVER


def test_large_use_just_before_a_rollover_is_believed():
    assert step(99998.0, 99999.9, 0.4).step is Step.FORWARD


def test_large_step_is_believed_when_the_next_index_goes_on():
    result = step(100.0, 103.0, 103.2)
    assert (result.step, result.consumption) == (Step.FORWARD, 3 * M)


def test_small_backflow_after_use_is_not_a_bad_value():
    # 0.5 m³ in an hour is below 15 % of 6 m³/h: believed, and the next step is the reverse one
    assert step(100.0, 100.5, 100.4).step is Step.FORWARD
    assert step(100.5, 100.4).step is Step.REVERSE


def test_short_peak_above_the_range_keeps_its_consumption():
    # 8 m³ in one hour is above 1.5 Qmax, but 8.1 m³ in two hours is not
    result = step(100.0, 108.0, 108.1)
    assert (result.step, result.consumption) == (Step.OVER_RANGE, 8 * M)


def test_two_values_at_one_time_conflict():
    assert step(5.0, 6.0, hours=0).step is Step.CONFLICT
    assert step(5.0, 5.0, hours=0).consumption == 0


def test_long_gap_allows_what_could_have_passed():
    # 6 m³/h (1.5 Qmax) for 24 h is 144 m³
    assert step(100.0, 244.0, hours=24).step is Step.FORWARD
    assert step(100.0, 244.1, hours=24).step is Step.PENDING


@pytest.mark.parametrize("wrong", [{"digits": 0}, {"resolution": 0}, {"qmax": 0}])
def test_impossible_master_data_is_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match="digits"):
        limits_of(**{"digits": 5, "resolution": 10_000, "qmax": M, **wrong})


index = st.integers(0, 10**11 - 1) | st.sampled_from([0, 1, 99_999_990_000, 1_347_600_000, 1_347_600])
nearby = st.integers(-(10**7), 10**7)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(index, index | st.none(), nearby, index, nearby, st.booleans()), min_size=1, max_size=30))
def test_arrays_and_scalars_agree(rows):
    before = np.array([r[0] for r in rows], np.int64)
    jump = [r[1] if r[1] is not None else r[0] + r[2] for r in rows]
    after = np.array([max(0, a) for a in jump], np.int64)
    following = np.array(
        [max(0, a + r[4]) if r[5] else max(0, r[0] + r[4]) for a, r in zip(after, rows, strict=True)]
    )
    elapsed = np.array([(abs(r[2]) % 5) * 1800 for r in rows], np.int64)
    has = np.array([r[3] % 3 > 0 for r in rows])
    following_s = np.full(len(rows), 3600, np.int64)
    codes, moved, scales = classify_many(
        before,
        after,
        elapsed_s=elapsed,
        limits=limit_arrays([G4] * len(rows)),
        following=following,
        following_s=following_s,
        has_following=has,
    )
    for i in range(len(rows)):
        one = classify(
            int(before[i]),
            int(after[i]),
            elapsed_s=int(elapsed[i]),
            limits=G4,
            following=int(following[i]) if has[i] else None,
            following_s=3600,
        )
        assert (one.step, one.consumption or 0, one.scale) == (codes[i], moved[i], scales[i])


def test_a_year_long_gap_does_not_overflow():
    assert relate(0, 10**13, 10**9, G4).step is Step.PENDING
