"""The judge of golden frames: what it compares how, and what it calls a difference."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.protocols import golden
from tests.gateway.protocols import wire_checks

READ = "6810120000000000000103901f003d16"


def _entry(**changes: Any) -> dict[str, Any]:
    return {"protocol": "cjt188", "hex": READ, "expect": {"valid": True}} | changes


def test_expectation_is_a_subset_of_what_the_decoder_says() -> None:
    assert golden.differences({"a": 1}, {"a": 1, "b": 2}) == []
    assert golden.differences({"c": 1}, {"a": 1}) == ["c: expected 1, the decoder does not say"]
    assert golden.differences({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}) == ["a.b: expected 1, found 2"]


@pytest.mark.parametrize(
    ("expect", "actual", "same"),
    [
        ("1000.10", Decimal("1000.1"), True),
        ("0", Decimal("0.0000"), True),
        (0, Decimal("0.00"), True),
        ("1000.1", Decimal("1000.11"), False),
        ("none", Decimal(1), False),
        ("00012", "12", False),
        (None, None, True),
        (None, 0, False),
        (0, None, False),
        (False, 0, False),
        (True, True, True),
        (28504.27, 28504.270000001, True),
        (28504.27, 28504.4, False),
        (127113, 127114, False),
        (9.0, 9, True),
        ([1, 2], [1, 2, 3], False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
        ("ab", ["a", "b"], False),
    ],
)
def test_types_decide_how_values_are_compared(expect: object, actual: object, same: bool) -> None:
    assert (golden.differences({"x": expect}, {"x": actual}) == []) is same


def test_modbus_values_are_compared_to_six_decimals_not_relatively() -> None:
    fields = [{"as": "float32", "order": "ABCD", "register": 0}]
    entry = {"protocol": "modbus-rtu", "hex": "010404436633341b38", "context": {"fields": fields}}
    assert golden.judge(entry | {"expect": {"fields": [230.200012]}}) == []
    assert golden.judge(entry | {"expect": {"fields": [230.20003]}}) != []


def test_refusal_must_be_of_the_named_sort() -> None:
    broken = READ[:-4] + "3e16"
    for name in ("checksum", "crc"):  # two words for the same sort
        assert golden.judge(_entry(hex=broken, expect={"valid": False, "error": name})) == []
    assert golden.judge(_entry(hex=broken, expect={"valid": False, "error": "length"}))[0].startswith(
        "error: expected"
    )
    facts = {"valid": False, "error": "checksum", "checksum_in_frame": "3E", "checksum_computed": "3D"}
    assert golden.judge(_entry(hex=broken, expect=facts)) == []
    assert golden.judge(_entry(hex=broken, expect=facts | {"checksum_computed": "00"})) != []
    assert golden.judge(_entry(hex=broken))[0].startswith("refused (checksum)")
    assert golden.judge(_entry(expect={"valid": False})) == ["accepted, expected a refusal (any)"]


def test_cut_frame_counts_as_length_and_by_its_missing_sum() -> None:
    for name in ("length", "checksum"):
        assert golden.judge(_entry(hex=READ[:-4], expect={"valid": False, "error": name})) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "cjt"}, "unknown protocol"),
        ({"protocol": ["cjt188"]}, "unknown protocol"),
        ({"hex": "6"}, "hex"),
        ({"hex": 7}, "hex"),
        ({"expect": None}, "no expect"),
        ({"protocol": "modbus-rtu", "hex": "010304ba4a41f8cf2f", "context": {"fields": [1]}}, "malformed"),
    ],
)
def test_broken_entry_fails_alone_and_says_why(changes: dict[str, Any], words: str) -> None:
    (line,) = golden.judge(_entry(**changes))
    assert words in line


def test_remarks_and_quirks_are_for_people() -> None:
    assert golden.judge(_entry(expect={"quirk": "x", "remark": "y", "valid": True}, remark={"a": 1})) == []


def test_every_golden_frame_of_every_protocol_passes() -> None:
    count = sum(wire_checks.assert_golden(protocol) for protocol in golden.PROTOCOLS if protocol != "modbus-tcp")
    assert count == 101


def test_recording_is_cut_into_its_frames() -> None:
    raw = bytes.fromhex(READ)
    for protocol, frame in (("cjt188", raw), ("modbus-rtu", bytes.fromhex("010304ba4a41f8cf2f"))):
        assert golden.split_frames(protocol, frame + frame) == [frame, frame]
    assert golden.split_frames("gas-base-conversion", b"{}") == [b"{}"]
