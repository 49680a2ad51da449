"""Generic JSON by profile: rows with their own times, counters, devices."""

from __future__ import annotations

import random

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

parse = DIALECTS["mqtt-json"]
PROFILE = JsonProfile(
    fields=(JsonField("volume", "total", "l"), JsonField("battery", "bat", "mV")),
    time=TimeRule("ts", "unix_s"),
    rows="data",
    device_level=1,
    counter="n",
    modulus=65536,
)


def test_rows_of_a_batch_keep_their_own_times() -> None:
    payload = (
        b'{"n": 7, "data": [{"ts": 1767225600, "total": 1000.5, "bat": 3600}, {"ts": 1767229200, "total": 1001}]}'
    )
    assert parse("meters/m-1/up", payload, PROFILE) == Readings(
        "m-1",
        (
            Sample({"volume": 1_000_500, "battery": 3_600_000}, 1_767_225_600_000),
            Sample({"volume": 1_001_000}, 1_767_229_200_000),
        ),
        Counter(7, 65536),
    )


def test_device_may_stand_in_the_message_and_a_row_without_time_takes_arrival() -> None:
    profile = JsonProfile(fields=(JsonField("volume", "total"),), device="meta.id")
    message = parse("x", b'{"meta": {"id": 42}, "total": 5}', profile)
    assert message == Readings("42", (Sample({"volume": 5_000_000}, None),))


@pytest.mark.parametrize(
    "payload", [b'{"n":1}', b'{"n":1,"data":null}', b'{"n":1,"data":[]}', b'{"data":[{"x":1},5,null]}']
)
def test_message_without_values_is_a_notice_and_no_zero(payload: bytes) -> None:
    message = parse("meters/m-1/up", payload, PROFILE)
    assert isinstance(message, Notice)
    assert message.device == "m-1"


@pytest.mark.parametrize(
    ("topic", "payload", "sort"),
    [
        ("meters/m-1", b'{"data":[{"total":"5"}]}', "value"),
        ("meters/m-1", b'{"data":[{"total":0.0001}]}', "value"),
        ("meters/m-1", b'{"data":[{"total":5,"ts":"x"}]}', "time"),
        ("meters/m-1", b'{"data":{"total":5}}', "frame"),
        ("meters/m-1", b'{"n":-1,"data":[{"total":5}]}', "value"),
        ("meters/m-1", b'{"n":"1","data":[{"total":5}]}', "value"),
        ("meters/m-1", b'{"data":[{"total":1e999}]}', "json"),
        ("meters/m-1", b'{"data":[{"total":5,"total":6}]}', "json"),
        ("meters/m-1", b'{"data":[' + b'{"total":5},' * 1000 + b'{"total":5}]}', "length"),
        ("meters", b'{"data":[{"total":5}]}', "device"),
        ("meters//up", b'{"data":[{"total":5}]}', "device"),
    ],
)
def test_bad_messages_are_refused_by_name(topic: str, payload: bytes, sort: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse(topic, payload, PROFILE)
    assert caught.value.sort == sort


def test_device_must_be_a_name() -> None:
    profile = JsonProfile(fields=(JsonField("volume", "total"),), device="id")
    for value in (b"null", b"true", b'""', b"[]", b"1.5", b'"' + b"x" * 129 + b'"'):
        with pytest.raises(FrameError) as caught:
            parse("t", b'{"total":1,"id":' + value + b"}", profile)
        assert caught.value.sort == "device"


def test_random_damage_does_no_harm_in_any_dialect() -> None:
    from tests.gateway.protocols.mqtt_dialects.messages import golden

    chance = random.Random(3)
    samples = [("mqtt-json", "meters/m/up", b'{"n":7,"data":[{"ts":1767225600,"total":1000.5,"bat":3600}]}')]
    for id, name in (
        ("mq-01", "chirpstack-v4"),
        ("mq-02", "ttn-v3"),
        ("mq-03", "wmbusmeters"),
        ("mq-04", "huawei-iotda"),
    ):
        samples.append((f"mqtt-{name}", *golden(id)))
    for number in range(20_000):
        name, topic, payload = samples[number % len(samples)]
        data = bytearray(payload)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b'{}[]",:0123456789eE+-.\\ tfnul\xc3\x00')
        try:
            message = DIALECTS[name](topic, bytes(data), PROFILE)
        except FrameError:
            continue
        assert isinstance(message, Readings | Notice)


def test_cut_messages_are_refused_in_every_dialect() -> None:
    from tests.gateway.protocols.mqtt_dialects.messages import golden

    for id, name in (
        ("mq-01", "chirpstack-v4"),
        ("mq-02", "ttn-v3"),
        ("mq-03", "wmbusmeters"),
        ("mq-04", "huawei-iotda"),
    ):
        topic, payload = golden(id)
        for end in range(len(payload)):
            with pytest.raises(FrameError):
                DIALECTS[f"mqtt-{name}"](topic, payload[:end], PROFILE)
