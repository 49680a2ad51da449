"""Numbers in registers: golden values of public frames, round trips, refusals."""

from __future__ import annotations

import struct
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.registers import (
    BYTES,
    ORDERS,
    Encoding,
    Number,
    Order,
    capacity,
    decode,
    encode,
    encode_sum,
    number,
    reorder,
    step,
)
from metering.errors import FrameError
from metering.quantities import INT64_MAX

WHOLE: list[Encoding] = ["uint16", "uint32", "uint64", "int16", "int32", "int64"]


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize(
    ("form", "raw", "micro"),
    [
        # Fuxin natural-gas flowmeter, comment of a public PLC library block
        (number("float32"), "4B3C6156", 12_345_686_000_000),
        (number("float32"), "449B6392", 1_243_111_600),
        (number("float32"), "40220C4A", 2_532_000),
        (number("bcd", size=6, scale="0.0001"), "000012431116", 1_243_111_600),
        (number("bcd", size=6, scale="0.0001"), "122856864222", 12_285_686_422_200),
        (number("float32"), "41AD3127", 21_649_000),
        # thermal gas mass flowmeter (TMS), appendix 1: 31.090961 °C, words swapped
        (number("float32", order="CDAB"), "BA4A41F8", 31_090_961),
        # ultrasonic water meter USW: 127113 mL = 0.127113 m³; 1271 × 0.1 L
        (number("int64", scale="0.000001"), "000000000001F089", 127_113),
        (number("uint32", scale="0.0001"), "000004F7", 127_100),
        # SDM630 phase voltage 230.2 V
        (number("float32"), "43663334", 230_200_010),
        # worked by hand
        (number("int16", scale="0.1"), "FFF6", -1_000_000),
        (number("uint16", order="DCBA"), "0100", 1_000_000),
        (number("uint16", order="CDAB"), "0100", 256_000_000),
        (number("uint32", order="BADC"), "00000100", 1_000_000),
        (number("float64"), "3FF8000000000000", 1_500_000),
        (number("float32", scale="0.001"), "C2C80000", -100_000),
    ],
)
def test_golden_values_decode_exactly(form: Number, raw: str, micro: int) -> None:
    assert decode(form, _hex(raw)) == micro


@pytest.mark.parametrize(
    ("order", "wire"),
    [("ABCD", "0102030405060708"), ("CDAB", "0708050603040102"), ("BADC", "0201040306050807"),
     ("DCBA", "0807060504030201")],
)  # fmt: skip
def test_each_order_puts_the_bytes_where_it_says_and_undoes_itself(order: Order, wire: str) -> None:
    plain = _hex("0102030405060708")
    assert reorder(plain, order) == _hex(wire)
    assert reorder(_hex(wire), order) == plain


@given(st.sampled_from(WHOLE), st.sampled_from(ORDERS), st.binary(min_size=8, max_size=8))
def test_every_whole_number_comes_back_to_the_same_bytes(encoding: Encoding, order: Order, raw: bytes) -> None:
    form = number(encoding, order=order, scale="0.001")
    raw = raw[: form.size]
    try:
        micro = decode(form, raw)
    except FrameError:  # only above int64
        assert encoding.endswith("64")
        return
    assert micro is not None
    assert encode(form, micro) == raw


@given(st.integers(0, 10**12 - 1), st.sampled_from(ORDERS))
def test_every_bcd_comes_back_to_the_same_bytes(digits: int, order: Order) -> None:
    form = number("bcd", size=6, order=order, scale="0.0001")
    raw = reorder(_hex(f"{digits:012d}"), order)
    assert decode(form, raw) == digits * 100
    assert encode(form, digits * 100) == raw


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["1", "0.001", "10", "0.25"]))
@settings(max_examples=1000)
def test_float32_is_the_decimal_that_numpy_prints(value: float, scale: str) -> None:
    form = number("float32", scale=scale)
    exact = (Decimal(str(np.float32(value))) * form.micro).to_integral_value(ROUND_HALF_EVEN)
    raw = struct.pack(">f", value)
    if abs(exact) > INT64_MAX:
        with pytest.raises(FrameError):
            decode(form, raw)
    else:
        assert decode(form, raw) == exact


