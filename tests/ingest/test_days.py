"""Local days, where clocks change too."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.days import Days

HOUR = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("tz", "at", "text", "start", "hours"),
    [
        ("UTC", "2026-03-01T12:00:00", "2026-03-01", "2026-03-01T00:00:00", 24),
        ("Asia/Shanghai", "2026-02-28T16:00:01", "2026-03-01", "2026-02-28T16:00:00", 24),
        ("Asia/Shanghai", "2026-02-28T16:00:00", "2026-02-28", "2026-02-27T16:00:00", 24),  # midnight closes the day
        ("Asia/Kathmandu", "2026-03-01T18:15:00.001", "2026-03-02", "2026-03-01T18:15:00", 24),  # +05:45
        ("Europe/Berlin", "2026-03-29T10:00:00", "2026-03-29", "2026-03-28T23:00:00", 23),
        ("Europe/Berlin", "2026-10-25T10:00:00", "2026-10-25", "2026-10-24T22:00:00", 25),
        ("Asia/Shanghai", "2024-02-29T03:00:00", "2024-02-29", "2024-02-28T16:00:00", 24),
    ],
)
def test_a_moment_belongs_to_the_local_day_that_it_closes(
    tz: str, at: str, text: str, start: str, hours: int
) -> None:
    day = Days().find(tz, ms(at))
    assert day is not None
    assert (day.text, day.start, day.end) == (text, ms(start), ms(start) + hours * HOUR)


def test_both_hours_of_a_night_that_has_two_belong_to_the_same_day() -> None:
    days = Days()
    first, second = (
        days.find("Europe/Berlin", ms("2026-10-25T00:30:00")),
        days.find("Europe/Berlin", ms("2026-10-25T01:30:00")),
    )
    assert first == second


@pytest.mark.parametrize("tz", ["", "Asia/Nowhere", "../../etc/passwd", "/etc/passwd"])
def test_a_zone_that_nobody_knows_has_no_days(tz: str) -> None:
    assert Days().find(tz, ms("2026-03-01T12:00:00")) is None
