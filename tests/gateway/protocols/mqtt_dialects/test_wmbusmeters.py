"""JSON of wmbusmeters."""

from __future__ import annotations

import json

import pytest

from gateway.protocols.mqtt_dialects import DIALECTS, JsonField, JsonProfile, Notice, Readings, Sample
from metering.errors import FrameError
from metering.reading import Flag
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.mqtt_dialects.messages import changed, golden

parse = DIALECTS["mqtt-wmbusmeters"]
TOPIC, TELEGRAM = golden("mq-03")
TELEGRAM_MS = 1_767_870_671_000  # 2026-01-08T11:11:11Z


def test_golden_telegram_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("mqtt-wmbusmeters") == 1


def test_own_keys_are_known_without_a_profile() -> None:
    assert parse("any/topic", TELEGRAM, JsonProfile()) == Readings(
        "05105025", (Sample({"volume": 3_223_470_000}, TELEGRAM_MS),), None, "05105025|3223.47|None"
    )
    heat = {
        "id": "1",
        "timestamp": "2026-01-08T11:11:11Z",
        "total_energy_consumption_kwh": 12.5,
        "flow_temperature_c": 61,
    }
    message = parse("t", json.dumps(heat).encode(), JsonProfile())
    assert isinstance(message, Readings)
    assert message.samples[0].values == {"energy_import": 12_500_000, "temperature": 61_000_000}


def test_fields_of_a_profile_replace_them() -> None:
    profile = JsonProfile(fields=(JsonField("volume_standard", "total_m3"),))
    message = parse(TOPIC, TELEGRAM, profile)
    assert isinstance(message, Readings)
    assert message.samples[0].values == {"volume_standard": 3_223_470_000}


@pytest.mark.parametrize(
    ("status", "flags"), [("OK", 0), ("", 0), ("LEAK", Flag.ALARM), ("POWER_LOW DRY", Flag.ALARM | Flag.LOW_BATTERY)]
)
def test_status_words_become_flags(status: str, flags: int) -> None:
    message = parse(TOPIC, changed(TELEGRAM, "status", status), JsonProfile())
    assert isinstance(message, Readings)
    assert message.samples[0].flags == flags


def test_telegram_without_a_known_value_is_a_notice() -> None:
    assert isinstance(parse(TOPIC, changed(TELEGRAM, "total_m3", ...), JsonProfile()), Notice)


@pytest.mark.parametrize(
    ("path", "value", "sort"),
    [
        ("_", "something", "frame"),
        ("id", ..., "frame"),
        ("id", 5105025, "frame"),
        ("timestamp", ..., "frame"),
        ("timestamp", "2026-01-08 11:11:11", "time"),
        ("total_m3", "3223.47", "value"),
        ("total_m3", None, None),
        ("status", 1, "frame"),
    ],
)
def test_telegrams_that_cannot_be_true_are_refused(path: str, value: object, sort: str | None) -> None:
    payload = changed(TELEGRAM, path, value)
    if sort is None:
        assert isinstance(parse(TOPIC, payload, JsonProfile()), Notice), "null is no value"
        return
    with pytest.raises(FrameError) as caught:
        parse(TOPIC, payload, JsonProfile())
    assert caught.value.sort == sort


def test_mark_of_a_telegram_may_be_missing() -> None:
    assert isinstance(parse(TOPIC, changed(TELEGRAM, "_", ...), JsonProfile()), Readings)
