"""The dial's number is found among registers and bytes, the likeliest place first."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest

from gateway.protocols.registers import ORDERS, reorder
from gateway.solving import solve

FUXIN = bytes.fromhex(  # golden mo-04: registers 000AH to 001DH of a corrector
    "4b3c6156449b63920000000040220c4a0000124311164020000012285686422241ad312742cc6c8ba626"
)[:40]


def test_a_bcd_total_is_found_exactly() -> None:
    fits = solve(FUXIN, Decimal("12285686.4222"))
    assert all(fit.exact and fit.encoding == "bcd" for fit in fits)
    assert (26, 6, "ABCD", Decimal("0.0001")) in [(f.place, f.size, f.order, f.scale) for f in fits]
    assert next(f for f in fits if f.size == 6).toml(0x0A) == (
        'register = 0x0017\nencoding = "bcd"\nsize = 6\nscale = "0.0001"'
    )


def test_a_dial_with_fewer_digits_finds_the_float_and_the_bcd() -> None:
    """1243.11: the float at 000CH and the BCD at 0012H both show these digits."""
    fits = solve(FUXIN, Decimal("1243.11"))
    places = {(f.place, f.encoding) for f in fits}
    assert {(4, "float32"), (16, "bcd")} <= places
    assert fits[0].encoding == "float32"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("encoding", "raw"), [("uint32", 12_345_678), ("float32", 12345.678)])
def test_every_order_is_recognised(order: str, encoding: str, raw: float) -> None:
    plain = struct.pack(">I", raw) if encoding == "uint32" else struct.pack(">f", raw)
    data = bytes(8) + reorder(plain, order) + bytes(6)  # type: ignore[arg-type]  # the parameter is one of ORDERS
    best = solve(data, Decimal("12345.678"))[0]
    assert (best.place, best.encoding, best.order) == (8, encoding, order)


def test_a_total_in_hundreds_and_remainder() -> None:
    """High 1234, low 56: 123456; as one number of 32 bits it would be 80 871 480."""
    best = solve(bytes.fromhex("000004D20038"), Decimal("123456"))[0]
    assert (best.place, best.scale, best.split) == (2, Decimal(100), Decimal(1))
    assert best.toml(0).startswith(
        'part = [{ register = 0x0001, encoding = "uint16", order = "ABCD", scale = "100" }'
    )


def test_bytes_of_any_protocol() -> None:
    """Golden cj-08: 123.00 m³ stands as 00 23 01 00, low byte first."""
    frame = bytes.fromhex("6810010000050800008116901f00002301002c000000002c0000000000000000004816")
    best = solve(frame, Decimal("123"), align=1)[0]
    assert (best.place, best.encoding, best.order, best.scale) == (14, "bcd", "DCBA", Decimal("0.01"))


def test_nothing_is_found_where_nothing_stands_and_zero_is_no_question() -> None:
    assert solve(bytes(40), Decimal("5")) == []
    assert solve(b"", Decimal("5")) == []
    with pytest.raises(ValueError, match="fits everywhere"):
        solve(FUXIN, Decimal("0.00"))
