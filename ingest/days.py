"""Local days of usage points as ranges of UTC milliseconds, found quickly and right across changes of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_STEP_MS: Final = 900_000  # every zone's offset is a multiple of 15 minutes, so that a step lies inside one day
_CACHED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Day:
    """One local day: start < moment <= end [ms UTC]. text: YYYY-MM-DD.

    Midnight itself closes the day before: billing asks for the index *at or before* 00:00.
    """

    start: int
    end: int
    text: str


class Days:
    """Finds the day of a moment in a time zone."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], Day | None] = {}

    def find(self, tz: str, at: int) -> Day | None:
        """Return the day that the moment `at` [ms UTC] belongs to, None when the zone is not known."""
        key = tz, (at - 1) // _STEP_MS
        if key not in self._found:
            if len(self._found) >= _CACHED:
                self._found.clear()
            self._found[key] = _day(tz, at)
        return self._found[key]


def _day(tz: str, at: int) -> Day | None:
    try:
        zone = ZoneInfo(tz)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return None
    local = datetime.fromtimestamp((at - 1) / 1000, UTC).astimezone(zone)
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)
    date = local.date()
    after = date + timedelta(days=1)
    following = datetime(after.year, after.month, after.day, tzinfo=zone)
    return Day(round(midnight.timestamp() * 1000), round(following.timestamp() * 1000), date.isoformat())
