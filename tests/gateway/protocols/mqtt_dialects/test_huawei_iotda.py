"""Huawei IoTDA reports and pushes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.mqtt_dialects import DIALECTS, Counter, JsonField, JsonProfile, Notice, Readings, Sample
from metering.errors import FrameError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.mqtt_dialects.messages import golden

parse = DIALECTS["mqtt-huawei-iotda"]
TOPIC, REPORT = golden("mq-04")
PROFILE = JsonProfile(
    fields=(JsonField("volume", "Water.total", "l"), JsonField("battery", "Battery.mv", "mV")),
    counter="Water.n",
)
NEW_YEAR = 1_767_225_600_000


def _message(services: list[dict[str, Any]]) -> bytes:
    return json.dumps({"services": services}).encode()


def _service(id: str, time: str = "", **properties: Any) -> dict[str, Any]:
    return {"service_id": id, "properties": properties} | ({"event_time": time} if time else {})


def test_golden_report_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("mqtt-huawei-iotda") == 1


def test_services_of_one_time_make_one_sample_and_others_keep_theirs() -> None:
    services = [
        _service("Water", "20260101T000000Z", total=1000, n=5),
        _service("Battery", "20260101T000000Z", mv=3600),
        _service("Water", "20260101T010000Z", total=1010),
    ]
    assert parse(TOPIC, _message(services), PROFILE) == Readings(
        "dev-1",
        (
            Sample({"volume": 1_000_000, "battery": 3_600_000}, NEW_YEAR),
            Sample({"volume": 1_010_000}, NEW_YEAR + 3_600_000),
        ),
        Counter(5),
    )


def test_report_without_time_takes_arrival() -> None:
    message = parse(TOPIC, _message([_service("Water", total=1)]), PROFILE)
    assert isinstance(message, Readings)
    assert message.samples[0].read_at is None


def test_push_of_the_platform_names_the_device_in_its_header() -> None:
    body = {"services": [_service("Water", "20260101T000000Z", total=7)]}
    push = {"resource": "device.property", "notify_data": {"header": {"device_id": "dev-9"}, "body": body}}
    message = parse("pushed", json.dumps(push).encode(), PROFILE)
    assert isinstance(message, Readings)
    assert (message.device, message.samples[0].values) == ("dev-9", {"volume": 7_000})
    status = {"event": "update", "notify_data": {"header": {"device_id": "dev-9"}, "body": {"status": "ONLINE"}}}
    assert parse("pushed", json.dumps(status).encode(), PROFILE) == Notice("dev-9", "update")


def test_other_messages_of_a_device_are_notices() -> None:
    assert parse("$oc/devices/dev-1/sys/events/up", b"{}", PROFILE) == Notice("dev-1", "sys/events/up")
    assert isinstance(parse(TOPIC, REPORT, PROFILE), Notice), "no value that the profile knows"


@pytest.mark.parametrize(
    ("topic", "payload", "sort"),
    [
        ("other/topic", REPORT, "topic"),
        (TOPIC, b"{}", "frame"),
        (TOPIC, b'{"services":{}}', "frame"),
        (TOPIC, b'{"services":[5]}', "frame"),
        (TOPIC, b'{"services":[{"service_id":"Water","properties":[]}]}', "frame"),
        (TOPIC, _message([_service("Water", "2026-01-01", total=1)]), "time"),
        (TOPIC, _message([_service("Water", total="1")]), "value"),
        (TOPIC, b'{"services":[{"service_id":"Water","properties":{"total":1,"total":2}}]}', "json"),
        (TOPIC, b"[]", "frame"),
    ],
)
def test_messages_that_cannot_be_true_are_refused(topic: str, payload: bytes, sort: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse(topic, payload, PROFILE)
    assert caught.value.sort == sort
