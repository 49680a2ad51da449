"""Modbus PDUs, RTU and MBAP: golden frames, round trips, refusals, and pymodbus as second opinion."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersRequest

from gateway.protocols import golden, modbus
from gateway.protocols.framing import crc16_modbus
from gateway.protocols.modbus import Frame, ReadAnswer, ReadRequest, Refusal, WriteAnswer, WriteRequest, WriteSingle
from metering.errors import ChecksumError, FrameError, MeterError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.wire_checks import Codec

RTU = Codec(modbus.decode_rtu, modbus.encode_rtu, splitter=lambda: modbus.rtu_splitter("any"))
TCP = Codec(modbus.decode_tcp, modbus.encode_tcp, checked=False, splitter=modbus.tcp_splitter)
FRAMES = wire_checks.valid_frames("modbus-rtu")
TCP_FRAMES = [modbus.encode_tcp(Frame(7, modbus.decode_rtu(raw).pdu, 4711 + i)) for i, raw in enumerate(FRAMES)]


def _derived(count: int, seed: int = 3) -> Iterator[bytes]:
    """Golden frames with another unit, other addresses and values; the CRC remade."""
    chance = random.Random(seed)
    for number in range(count):
        frame = bytearray(FRAMES[number % len(FRAMES)])
        frame[0] = chance.randrange(1, 248)
        if len(frame) == 8:
            frame[2:4] = chance.randbytes(2)
        elif len(frame) > 8:
            frame[3:-2] = chance.randbytes(len(frame) - 5)
        frame[-2:] = crc16_modbus(bytes(frame[:-2])).to_bytes(2, "little")
        yield bytes(frame)


def test_every_golden_frame_is_read_as_its_source_says() -> None:
    assert wire_checks.assert_golden("modbus-rtu") == 9


def test_derived_frames_come_back_byte_for_byte_from_frame_and_pdu() -> None:
    assert wire_checks.assert_round_trip(RTU, _derived(300)) == 300
    for raw in _derived(300):
        pdu = modbus.decode_rtu(raw).pdu
        request = len(pdu) == 5
        assert modbus.encode(modbus.decode_request(pdu) if request else modbus.decode_answer(pdu)) == pdu


def test_cut_frames_are_never_taken_for_a_value() -> None:
    wire_checks.assert_prefixes_refused(RTU, FRAMES)
    wire_checks.assert_prefixes_refused(Codec(modbus.decode_tcp), TCP_FRAMES)


def test_flipped_bit_is_refused_or_changes_nothing() -> None:
    wire_checks.assert_bit_flips_harmless(RTU, FRAMES)
    wire_checks.assert_bit_flips_harmless(TCP, TCP_FRAMES)


def test_random_bytes_give_an_answer_or_our_error() -> None:
    def whole(raw: bytes) -> object:
        return golden.adapter_of("modbus-rtu")("modbus-rtu", raw, {})

    wire_checks.assert_random_bytes_harmless(Codec(whole), FRAMES)
    wire_checks.assert_random_bytes_harmless(TCP, TCP_FRAMES)


def test_random_pdus_give_an_answer_or_our_error() -> None:
    pdus = [modbus.decode_rtu(raw).pdu for raw in FRAMES]
    assert wire_checks.assert_random_bytes_harmless(Codec(modbus.decode_answer), pdus) > 100
    assert wire_checks.assert_random_bytes_harmless(Codec(modbus.decode_request), pdus) > 100


def test_frames_come_out_of_a_noisy_stream_byte_by_byte() -> None:
    noise = [b"\x00", b"\xff\xff", bytes.fromhex("0103fa"), bytes.fromhex("011000000002"), b"\x01\x03"]
    wire_checks.assert_stream_survives(RTU, FRAMES, noise=noise)


def test_tcp_frames_come_one_by_one_from_any_pieces() -> None:
    data = b"".join(TCP_FRAMES)
    assert wire_checks.fed_byte_by_byte(modbus.tcp_splitter(), data) == TCP_FRAMES


def test_answers_of_the_line_come_out_without_the_requests_between_them() -> None:
    answers = [raw for raw in FRAMES if len(raw) != 8]
    requests = [raw for raw in FRAMES if len(raw) == 8]
    line = b"".join(request + answer for request, answer in zip(requests * 4, answers, strict=False))
    assert wire_checks.fed_byte_by_byte(modbus.rtu_splitter("answer"), line) == answers
    assert wire_checks.fed_byte_by_byte(modbus.rtu_splitter("request"), line) == (requests * 4)[: len(answers)]


@pytest.mark.parametrize(
    ("pdu", "raw"),
    [
        (ReadRequest(3, 0x000A, 20), "03000a0014"),
        (ReadRequest(4, 0xFFFF, 125), "04ffff007d"),
        (WriteSingle(6, 1, 3), "0600010003"),
        (WriteRequest(16, 1, 2, bytes.fromhex("000a0102")), "100001000204000a0102"),
    ],
)
def test_requests_have_the_bytes_of_the_specification(pdu: modbus.Request, raw: str) -> None:
    assert modbus.encode(pdu).hex() == raw
    assert modbus.decode_request(bytes.fromhex(raw)) == pdu


@pytest.mark.parametrize(
    ("pdu", "raw"),
    [
        (ReadAnswer(3, bytes.fromhex("022b00000064")), "0306022b00000064"),
        (ReadAnswer(1, b"\xcd\x6b\x05"), "0103cd6b05"),
        (WriteAnswer(16, 1, 2), "1000010002"),
        (Refusal(3, 2), "8302"),
    ],
)
def test_answers_have_the_bytes_of_the_specification(pdu: modbus.Answer, raw: str) -> None:
    assert modbus.encode(pdu).hex() == raw
    assert modbus.decode_answer(bytes.fromhex(raw)) == pdu


@pytest.mark.parametrize(
    ("raw", "sort"),
    [
        ("", "length"),
        ("0300000000", "value"),
        ("030000007e", "value"),
        ("0300000001ff", "length"),
        ("2b0e0100", "function"),
        ("10000100020300000a", "length"),
        ("100001007c04000a0102", "value"),
        ("100001000304000a0102", "length"),
    ],
)
def test_impossible_requests_are_refused(raw: str, sort: str) -> None:
    with pytest.raises(FrameError) as caught:
        modbus.decode_request(bytes.fromhex(raw))
    assert caught.value.sort == sort


@pytest.mark.parametrize("raw", ["03", "0300", "0301ff", "0304ffff", "830201", "2b00", "10000000"])
def test_impossible_answers_are_refused(raw: str) -> None:
    with pytest.raises(FrameError):
        modbus.decode_answer(bytes.fromhex(raw))


@pytest.mark.parametrize(
    "pdu", [ReadRequest(3, 70000, 1), ReadRequest(3, 0, 126), ReadAnswer(3, bytes(256)), WriteRequest(16, 0, 3, b"")]
)
def test_impossible_pdus_are_not_sent(pdu: modbus.Request | modbus.Answer) -> None:
    with pytest.raises(FrameError):
        modbus.encode(pdu)


def test_answer_to_another_question_is_refused() -> None:
    asked = ReadRequest(3, 0, 2)
    assert modbus.check(asked, ReadAnswer(3, bytes(4))) == ReadAnswer(3, bytes(4))
    assert modbus.check(asked, ReadAnswer(3, bytes(8)), item_bytes=4) == ReadAnswer(3, bytes(8))  # Enron style
    for answer in (ReadAnswer(3, bytes(2)), ReadAnswer(4, bytes(4)), WriteAnswer(16, 0, 2)):
        with pytest.raises(FrameError):
            modbus.check(asked, answer)
    with pytest.raises(MeterError) as refused:
        modbus.check(asked, Refusal(3, 2))
    assert refused.value.code == 2
    with pytest.raises(FrameError):
        modbus.check(WriteSingle(6, 1, 2), WriteSingle(6, 1, 3))
    with pytest.raises(FrameError):
        modbus.check(WriteRequest(16, 1, 1, b"\0\0"), WriteAnswer(16, 2, 1))


def test_cut_and_damaged_frames_are_told_apart() -> None:
    raw = bytes.fromhex("010304ba4a41f8cf2f")
    with pytest.raises(ChecksumError) as damaged:
        modbus.decode_rtu(raw[:-1] + b"\x2e")
    assert damaged.value.sort == "crc"
    assert damaged.value.facts == {"checksum_in_frame": "CF2E", "checksum_computed": "CF2F"}
    with pytest.raises(FrameError) as cut:
        modbus.decode_rtu(raw[:-3])
    assert (cut.value.sort, cut.value.also) == ("length", ("crc",))


def test_fields_are_read_in_every_order_and_type() -> None:
    data = bytes.fromhex("0102030405060708")
    raw = modbus.encode_rtu(Frame(1, modbus.encode(ReadAnswer(3, data))))
    fields = [
        ("uint32", "ABCD", 0, 0x01020304),
        ("uint32", "CDAB", 0, 0x03040102),
        ("uint32", "BADC", 0, 0x02010403),
        ("uint32", "DCBA", 0, 0x04030201),
        ("uint64", "CDAB", 0, 0x0708050603040102),
        ("uint64", "GHEFCDAB", 0, 0x0708050603040102),
        ("int16", "BA", 3, 0x0807),
        ("bcd", "ABCDEF", 1, 30405060708),
        ("bcd4", "ABCD", 2, 5060708),
    ]
    context = {"fields": [{"as": kind, "order": order, "register": at} for kind, order, at, _ in fields]}
    entry = {"protocol": "modbus-rtu", "hex": raw.hex(), "context": context}
    assert golden.judge(entry | {"expect": {"fields": [value for *_, value in fields]}}) == []
    wrong = golden.judge(entry | {"expect": {"fields": [0, *(value for *_, value in fields[1:])]}})
    assert wrong == ["fields[0]: expected 0, found 16909060"]


def test_field_outside_the_answer_is_refused() -> None:
    field = {"as": "uint32", "order": "ABCD", "register": 1}
    entry = {
        "protocol": "modbus-rtu",
        "hex": FRAMES[1].hex(),
        "context": {"fields": [field]},
        "expect": {"fields": [0]},
    }
    assert golden.judge(entry)[0].startswith("refused (length)")


def test_request_of_another_meter_or_size_does_not_belong_to_the_answer() -> None:
    answer = {"protocol": "modbus-rtu", "hex": FRAMES[1].hex()}
    asked = modbus.encode_rtu(Frame(1, modbus.encode(ReadRequest(3, 12, 2)))).hex()
    assert golden.judge(answer | {"expect": {"request": asked}}) == []
    for frame in (Frame(2, bytes.fromhex("03000c0002")), Frame(1, bytes.fromhex("03000c0003"))):
        other = modbus.encode_rtu(frame).hex()
        assert len(golden.judge(answer | {"expect": {"request": other}})) == 1


def test_pymodbus_writes_the_same_bytes() -> None:
    chance = random.Random(9)
    rtu, tcp = FramerRTU(DecodePDU(False)), FramerSocket(DecodePDU(False))
    for _ in range(200):
        unit, address, count = chance.randrange(1, 248), chance.randrange(65536), chance.randrange(1, 126)
        words = [chance.randrange(65536) for _ in range(count)]
        theirs = ReadInputRegistersRequest(dev_id=unit, address=address, count=count, transaction_id=77)
        ours = modbus.encode(ReadRequest(4, address, count))
        assert modbus.encode_rtu(Frame(unit, ours)) == rtu.buildFrame(theirs)
        assert modbus.encode_tcp(Frame(unit, ours, 77)) == tcp.buildFrame(theirs)
        answer = ReadHoldingRegistersResponse(dev_id=unit, registers=words)
        decoded = modbus.decode_answer(modbus.decode_rtu(rtu.buildFrame(answer)).pdu)
        assert isinstance(decoded, ReadAnswer)
        assert list(decoded.registers) == words
