"""The fixed data structure (CI 73 and 77) of old meters: two counters, each with a unit of its own.

Source: EN 1434-3:1997 / public M-Bus documentation 4.8 chapter 6.2 and table of units.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.protocols.mbus import values
from gateway.protocols.mbus.values import Invalid
from metering.errors import FrameError

MEDIA: Final = (
    "Other",
    "Oil",
    "Electricity",
    "Gas",
    "Heat",
    "Steam",
    "Hot Water",
    "Water",
    "H.C.A.",
    "Reserved",
    "Gas Mode 2",
    "Heat Mode 2",
    "Hot Water Mode 2",
    "Water Mode 2",
    "H.C.A. Mode 2",
    "Reserved",
)
HISTORIC: Final = 0x3E
_SIZE: Final = 16


def _decades(units: tuple[str, ...]) -> list[str]:
    return [f"{factor}{unit}" for unit in units for factor in ("", "10 ", "100 ")]


UNITS: Final = (
    "h,m,s",
    "D,M,Y",
    *_decades(("Wh", "kWh", "MWh", "kJ", "MJ", "GJ", "W", "kW", "MW", "kJ/h", "MJ/h", "GJ/h")),
    *_decades(("ml", "l", "m^3", "ml/h", "l/h", "m^3/h")),
    "1e-3 °C",
    "units for HCA",
    *["reserved"] * 4,
    "reserved but historic",
    "without units",
)
"""64 unit codes; the number counts multiples of the unit: 5 "10 l" is 50 l."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One of the two counters. value: multiples of `unit`, None when it is not a number, then `problem` says why.

    stored: the value of a fixed date and not of now. historic: this counter has the other one's unit, at that date.
    """

    value: Decimal | None
    unit: str
    stored: bool
    historic: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FixedData:
    """id: 8 digits. status: the meter's status byte (bit 0 binary counters, bit 1 stored values)."""

    id: str
    access_no: int
    status: int
    medium: str
    counters: tuple[Counter, Counter]


def decode_fixed(data: bytes, *, msb_first: bool = False) -> FixedData:
    """Read the 16 bytes behind CI 73 (77: msb_first). Raises: FrameError when there are not 16."""
    if len(data) != _SIZE:
        raise FrameError(f"fixed data of {len(data)} bytes; 16 are needed", data, sort="length")
    step = 1 if msb_first else -1
    status, first, second = data[5], data[6], data[7]
    medium = MEDIA[(first >> 6) | (second >> 6) << 2]
    low_first = [field[::-1] if msb_first else field for field in (data[8:12], data[12:16])]
    counters = (_counter(low_first[0], first, status), _counter(low_first[1], second, status))
    return FixedData(data[:4][::step].hex().upper(), data[4], status, medium, counters)


def _counter(data: bytes, unit: int, status: int) -> Counter:
    number = Decimal(int.from_bytes(data, "little", signed=True)) if status & 1 else values.bcd(data)
    code = unit & 0x3F
    stored, historic = bool(status & 2), code == HISTORIC
    if isinstance(number, Invalid):
        return Counter(None, UNITS[code], stored, historic, number.reason)
    return Counter(number, UNITS[code], stored, historic)
