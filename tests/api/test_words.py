"""Units, flags and ages."""

from __future__ import annotations

import pytest

from api import words
from metering.quantities import UNITS
from metering.reading import Reading


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, []),
        (1, ["valve_closed"]),
        (2 + 4, ["magnet", "cover"]),
        (8 + 16 + 32 + 64, ["low_battery", "clock", "alarm", "first_since_gap"]),
        (2**30 + 1, ["valve_closed", "bit_30"]),
    ],
)
def test_flags_are_words_and_unknown_bits_are_numbered(bits: int, names: list[str]) -> None:
    assert words.flags(bits) == names


def test_every_quantity_has_its_unit_and_values_stand_in_the_order_of_the_list() -> None:
    shown = words.amounts(dict.fromkeys(reversed(list(UNITS)), 1))
    assert list(shown) == list(UNITS)
    assert {quantity: amount.unit for quantity, amount in shown.items()} == UNITS
    assert words.amounts({"of_a_later_version": 1_500_000})["of_a_later_version"].unit == ""


def test_the_largest_number_keeps_every_digit() -> None:
    assert words.amount(2**63 - 1, "energy_import").value == "9223372036854.775807"
    assert words.amount(-1, "temperature").value == "-0.000001"


def test_a_reading_from_a_clock_ahead_of_ours_is_not_of_negative_age() -> None:
    assert words.latest(Reading("M", 10_000, {}), 5000).age_s == 0
    assert words.latest(Reading("M", 10_000, {}), 12_999).age_s == 2
