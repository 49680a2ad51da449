"""By when: hours that run through nights and holidays, or working days that end with the day.

"6 h" counts from the minute of acceptance. "5 working days" counts from the next local day and is over at 24:00 of
the last one. Source: the manuals' promises (install or alter 5, gas-on 3, seal 3, meter test 5, other 5 working days;
fault handled within 6 h, repaired within 24 h).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from api.orders.working_days import WorkCalendar

_FORM: Final = re.compile(r"([1-9]\d{0,3}) (h|working days?)", re.ASCII)
_HOUR_MS: Final = 3_600_000
MAX_WORKING_DAYS: Final = 366
ALLOWED: Final = 'hours such as "6 h" (1 to 9999), or working days such as "5 working days" (1 to 366)'


@dataclass(frozen=True, slots=True)
class Deadline:
    """A promise. count: [h] or [working days]."""

    count: int
    unit: Literal["h", "working days"]

    @classmethod
    def parse(cls, text: str) -> Deadline:
        """Read "6 h" or "5 working days". Raises: ValueError that says what is allowed."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"must be {ALLOWED}")
        count = int(found[1])
        if found[2] == "h":
            return cls(count, "h")
        if count > MAX_WORKING_DAYS:
            raise ValueError(f"must be {ALLOWED}")
        return cls(count, "working days")

    def __str__(self) -> str:
        if self.unit == "h":
            return f"{self.count} h"
        return f"{self.count} working day{'s' if self.count > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Due:
    """The moment a promise ends. at: [ms UTC]. provisional: the calendar of a year on the way is not announced."""

    at: int
    provisional: bool


def due(deadline: Deadline, accepted_at: int, *, calendar: WorkCalendar, tz: str) -> Due:
    """Return when `deadline` is over for what was accepted at [ms UTC] at a place in the time zone `tz`."""
    if deadline.unit == "h":
        return Due(accepted_at + deadline.count * _HOUR_MS, False)
    zone = ZoneInfo(tz)
    accepted = datetime.fromtimestamp(accepted_at / 1000, UTC).astimezone(zone).date()
    reached = calendar.after(accepted, deadline.count)
    end = datetime.combine(reached.day + timedelta(days=1), time(), zone)
    return Due(int(end.timestamp()) * 1000, reached.provisional)
