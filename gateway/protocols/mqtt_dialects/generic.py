"""Any JSON message, read by a profile."""

from __future__ import annotations

from typing import Any

from gateway.protocols import strict_json
from gateway.protocols.mqtt_dialects.messages import Counter, Message, Notice, Readings, Sample
from gateway.protocols.mqtt_dialects.profile import MISSING, JsonProfile, lookup, read_fields, read_time
from metering.errors import FrameError

MAX_ROWS = 1000


def parse(topic: str, payload: bytes, profile: JsonProfile) -> Message:
    """Read one message. A message without any of the profile's values is a notice.

    Raises: FrameError, sort "json", "value", "time", "device" or "length".
    """
    said = strict_json.loads(payload)
    device = device_of(topic, said, profile)
    samples = read_samples(said, profile)
    if not samples:
        return Notice(device, "empty", "the message carries none of the profile's values")
    return Readings(device, samples, read_counter(said, profile))


def read_samples(said: Any, profile: JsonProfile, read_at: int | None = None) -> tuple[Sample, ...]:
    """Return the rows that carry values; each keeps its own time. read_at: [ms UTC] of rows that have none."""
    rows = lookup(said, profile.rows) if profile.rows else [said]
    if rows is MISSING or rows is None:
        return ()
    if not isinstance(rows, list):
        raise FrameError(f"{profile.rows} is no list of rows")
    if len(rows) > MAX_ROWS:
        raise FrameError(f"{len(rows)} rows in one message; {MAX_ROWS} are allowed", sort="length")
    samples = []
    for row in rows:
        values = read_fields(row, profile.fields)
        if values:
            own = read_time(row, profile.time)
            samples.append(Sample(values, read_at if own is None else own))
    return tuple(samples)


def device_of(topic: str, said: Any, profile: JsonProfile) -> str:
    """Return the device's name. Raises: FrameError, sort "device", when it is missing or no name."""
    levels = topic.split("/")
    if profile.device_level is not None:
        if profile.device_level >= len(levels):
            raise FrameError(f"topic {topic[:80]!r} has no level {profile.device_level}", sort="device")
        name: Any = levels[profile.device_level]
    else:
        name = lookup(said, profile.device) if profile.device else MISSING
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not 0 < len(name) <= 128:
        raise FrameError("the message does not name its device", sort="device")
    return name


def read_counter(said: Any, profile: JsonProfile) -> Counter | None:
    """Return the sender's counter, None when it has none. Raises: FrameError, sort "value"."""
    value = lookup(said, profile.counter) if profile.counter else MISSING
    if value is MISSING or value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FrameError(f"{profile.counter}: {str(value)[:40]!r} is no counter", sort="value")
    return Counter(value, profile.modulus)
