"""Profiles of JSON: paths, units, exact numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.protocols.mqtt_dialects.profile import (
    MISSING,
    UNIT_FACTORS,
    JsonField,
    TimeRule,
    lookup,
    read_fields,
    read_time,
)
from metering.errors import FrameError
from metering.quantities import UNITS


def test_path_goes_through_keys_and_lists_and_knows_dots_inside_keys() -> None:
    said = {"a": [{"b": 1}, {"b.c": {"d": None}}], "": 5}
    assert lookup(said, "a.0.b") == 1
    assert lookup(said, "a.1.b\\.c.d") is None
    assert lookup(said, "") is said
    for path in ("a.2.b", "a.b", "a.0.b.c", "x", "a.-1"):
        assert lookup(said, path) is MISSING, path


@pytest.mark.parametrize(
    ("rule", "value", "micro"),
    [
        (JsonField("volume", "v"), Decimal("12345.678901"), 12_345_678_901),
        (JsonField("volume", "v", "l"), 5, 5_000),
        (JsonField("volume", "v", "l", Decimal(10)), 7, 70_000),
        (JsonField("volume", "v", scale=Decimal("0.001")), 1234567, 1_234_567_000),
        (JsonField("pressure", "v", "mbar"), Decimal("1013.25"), 101_325_000),
        (JsonField("energy_import", "v", "Wh"), 1, 1_000),
        (JsonField("flow", "v", "l/min"), 1, 60_000),
        (JsonField("temperature", "v"), Decimal("-12.5"), -12_500_000),
        (JsonField("valve", "v", words={"open": 0, "closed": 1, "true": 1, "false": 0}), "closed", 1_000_000),
        (JsonField("valve", "v", words={"true": 1, "false": 0}), False, 0),
        (JsonField("volume", "v", text=True), "12.5", 12_500_000),
        (JsonField("temperature", "v", decimals=2), Decimal("15.250000000000002"), 15_250_000),
        (JsonField("volume", "v"), Decimal("9223372036854.775807"), 2**63 - 1),
    ],
)
def test_numbers_become_millionths_of_the_house_unit_exactly(rule: JsonField, value: object, micro: int) -> None:
    assert read_fields({"v": value}, (rule,)) == {rule.quantity: micro}


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (JsonField("volume", "v"), "12.5"),
        (JsonField("volume", "v"), True),
        (JsonField("volume", "v"), [1]),
        (JsonField("volume", "v"), {}),
        (JsonField("volume", "v"), Decimal("0.0000001")),
        (JsonField("volume", "v"), Decimal("1.0000000000000000000000000000000001")),
        (JsonField("volume", "v"), Decimal("9223372036854.775808")),
        (JsonField("volume", "v", text=True), "1e3"),
        (JsonField("volume", "v", text=True), "NaN"),
        (JsonField("volume", "v", text=True), "１２"),
        (JsonField("valve", "v", words={"open": 0}), "ajar"),
    ],
)
def test_what_is_no_number_or_finer_than_a_millionth_is_refused(rule: JsonField, value: object) -> None:
    with pytest.raises(FrameError) as caught:
        read_fields({"v": value}, (rule,))
    assert caught.value.sort == "value"


def test_missing_and_null_values_are_no_zero() -> None:
    assert read_fields({"v": None}, (JsonField("volume", "v"), JsonField("flow", "f"))) == {}
    with pytest.raises(FrameError, match="v is missing"):
        read_fields({"v": None}, (JsonField("volume", "v", optional=False),))


def test_every_house_unit_has_its_factors_and_others_are_refused_with_what_is_allowed() -> None:
    assert set(UNIT_FACTORS) == set(UNITS.values())
    assert all(factors[house] == 1 for house, factors in UNIT_FACTORS.items())
    with pytest.raises(ValueError, match="allowed: m3, dm3, l, cm3"):
        JsonField("volume", "v", "gallon").factor()


def test_time_of_a_row_is_read_by_its_rule() -> None:
    assert read_time({"t": 1_767_225_600}, TimeRule("t", "unix_s")) == 1_767_225_600_000
    assert read_time({"t": "2026-01-01T08:00:00"}, TimeRule("t", "local", 480)) == 1_767_225_600_000
    assert read_time({}, TimeRule("t")) is None
    assert read_time({"t": 1}, None) is None
