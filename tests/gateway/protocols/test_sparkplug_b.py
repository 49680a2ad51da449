"""Sparkplug B payloads: golden messages, round trips, refusals, a second opinion by Google's protobuf."""

from __future__ import annotations

import importlib
import random
from decimal import Decimal
from typing import Any

import pytest

from gateway.protocols import protobuf, sparkplug_b, sparkplug_births
from gateway.protocols.sparkplug_b import DATATYPES, Metric, Payload, Topic, parse_topic, value_of
from metering.errors import FrameError
from tests.gateway.protocols import wire_checks

GOLDEN = wire_checks.valid_frames("sparkplug-b")
CODEC = wire_checks.Codec(decode=sparkplug_b.decode, encode=sparkplug_b.encode, checked=False)


def random_metric(chance: random.Random) -> Metric:
    """Return a metric of any simple datatype."""
    name = "gas/" + "".join(chance.choice("abcäé中_/ ") for _ in range(chance.randrange(1, 12)))
    place: dict[str, Any] = {"timestamp": chance.randrange(2**41), "historical": chance.random() < 0.2}
    if chance.random() < 0.5:
        place |= {"alias": chance.randrange(2**40), "bare": chance.random() < 0.5}
    match chance.randrange(7):
        case 0:
            return sparkplug_births.metric(name, "Boolean", chance.random() < 0.5, **place)
        case 1:
            return sparkplug_births.metric(name, "String", "Zähler 表" * chance.randrange(3), **place)
        case 2:
            return sparkplug_births.metric(name, "Bytes", chance.randbytes(chance.randrange(9)), **place)
        case 3:
            value = Decimal(chance.randrange(10**9)) / 1000
            return sparkplug_births.metric(name, "Double", value, **place)
        case 4:
            return sparkplug_births.metric(name, "Float", Decimal(chance.randrange(10**5)) / 100, **place)
        case 5:
            return sparkplug_births.metric(name, chance.choice(("Int64", "Double", "String")), None, **place)
        case _:
            return _integer(chance, name, place)


def _integer(chance: random.Random, name: str, place: dict[str, Any]) -> Metric:
    bits = chance.choice((8, 16, 32, 64))
    value = chance.getrandbits(bits)
    if chance.random() < 0.5:
        return sparkplug_births.metric(name, f"UInt{bits}", value, **place)
    return sparkplug_births.metric(name, f"Int{bits}", value - (1 << bits - 1), **place)


def random_payload(chance: random.Random) -> Payload:
    """Return a message of up to 6 metrics."""
    metrics = tuple(random_metric(chance) for _ in range(chance.randrange(7)))
    return Payload(chance.randrange(2**41), metrics, chance.choice((None, chance.randrange(256))))


def _derived(count: int, seed: int = 2) -> list[bytes]:
    chance = random.Random(seed)
    return [sparkplug_b.encode(random_payload(chance)) for _ in range(count)]


def test_every_golden_message_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("sparkplug-b") == 2


def test_messages_come_back_byte_for_byte_and_value_for_value() -> None:
    chance = random.Random(1)
    for _ in range(400):
        payload = random_payload(chance)
        assert sparkplug_b.decode(sparkplug_b.encode(payload)) == payload
    assert wire_checks.assert_round_trip(CODEC, GOLDEN + _derived(200)) == 202


def test_every_datatype_gives_back_what_was_put_in() -> None:
    for name, value in (
        ("Int8", -5),
        ("Int16", -32768),
        ("Int32", -1),
        ("Int64", -(2**63)),
        ("UInt8", 255),
        ("UInt32", 2**32 - 1),
        ("UInt64", 2**64 - 1),
        ("DateTime", 1_700_000_000_000),
        ("Float", Decimal("12.34")),
        ("Double", Decimal("1243.1116")),
        ("Boolean", True),
        ("Text", "a"),
        ("UUID", "b"),
        ("File", b"c"),
    ):
        metric = sparkplug_births.metric("m", name, value, timestamp=1)
        assert value_of(metric) == value
        assert value_of(Metric(raw=metric.raw), DATATYPES.index(name)) == value, "datatype from the birth"


def test_signed_numbers_of_their_own_width_and_widened_are_the_same() -> None:
    for raw in (0xFB, 0xFFFFFFFB, 0xFFFFFFFFFFFFFFFB):
        assert value_of(Metric(datatype=1, raw=(10, raw))) == -5
    with pytest.raises(FrameError):
        value_of(Metric(datatype=1, raw=(10, 0x1FB)))
    with pytest.raises(FrameError):
        value_of(Metric(datatype=5, raw=(10, 256)))


def test_value_in_a_field_of_another_datatype_is_refused() -> None:
    with pytest.raises(FrameError, match="Double"):
        value_of(Metric(datatype=10, raw=(10, 5)))
    assert value_of(Metric(datatype=3, raw=(11, 5))) == 5, "small integers in the long field are let pass"


def test_numbers_that_are_not_finite_are_no_value() -> None:
    for field, raw in ((12, "0000c07f"), (12, "0000807f"), (13, "000000000000f8ff")):
        assert value_of(Metric(raw=(field, bytes.fromhex(raw)))) is None


def test_birth_and_death_carry_what_the_specification_asks() -> None:
    birth = sparkplug_births.node_birth(7, (), timestamp=1_700_000_000_000)
    assert [(m.name, value_of(m)) for m in birth.metrics] == [("bdSeq", 7), ("Node Control/Rebirth", False)]
    assert birth.seq == 0
    again = sparkplug_births.node_birth(0, (), timestamp=1_700_000_000_000)
    assert sparkplug_b.encode(again) == GOLDEN[0], "the golden NBIRTH"
    death = sparkplug_births.node_death(7)
    assert (death.seq, value_of(death.metrics[0])) == (None, 7)
    command = sparkplug_births.rebirth_command(timestamp=1)
    assert value_of(command.metrics[0]) is True