@given(st.integers(-(10**9), 10**9))
def test_float32_with_up_to_seven_digits_comes_back_to_the_same_number(tenths: int) -> None:
    form = number("float32")
    micro = tenths % 10**6 * 100_000
    assert decode(form, encode(form, micro)) == micro


@pytest.mark.parametrize(
    ("form", "raw", "sort"),
    [
        (number("bcd", size=6), "00000000000A", "bcd"),
        (number("bcd", size=2), "F000", "bcd"),
        (number("float32"), "7FC00000", "float"),
        (number("float32"), "7F800000", "float"),
        (number("float32"), "FF800000", "float"),
        (number("float64"), "7FF0000000000000", "float"),
        (number("float32"), "7F7FFFFF", "range"),
        (number("uint64"), "FFFFFFFFFFFFFFFF", "range"),
        (number("uint16", scale="0.0000001"), "0001", "decimals"),
    ],
)
def test_the_impossible_is_refused_not_rounded(form: Number, raw: str, sort: str) -> None:
    with pytest.raises(FrameError) as refused:
        decode(form, _hex(raw))
    assert refused.value.sort == sort


@given(st.sampled_from([*BYTES, "bcd"]), st.binary(max_size=12))
def test_whatever_bytes_come_the_answer_is_a_number_or_our_own_error(encoding: Encoding, raw: bytes) -> None:
    form = number(encoding, size=6)
    try:
        micro = decode(form, raw)
    except FrameError:
        return
    assert micro is not None
    assert -INT64_MAX <= micro <= INT64_MAX


def test_not_available_is_none_and_never_a_number() -> None:
    unsigned = Number("uint32", 4, "CDAB", Decimal(10_000), frozenset({b"\xff\xff\xff\xff"}))
    assert decode(unsigned, b"\xff\xff\xff\xff") is None
    signed = Number("int32", 4, "CDAB", Decimal(10_000), frozenset({_hex("7FFFFFFF")}))
    assert decode(signed, _hex("FFFF7FFF")) is None, "the mark is named in ABCD order, whatever the order on the wire"
    assert decode(signed, _hex("7FFFFFFF")) == -32769 * 10_000
    number_or_nan = Number("float32", 4, nan_absent=True)
    assert decode(number_or_nan, _hex("7FC00001")) is None


def test_a_number_that_does_not_fit_is_refused_by_encode() -> None:
    for form, micro in [
        (number("uint16"), 65_536_000_000),
        (number("uint16"), -1_000_000),
        (number("bcd", size=2), 10_000_000_000),
        (number("uint16", scale="0.1"), 50_000),
        (number("float32"), 10**60),
    ]:
        with pytest.raises(FrameError):
            encode(form, micro)


def test_cut_drops_what_lies_below_the_last_digit_as_a_counter_does() -> None:
    assert encode(number("uint32", scale="0.01"), 1_239_999, cut=True) == _hex("0000007B")
    cut = decode(number("float32"), encode(number("float32"), 12_345_686_900_000, cut=True))
    assert cut == 12_345_686_000_000


def test_a_split_total_is_the_sum_of_its_parts() -> None:
    hundreds, remainder = number("uint16", scale="100"), number("float32")
    pieces = encode_sum([hundreds, remainder], 123_456_500_000)
    assert pieces == [(1234).to_bytes(2, "big"), struct.pack(">f", 56.5)]
    long_low_word_first, fraction = number("int32", order="CDAB"), number("float32", order="CDAB")
    assert encode_sum([long_low_word_first, fraction], 65_537_250_000) == [_hex("00010001"), _hex("00003E80")]


def test_the_step_of_a_float_grows_with_its_size() -> None:
    form = number("float32")
    assert step(form, 12_345_686_000_000) == 1_000_000
    assert step(form, 1_000_000_000_000) == 62_500
    assert step(number("bcd", size=6, scale="0.0001"), 0) == 100
    assert step(number("float64"), 12_345_686_000_000) == 1


def test_capacity_is_where_the_counter_rolls_over() -> None:
    assert capacity(number("bcd", size=6, scale="0.0001")) == 10**8 * 10**6
    assert capacity(number("uint32", scale="0.001")) == 4_294_967_296_000
    assert capacity(number("int16")) == 32_768_000_000
    assert capacity(number("uint64")) == INT64_MAX
