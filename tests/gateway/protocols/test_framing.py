"""BCD, checksums and the stream splitter."""

from __future__ import annotations

import random

import pytest

from gateway.protocols import framing
from gateway.protocols.framing import Cut, Damaged, Nothing, NotYet, StreamSplitter, Whole
from metering.errors import FrameError


def test_bcd_is_read_low_byte_first_and_exactly() -> None:
    assert framing.bcd_le(bytes.fromhex("00230100")) == 12300
    assert framing.bcd_be(bytes.fromhex("00230100")) == 230100
    assert framing.bcd_le(b"") == 0


@pytest.mark.parametrize("text", ["0a", "a0", "ffffffff", "00010f00"])
def test_nibble_above_nine_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(FrameError) as caught:
        framing.bcd_le(bytes.fromhex(text))
    assert caught.value.sort == "bcd"
    assert framing.bcd_le_or_none(bytes.fromhex(text)) is None


def test_bcd_encoding_refuses_what_does_not_fit() -> None:
    assert framing.to_bcd_le(12300, 4) == bytes.fromhex("00230100")
    assert framing.to_bcd_be(99, 2) == bytes.fromhex("0099")
    for number, size in ((100, 1), (-1, 2), (10_000, 2)):
        with pytest.raises(FrameError):
            framing.to_bcd_le(number, size)


def test_every_bcd_number_of_two_bytes_comes_back() -> None:
    assert all(framing.bcd_le(framing.to_bcd_le(n, 2)) == n for n in range(10_000))


def test_checksums_have_their_published_check_values() -> None:
    check = b"123456789"  # the check string of the CRC catalogue
    assert framing.crc16_modbus(check) == 0x4B37
    assert framing.crc16_arc(check) == 0xBB3D
    assert framing.crc16_x25(check) == 0x906E
    assert framing.sum8(check) == 0xDD  # 31+32+...+39 hex = 1DD
    assert framing.xor8(check) == 0x31


def _measure(data: bytes) -> Whole | NotYet | Nothing:
    """A toy protocol: 02, length n, n bytes, sum of these; E5 alone is an acknowledgement."""
    if data[0] == 0xE5:
        return Whole(1)
    if len(data) < 2:
        return NotYet(2)
    if len(data) < data[1] + 3:
        return NotYet(data[1] + 3)
    length = data[1] + 3
    return Whole(length) if sum(data[2 : length - 1]) & 0xFF == data[length - 1] else Nothing("checksum")


def _toy() -> StreamSplitter:
    return StreamSplitter(_measure, 40, starts=b"\x02\xe5", filler=b"\xfe", overtake=4)


def test_frame_comes_out_with_its_last_byte_and_not_before() -> None:
    splitter = _toy()
    assert splitter.feed(b"\xfe\xfe\x02\x02\x01") == []
    assert splitter.feed(b"\x05") == []
    assert splitter.feed(b"\x06") == [Cut(b"\x02\x02\x01\x05\x06")]
    assert splitter.waiting == 0


def test_damaged_frame_is_named_and_the_next_one_is_found_at_once() -> None:
    found = _toy().feed(b"\x02\x01\x07\x08" + b"\x02\x01\x07\x07")
    assert found == [Damaged(b"\x02\x01\x07\x08", "checksum"), Cut(b"\x02\x01\x07\x07")]


def test_noise_that_promises_a_long_frame_does_not_hold_up_the_frame_behind_it() -> None:
    splitter = _toy()
    assert splitter.feed(b"\x02\x1e") == []
    assert splitter.feed(b"\x02\x01\x07\x07") == [Damaged(b"\x02\x1e", "noise"), Cut(b"\x02\x01\x07\x07")]


def test_length_beyond_the_limit_is_damage_not_a_reason_to_wait() -> None:
    splitter = _toy()
    found = splitter.feed(b"\x02\xff\x00")
    assert found == [Damaged(b"\x02\xff\x00", "length")]
    assert splitter.waiting == 0


def test_one_byte_frame_inside_an_unfinished_one_waits_for_its_fate() -> None:
    splitter = _toy()
    assert splitter.feed(b"\x02\x02\xe5") == []
    assert splitter.feed(b"\x01\xe6") == [Cut(b"\x02\x02\xe5\x01\xe6")]
    assert splitter.feed(b"\x02\x02\xe5\x01\x00") == [
        Damaged(b"\x02\x02", "checksum"),
        Cut(b"\xe5"),
        Damaged(b"\x01\x00", "noise"),
    ]


def test_silence_ends_what_is_unfinished_and_frees_what_was_inside() -> None:
    splitter = _toy()
    splitter.feed(b"\x02\x05\xe5")
    assert splitter.flush() == [Damaged(b"\x02\x05", "length"), Cut(b"\xe5")]
    assert splitter.waiting == 0


def test_no_byte_is_invented_or_lost_and_memory_stays_bounded() -> None:
    chance = random.Random(5)
    for _ in range(300):
        data = bytes(chance.choice((2, 1, 3, 0xE5, 7, 30)) for _ in range(chance.randrange(200)))
        splitter, found = _toy(), []
        while data:
            size = chance.randrange(1, 9)
            found += splitter.feed(data[:size])
            data = data[size:]
            assert splitter.waiting <= 40
        found += splitter.flush()
        assert splitter.waiting == 0
        for item in found:
            if isinstance(item, Cut):
                assert _measure(item.raw) == Whole(len(item.raw))
