"""IEC 62056-21: golden messages, round trips, refusals, and the package iec62056-21 as second opinion."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from iec62056_21.messages import ReadoutDataMessage  # type: ignore[import-untyped]  # the package has no types

from gateway.protocols import golden
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.iec62056_21 import Command, Data, DataSet, Identification, Option, Readout, SignOn
from metering.errors import ChecksumError, FrameError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.wire_checks import Codec

CODEC = Codec(iec.decode, iec.encode, splitter=iec.splitter)
UNCHECKED = Codec(iec.decode, iec.encode, checked=False)
FRAMES = wire_checks.valid_frames("iec62056-21")
BLOCKS = FRAMES[:2]
PUSH = FRAMES[4]


def _derived(count: int, seed: int = 21) -> Iterator[bytes]:
    """Blocks in the form of ie-01 and ie-02 with other registers, values and commands; BCC remade."""
    chance = random.Random(seed)
    for _ in range(count):
        sets = [
            DataSet(f"{chance.randrange(1, 99)}.{chance.randrange(9)}.{chance.randrange(5)}", _value(chance), unit)
            for unit in chance.choices(("kWh", "kW", "m3", None), k=chance.randrange(1, 6))
        ]
        lines = "".join(f"{item}\r\n" for item in sets)
        name = chance.choice(("R1", "W1", "P0", "P1"))
        yield chance.choice((iec.encode(Data(f"{lines}!\r\n")), iec.encode(Command(name, str(sets[0])))))


def _value(chance: random.Random) -> str:
    return f"{chance.randrange(10**6):06d}.{chance.randrange(1000):03d}"


def test_every_golden_frame_is_read_as_its_source_says() -> None:
    assert wire_checks.assert_golden("iec62056-21") == 6


def test_derived_blocks_come_back_byte_for_byte() -> None:
    assert wire_checks.assert_round_trip(CODEC, _derived(300)) == 300


def test_messages_of_the_baud_change_come_back_byte_for_byte() -> None:
    lines = [b"/?!\r\n", b"/?12345678!\r\n", b"/LGZ52ZMD120APt.G03\r\n", b"/ISk5\\2MT382-1000\r\n", b"\x06050\r\n"]
    lines += [b"\x06", b"\x15", b"\x01B0\x03q", PUSH]
    assert wire_checks.assert_round_trip(CODEC, lines) == len(lines)


def test_cut_blocks_are_never_taken_for_a_value() -> None:
    wire_checks.assert_prefixes_refused(CODEC, [*BLOCKS, *_derived(20)])
    wire_checks.assert_prefixes_refused(UNCHECKED, FRAMES)


def test_read_out_cut_anywhere_before_its_end_gives_no_values() -> None:
    for end in range(PUSH.index(b"!")):
        try:
            assert isinstance(iec.decode(PUSH[:end]), Identification)
        except FrameError:
            continue


def test_flipped_bit_is_refused_or_changes_nothing() -> None:
    wire_checks.assert_bit_flips_harmless(CODEC, [*BLOCKS, *_derived(20)])
    wire_checks.assert_bit_flips_harmless(UNCHECKED, FRAMES)


def test_random_bytes_give_an_answer_or_our_error() -> None:
    def whole(raw: bytes) -> object:
        return golden.adapter_of("iec62056-21")("iec62056-21", raw, {})

    wire_checks.assert_random_bytes_harmless(Codec(whole), FRAMES)


def test_frames_come_out_of_a_noisy_stream_byte_by_byte() -> None:
    bare = [*BLOCKS, FRAMES[2], *_derived(10)]
    wire_checks.assert_stream_survives(CODEC, bare, noise=[b"\x00\x7f", b"/", b"\x02abc", b"\x01P", b"\xff\x02"])
    push = Codec(iec.decode, splitter=lambda: iec.splitter("push"), checked=False)
    wire_checks.assert_stream_survives(push, [PUSH], noise=[b"/LGZ4abc", b"1.8.0(0)\r\n!\r\n"])


def test_reader_side_tells_a_baud_change_from_a_bare_acknowledgement() -> None:
    line = b"/?!\r\n\x06051\r\n" + BLOCKS[1] + b"\x06\x15" + iec.encode(Command("B0"))
    found = wire_checks.fed_byte_by_byte(iec.splitter("reader"), line)
    assert [iec.decode(raw) for raw in found] == [
        SignOn(),
        Option("5", "1"),
        Command("P0", "(1234567)"),
        iec.Answer(accepted=True),
        iec.Answer(accepted=False),
        Command("B0"),
    ]


def test_baud_change_follows_the_identification() -> None:
    meter = iec.decode(b"/ISk5\\2MT382-1000\r\n")
    assert meter == Identification("ISk", "5", "MT382-1000", "2")
    assert isinstance(meter, Identification)
    assert meter.baud == 9600
    assert iec.encode(iec.choose(meter)) == b"\x06050\r\n"
    assert iec.encode(iec.choose(meter, "programming")) == b"\x06051\r\n"


def test_echo_of_the_sign_on_and_filler_are_skipped() -> None:
    assert iec.decode(b"\x00\x7f/?!\r\n\x7f/LGZ52ZMD\r\n") == Identification("LGZ", "5", "2ZMD")


def test_parity_bits_are_taken_off_when_they_are_right() -> None:
    with_parity = bytes(byte | (0x80 if byte.bit_count() % 2 else 0) for byte in BLOCKS[0])
    assert iec.decode(with_parity) == iec.decode(BLOCKS[0])
    with pytest.raises(FrameError) as caught:
        iec.decode(bytes((with_parity[0] ^ 1, *with_parity[1:])))
    assert caught.value.sort == "parity"


def test_whole_read_out_of_mode_c_is_checked_by_its_bcc() -> None:
    recording = b"/LGZ52ZMD\r\n" + BLOCKS[0]
    assert iec.decode(recording) == Readout(
        Identification("LGZ", "5", "2ZMD"), BLOCKS[0][1:-2].decode(), checked=True
    )
    with pytest.raises(ChecksumError) as caught:
        iec.decode(recording[:-1] + b"\x21")
    assert caught.value.sort == "bcc"
    assert caught.value.facts["bcc_computed"] == "22"


def test_lis200_reads_are_written_as_commands() -> None:
    read = iec.encode(iec.lis200_read("7:300.0"))
    assert read[:-1] == b"\x01R1\x027:300.0(1)\x03"
    assert iec.decode(read) == Command("R1", "7:300.0(1)")
    archive = iec.lis200_archive("3", pos=3, start="2026-01-01,00:00:00", end="2026-02-01,00:00:00", n=10)
    assert archive.text == "3:V.0(3;2026-01-01,00:00:00;2026-02-01,00:00:00;10)"


def test_data_lines_keep_address_value_and_unit_apart() -> None:
    assert iec.data_sets("1-0:1.8.0*255(000001.2963*kWh)\r\nC.1.1(   )\r\n(2)P.01(a)(b*V)\r\n!\r\n") == [
        DataSet("1-0:1.8.0*255", "000001.2963", "kWh"),
        DataSet("C.1.1", ""),
        DataSet("C.1.1", "2"),
        DataSet("P.01", "a"),
        DataSet("P.01", "b", "V"),
    ]


@pytest.mark.parametrize(
    "text", ["1.8.0", "1.8.0(1", "1.8.0(1))", "x1.8.0(1)y", "1.8.0((1))", "!\r\n1.8.0(1)", "!AB12"]
)
def test_broken_data_lines_are_refused(text: str) -> None:
    with pytest.raises(FrameError) as caught:
        iec.data_sets(text)
    assert caught.value.sort == "data"


def test_only_current_values_with_their_unit_become_readings() -> None:
    text = "1.8.0(000219.252*kWh)1.8.0*01(7*kWh)\r\n1-0:2.8.0*255(5*kWh)1.8.1(3)\r\n7-0:1.8.0(9*kWh)\r\n32.7(233*V)"
    adapt = golden.adapter_of("iec62056-21")
    said = adapt("iec62056-21", iec.encode(Data(text)), {})
    assert said["readings"] == {"energy_import": "219.252", "energy_export": "5", "voltage": "233"}


def test_numbers_are_exact_and_texts_are_none() -> None:
    assert DataSet("1.8.0", "000219.252", "kWh").micro == 219_252_000
    assert DataSet("C.1.0", "M27").micro is None
    assert DataSet("1.8.0", "1.1234567").micro is None


@pytest.mark.parametrize("message", [Identification("LG", "5", "x"), SignOn("a!b"), Command("X9", "(1)"), Data("(")])
def test_impossible_messages_are_not_sent(message: iec.Message) -> None:
    with pytest.raises(FrameError):
        iec.encode(message)


def test_another_library_reads_the_same_data() -> None:
    for raw in [BLOCKS[0], *(raw for raw in _derived(60) if raw[0] == 2)]:
        theirs = ReadoutDataMessage.from_representation(raw.decode())
        read = [(d.address, d.value, d.unit) for line in theirs.data_block.data_lines for d in line.data_sets]
        ours = iec.decode(raw)
        assert isinstance(ours, Data)
        assert [(item.address, item.value, item.unit) for item in iec.data_sets(ours.text)] == read
