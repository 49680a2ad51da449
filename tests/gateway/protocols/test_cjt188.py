"""CJ/T 188: golden frames, round trips on every level, refusals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal

import pytest

from gateway.protocols import cjt188, framing, golden
from gateway.protocols.cjt188 import Amount, Clock, Frame, Message
from metering.errors import ChecksumError, FrameError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.wire_checks import Codec

CODEC = Codec(cjt188.decode, cjt188.encode, splitter=cjt188.splitter)
MESSAGES = Codec(lambda raw: cjt188.parse(cjt188.decode(raw)), lambda message: cjt188.encode(cjt188.build(message)))
FRAMES = wire_checks.valid_frames("cjt188")
BARE = [frame.lstrip(b"\xfe") for frame in FRAMES]


def _remade(frame: bytearray) -> bytes:
    frame[-2] = framing.sum8(bytes(frame[:-2]))
    return bytes(frame)


def _bcd(chance: random.Random, size: int) -> bytes:
    return framing.to_bcd_le(chance.randrange(100**size), size)


def _clock(chance: random.Random) -> bytes:
    day, month, year = chance.randrange(1, 29), chance.randrange(1, 13), chance.randrange(2004, 2099)
    parts = (chance.randrange(60), chance.randrange(60), chance.randrange(24), day, month, year % 100, year // 100)
    return b"".join(framing.to_bcd_le(part, 1) for part in parts)


def _derived(count: int, seed: int = 188) -> Iterator[bytes]:
    """Golden frames with another address, other values and another date; the sum remade."""
    chance = random.Random(seed)
    for number in range(count):
        frame = bytearray(BARE[number % len(BARE)])
        frame[2:9] = _bcd(chance, 7)
        if len(frame) == 13 + 0x16:
            frame[14:18], frame[19:23], frame[24:31] = _bcd(chance, 4), _bcd(chance, 4), _clock(chance)
        if len(frame) == 13 + 0x2E and frame[18] == 0x05:
            frame[14:18], frame[19:23], frame[34:38] = _bcd(chance, 4), _bcd(chance, 4), _bcd(chance, 4)
            frame[48:55] = _clock(chance)
        yield _remade(frame)


def test_every_golden_frame_is_read_as_its_source_says() -> None:
    assert wire_checks.assert_golden("cjt188") == 22


def test_derived_frames_come_back_byte_for_byte_from_frame_and_from_meaning() -> None:
    assert wire_checks.assert_round_trip(CODEC, _derived(400)) == 400
    assert wire_checks.assert_round_trip(MESSAGES, _derived(400)) == 400


def test_cut_frames_are_never_taken_for_a_value() -> None:
    wire_checks.assert_prefixes_refused(CODEC, FRAMES)


def test_flipped_bit_is_refused_or_changes_nothing() -> None:
    wire_checks.assert_bit_flips_harmless(CODEC, FRAMES)


def test_random_bytes_give_an_answer_or_our_error() -> None:
    wire_checks.assert_random_bytes_harmless(MESSAGES, FRAMES)


def test_frames_come_out_of_a_noisy_stream_byte_by_byte() -> None:
    noise = [b"\x00\x05", b"\x68", b"\x68\x68\x16", bytes.fromhex("6810aaaaaaaaaaaaaa81ff"), b"\xfe" * 13]
    wire_checks.assert_stream_survives(CODEC, BARE, noise=noise)


def test_value_date_and_valve_of_a_gas_answer_by_hand() -> None:
    frame = cjt188.decode(bytes.fromhex("68300100262000783381161f9005563412002c000012002c5859233101262004002b16"))
    message = cjt188.parse(frame)
    assert isinstance(message.body, cjt188.Volumes)
    assert message.body.current.micro("volume") == 1_234_560_000  # 1234.56 m3
    assert message.body.clock.text == "2026-01-31T23:59:58"
    assert cjt188.STANDARD_STATUS.valve(message.body.status) == "open"
    assert cjt188.STANDARD_STATUS.battery_low(message.body.status)


def test_both_orders_of_the_identifier_are_understood_and_kept() -> None:
    for order in ("big", "little"):
        frame = cjt188.read_request(0x30, "33780020260001", order=order, ser=7)
        message = cjt188.parse(frame)
        assert (message.di, message.order, message.ser) == (0x901F, order, 7)
    assert cjt188.di_of(b"\x12\xb3") == (0xB312, "little")  # unknown DI: identifiers begin with 8 or more
    assert cjt188.di_of(b"\x90\x1f", "little") == (0x1F90, "little")  # a profile that says so is believed


def test_settlement_months_are_counted_from_the_identifier() -> None:
    answer = Message(0x10, "00000000000012", 0x81, 0xD12B, "big", 0, cjt188.Settlement(Amount.of(4711, 0x2C), 12))
    frame = cjt188.build(answer)
    assert frame.data == bytes.fromhex("d12b00114700002c")
    assert cjt188.parse(frame) == answer


@pytest.mark.parametrize(
    "body",
    [
        cjt188.SetTime(Clock.of("2026-03-01T00:00:00")),
        cjt188.Valve(0x99),
        cjt188.NewAddress("33780020260001"),
        cjt188.Initial(Amount.of(123456, 0x00)),
        cjt188.Plain(b"\x01\x02\x03"),
    ],
)
def test_written_bodies_survive_the_wire(body: cjt188.Body) -> None:
    identifiers = {cjt188.SetTime: 0xA015, cjt188.Valve: 0xA017, cjt188.NewAddress: 0xA018, cjt188.Initial: 0xA016}
    message = Message(0x30, "33780020260001", 0x04, identifiers.get(type(body), 0xA101), "little", 9, body)
    assert cjt188.parse(cjt188.decode(cjt188.encode(cjt188.build(message)))) == message


def test_freeze_of_2018_is_read_as_time_volume_flow_temperature_pressure() -> None:
    raw = bytes.fromhex("00000001022620 785634122c 0050000035 502100 131000".replace(" ", ""))
    body = cjt188.parse(Frame(0x10, "00000000000012", 0x81, bytes.fromhex("d30100") + raw)).body
    assert isinstance(body, cjt188.Freeze)
    assert body.clock.text == "2026-02-01T00:00:00"
    assert body.volume.value == Decimal("123456.78")
    assert body.flow.value == Decimal("0.5")  # 5000 with 4 decimals
    assert body.temperature.value == Decimal("21.5")
    assert body.encode() == raw


def test_requests_match_the_captures_of_other_programs() -> None:
    cases = {
        "6810120000000000000103901f003d16": cjt188.read_request(0x10, "00000000000012"),
        "68aaaaaaaaaaaaaaaa0303810a004916": cjt188.read_address_request(),
        "6810011312190000000404a0170155cc16": cjt188.valve_request(0x10, "00000019121301", "open", ser=1),
        "683003000000000000040417a00199f416": cjt188.valve_request(
            0x30, "00000000000003", "close", ser=1, order="little"
        ),
        "681002000005080000150aa01800010000050800006c16": cjt188.write_address_request(
            0x10, "00000805000002", "00000805000001"
        ),
    }
    assert {hex_text: cjt188.encode(frame).hex() for hex_text, frame in cases.items()} == {h: h for h in cases}


def test_unit_before_the_number_is_recognised_and_written_back() -> None:
    raw = next(frame for frame in FRAMES if frame.hex().startswith("fefefefe6820324131"))
    body = cjt188.parse(cjt188.decode(raw)).body
    assert isinstance(body, cjt188.Heat)
    assert body.volume.unit_first
    assert body.energy_2.micro("energy") == 20_000_000  # 0.02 MWh = 20 kWh


def test_unsupported_value_and_impossible_date_are_absent_not_numbers() -> None:
    raw = bytes.fromhex("ffffffff2c" + "00a00000" + "2c" + "00000030022620" + "0000")
    body = cjt188.parse(Frame(0x10, "00000000000012", 0x81, bytes.fromhex("901f00") + raw)).body
    assert isinstance(body, cjt188.Volumes)
    assert body.current.micro("volume") is None
    assert body.settlement.value is None
    assert body.clock.text is None  # 30 February
    assert body.encode() == raw


@pytest.mark.parametrize(
    "text", ["2026-02-30T00:00:00", "2026-01-01", "2026-01-01T24:00:00", "２026-01-01T00:00:00", ""]
)
def test_impossible_time_is_not_sent_to_a_meter(text: str) -> None:
    with pytest.raises(FrameError):
        cjt188.set_time_request(0x30, "33780020260001", text)


@pytest.mark.parametrize("address", ["1", "0000000000001G", "000000000000012", "00 00 00 00 00"])
def test_address_that_is_not_14_digits_is_not_sent(address: str) -> None:
    with pytest.raises(FrameError):
        cjt188.encode(cjt188.read_request(0x10, address))


def test_units_convert_to_house_units_exactly_and_joules_to_the_nearest_millionth() -> None:
    assert Amount.of(150, 0x29).micro("volume") == 1_500  # 1.50 L
    assert Amount.of(150, 0x2E).micro("volume") == 150_000_000  # 1.50 x 100 m3
    assert Amount.of(1, 0x11).micro("energy") == 2_777_778  # 0.01 GJ = 2.7777777... kWh
    assert Amount.of(1, 0x35, decimals=4).micro("flow") == 100
    assert Amount.of(1, 0x35).micro("volume") is None  # a flow is no volume
    assert Amount.of(1, 0x77).micro("volume") is None  # unknown unit: never guessed


def test_refusals_of_every_length_are_understood() -> None:
    for data, ser, status in (("01", None, "01"), ("050204", 5, "0204"), ("901f050204", 5, "0204"), ("", None, "")):
        message = cjt188.parse(Frame(0x30, "33780020260001", 0xC1, bytes.fromhex(data)))
        assert message.ser == ser
        assert message.body == cjt188.Refusal(bytes.fromhex(status))


def test_errors_name_their_sort_and_the_sums() -> None:
    raw = bytes.fromhex("6810120000000000000103901f003e16")
    with pytest.raises(ChecksumError) as damaged:
        cjt188.decode(raw)
    assert damaged.value.facts == {"checksum_in_frame": "3E", "checksum_computed": "3D"}
    for data, sort in ((raw[:-1], "length"), (raw[:-2] + b"\x3d\x17", "frame"), (b"", "frame"), (b"\x68", "length")):
        with pytest.raises(FrameError) as caught:
            cjt188.decode(data)
        assert caught.value.sort == sort
    with pytest.raises(FrameError, match="follow") as longer:
        cjt188.decode(raw[:-2] + b"\x3d\x16\x01")
    assert longer.value.sort == "length"


def test_status_maps_differ_between_vendors() -> None:
    status = bytes.fromhex("6000")
    assert cjt188.MIRRORED_STATUS.valve(status) == "closed"
    assert cjt188.MIRRORED_STATUS.battery_low(status)
    assert cjt188.STANDARD_STATUS.valve(bytes.fromhex("0200")) == "unknown"


def test_judge_finds_what_differs_in_a_file_it_has_not_seen() -> None:
    entry = {"protocol": "cjt188", "hex": "6810120000000000000103901f003d16", "expect": {"address": "00000000000013"}}
    assert golden.judge(entry) == ["address: expected '00000000000013', found '00000000000012'"]
    entry["expect"] = {"valid": False, "error": "checksum"}
    assert golden.judge(entry) == ["accepted, expected a refusal (checksum)"]
    cut = entry | {"hex": "681012000000", "expect": {"valid": False, "error": "length"}}
    assert golden.judge(cut) == []
