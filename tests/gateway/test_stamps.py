"""Times of readings and steps of the host's clock."""

from __future__ import annotations

import random

from gateway.stamps import ClockWatch, MeterStamps

NOON = 1_772_366_400_000


def test_the_time_of_a_reading_is_the_clocks_time() -> None:
    stamps = MeterStamps()
    assert [stamps.stamp(NOON + 5000 * n) for n in range(3)] == [(NOON + 5000 * n, False) for n in range(3)]


def test_two_readings_in_one_millisecond_get_two_times_and_no_doubt() -> None:
    stamps = MeterStamps()
    assert [stamps.stamp(NOON) for _ in range(3)] == [(NOON, False), (NOON + 1, False), (NOON + 2, False)]


def test_after_a_step_back_no_time_is_given_out_twice_and_readings_are_doubtful_until_it_is_made_up() -> None:
    stamps = MeterStamps()
    before = [stamps.stamp(NOON + 5000 * n)[0] for n in range(200)]
    back = [stamps.stamp(NOON + 5000 * n) for n in range(100, 203)]
    assert all(doubtful for _, doubtful in back[:99])
    assert back[-1] == (NOON + 5000 * 202, False)
    assert not set(before) & {at for at, _ in back}, "the key (meter, read_at) stays unique"
    assert back[0][0] == before[100] + 1, "as near to the clock's time as can be"


def test_stamps_stay_unique_however_the_clock_jumps_about() -> None:
    rng, stamps, now = random.Random(7), MeterStamps(), NOON
    given = []
    for _ in range(250):
        now += rng.choice([0, 1, 1000, -3000, 5000])
        given.append(stamps.stamp(now)[0])
    assert len(set(given)) == len(given)


def test_a_step_of_the_wall_clock_is_noticed_drift_is_not() -> None:
    watch = ClockWatch(NOON, 100.0)
    assert watch.step(NOON + 1500, 101.0) == 0, "half a second of drift"
    assert watch.step(NOON + 3_602_500, 102.0) == 3_600_000
    assert watch.step(NOON + 3_603_500, 103.0) == 0, "told once"
    assert watch.step(NOON + 4500, 104.0) == -3_600_000
