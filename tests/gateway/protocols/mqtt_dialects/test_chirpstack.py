"""ChirpStack v4 events."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.protocols.mqtt_dialects import (
    DIALECTS,
    Counter,
    JsonField,
    JsonProfile,
    Notice,
    Readings,
    Sample,
    TimeRule,
)
from metering.errors import FrameError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.mqtt_dialects.messages import UGM_MS, UGM_ROW, base64_text, changed, golden

parse = DIALECTS["mqtt-chirpstack-v4"]
UGM = JsonProfile(codec="lorawan-ugm")
TOPIC, UP = golden("mq-01")
UP_MS = 1_658_136_855_775  # 2022-07-18T09:34:15.775Z


def test_golden_events_say_what_their_source_says() -> None:
    assert wire_checks.assert_golden("mqtt-chirpstack-v4") == 2


def test_binary_payload_is_read_by_its_codec_with_the_devices_own_time() -> None:
    payload = changed(changed(UP, "data", base64_text(UGM_ROW)), "fPort", 10)
    message = parse(TOPIC, payload, UGM)
    assert isinstance(message, Readings)
    (sample,) = message.samples
    assert (sample.read_at, sample.values["volume"]) == (UGM_MS, 1_234_567_000)
    assert message.counter == Counter(0, 2**32), "an absent fCnt is 0"
    assert message.dedup == "3ac7e3c4-4401-4b8d-9386-a5c902f9202d"
    assert message.device == "0101010101010101"


def test_history_rows_keep_their_times_and_are_marked() -> None:
    older = UGM_ROW[6:8] + (1_767_225_600 - 3600).to_bytes(4, "big") + UGM_ROW[12:]
    payload = changed(changed(UP, "data", base64_text(UGM_ROW + older)), "fPort", 10)
    message = parse(TOPIC, payload, UGM)
    assert isinstance(message, Readings)
    assert [(s.read_at, s.historical) for s in message.samples] == [(UGM_MS, False), (UGM_MS - 3_600_000, True)]


def test_decoded_object_is_read_by_fields_with_the_uplinks_time() -> None:
    profile = JsonProfile(fields=(JsonField("volume", "volume_m3"), JsonField("battery", "battery", "mV")))
    payload = changed(UP, "object", {"volume_m3": 12.25, "battery": 3611})
    assert parse(TOPIC, payload, profile) == Readings(
        "0101010101010101",
        (Sample({"volume": 12_250_000, "battery": 3_611_000}, UP_MS),),
        Counter(0, 2**32),
        "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
    )
    own = JsonProfile(fields=profile.fields, time=TimeRule("at", "unix_s"))
    message = parse(TOPIC, changed(UP, "object", {"volume_m3": 1, "at": 1_767_225_600}), own)
    assert isinstance(message, Readings)
    assert message.samples[0].read_at == UGM_MS


def test_uplink_without_a_value_and_other_events_are_notices() -> None:
    assert isinstance(parse(TOPIC, UP, UGM), Notice), "port 1 is a status"
    assert isinstance(parse(TOPIC, UP, JsonProfile(fields=(JsonField("volume", "v"),))), Notice)
    topic, join = golden("mq-05")
    message = parse(topic, join, UGM)
    assert isinstance(message, Notice)
    assert (message.device, message.kind) == ("0101010101010101", "join")
    unknown = parse(topic.replace("/join", "/brandnew"), join, UGM)
    assert isinstance(unknown, Notice)
    assert unknown.kind == "brandnew"


def test_absent_zero_fields_are_zero() -> None:
    from gateway.protocols.mqtt_dialects.chirpstack import decode
    from gateway.protocols.mqtt_dialects.lorawan import Uplink

    payload = UP
    for path in ("fPort", "data", "rxInfo"):
        payload = changed(payload, path, ...)
    uplink = decode(TOPIC, payload)
    assert isinstance(uplink, Uplink)
    assert (uplink.f_port, uplink.f_cnt, uplink.payload, uplink.rssi, uplink.decoded) == (0, 0, b"", None, None)
    assert decode(TOPIC, changed(UP, "fCnt", 77)).f_cnt == 77  # type: ignore[union-attr]  # an uplink, as above
    assert isinstance(decode(TOPIC, UP), Uplink)
    assert getattr(decode(TOPIC, UP), "snr", None) == Decimal("10.5")


@pytest.mark.parametrize(
    ("topic", "path", "value", "sort"),
    [
        (TOPIC.replace("device/01", "device/02"), "fPort", 10, "identity"),
        ("application/a/device/d/command/down", "fPort", 10, "topic"),
        ("application/a/device/d/event", "fPort", 10, "topic"),
        ("x", "fPort", 10, "topic"),
        (TOPIC, "deviceInfo", ..., "frame"),
        (TOPIC, "deviceInfo.devEui", 5, "frame"),
        (TOPIC, "time", ..., "frame"),
        (TOPIC, "time", "yesterday", "time"),
        (TOPIC, "data", "qg=", "frame"),
        (TOPIC, "data", "q g==", "frame"),
        (TOPIC, "fPort", "10", "frame"),
        (TOPIC, "fCnt", 1.5, "frame"),
        (TOPIC, "object", {"v": "12.5"}, "value"),
    ],
)
def test_messages_that_cannot_be_true_are_refused(topic: str, path: str, value: object, sort: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse(topic, changed(UP, path, value), JsonProfile(fields=(JsonField("volume", "v"),)))
    assert caught.value.sort == sort


def test_unknown_codec_is_refused_with_what_is_known() -> None:
    with pytest.raises(FrameError, match="known are lorawan-ugm"):
        parse(TOPIC, UP, JsonProfile(codec="ugm"))
