"""Register images: what a meter's profile says is what stands in the registers."""

from __future__ import annotations

import random

import pytest

from gateway.profile import decode_field
from gateway.profiles import load_profiles
from gateway.protocols.registers import decode
from metering.quantities import MICRO
from metering.reading import Flag
from simulators.register_image import Block, RegisterImage
from tests.simulators.profiles import CORRECTOR, SPLIT


def _words(image: RegisterImage, start: int, count: int) -> str:
    block = image.block(1, bytes([3]) + start.to_bytes(2, "big") + count.to_bytes(2, "big"))
    assert isinstance(block, Block)
    return image.space(3)[block.begin : block.end].hex(" ", 2)


def test_index_stands_in_bcd_and_is_cut_to_what_the_registers_can_show() -> None:
    image = RegisterImage(CORRECTOR)
    assert image.show_index(123_456_789_999) == 123_456_789_000  # 123456.789999 m³; three decimals are shown
    assert _words(image, 100, 3) == "0001 2345 6789"


def test_index_rolls_over_at_its_digits() -> None:
    image = RegisterImage(CORRECTOR)
    assert image.show_index(1_000_000_250_000) == 250_000  # 1000000.25 m³ on six digits is 0.25
    assert _words(image, 100, 3) == "0000 0000 0250"


def test_split_total_is_hundreds_and_remainder() -> None:
    image = RegisterImage(SPLIT)
    assert image.show_index(12_345_500_000) == 12_345_500_000
    assert _words(image, 0, 4) == "007b 0000 4236 0000"  # 123 hundreds with words swapped, 45.5 as float32


def test_slow_quantities_go_to_their_places_and_unknown_ones_nowhere() -> None:
    image = RegisterImage(CORRECTOR)
    image.show({"pressure": 101_325_000, "flow": 12_345_678, "voltage": 1})
    assert _words(image, 103, 3) == "a666 42ca 04d2"  # 101.325 = 42CAA666 with words swapped; 12.34 m³/h


def test_quantity_that_does_not_fit_leaves_its_register_alone() -> None:
    image = RegisterImage(CORRECTOR)
    image.show({"flow": 5_000_000})
    image.show({"flow": -1_000_000})  # a reversed meter; this register knows no sign
    assert _words(image, 105, 1) == "01f4"


def test_flags_set_the_bits_that_the_profile_names() -> None:
    image = RegisterImage(CORRECTOR)
    image.show_flags(Flag.MAGNET | Flag.LOW_BATTERY | Flag.COVER)
    assert _words(image, 110, 1) == "0104"
    image.show_flags(0)
    assert _words(image, 110, 1) == "0000"


def test_block_knows_whether_it_holds_the_whole_index() -> None:
    image = RegisterImage(CORRECTOR)
    held = {start: image.block(1, bytes([3, 0, start, 0, 3])) for start in (99, 100, 101)}
    assert [b.holds_index for b in held.values() if isinstance(b, Block)] == [False, True, False]


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ("06 0064 0001", 1),  # write: unknown function
        ("03 0064", 3),  # cut request
        ("03 0064 0000", 3),
        ("03 0064 007e", 3),  # 126 registers
        ("03 0000 0001", 2),  # far below the first field
        ("03 00ff 0001", 2),
        ("04 0064 0001", 2),  # this model has no input registers
    ],
)
def test_bad_requests_get_the_exception_code_of_the_standard(pdu: str, code: int) -> None:
    assert RegisterImage(CORRECTOR).block(1, bytes.fromhex(pdu)) == code


def test_gaps_are_zeros_or_are_refused() -> None:
    across = bytes.fromhex("03 0064 000b")
    assert isinstance(RegisterImage(CORRECTOR).block(1, across), Block)
    assert RegisterImage(CORRECTOR, gaps="refuse").block(1, across) == 2
    assert isinstance(RegisterImage(CORRECTOR, gaps="refuse").block(1, bytes.fromhex("03 0064 0006")), Block)


def test_broken_content_is_no_number_and_a_zero_index_is_one() -> None:
    image = RegisterImage(CORRECTOR)
    image.show_index(5 * MICRO)
    assert image.show_content("bad_content") is None
    assert _words(image, 100, 3) == "abab abab abab"
    assert image.show_content("zero_index") == 0
    assert _words(image, 100, 3) == "0000 0000 0000"
    assert image.show_index(5 * MICRO) == 5 * MICRO
    assert _words(image, 100, 3) == "0000 0000 5000"


@pytest.mark.parametrize("name", sorted(name for name, each in load_profiles().items() if each.is_modbus))
def test_every_profile_of_the_gateway_reads_back_exactly_what_was_shown(name: str) -> None:
    profile = load_profiles()[name]
    image = RegisterImage(profile)
    field = profile.index
    rng = random.Random(5)
    for _ in range(200):
        shown = image.show_index(rng.randrange(0, 90_000 * MICRO))
        start = field.start.to_bytes(2, "big") + (field.stop - field.start).to_bytes(2, "big")
        block = image.block(1, bytes([field.function]) + start)
        assert isinstance(block, Block)
        assert block.holds_index
        assert decode_field(field, bytes(image.space(field.function)[block.begin : block.end]), field.start) == shown
        if image.show_content("not_available") is None and field.parts[0].form.absent:
            raw = bytes(image.space(field.function)[block.begin : block.begin + field.parts[0].form.size])
            assert decode(field.parts[0].form, raw) is None
