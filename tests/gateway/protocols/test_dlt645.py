"""DL/T 645-2007 and -1997: golden frames, round trips on every level, refusals, following frames."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

import pytest
from dlt645.config.variable_types import VARIABLE_TYPES  # type: ignore[import-untyped]  # the package has no types
from dlt645.protocol.protocol import DLT645Protocol  # type: ignore[import-untyped]  # the package has no types

from gateway.protocols import dlt645, framing, golden
from gateway.protocols.dlt645 import Form, Frame, Item, Message
from metering.errors import ChecksumError, FrameError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.wire_checks import Codec

CODEC = Codec(dlt645.decode, dlt645.encode, splitter=dlt645.splitter)
FRAMES = wire_checks.valid_frames("dlt645-2007", "dlt645-1997")
BARE = [frame.lstrip(b"\xfe") for frame in FRAMES]


def _messages(edition: Literal["2007", "1997"]) -> Codec:
    return Codec(
        lambda raw: dlt645.parse(dlt645.decode(raw), edition),
        lambda message: dlt645.encode(dlt645.build(message)),
    )


def _derived(count: int, edition: str, seed: int = 645) -> Iterator[bytes]:
    """Golden frames with another address, other values and another date; the sum remade."""
    chance = random.Random(seed)
    bare = [frame.lstrip(b"\xfe") for frame in wire_checks.valid_frames(f"dlt645-{edition}")]
    identifier = 4 if edition == "2007" else 2
    for number in range(count):
        frame = bytearray(bare[number % len(bare)])
        frame[1:7] = framing.to_bcd_le(chance.randrange(10**12), 6)
        size = frame[9] - identifier
        if frame[8] in (0x91, 0x81):
            value = framing.to_bcd_le(chance.randrange(100**size), size)
            frame[10 + identifier : 10 + identifier + size] = bytes((byte + 0x33) & 0xFF for byte in value)
        if frame[8] == 0x08:
            clock = (chance.randrange(60), chance.randrange(60), chance.randrange(24))
            parts = (*clock, chance.randrange(1, 29), chance.randrange(1, 13), chance.randrange(100))
            frame[10:16] = bytes((framing.to_bcd_le(part, 1)[0] + 0x33) & 0xFF for part in parts)
        frame[-2] = framing.sum8(bytes(frame[:-2]))
        yield bytes(frame)


def _parse(hex_text: str, edition: Literal["2007", "1997"] = "2007") -> Message:
    return dlt645.parse(dlt645.decode(bytes.fromhex(hex_text)), edition)


def _answer(di: int, data: str, control: int = 0x91) -> Message:
    frame = Frame("000000000001", control, di.to_bytes(4, "little") + bytes.fromhex(data))
    return dlt645.parse(dlt645.decode(dlt645.encode(frame)), "2007")


def _value(message: Message) -> object:
    assert isinstance(message.body, dlt645.Values)
    return message.body.items[0].value


def test_every_golden_frame_is_read_as_its_source_says() -> None:
    assert wire_checks.assert_golden("dlt645-2007") == 18
    assert wire_checks.assert_golden("dlt645-1997") == 3


@pytest.mark.parametrize("edition", ["2007", "1997"])
def test_derived_frames_come_back_byte_for_byte_from_frame_and_from_meaning(edition: Literal["2007", "1997"]) -> None:
    assert wire_checks.assert_round_trip(CODEC, _derived(300, edition)) == 300
    assert wire_checks.assert_round_trip(_messages(edition), _derived(300, edition)) == 300


def test_cut_frames_are_never_taken_for_a_value() -> None:
    wire_checks.assert_prefixes_refused(CODEC, FRAMES)


def test_flipped_bit_is_refused_or_changes_nothing() -> None:
    wire_checks.assert_bit_flips_harmless(CODEC, FRAMES)


@pytest.mark.parametrize("edition", ["2007", "1997"])
def test_random_bytes_give_an_answer_or_our_error(edition: Literal["2007", "1997"]) -> None:
    wire_checks.assert_random_bytes_harmless(_messages(edition), FRAMES)


def test_frames_come_out_of_a_noisy_stream_byte_by_byte() -> None:
    noise = [b"\x68", bytes.fromhex("68010000000000689108"), b"\x16\x68\x16", b"\xfe\xfe"]
    wire_checks.assert_stream_survives(CODEC, BARE, noise=noise)


def test_filler_behind_a_frame_is_no_damage_but_other_bytes_are() -> None:
    frame = BARE[0]
    assert dlt645.decode(frame + b"\xfe") == dlt645.decode(frame)
    with pytest.raises(FrameError) as caught:
        dlt645.decode(frame + b"\x01")
    assert caught.value.sort == "length"


@pytest.mark.parametrize(
    ("di", "data", "value"),
    [
        (0x00010000, "78563412", Decimal("123456.78")),
        (0x00020000, "00000000", Decimal(0)),
        (0x0001FF00, "0100000002000000", Decimal("0.01")),
        (0x02010200, "0522", Decimal("220.5")),
        (0x02020300, "001580", Decimal("-1.5")),
        (0x02030000, "563412", Decimal("12.3456")),
        (0x02030100, "563492", Decimal("-12.3456")),
        (0x02060000, "9909", Decimal("0.999")),
        (0x02800002, "9949", Decimal("49.99")),
        (0x04000101, "05300126", "2026-01-30"),
        (0x04000102, "595823", "23:58:59"),
        (0x04000401, "123456789012", "129078563412"),
        (0x05060001, "5923310126", "2026-01-31T23:59"),
        (0x05060101, "78563412", Decimal("123456.78")),
        (0x00010000, "ffffffff", None),
        (0x04000101, "05300226", None),
    ],
)
def test_identifiers_are_read_by_their_format(di: int, data: str, value: object) -> None:
    message = _answer(di, data)
    assert _value(message) == value
    assert dlt645.build(message).data == di.to_bytes(4, "little") + bytes.fromhex(data)


def test_block_of_voltages_is_one_value_per_phase() -> None:
    message = _answer(0x0201FF00, "052206220722")
    assert isinstance(message.body, dlt645.Values)
    assert [item.value for item in message.body.items] == [Decimal("220.5"), Decimal("220.6"), Decimal("220.7")]


def test_demand_brings_its_time() -> None:
    message = _answer(0x01010000, "5634125923310126")
    assert isinstance(message.body, dlt645.Values)
    item = message.body.items[0]
    assert (item.value, item.at) == (Decimal("12.3456"), "2026-01-31T23:59")


def test_half_a_value_and_mixed_nibbles_are_no_value() -> None:
    assert _answer(0x00010000, "785634").body == dlt645.Plain(bytes.fromhex("785634"))
    with pytest.raises(FrameError) as caught:
        _value(_answer(0x00010000, "7856341a"))
    assert caught.value.sort == "bcd"


def test_edition_1997_reads_two_byte_identifiers() -> None:
    for di, data, value in (
        (0x9020, "78563412", Decimal("123456.78")),
        (0x9410, "78563412", Decimal("123456.78")),
        (0xB612, "2002", Decimal(220)),
        (0xB621, "5012", Decimal("12.5")),
        (0xB630, "563412", Decimal("12.3456")),
        (0xC010, "05300126", "2026-01-30"),
        (0xC011, "595823", "23:58:59"),
        (0xC032, "123456789012", "129078563412"),
    ):
        frame = Frame("000000000414", 0x81, di.to_bytes(2, "little") + bytes.fromhex(data))
        message = dlt645.parse(frame, "1997")
        assert _value(message) == value, hex(di)
        assert dlt645.build(message) == frame


def test_refusal_is_said_in_words() -> None:
    for edition, control in (("2007", 0xD1), ("1997", 0xC1)):
        body = dlt645.parse(Frame("000000000001", control, b"\x06"), edition).body  # type: ignore[arg-type]  # loop
        assert isinstance(body, dlt645.Refusal)
        assert body.reasons == ["no such data", "password wrong or not authorised"]


def test_frames_that_follow_are_joined_and_gaps_refused() -> None:
    di = bytes.fromhex("01010605")
    first = Frame("000000000001", 0xB1, di + bytes.fromhex("0100000002"))
    second = Frame("000000000001", 0xB2, di + bytes.fromhex("000000030000") + b"\x01")
    third = Frame("000000000001", 0x92, di + bytes.fromhex("00") + b"\x02")
    body = dlt645.parse(dlt645.join([first, second, third], "2007"), "2007").body
    assert isinstance(body, dlt645.Values)
    assert [item.number for item in body.items] == [1, 2, 3]
    for frames in (
        [first, third],
        [first, second],
        [first, Frame("000000000002", 0x92, second.data)],
        [first, first],
    ):
        with pytest.raises(FrameError):
            dlt645.join(frames, "2007")
    assert dlt645.parse(first, "2007").body == dlt645.Plain(first.data[4:])  # a torn block gives no values


def test_requests_match_the_captures_of_other_programs() -> None:
    cases = {
        "68610100000000681104333334331416": dlt645.read_request("000000000161", 0x00010000),
        "68aaaaaaaaaaaa681300df16": dlt645.read_address_request(),
        "6899999999999968080684554338394a4b16": dlt645.set_time_request("2017-06-05T10:22:51"),
        "6811111153123568010243c3a616": dlt645.read_request("351253111111", 0x9010, "1997"),
    }
    assert {hex_text: dlt645.encode(frame).hex() for hex_text, frame in cases.items()} == {h: h for h in cases}


def test_follow_request_counts_in_2007_and_not_in_1997() -> None:
    assert dlt645.follow_request("000000000001", 0x05060101, 2).data == bytes.fromhex("0101060502")
    assert dlt645.follow_request("000000000001", 0x9010, 2, "1997").data == bytes.fromhex("1090")


def test_written_data_carry_password_operator_and_value() -> None:
    item = Item(bytes.fromhex("05300126"), Form("date", 4))
    frame = dlt645.write_request(
        "000000000001", 0x04000101, dlt645.Values((item,)), password=bytes.fromhex("02000000"), operator=b"1234"
    )
    message = dlt645.parse(dlt645.decode(dlt645.encode(frame)), "2007")
    assert isinstance(message.body, dlt645.Write)
    assert message.body.password == bytes.fromhex("02000000")
    assert message.body.values == dlt645.Values((item,))
    assert dlt645.build(message) == frame


def test_numbers_are_encoded_with_their_sign_or_refused() -> None:
    current = dlt645.form_of(0x02020100, "2007")
    assert current is not None
    assert Item.of(-1500, current).raw == bytes.fromhex("001580")
    assert Item.of(-1500, current).micro == -1_500_000
    energy = dlt645.form_of(0x00010000, "2007")
    assert energy is not None
    for number, form in ((800_000, current), (-1, energy), (10**8, energy)):
        with pytest.raises(FrameError):
            Item.of(number, form)


@pytest.mark.parametrize("text", ["2026-02-29T00:00:00", "2026-01-01T00:00:60", "1999-01-01T00:00:00", "now"])
def test_impossible_time_is_not_broadcast(text: str) -> None:
    with pytest.raises(FrameError):
        dlt645.set_time_request(text)


def test_errors_name_their_sort_and_the_sums() -> None:
    with pytest.raises(ChecksumError) as damaged:
        _parse("6834120000000068110433333333b216")
    assert damaged.value.facts == {"checksum_in_frame": "B2", "checksum_computed": "F7"}
    for hex_text, sort in (("68341200000000671104", "frame"), ("683412000000006811", "length"), ("", "frame")):
        with pytest.raises(FrameError) as caught:
            _parse(hex_text)
        assert caught.value.sort == sort


def test_readings_use_our_words() -> None:
    adapt = golden.adapter_of("dlt645-2007")
    for frame, readings in (
        ("686101000000006891063334343534431016", {"voltage": "100.1"}),
        ("6801000000000068910833333433ab8967451716", {"energy_import": "123456.78"}),
        ("68611001301215689106363833378333be16", {"valve": "1"}),
    ):
        assert adapt("dlt645-2007", bytes.fromhex(frame), {})["readings"] == readings


def test_another_library_writes_and_reads_the_same_frames() -> None:
    for raw in [*BARE, *_derived(60, "2007")]:
        frame = dlt645.decode(raw)
        theirs = DLT645Protocol.build_frame(bytes.fromhex(frame.address)[::-1], frame.control, frame.data, 0)
        assert bytes(theirs) == raw
        read = DLT645Protocol.deserialize(dlt645.PREAMBLE + raw)
        assert (read.ctrl_code, bytes(read.data)) == (frame.control, frame.data)


def test_another_library_gives_the_same_decimals_to_instantaneous_values() -> None:
    compared = 0
    for line in VARIABLE_TYPES:
        form = dlt645.form_of(int(line["Di"], 16), "2007")
        if form is None:
            continue  # harmonics: not read here
        whole, _, part = line["DataFormat"].partition(".")
        assert (2 * form.size, form.decimals) == (len(whole + part), len(part)), line["Di"]
        compared += 1
    assert compared >= 30
