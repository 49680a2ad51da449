"""Local days, hours and the festival: the calendar of the interval matrix."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY_S: Final = 86_400

NEW_YEARS: Final[dict[int, date]] = {
    year: date(year, month, day)
    for year, month, day in (
        (2020, 1, 25),
        (2021, 2, 12),
        (2022, 2, 1),
        (2023, 1, 22),
        (2024, 2, 10),
        (2025, 1, 29),
        (2026, 2, 17),
        (2027, 2, 6),
        (2028, 1, 26),
        (2029, 2, 13),
        (2030, 2, 3),
        (2031, 1, 23),
        (2032, 2, 11),
        (2033, 1, 31),
        (2034, 2, 19),
        (2035, 2, 8),
    )
}
"""First day of the Spring Festival 春节 (lunar new year), from the published Chinese calendar (Purple Mountain
Observatory). A year that is not listed has no festival allowance; add it here."""


def local_midnight_s(at_s: int, tz: str) -> int:
    """[s since 1970] of the local midnight at or before `at_s`.

    Raises: ValueError for a time zone nobody knows.
    """
    try:
        zone = ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"time zone {tz!r} is not known") from error
    local = datetime.fromtimestamp(at_s, UTC).astimezone(zone)
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())


def local_date(midnight_s: int, tz: str) -> date:
    """Local date of the day that holds `midnight_s`; half an hour later, so that a rounded midnight counts."""
    return datetime.fromtimestamp(midnight_s + 1800, UTC).astimezone(ZoneInfo(tz)).date()


def near_new_year(day: date, *, before: int, after: int) -> bool:
    """True when `day` lies from `before` days before to `after` days after the first day of the Spring Festival."""
    first = NEW_YEARS.get(day.year)
    return first is not None and first - timedelta(days=before) <= day <= first + timedelta(days=after)
