"""Calendars: periods and their boundaries, worked by hand."""

from __future__ import annotations

import pytest

from api.billing.calendars import Calendar, Calendars, ExtraDay, check_calendar, check_extra_day, check_period, shift
from metering.clock import parse_rfc3339

SHANGHAI = "Asia/Shanghai"


def at(text: str) -> int:
    return parse_rfc3339(text)


def test_period_of_march_ends_at_midnight_of_its_reading_day_in_march() -> None:
    bounds = Calendars().bounds("residential", "gas", "2026-03", SHANGHAI)
    assert bounds is not None
    assert (bounds.start, bounds.end) == (at("2026-02-20T00:00:00+08:00"), at("2026-03-20T00:00:00+08:00"))
    assert bounds.end_window == at("2026-03-21T00:00:00+08:00")


def test_a_window_is_bounded_by_its_first_day_and_open_to_its_last() -> None:
    bounds = Calendars().bounds("commercial", "gas", "2026-01", SHANGHAI)
    assert bounds is not None
    assert (bounds.start, bounds.end) == (at("2025-12-22T00:00:00+08:00"), at("2026-01-22T00:00:00+08:00"))
    assert bounds.end_window == at("2026-01-24T00:00:00+08:00")


def test_every_two_months_the_odd_ones_are_not_due() -> None:
    calendars = Calendars()
    assert calendars.bounds("public", "water", "2026-03", SHANGHAI) is None
    bounds = calendars.bounds("public", "water", "2026-04", SHANGHAI)
    assert bounds is not None
    assert (bounds.start, bounds.months) == (at("2026-02-20T00:00:00+08:00"), 2)


def test_the_particular_calendar_speaks_before_the_general_one() -> None:
    calendars = Calendars((Calendar("", "", 1, 1), Calendar("", "gas", 2, 2), Calendar("public", "", 3, 3)))
    found = [calendars.rule(c, m, "2026-03") for c, m in (("x", "water"), ("x", "gas"), ("public", "gas"))]
    assert [rule.first_day for rule in found if rule] == [1, 2, 3]


def test_midnight_follows_the_clock_change_of_the_place() -> None:
    bounds = Calendars((Calendar("", "", 29, 29),)).bounds("x", "gas", "2026-04", "Europe/Berlin")
    assert bounds is not None
    assert bounds.start == at("2026-03-29T00:00:00+01:00")
    assert bounds.end == at("2026-04-29T00:00:00+02:00")


def test_a_changed_calendar_leaves_no_gap_and_no_overlap() -> None:
    calendars = Calendars(
        (Calendar("", "", 20, 20, to_period="2026-03"), Calendar("", "", 5, 5, from_period="2026-04"))
    )
    march, april = (calendars.bounds("x", "gas", p, "UTC") for p in ("2026-03", "2026-04"))
    assert march is not None
    assert april is not None
    assert (march.end, april.start) == (at("2026-03-20T00:00:00Z"),) * 2
    assert april.end == at("2026-04-05T00:00:00Z")


def test_from_monthly_to_every_two_months_the_first_long_period_begins_at_the_last_short_one() -> None:
    calendars = Calendars(
        (Calendar("", "", 20, 20, to_period="2026-04"), Calendar("", "", 20, 20, 2, 12, from_period="2026-05"))
    )
    assert calendars.bounds("x", "gas", "2026-05", "UTC") is None
    june = calendars.bounds("x", "gas", "2026-06", "UTC")
    assert june is not None
    assert (june.start, june.months) == (at("2026-04-20T00:00:00Z"), 2)


def test_an_extra_reading_day_cuts_its_period_only() -> None:
    calendars = Calendars(extra=(ExtraDay("", "gas", "2026-04-01"), ExtraDay("industrial", "", "2026-04-02")))
    april = calendars.bounds("residential", "gas", "2026-04", SHANGHAI)
    march = calendars.bounds("residential", "gas", "2026-03", SHANGHAI)
    assert april is not None
    assert march is not None
    assert (april.cuts, march.cuts) == ((at("2026-04-01T00:00:00+08:00"),), ())


def test_an_extra_day_on_a_boundary_makes_no_line() -> None:
    bounds = Calendars(extra=(ExtraDay("", "", "2026-03-20"),)).bounds("x", "gas", "2026-03", SHANGHAI)
    assert bounds is not None
    assert bounds.cuts == ()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Calendar("", "", 31, 31), "days 1 to 28"),
        (Calendar("", "", 0, 5), "days 1 to 28"),
        (Calendar("", "", 23, 22), "first not after the last"),
        (Calendar("", "", 20, 20, every=5), "1, 2, 3, 4, 6, 12"),
        (Calendar("houses", "", 20, 20), "residential"),
        (Calendar("", "steam", 20, 20), "gas"),
        (Calendar("", "", 20, 20, from_period="2026-13"), "2026-03"),
        (Calendar("", "", 20, 20, from_period="2026-05", to_period="2026-04"), "ends before it begins"),
        (Calendar("public", "", 20, 20, from_period="2026-04"), "overlaps"),
    ],
)
def test_a_calendar_that_cannot_be_is_refused_with_what_is_allowed(wrong: Calendar, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_calendar(wrong, [Calendar("public", "", 22, 23)])


def test_calendars_that_follow_each_other_are_taken() -> None:
    check_calendar(Calendar("", "", 5, 5, from_period="2026-04"), [Calendar("", "", 20, 20, to_period="2026-03")])


def test_an_extra_day_that_does_not_exist_or_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="a date that exists"):
        check_extra_day(ExtraDay("", "", "2026-02-30"))
    with pytest.raises(ValueError, match="stands already"):
        check_extra_day(ExtraDay("", "", "2026-04-01"), [ExtraDay("", "", "2026-04-01")])


def test_months_are_counted_over_the_year() -> None:
    assert [shift("2026-01", n) for n in (-1, 0, 11, 12)] == ["2025-12", "2026-01", "2026-12", "2027-01"]
    with pytest.raises(ValueError, match="2026-03"):
        check_period("2026-3")
