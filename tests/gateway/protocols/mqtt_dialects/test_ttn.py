"""The Things Stack v3 messages."""

from __future__ import annotations

import pytest

from gateway.protocols.mqtt_dialects import DIALECTS, Counter, JsonField, JsonProfile, Notice, Readings, Sample
from metering.errors import FrameError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.mqtt_dialects.messages import UGM_MS, UGM_ROW, base64_text, changed, golden

parse = DIALECTS["mqtt-ttn-v3"]
TOPIC, UP = golden("mq-02")
FIELDS = JsonProfile(fields=(JsonField("temperature", "temperature"),))
UP_MS = 1_581_520_545_787  # 2020-02-12T15:15:45.787Z


def test_golden_message_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("mqtt-ttn-v3") == 1


def test_decoded_payload_is_read_by_fields() -> None:
    assert parse(TOPIC, UP, FIELDS) == Readings(
        "dev1", (Sample({"temperature": 1_000_000}, UP_MS),), Counter(1, 2**32), "as:up:01E0WZGT6Y7657CPFPE5WEYDSQ"
    )


def test_binary_payload_is_read_by_its_codec() -> None:
    payload = changed(changed(UP, "uplink_message.frm_payload", base64_text(UGM_ROW)), "uplink_message.f_port", 10)
    message = parse(TOPIC, payload, JsonProfile(codec="lorawan-ugm"))
    assert isinstance(message, Readings)
    assert (message.samples[0].read_at, message.samples[0].values["volume"]) == (UGM_MS, 1_234_567_000)


def test_missing_port_is_not_taken_for_a_data_port() -> None:
    payload = changed(UP, "uplink_message.frm_payload", base64_text(UGM_ROW))
    assert isinstance(parse(TOPIC, payload, JsonProfile(codec="lorawan-ugm")), Notice)


def test_gateway_without_a_clock_leaves_the_servers_time() -> None:
    payload = changed(changed(UP, "uplink_message.settings.time", ...), "uplink_message.rx_metadata", [])
    message = parse(TOPIC, payload, FIELDS)
    assert isinstance(message, Readings)
    assert message.samples[0].read_at == UP_MS + 2  # received_at 15:15:45.789585559Z


@pytest.mark.parametrize("kind", ["join", "down/queued", "down/failed", "service/data", "location/solved", "new/one"])
def test_other_messages_are_notices(kind: str) -> None:
    message = parse(TOPIC.removesuffix("up") + kind, UP, FIELDS)
    assert isinstance(message, Notice)
    assert (message.device, message.kind) == ("dev1", kind)


@pytest.mark.parametrize(
    ("topic", "path", "value", "sort"),
    [
        (TOPIC.replace("dev1", "dev2"), "received_at", "x", "identity"),
        ("v3/app/devices//up", "received_at", "x", "topic"),
        ("v3/app/devices/dev1", "received_at", "x", "topic"),
        ("v2/app/devices/dev1/up", "received_at", "x", "topic"),
        (TOPIC, "end_device_ids", ..., "frame"),
        (TOPIC, "uplink_message", [], "frame"),
        (TOPIC, "uplink_message.f_cnt", "1", "frame"),
        (TOPIC, "uplink_message.frm_payload", 5, "frame"),
        (TOPIC, "uplink_message.settings.time", "2020-02-12T15:15:45", "time"),
        (TOPIC, "uplink_message.decoded_payload.temperature", "1.0", "value"),
    ],
)
def test_messages_that_cannot_be_true_are_refused(topic: str, path: str, value: object, sort: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse(topic, changed(UP, path, value), FIELDS)
    assert caught.value.sort == sort
