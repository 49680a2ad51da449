"""The clock of a simulated meter goes wrong as it is told, and stands where it was left."""

from __future__ import annotations

from simulators.meter_clock import MeterClock

DAY = 86_400_000


def test_a_clock_is_off_by_what_it_was_made_with() -> None:
    assert MeterClock(28_800_000).shown_ms(1_000) == 28_801_000


def test_a_drifting_clock_is_off_by_more_each_day_and_keeps_what_it_lost_when_it_goes_right_again() -> None:
    clock = MeterClock()
    clock.drift(60.0, DAY)
    assert [clock.shown_ms(t) - t for t in (DAY, 2 * DAY, 2 * DAY + DAY // 2)] == [0, 60_000, 90_000]
    clock.drift(0.0, 3 * DAY)
    assert clock.shown_ms(9 * DAY) - 9 * DAY == 120_000


def test_a_clock_that_is_set_goes_wrong_anew_from_there() -> None:
    clock = MeterClock(5_000)
    clock.drift(-30.0, 0)
    clock.set(2 * DAY, 2 * DAY)
    assert clock.off_ms == 0
    assert clock.shown_ms(3 * DAY) - 3 * DAY == -30_000
