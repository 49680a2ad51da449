"""Broker messages: topics, strict schemas, sizes."""

from __future__ import annotations

import pytest

from metering import messages
from metering.errors import MessageError
from metering.messages import Ack, Up
from metering.reading import Event, Reading

UP = Up(
    v=1,
    gateway="gw-1",
    epoch="00ff00ff",
    seq=7,
    oldest=3,
    produced=8,
    sent_at=1_772_323_200_000,
    rows=[
        Reading("M1", 1_772_323_199_000, {"volume": 1_500_000}),
        Event("read_failed", 1_772_323_199_500, meter="M2", cause="timeout"),
    ],
)


def test_an_up_message_comes_back_as_it_was() -> None:
    assert messages.decode_up(messages.encode(UP)) == UP


def test_the_wire_form_is_the_documented_one() -> None:
    assert messages.encode(UP) == (
        b'{"v":1,"gateway":"gw-1","epoch":"00ff00ff","seq":7,"oldest":3,"produced":8,"sent_at":1772323200000,"rows":['
        b'{"type":"reading","meter":"M1","read_at":1772323199000,"values":{"volume":1500000}},'
        b'{"type":"event","kind":"read_failed","at":1772323199500,"meter":"M2","cause":"timeout"}]}'
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"v":1}',
        messages.encode(UP).replace(b"1500000", b"1.5"),
        messages.encode(UP).replace(b"1500000", b"NaN"),
        messages.encode(UP).replace(b"1500000", b"1e999"),
        messages.encode(UP).replace(b"1500000", b'"1500000"'),
        messages.encode(UP).replace(b"1500000", b"9" * 30),
        messages.encode(UP).replace(b'"volume"', b'"volumen"'),
        messages.encode(UP).replace(b'"gateway":"gw-1"', b'"gateway":"gw/1"'),
        messages.encode(UP).replace(b'"seq":7', b'"seq":0'),
        messages.encode(UP).replace(b'"v":1', b'"v":2'),
        messages.encode(UP)[:-1],
        b"[" * 100_000,
        b" " * (3 * messages.MAX_BYTES),
    ],
)
def test_what_is_not_our_schema_is_a_message_error(payload: bytes) -> None:
    with pytest.raises(MessageError):
        messages.decode_up(payload)


def test_an_acknowledgement_comes_back_as_it_was() -> None:
    ack = Ack(v=1, epoch="00ff00ff", upto=12, missing=[(3, 4), (9, 9)])
    assert messages.decode_ack(messages.encode(ack)) == ack


def test_a_topic_belongs_to_one_gateway_in_its_own_part() -> None:
    topic = messages.topic("gw-1", "up")
    assert topic == f"mg/v1/{messages.part_of('gw-1')}/gw-1/up"
    assert messages.gateway_of(topic) == "gw-1"
    for wrong in ("mg/v1/64/gw-1/up", "mg/v1/x/gw-1/up", "mg/v2/1/gw-1/up", "gw-1", "mg/v1/1/gw-1/up/more"):
        with pytest.raises(MessageError):
            messages.gateway_of(wrong)
