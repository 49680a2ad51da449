"""SML: golden transmissions, derived ones with new CRCs, refusals, streams, a second opinion by smllib."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from smllib import reader as smllib_reader
from smllib.sml.response_get_list import SmlGetListResponse

from gateway.protocols import sml
from gateway.protocols.framing import crc16_x25
from gateway.protocols.golden import judge
from gateway.protocols.sml import File, Message
from gateway.protocols.sml_tlv import Integer, Node
from metering.errors import ChecksumError, FrameError
from tests.gateway.protocols import wire_checks

GOLDEN = wire_checks.valid_frames("sml")
CODEC = wire_checks.Codec(decode=sml.decode, encode=sml.encode, splitter=sml.splitter)


def _u(value: int, size: int) -> Integer:
    return Integer(value, size, False)


def _s(value: int, size: int) -> Integer:
    return Integer(value, size, True)


def entry(obis: str, value: Node, *, unit: int = 30, scaler: int = -1, status: Node = None) -> tuple[Node, ...]:
    """Return one line of a list."""
    return (bytes.fromhex(obis), status, None, _u(unit, 1), _s(scaler, 1), value, None)


def transmission(server: bytes, entries: list[tuple[Node, ...]], number: int = 1) -> File:
    """Return open, list and close as a meter pushes them."""
    id = number.to_bytes(4, "big")
    opened: Node = (None, None, id, server, None, None)
    listed: Node = (
        None,
        server,
        bytes.fromhex("0100620affff"),
        (_u(1, 1), _u(number, 4)),
        tuple(entries),
        None,
        None,
    )
    bodies = ((sml.OPEN_RESPONSE, opened), (sml.GET_LIST_RESPONSE, listed), (sml.CLOSE_RESPONSE, (None,)))
    return File(tuple(Message(id, _u(0, 1), _u(0, 1), _u(kind, 2), body) for kind, body in bodies))


def _random_file(chance: random.Random) -> File:
    server = b"\x0a\x01" + bytes(chance.choice(b"ABCDEFGHIJ") for _ in range(3)) + b"\x00" + chance.randbytes(4)
    entries = []
    for _ in range(chance.randrange(1, 8)):
        size = chance.choice((1, 2, 4, 5, 8))
        value = _s(chance.getrandbits(8 * size) - (1 << (8 * size - 1)), size)
        if chance.random() < 0.3:
            value = _u(chance.getrandbits(8 * size), size)
        obis = bytes([1, 0, chance.choice((1, 2, 16)), chance.choice((7, 8)), chance.randrange(3), 255])
        entries.append(entry(obis.hex(), value, unit=chance.choice((27, 30)), scaler=chance.randrange(-4, 4)))
    long_text = chance.choice((b"", b"\x1b" * chance.randrange(12), chance.randbytes(chance.randrange(300))))
    entries.append(entry("8181c78203ff", long_text or b"x"))
    return transmission(server, entries, chance.randrange(2**32))


def _derived(count: int, seed: int = 6) -> list[bytes]:
    chance = random.Random(seed)
    return [sml.encode(_random_file(chance)) for _ in range(count)]


def test_every_golden_transmission_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("sml") == 5


def test_golden_and_derived_transmissions_come_back_byte_for_byte() -> None:
    assert wire_checks.assert_round_trip(CODEC, GOLDEN + _derived(300)) == 305


def test_derived_values_are_exact() -> None:
    chance = random.Random(8)
    for _ in range(200):
        value, scaler = chance.getrandbits(40), chance.randrange(-3, 3)
        file = sml.decode(sml.encode(transmission(b"meter", [entry("0100010800ff", _u(value, 8), scaler=scaler)])))
        assert file.entries[0].number == Decimal(value) * Decimal(10) ** scaler
        assert all(message.crc_right for message in file.messages)
        assert sml.house_values(file) == {
            "energy_import": value * 10 ** (scaler + 3)
        }  # Wh = 10^-3 kWh = 10^3 x 10^-6


def test_cut_transmissions_are_refused() -> None:
    wire_checks.assert_prefixes_refused(CODEC, GOLDEN + _derived(10))


def test_no_single_flipped_bit_changes_a_value() -> None:
    wire_checks.assert_bit_flips_harmless(CODEC, GOLDEN + _derived(2))


def test_random_bytes_do_no_harm() -> None:
    wire_checks.assert_random_bytes_harmless(CODEC, GOLDEN + _derived(20))


def test_random_messages_behind_a_right_crc_do_no_harm() -> None:
    chance = random.Random(12)
    bank = [sml.decode(frame) for frame in GOLDEN]
    for _ in range(wire_checks.RANDOM_INPUTS // 4):
        payload = bytearray(sml.encode(chance.choice(bank))[8:-8])
        for _ in range(chance.randrange(1, 4)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
        body = sml.START + bytes(payload) + sml.ESCAPE + b"\x1a\x00"
        try:
            file = sml.decode(body + crc16_x25(body).to_bytes(2, "little"))
        except (FrameError, ChecksumError):
            continue
        sml.house_values(file)
        assert isinstance(file.server, str)


def test_both_transmissions_come_out_of_a_noisy_line() -> None:
    noise = [b"\x1b\x1b", sml.START, sml.START + GOLDEN[0][8:60]]
    wire_checks.assert_stream_survives(CODEC, [*GOLDEN[:3], *_derived(2)], noise=noise)


def test_escapes_inside_the_data_are_sent_twice_and_read_once() -> None:
    for count in range(1, 20):
        value = b"\x1b" * count
        frame = sml.encode(transmission(b"\x1b" * 10, [entry("8181c78203ff", value)]))
        file = sml.decode(frame)
        assert file.entries[0].raw == value
        assert file.lists[0].server == b"\x1b" * 10
        assert sml.encode(file) == frame


def test_wrong_outer_crc_is_refused_and_a_wrong_inner_one_is_told() -> None:
    damaged = bytearray(GOLDEN[0])
    damaged[-1] ^= 1
    with pytest.raises(ChecksumError) as caught:
        sml.decode(bytes(damaged))
    assert caught.value.sort == "crc"
    expect = {"valid": False, "error": "crc"}
    assert judge({"id": "x", "protocol": "sml", "hex": damaged.hex(), "expect": expect}) == []
    good = sml.decode(GOLDEN[0])
    first = good.messages[0]
    broken = Message(first.transaction, first.group, first.abort, first.kind, first.body, _u(0x1234, 2))
    file = sml.decode(sml.encode(File((broken, *good.messages[1:]))))
    assert [message.crc_right for message in file.messages] == [False, True, True]
    assert sml.house_values(file) == sml.house_values(good)


def test_server_ids_are_shown_as_printed() -> None:
    assert sml.printed_server(bytes.fromhex("0a01484c5902000d6be6")) == "1 HLY02 0087 9590"
    assert sml.printed_server(b"1001185") == "31-30-30-31-31-38-35"


def test_power_of_dzg_meters_is_read_unsigned_while_they_import() -> None:
    server = bytes.fromhex("0a01445a4700039e2054")
    identity = (bytes.fromhex("0100600100ff"), None, None, None, None, server, None)

    def power(status: int, value: Integer) -> Decimal | None:
        energy = entry("0100010800ff", _u(5, 4), status=_u(status, 8))
        file = transmission(server, [identity, energy, entry("0100100700ff", value, unit=27, scaler=-2)])
        return sml.decode(sml.encode(file)).entries[2].number

    # 65536 - 29912 = 35624
    assert power(0x1C0104, _s(-29912, 2)) == Decimal("356.24")
    assert power(0x1C0904, _s(-29912, 2)) == Decimal("-299.12"), "exporting"
    assert power(0x1C0104, _s(-29912, 4)) == Decimal("-299.12"), "4 bytes are sent right"


def test_export_tariffs_are_summed_where_there_is_no_total() -> None:
    tariffs = [entry("0100020801ff", _u(100, 4)), entry("0100020802ff", _u(50, 4))]
    assert sml.house_values(transmission(b"m", tariffs)) == {"energy_export": 15_000}  # 15.0 Wh
    total = [*tariffs, entry("0100020800ff", _u(160, 4))]
    assert sml.house_values(transmission(b"m", total)) == {"energy_export": 16_000}


def test_smllib_reads_the_same_numbers() -> None:
    compared = 0
    for frame in [*GOLDEN, *_derived(40)]:
        ours = sml.decode(frame)
        if any(b"\x1b\x1b\x1b\x1b" in e.raw for e in ours.entries if isinstance(e.raw, bytes)):
            continue  # it looks for the end before it takes out escapes
        reader = smllib_reader.SmlStreamReader()
        reader.add(frame)
        theirs = reader.get_frame()
        assert theirs is not None
        (listed,) = [m.message_body for m in theirs.parse_frame() if isinstance(m.message_body, SmlGetListResponse)]
        for mine, other in zip(ours.entries, listed.val_list, strict=True):
            if mine.number is not None:
                assert float(mine.number) == pytest.approx(other.get_value())
                compared += 1
    assert compared > 100
