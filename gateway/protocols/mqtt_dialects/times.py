"""Times in messages of platforms, to [ms since 1970, UTC]."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, Literal

from metering.errors import FrameError

TimeForm = Literal["rfc3339", "compact", "unix_s", "unix_ms", "local"]
"""rfc3339 "2026-01-08T11:11:11Z"; compact "20260108T111111Z"; local: without offset, the profile gives it."""

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
_COMPACT: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)()(Z)?()()()", re.ASCII)
_MAX_MS: Final = 253_402_300_799_999  # the year 9999


def to_ms(value: Any, form: TimeForm, *, offset_minutes: int = 0) -> int:
    """Return [ms UTC]; fractions finer than a millisecond are cut off, the time is never in the future by that.

    offset_minutes: of local times, east is positive.   Raises: FrameError, sort "time".
    """
    if form in ("unix_s", "unix_ms"):
        return _unix(value, 1000 if form == "unix_s" else 1)
    pattern = _COMPACT if form == "compact" else _RFC3339
    match = pattern.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise FrameError(f"time {str(value)[:40]!r} is not of the form {form}", sort="time")
    has_offset = bool(match[8] or match[9])
    if has_offset == (form == "local"):
        word = "carries an offset" if has_offset else "has no offset"
        raise FrameError(f"time {value[:40]!r} {word}; the form is {form}", sort="time")
    return _calendar(match, offset_minutes if form == "local" else _offset(match))


def _unix(value: Any, factor: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value * factor <= _MAX_MS:
        raise FrameError(f"time {str(value)[:40]!r} is not a whole number of Unix time", sort="time")
    return value * factor


def _offset(match: re.Match[str]) -> int:
    if not match[9]:
        return 0
    minutes = int(match[10]) * 60 + int(match[11])
    return -minutes if match[9] == "-" else minutes


def _calendar(match: re.Match[str], offset_minutes: int) -> int:
    parts = [int(match[i]) for i in range(1, 7)]
    fraction = (match[7] or "").ljust(3, "0")[:3]
    try:
        zone = timezone(timedelta(minutes=offset_minutes))
        moment = datetime(*parts, tzinfo=zone)  # type: ignore[arg-type,misc]  # six numbers
    except ValueError:
        raise FrameError(f"time {match[0][:40]!r} is no moment", sort="time") from None
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    if seconds < 0:
        raise FrameError(f"time {match[0][:40]!r} is before 1970", sort="time")
    return seconds * 1000 + int(fraction)
