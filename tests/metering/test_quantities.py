"""Exact numbers at the edges: decimal text and floats."""

from __future__ import annotations

import random

import pytest

from metering.quantities import COUNTERS, QUANTITIES, UNITS, from_micro, survives_float, to_micro


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("1.5", 1_500_000),
        ("0", 0),
        ("-0.000001", -1),
        ("12285686.4222", 12_285_686_422_200),
        ("1e3", 1_000_000_000),
        (" 7 ", 7_000_000),
    ],
)
def test_decimal_text_becomes_an_exact_integer(text: str, micro: int) -> None:
    assert to_micro(text) == micro


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "inf", "-inf", "1e999", "12,3", "0.0000001", "9" * 30, "1" * 41, "0x10"]
)
def test_what_no_meter_shows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        to_micro(text)


def test_every_integer_comes_back_from_its_text() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        micro = chance.randint(-(2**63) + 1, 2**63 - 1)
        assert to_micro(from_micro(micro)) == micro


def test_fifteen_digits_survive_a_float_and_seventeen_do_not() -> None:
    chance = random.Random(2)
    assert all(survives_float(chance.randint(-(10**15) + 1, 10**15 - 1)) for _ in range(2000))
    assert survives_float(12_345_678_901_500_000)  # 12345678901.5
    assert not survives_float(12_345_678_901_234_567)


def test_every_quantity_has_a_unit_and_only_counters_are_billed() -> None:
    assert set(UNITS) == set(QUANTITIES)
    assert "flow" not in COUNTERS
    assert {"volume", "energy_import_t4", "volume_reverse"} <= COUNTERS
