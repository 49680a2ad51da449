"""Values of CJ/T 188: BCD numbers with a unit byte, and the meter's clock."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from gateway.protocols import framing
from metering.errors import FrameError
from metering.quantities import MICRO

Kind = Literal["energy", "power", "volume", "flow"]


@dataclass(frozen=True, slots=True)
class Unit:
    """One line of the unit table. times: multiplier of the number. house: house units (kWh, kW, m3, m3/h) in one."""

    name: str
    kind: Kind
    times: int
    house: Fraction


_KWH_IN_J: Final = 3_600_000

UNITS: Final[dict[int, Unit]] = {
    0x01: Unit("J", "energy", 1, Fraction(1, _KWH_IN_J)),
    0x02: Unit("Wh", "energy", 1, Fraction(1, 1000)),
    0x05: Unit("kWh", "energy", 1, Fraction(1)),
    0x06: Unit("kWh", "energy", 10, Fraction(1)),
    0x07: Unit("kWh", "energy", 100, Fraction(1)),
    0x08: Unit("MWh", "energy", 1, Fraction(1000)),
    0x09: Unit("MWh", "energy", 10, Fraction(1000)),
    0x0A: Unit("MWh", "energy", 100, Fraction(1000)),
    0x0B: Unit("kJ", "energy", 1, Fraction(1000, _KWH_IN_J)),
    0x0E: Unit("MJ", "energy", 1, Fraction(10**6, _KWH_IN_J)),
    0x11: Unit("GJ", "energy", 1, Fraction(10**9, _KWH_IN_J)),
    0x14: Unit("W", "power", 1, Fraction(1, 1000)),
    0x17: Unit("kW", "power", 1, Fraction(1)),
    0x1A: Unit("MW", "power", 1, Fraction(1000)),
    0x29: Unit("L", "volume", 1, Fraction(1, 1000)),
    0x2A: Unit("L", "volume", 10, Fraction(1, 1000)),
    0x2B: Unit("L", "volume", 100, Fraction(1, 1000)),
    0x2C: Unit("m3", "volume", 1, Fraction(1)),
    0x2D: Unit("m3", "volume", 10, Fraction(1)),
    0x2E: Unit("m3", "volume", 100, Fraction(1)),
    0x32: Unit("L/h", "flow", 1, Fraction(1, 1000)),
    0x35: Unit("m3/h", "flow", 1, Fraction(1)),
    0x40: Unit("J/h", "power", 1, Fraction(1, _KWH_IN_J)),
    0x43: Unit("kJ/h", "power", 1, Fraction(1000, _KWH_IN_J)),
    0x46: Unit("MJ/h", "power", 1, Fraction(10**6, _KWH_IN_J)),
    0x49: Unit("GJ/h", "power", 1, Fraction(10**9, _KWH_IN_J)),
}
"""Unit byte -> meaning. Codes 05 08 14 17 2C 35 were seen in captures, the others in one program's table."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A BCD number and its unit byte, as they came. digits: BCD bytes, low byte first; decimals: of the number."""

    digits: bytes
    unit_code: int
    decimals: int
    unit_first: bool = False

    @classmethod
    def of(cls, number: int, unit_code: int, *, decimals: int = 2, unit_first: bool = False) -> Amount:
        """Return the 4-byte amount of `number` in its last decimal. Raises: FrameError, when it does not fit."""
        return cls(framing.to_bcd_le(number, 4), unit_code, decimals, unit_first)

    @property
    def number(self) -> int | None:
        """The digits as a whole number; None when a nibble is above 9: the meter does not support it."""
        return framing.bcd_le_or_none(self.digits)

    @property
    def unit(self) -> str:
        """The unit's name without its power of ten, or the bare code in hex when it is unknown."""
        unit = UNITS.get(self.unit_code)
        return unit.name if unit else f"{self.unit_code:02X}"

    @property
    def value(self) -> Decimal | None:
        """The number in `unit`, with its decimals; None when the meter does not support it."""
        number, unit = self.number, UNITS.get(self.unit_code)
        if number is None:
            return None
        return Decimal(number * (unit.times if unit else 1)).scaleb(-self.decimals)

    def micro(self, kind: Kind) -> int | None:
        """Return [10⁻⁶ of the house unit]; None when absent or when the unit byte is none of this kind.

        Exact but for units of joules, which are rounded to the nearest 10⁻⁶ kWh or kW.
        """
        number, unit = self.number, UNITS.get(self.unit_code)
        if number is None or unit is None or unit.kind != kind:
            return None
        divisor: int = 10**self.decimals
        return round(number * unit.times * unit.house * MICRO / divisor)

    def encode(self) -> bytes:
        """Return number and unit byte in the order in which they came."""
        unit = bytes((self.unit_code,))
        return unit + self.digits if self.unit_first else self.digits + unit


@dataclass(frozen=True, slots=True)
class Clock:
    """The meter's clock, 7 BCD bytes ss mm hh DD MM YY CC: local time without zone, as it came."""

    raw: bytes

    @classmethod
    def of(cls, text: str) -> Clock:
        """Return the clock for "2015-05-11T22:01:31". Raises: FrameError, sort "date", for an impossible time."""
        clock = (
            cls(bytes.fromhex("".join(text[i : i + 2] for i in (17, 14, 11, 8, 5, 2, 0)))) if _shape(text) else None
        )
        if clock is None or clock.text != text:
            raise FrameError(f"{text!r} is no time of the form 2015-05-11T22:01:31", sort="date")
        return clock

    @property
    def text(self) -> str | None:
        """ "2015-05-11T22:01:31", or None for all zero, FF or an impossible date: such a meter has no clock."""
        parts = [framing.bcd_le_or_none(self.raw[i : i + 1]) for i in range(7)]
        if any(part is None for part in parts):
            return None
        second, minute, hour, day, month, year, century = (part or 0 for part in parts)
        year += 100 * century
        if not (1 <= month <= 12 and year and second < 60 and minute < 60 and hour < 24):
            return None
        if not 1 <= day <= calendar.monthrange(year, month)[1]:
            return None
        return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def _shape(text: str) -> bool:
    digits = "".join(text[i : i + 2] for i in (0, 2, 5, 8, 11, 14, 17))
    return len(text) == 19 and len(digits) == 14 and digits.isascii() and digits.isdigit()
