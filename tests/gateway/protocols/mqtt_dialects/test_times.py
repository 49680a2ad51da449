"""Times of platforms."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.mqtt_dialects.times import TimeForm, to_ms
from metering.errors import FrameError

NEW_YEAR = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("value", "form", "ms"),
    [
        ("2026-01-01T00:00:00Z", "rfc3339", NEW_YEAR),
        ("2026-01-01T08:00:00+08:00", "rfc3339", NEW_YEAR),
        ("2025-12-31T19:00:00-0500", "rfc3339", NEW_YEAR),
        ("2026-01-01 00:00:00.123456789z", "rfc3339", NEW_YEAR + 123),
        ("2026-01-01T00:00:00.9999Z", "rfc3339", NEW_YEAR + 999),
        ("2026-01-01T00:00:00.5+00:00", "rfc3339", NEW_YEAR + 500),
        ("20260101T000000Z", "compact", NEW_YEAR),
        (1_767_225_600, "unix_s", NEW_YEAR),
        (NEW_YEAR + 1, "unix_ms", NEW_YEAR + 1),
        ("2024-02-29T00:00:00Z", "rfc3339", 1_709_164_800_000),
        ("1970-01-01T00:00:00Z", "rfc3339", 0),
    ],
)
def test_times_are_read_to_the_millisecond(value: Any, form: TimeForm, ms: int) -> None:
    assert to_ms(value, form) == ms


def test_local_time_takes_its_offset_from_the_profile() -> None:
    assert to_ms("2026-01-01T08:00:00", "local", offset_minutes=480) == NEW_YEAR
    assert to_ms("2025-12-31T19:00:00", "local", offset_minutes=-300) == NEW_YEAR


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2026-01-01T00:00:00", "rfc3339"),
        ("2026-01-01T00:00:00Z", "local"),
        ("2026-02-30T00:00:00Z", "rfc3339"),
        ("2026-01-01T24:00:00Z", "rfc3339"),
        ("2026-01-01T00:00:60Z", "rfc3339"),
        ("2026-01-01T00:00:00+99:00", "rfc3339"),
        ("1969-12-31T23:59:59Z", "rfc3339"),
        ("0000-01-01T00:00:00Z", "rfc3339"),
        ("20260101T000000", "compact"),
        ("20260101T000000Z", "rfc3339"),
        ("２０26-01-01T00:00:00Z", "rfc3339"),
        ("", "rfc3339"),
        (None, "rfc3339"),
        (True, "unix_s"),
        (-1, "unix_s"),
        (1.5, "unix_s"),
        ("1767225600", "unix_s"),
        (253_402_300_800_000, "unix_ms"),
        (NEW_YEAR, "unix_s"),
    ],
)
def test_other_times_are_refused(value: Any, form: TimeForm) -> None:
    with pytest.raises(FrameError) as caught:
        to_ms(value, form)
    assert caught.value.sort == "time"
