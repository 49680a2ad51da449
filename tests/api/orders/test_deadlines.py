"""Deadlines of work orders, worked by hand."""

from __future__ import annotations

import pytest

from api.orders.deadlines import Deadline, due
from api.orders.working_days import WorkCalendar
from metering.clock import parse_rfc3339, rfc3339

SHANGHAI = "Asia/Shanghai"


def when(text: str, accepted: str) -> str:
    reached = due(Deadline.parse(text), parse_rfc3339(accepted), calendar=WorkCalendar(), tz=SHANGHAI)
    return rfc3339(reached.at)


def test_five_working_days_end_with_the_twenty_seventh() -> None:
    # accepted on Friday 2026-02-13 in Shanghai; 24:00 of the 27th there is 16:00 UTC
    assert when("5 working days", "2026-02-13T02:00:00Z") == "2026-02-27T16:00:00.000Z"


def test_the_local_day_of_acceptance_counts_and_not_the_day_in_greenwich() -> None:
    # 17:00 UTC on Thursday the 12th is 01:00 on Friday the 13th in Shanghai
    assert when("5 working days", "2026-02-12T17:00:00Z") == "2026-02-27T16:00:00.000Z"


def test_hours_run_through_the_spring_festival() -> None:
    assert when("6 h", "2026-02-16T20:30:00Z") == "2026-02-17T02:30:00.000Z"
    assert when("24 h", "2026-02-16T20:30:00Z") == "2026-02-17T20:30:00.000Z"


def test_a_deadline_in_a_year_that_is_not_announced_is_provisional() -> None:
    reached = due(
        Deadline.parse("1 working day"), parse_rfc3339("2048-03-02T00:00:00Z"), calendar=WorkCalendar(), tz="UTC"
    )
    assert reached.provisional


@pytest.mark.parametrize(
    "text", ["", "0 h", "-1 h", "6", "6h", "6 hours", "1.5 h", "367 working days", "٦ h", "5 days"]
)
def test_other_spellings_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="5 working days"):
        Deadline.parse(text)


@pytest.mark.parametrize("text", ["6 h", "1 working day", "5 working days"])
def test_a_deadline_reads_as_it_was_written(text: str) -> None:
    assert str(Deadline.parse(text)) == text