def test_values_that_do_not_fit_are_refused_when_sent() -> None:
    for name, value in (("Int8", 128), ("UInt8", -1), ("Boolean", 1), ("String", 5), ("Int32", Decimal("0.5"))):
        with pytest.raises(ValueError, match=r"fit|is no"):
            sparkplug_births.metric("m", name, value, timestamp=1)
    with pytest.raises(ValueError, match="alias"):
        sparkplug_births.metric("m", "Int8", 1, timestamp=1, bare=True)


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("spBv1.0/gas/NBIRTH/gw1", Topic("gas", "NBIRTH", "gw1")),
        ("spBv1.0/gas/DDATA/gw1/33780020260001", Topic("gas", "DDATA", "gw1", "33780020260001")),
        ("spBv1.0/STATE/host", Topic("", "STATE", "host")),
    ],
)
def test_topics_are_taken_apart_and_put_together(text: str, topic: Topic) -> None:
    assert parse_topic(text) == topic
    assert str(topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spBv1.0",
        "spAv1.0/g/NBIRTH/e",
        "spBv1.0/g/NBIRTH",
        "spBv1.0/g/NBIRTH/e/d",
        "spBv1.0/g/DDATA/e",
        "spBv1.0//NDATA/e",
    ],
)
def test_other_topics_are_refused(text: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse_topic(text)
    assert caught.value.sort == "topic"


def test_state_of_a_host_is_json_and_nothing_else() -> None:
    assert sparkplug_b.decode_state(b'{"online": true, "timestamp": 1}')
    for bad in (b"ONLINE", b"[]", b"{}", b'{"online": 1}', b'{"online": true, "online": false}', b"[" * 100_000):
        with pytest.raises(FrameError):
            sparkplug_b.decode_state(bad)


def test_cut_and_damaged_messages_are_answers_or_our_errors() -> None:
    frames = GOLDEN + _derived(20)
    wire_checks.assert_prefixes_refused(CODEC, frames)
    wire_checks.assert_bit_flips_harmless(CODEC, frames)
    wire_checks.assert_random_bytes_harmless(CODEC, frames)


@pytest.mark.parametrize(
    ("data", "sort"),
    [
        ("08", "length"),
        ("0880", "length"),
        ("08" + "80" * 10 + "01", "frame"),  # 11 bytes
        ("08ffffffffffffffffff7f", "frame"),  # more than 64 bits
        ("120a01", "length"),
        ("0b", "frame"),  # a group
        ("00", "frame"),  # field 0
        ("0a00", "frame"),  # timestamp as bytes
        ("1880808001", "frame"),  # seq above 255
        ("1202" + "0801", "frame"),  # name as number
        ("1203" + "0a01ff", "frame"),  # name not UTF-8
    ],
)
def test_each_kind_of_damage_has_its_sort(data: str, sort: str) -> None:
    with pytest.raises(FrameError) as caught:
        sparkplug_b.decode(bytes.fromhex(data))
    assert caught.value.sort == sort


def test_too_many_metrics_and_too_large_messages_are_refused() -> None:
    with pytest.raises(FrameError, match="metrics"):
        sparkplug_b.decode(protobuf.put_bytes(2, b"") * (sparkplug_b.MAX_METRICS + 1))
    with pytest.raises(FrameError, match="allowed"):
        sparkplug_b.decode(bytes(sparkplug_b.MAX_PAYLOAD + 1))


def _google_payload() -> Any:
    """The message of the public sparkplug_b.proto, as far as we read it."""
    descriptor_pb2, descriptor_pool, message_factory = (
        importlib.import_module(f"google.protobuf.{name}")  # it has no type stubs of its own
        for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug.proto", package="t", syntax="proto2")
    metric = file.message_type.add(name="Metric")
    for name, number, kind in (
        ("name", 1, kinds.TYPE_STRING),
        ("alias", 2, kinds.TYPE_UINT64),
        ("timestamp", 3, kinds.TYPE_UINT64),
        ("datatype", 4, kinds.TYPE_UINT32),
        ("is_historical", 5, kinds.TYPE_BOOL),
        ("is_null", 7, kinds.TYPE_BOOL),
        ("int_value", 10, kinds.TYPE_UINT32),
        ("long_value", 11, kinds.TYPE_UINT64),
        ("float_value", 12, kinds.TYPE_FLOAT),
        ("double_value", 13, kinds.TYPE_DOUBLE),
        ("boolean_value", 14, kinds.TYPE_BOOL),
        ("string_value", 15, kinds.TYPE_STRING),
        ("bytes_value", 16, kinds.TYPE_BYTES),
    ):
        metric.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    payload = file.message_type.add(name="Payload")
    payload.field.add(name="timestamp", number=1, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=kinds.TYPE_MESSAGE, type_name=".t.Metric", label=kinds.LABEL_REPEATED
    )
    payload.field.add(name="seq", number=3, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Payload"))


def test_googles_protobuf_reads_and_writes_the_same_bytes() -> None:
    message_class = _google_payload()
    chance = random.Random(77)
    for _ in range(200):
        payload = random_payload(chance)
        ours = sparkplug_b.encode(payload)
        theirs = message_class.FromString(ours)
        assert theirs.SerializeToString(deterministic=True) == ours
        assert [m.name for m in theirs.metrics] == [m.name for m in payload.metrics]
        assert [m.timestamp for m in theirs.metrics] == [m.timestamp for m in payload.metrics]
