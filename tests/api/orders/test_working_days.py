"""Deadlines in working days, worked by hand from the State Council's notices for 2026."""

from __future__ import annotations

from datetime import date

import pytest

from api.orders.working_days import WorkCalendar


def test_five_working_days_across_the_spring_festival_of_2026() -> None:
    # Sat 14th worked (1); 15th to 23rd off; 24th (2), 25th (3), 26th (4), 27th (5)
    reached = WorkCalendar().after(date(2026, 2, 13), 5)
    assert (reached.day, reached.provisional) == (date(2026, 2, 27), False)


def test_counting_starts_on_the_next_day() -> None:
    assert WorkCalendar().after(date(2026, 3, 2), 1).day == date(2026, 3, 3)


def test_a_friday_leads_to_monday() -> None:
    assert WorkCalendar().after(date(2026, 3, 6), 1).day == date(2026, 3, 9)


def test_the_national_day_of_2026_is_seven_days_off_and_its_make_up_saturdays_count() -> None:
    # off 1st to 7th October; 20th September and 10th October are worked
    calendar = WorkCalendar()
    assert [day for day in range(1, 12) if calendar.is_worked(date(2026, 10, day))] == [8, 9, 10]
    assert calendar.is_worked(date(2026, 9, 20))


def test_an_override_is_stronger_than_the_table() -> None:
    calendar = WorkCalendar(worked=[date(2026, 2, 21)], off=[date(2026, 2, 14)])
    assert not calendar.is_worked(date(2026, 2, 14))
    assert calendar.after(date(2026, 2, 13), 1).day == date(2026, 2, 21)


def test_a_year_that_is_not_announced_is_provisional() -> None:
    assert WorkCalendar().after(date(2048, 3, 2), 3).provisional
    assert not WorkCalendar().after(date(2025, 3, 3), 3).provisional


def test_a_deadline_that_reaches_into_a_year_not_announced_is_provisional() -> None:
    # 2026 is announced, 2028 will not be for a long time; this library knows no later one than its release
    assert WorkCalendar().after(date(2047, 12, 31), 1).provisional


def test_an_override_makes_its_own_day_certain() -> None:
    assert not WorkCalendar(worked=[date(2048, 3, 3)]).is_provisional(date(2048, 3, 3))


def test_a_day_cannot_be_worked_and_off() -> None:
    with pytest.raises(ValueError, match="2026-02-14"):
        WorkCalendar(worked=[date(2026, 2, 14)], off=[date(2026, 2, 14)])


@pytest.mark.parametrize("days", [0, -1])
def test_less_than_one_working_day_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        WorkCalendar().after(date(2026, 3, 2), days)
