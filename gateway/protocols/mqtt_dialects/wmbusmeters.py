"""JSON of the program wmbusmeters: one object per radio telegram, on any topic.

Keys end in their unit: total_m3, flow_m3h, flow_temperature_c. One meter may be heard several times a minute; the
same telegram is known by id and values (`Readings.dedup`, good for a short while only: a meter at rest repeats them).
Source: wmbusmeters README and drivers.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from gateway.protocols import strict_json
from gateway.protocols.mqtt_dialects import shapes
from gateway.protocols.mqtt_dialects.generic import read_samples
from gateway.protocols.mqtt_dialects.messages import Message, Notice, Readings, Sample
from gateway.protocols.mqtt_dialects.profile import JsonField, JsonProfile
from gateway.protocols.mqtt_dialects.times import to_ms
from metering.errors import FrameError
from metering.reading import Flag

STANDARD: Final = JsonProfile(
    fields=(
        JsonField("volume", "total_m3"),
        JsonField("energy_import", "total_energy_consumption_kwh"),
        JsonField("energy_export", "total_energy_production_kwh"),
        JsonField("flow", "flow_m3h"),
        JsonField("flow", "volume_flow_m3h"),
        JsonField("power", "current_power_consumption_kw"),
        JsonField("temperature", "flow_temperature_c"),
        JsonField("temperature_2", "return_temperature_c"),
        JsonField("voltage", "voltage_v"),
        JsonField("battery", "battery_v"),
    )
)
"""The keys that the program's drivers share; a profile with fields of its own replaces them."""


@dataclass(frozen=True, slots=True)
class Telegram:
    """One telegram. values: every number by its key. status: "OK", or words for what is wrong. time: as sent."""

    meter_id: str
    driver: str
    name: str
    medium: str
    values: dict[str, int | Decimal]
    status: str
    time: str
    time_ms: int
    said: dict[str, Any]


def parse(topic: str, payload: bytes, profile: JsonProfile) -> Message:
    """Read one telegram; without fields in the profile the program's own keys are taken. Raises: FrameError."""
    telegram = decode(topic, payload)
    chosen = profile if profile.fields else STANDARD
    flags = _flags(telegram.status)
    found = read_samples(telegram.said, chosen, telegram.time_ms)
    samples = tuple(Sample(sample.values, sample.read_at, flags) for sample in found)
    if not samples:
        return Notice(telegram.meter_id, "telegram", "no value that the profile knows", {"status": telegram.status})
    return Readings(telegram.meter_id, samples, None, _dedup(telegram))


def decode(topic: str, payload: bytes) -> Telegram:
    """Take one telegram apart; the topic says nothing. Raises: FrameError."""
    del topic
    said = shapes.table(strict_json.loads(payload))
    if shapes.text(said, "_", "telegram") != "telegram":
        raise FrameError(f"not a telegram of wmbusmeters: {shapes.text(said, '_')[:40]!r}")
    time = shapes.text(said, "timestamp")
    numbers = {key: value for key, value in said.items() if isinstance(value, (int, Decimal))}
    return Telegram(
        meter_id=shapes.text(said, "id"),
        driver=shapes.text(said, "meter", ""),
        name=shapes.text(said, "name", ""),
        medium=shapes.text(said, "media", ""),
        values={key: value for key, value in numbers.items() if not isinstance(value, bool)},
        status=shapes.text(said, "status", ""),
        time=time,
        time_ms=to_ms(time, "rfc3339"),
        said=said,
    )


def _flags(status: str) -> int:
    if status in ("", "OK"):
        return 0
    low = any(word in status for word in ("LOW_BATTERY", "BATTERY_LOW", "POWER_LOW", "LOW_POWER"))
    return Flag.ALARM | (Flag.LOW_BATTERY if low else 0)


def _dedup(telegram: Telegram) -> str:
    values = telegram.values
    return "|".join(str(part) for part in (telegram.meter_id, values.get("total_m3"), values.get("target_m3")))
