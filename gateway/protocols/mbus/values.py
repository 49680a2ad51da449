"""The data field of an M-Bus record: integers, BCD, real, variable length, dates F, G, I and J; both directions.

A value that the meter itself marks as none, or that its coding forbids (BCD digit A-F, 30 February), is `Invalid`
with the reason; it is never rounded to something near.

Source: EN 13757-3 annex A, data types A to J; LVAR codes of the variable length field.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final

from metering.errors import FrameError

SIZES: Final = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 6, 7: 8, 8: 0, 9: 1, 0xA: 2, 0xB: 3, 0xC: 4, 0xE: 6}
"""Bytes of a data field by coding (DIF bits 3-0); D is variable, F is special."""

INTEGERS: Final = frozenset({1, 2, 3, 4, 6, 7})
BCDS: Final = frozenset({9, 0xA, 0xB, 0xC, 0xE})
REAL, VARIABLE, SPECIAL = 5, 0xD, 0xF


@dataclass(frozen=True, slots=True)
class Invalid:
    """No value, and why."""

    reason: str


Value = Decimal | str | bytes | date | datetime | time | Invalid | None
"""Decimal: a number not yet scaled. None: the coding carries no data. bytes: binary of more than 8 bytes."""


def variable_size(lvar: int) -> int:
    """Return how many bytes follow LVAR. Raises: FrameError for a reserved code."""
    if lvar <= 0xBF:
        return lvar
    if lvar <= 0xDF:
        return lvar & 0x0F
    if lvar <= 0xEF:
        return lvar - 0xE0
    if lvar <= 0xF4:
        return 4 * (lvar - 0xEC)
    if lvar in (0xF5, 0xF6):
        return 48 if lvar == 0xF5 else 64
    raise FrameError(f"variable length code {lvar:02X} is reserved", sort="reserved")


def bcd(data: bytes) -> Decimal | Invalid:
    """Read little-endian BCD; F in the highest digit is a minus sign (which framing's BCD does not know)."""
    digits = data[::-1].hex()
    sign = ""
    if digits[:1] == "f":
        sign, digits = "-", digits[1:]
    if not digits.isdecimal():
        return Invalid(f"BCD digits {data[::-1].hex().upper()}")
    return Decimal(sign + digits)


def number(coding: int, data: bytes, *, signed: bool = True) -> Decimal | Invalid | None:
    """Read a number that is not yet scaled by its VIF; None for a coding without data."""
    if coding in INTEGERS:
        return Decimal(int.from_bytes(data, "little", signed=signed))
    if coding in BCDS:
        return bcd(data)
    if coding == REAL:
        return real(data)
    return None


def real(data: bytes) -> Decimal | Invalid:
    """Read an IEEE 754 single as the shortest decimal that is this number: 30.2 and not 30.200000762939453."""
    (value,) = struct.unpack("<f", data)
    if not math.isfinite(value):
        return Invalid("real number is not finite")
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if struct.pack("<f", float(text)) == data:
            return Decimal(text)
    return Decimal(f"{value:.9g}")


def variable(lvar: int, data: bytes) -> Decimal | str | bytes | Invalid:
    """Read a variable length field: text (sent backwards), BCD, or binary."""
    if lvar <= 0xBF:
        return data[::-1].decode("latin-1")
    if lvar <= 0xDF:
        value = bcd(data) if data else Invalid("BCD without digits")
        return -value if lvar >= 0xD0 and isinstance(value, Decimal) else value
    if 0 < len(data) <= 8:
        return Decimal(int.from_bytes(data, "little", signed=True))
    return data


def type_g(data: bytes) -> date | Invalid:
    """Read a date (2 bytes). A year below 81 is of this century."""
    day, month = data[0] & 0x1F, data[1] & 0x0F
    year = (data[0] >> 5) | ((data[1] & 0xF0) >> 1)
    if year > 99:  # 127 means every year: a rule, not a point in time
        return Invalid(f"date {year:02d}-{month:02d}-{day:02d}")
    try:
        return date(year + (2000 if year <= 80 else 1900), month, day)
    except ValueError:
        return Invalid(f"date {year:02d}-{month:02d}-{day:02d}")


def _century(day: date | Invalid, bits: int) -> date | Invalid:
    if not bits or isinstance(day, Invalid):
        return day
    try:
        return day.replace(year=1900 + 100 * bits + day.year % 100)
    except ValueError:
        return Invalid(f"date {day} in century {bits}")


def type_f(data: bytes) -> datetime | Invalid:
    """Read date and time to the minute (4 bytes), the meter's local time."""
    if data[0] & 0x80:
        return Invalid("the meter marks its time as invalid")
    day = _century(type_g(data[2:4]), (data[1] >> 5) & 3)
    return _moment(day, data[1] & 0x1F, data[0] & 0x3F, 0)


def type_i(data: bytes) -> datetime | Invalid:
    """Read date and time to the second (6 bytes), the meter's local time."""
    if data[1] & 0x80:
        return Invalid("the meter marks its time as invalid")
    return _moment(type_g(data[3:5]), data[2] & 0x1F, data[1] & 0x3F, data[0] & 0x3F)


def type_j(data: bytes) -> time | Invalid:
    """Read a time of day (3 bytes)."""
    second, minute, hour = data[0] & 0x3F, data[1] & 0x3F, data[2] & 0x1F
    try:
        return time(hour, minute, second)
    except ValueError:
        return Invalid(f"time {hour:02d}:{minute:02d}:{second:02d}")


def _moment(day: date | Invalid, hour: int, minute: int, second: int) -> datetime | Invalid:
    if isinstance(day, Invalid):
        return day
    try:
        return datetime(day.year, day.month, day.day, hour, minute, second)  # noqa: DTZ001 the meter's local time
    except ValueError:
        return Invalid(f"time {hour:02d}:{minute:02d}:{second:02d}")


def moment(coding: int, data: bytes) -> date | datetime | time | Invalid | None:
    """Read a date or time by its size; None when this coding is not one of a date."""
    if coding == 2:
        return type_g(data)
    if coding == 3:
        return type_j(data)
    if coding == 4:
        return type_f(data)
    if coding == 6:
        return type_i(data)
    return None


def encode_number(coding: int, value: Decimal, *, signed: bool = True) -> bytes:
    """Write a number that is already divided by its VIF's scale. Raises: ValueError when it does not fit."""
    if coding == REAL:
        return struct.pack("<f", float(value))
    whole = int(value)
    if whole != value:
        raise ValueError(f"{value} is not a whole number of the VIF's step")
    if coding in INTEGERS:
        try:
            return whole.to_bytes(SIZES[coding], "little", signed=signed)
        except OverflowError:
            raise ValueError(f"{value} does not fit {SIZES[coding]} bytes") from None
    if coding in BCDS:
        return _encode_bcd(whole, SIZES[coding])
    raise ValueError(f"coding {coding:X} carries no number")


def _encode_bcd(value: int, size: int) -> bytes:
    digits = f"f{-value:0{2 * size - 1}d}" if value < 0 else f"{value:0{2 * size}d}"
    if len(digits) != 2 * size:
        raise ValueError(f"{value} does not fit {2 * size} BCD digits")
    return bytes.fromhex(digits)[::-1]


def encode_variable(value: str | bytes) -> bytes:
    """Write LVAR and its data: text, or binary of 16, 20, 24, 28, 32, 48 or 64 bytes. Raises: ValueError."""
    if isinstance(value, str):
        raw = value.encode("latin-1")[::-1]
        if len(raw) > 0xBF:
            raise ValueError(f"text of {len(raw)} characters; {0xBF} are allowed")
        return bytes([len(raw)]) + raw
    for lvar in (*range(0xE9, 0xF0), *range(0xF0, 0xF7)):
        if variable_size(lvar) == len(value):
            return bytes([lvar]) + value
    raise ValueError(f"binary of {len(value)} bytes has no length code")


def encode_moment(coding: int, value: date | datetime | time) -> bytes:
    """Write type G (coding 2), J (3), F (4) or I (6). Raises: ValueError."""
    if coding == 2 and isinstance(value, date):
        return _encode_g(value)
    if coding == 3 and isinstance(value, time):
        return bytes([value.second, value.minute, value.hour])
    if coding == 4 and isinstance(value, datetime):
        return bytes([value.minute, value.hour]) + _encode_g(value)
    if coding == 6 and isinstance(value, datetime):
        return bytes([value.second, value.minute, value.hour]) + _encode_g(value) + b"\x00"
    raise ValueError(f"{value!r} cannot be written with coding {coding:X}")


def _encode_g(day: date) -> bytes:
    if not 1981 <= day.year <= 2080:
        raise ValueError(f"year {day.year}: a two-digit year stands for 1981 to 2080")
    year = day.year % 100
    return bytes([day.day | (year & 7) << 5, day.month | (year & 0x78) << 1])
