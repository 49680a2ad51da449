"""What a VIF and its VIFEs say: quantity, unit, power of ten, and what was done to the value.

Source: EN 13757-3, tables of the primary VIF, of the extensions FB and FD, and of the combinable VIFE, as set down in
the public M-Bus documentation 4.8 chapter 8.4; the names of the quantities are those of rscada/libmbus, so that
decoded telegrams can be compared with its collection of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

_MINUTE, _HOUR, _DAY = Decimal(60), Decimal(3600), Decimal(86400)
_MONTH: Final = Decimal("2629743.83")  # a mean month, as libmbus counts
_YEAR: Final = Decimal(31556926)
_NN: Final = (Decimal(1), _MINUTE, _HOUR, _DAY)
_PP: Final = (_HOUR, _DAY, _MONTH, _YEAR)


@dataclass(frozen=True, slots=True)
class Unit:
    """One line of a VIF table. value = number on the wire x scale [unit].

    kind: "number", "date" (type G or F), "datetime" (type F, I or J), "flags" (a bit field, never negative).
    """

    quantity: str
    unit: str
    scale: Decimal = Decimal(1)
    kind: str = "number"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A whole VIB. base: the VIF's own line. scale, offset: all corrections: value = number x scale + offset [unit].

    qualifiers: names of the VIFEs that say more than a correction. error: "" or the meter's word why the value of
    this record is none. changed: quantity and unit were replaced by a VIFE (a duration, a count, a date).
    """

    base: Unit
    quantity: str
    unit: str
    scale: Decimal
    offset: Decimal
    kind: str
    qualifiers: tuple[str, ...]
    error: str
    changed: bool


def _tens(exponent: int) -> Decimal:
    return Decimal(1).scaleb(exponent)


def _rows(table: dict[int, Unit], first: int, count: int, quantity: str, unit: str, exponent: int) -> None:
    for n in range(count):
        table[first + n] = Unit(quantity, unit, _tens(exponent + n))


def _durations(table: dict[int, Unit], first: int, quantity: str, scales: tuple[Decimal, ...]) -> None:
    for n, scale in enumerate(scales):
        table[first + n] = Unit(quantity, "s", scale)


def _primary() -> dict[int, Unit]:
    table: dict[int, Unit] = {}
    for first, count, quantity, unit, exponent in (
        (0x00, 8, "Energy", "Wh", -3),
        (0x08, 8, "Energy", "J", 0),
        (0x10, 8, "Volume", "m^3", -6),
        (0x18, 8, "Mass", "kg", -3),
        (0x28, 8, "Power", "W", -3),
        (0x30, 8, "Power", "J/h", 0),
        (0x38, 8, "Volume flow", "m^3/h", -6),
        (0x40, 8, "Volume flow", "m^3/min", -7),
        (0x48, 8, "Volume flow", "m^3/s", -9),
        (0x50, 8, "Mass flow", "kg/h", -3),
        (0x58, 4, "Flow temperature", "°C", -3),
        (0x5C, 4, "Return temperature", "°C", -3),
        (0x60, 4, "Temperature difference", "K", -3),
        (0x64, 4, "External temperature", "°C", -3),
        (0x68, 4, "Pressure", "bar", -3),
    ):
        _rows(table, first, count, quantity, unit, exponent)
    _durations(table, 0x20, "On time", _NN)
    _durations(table, 0x24, "Operating time", _NN)
    _durations(table, 0x70, "Averaging Duration", _NN)
    _durations(table, 0x74, "Actuality Duration", _NN)
    table[0x6C] = Unit("Time point (date)", "-", kind="date")
    table[0x6D] = Unit("Time point (date & time)", "-", kind="datetime")
    table[0x6E] = Unit("H.C.A.", "Units for H.C.A.")
    table[0x78] = Unit("Fabrication No", "")
    table[0x79] = Unit("(Enhanced) Identification", "")
    table[0x7A] = Unit("Bus Address", "")
    table[0x7E] = Unit("Any VIF", "")
    table[0x7F] = Unit("Manufacturer specific", "")
    return table


def _extension_fd() -> dict[int, Unit]:
    table: dict[int, Unit] = {}
    _rows(table, 0x00, 4, "Credit", "Currency units", -3)
    _rows(table, 0x04, 4, "Debit", "Currency units", -3)
    for code, quantity in {
        0x08: "Access Number (transmission count)",
        0x09: "Device type",
        0x0A: "Manufacturer",
        0x0B: "Parameter set identification",
        0x0C: "Device type",
        0x0D: "Hardware version",
        0x0E: "Firmware version",
        0x0F: "Software version",
        0x10: "Customer location",
        0x11: "Customer",
        0x12: "Access Code User",
        0x13: "Access Code Operator",
        0x14: "Access Code System Operator",
        0x15: "Access Code Developer",
        0x16: "Password",
        0x1E: "Retry",
        0x20: "First storage # for cyclic storage",
        0x21: "Last storage # for cyclic storage",
        0x22: "Size of storage block",
        0x3A: "Dimensionless",
        0x60: "Reset counter",
        0x61: "Cumulation counter",
        0x62: "Control signal",
        0x63: "Day of week",
        0x64: "Week number",
        0x65: "Time point of day change",
        0x66: "State of parameter activation",
        0x67: "Special supplier information",
    }.items():
        table[code] = Unit(quantity, "")
    table[0x17] = Unit("Error flags", "", kind="flags")
    table[0x18] = Unit("Error mask", "", kind="flags")
    table[0x1A] = Unit("Digital Output", "", kind="flags")
    table[0x1B] = Unit("Digital Input", "", kind="flags")
    table[0x1C] = Unit("Baudrate", "Baud")
    table[0x1D] = Unit("Response delay time", "Bittimes")
    _durations(table, 0x24, "Storage interval", (*_NN, _MONTH, _YEAR))
    _durations(table, 0x2C, "Duration since last readout", _NN)
    table[0x30] = Unit("Start (date/time) of tariff", "", kind="datetime")
    _durations(table, 0x31, "Duration of tariff", _NN[1:])
    _durations(table, 0x34, "Period of tariff", (*_NN, _MONTH, _YEAR))
    _rows(table, 0x40, 16, "Voltage", "V", -9)
    _rows(table, 0x50, 16, "Current", "A", -12)
    _durations(table, 0x68, "Duration since last cumulation", _PP)
    _durations(table, 0x6C, "Operating time battery", _PP)
    table[0x70] = Unit("Date and time of battery change", "", kind="datetime")
    table[0x71] = Unit("RF level", "dBm")
    table[0x74] = Unit("Remaining battery lifetime", "d")
    return table


def _extension_fb() -> dict[int, Unit]:
    table: dict[int, Unit] = {}
    for first, count, quantity, unit, exponent in (
        (0x00, 2, "Energy", "Wh", 5),
        (0x08, 2, "Energy", "J", 8),
        (0x10, 2, "Volume", "m^3", 2),
        (0x18, 2, "Mass", "kg", 5),
        (0x1A, 2, "Relative humidity", "%", -1),
        (0x21, 1, "Volume", "feet^3", -1),
        (0x22, 2, "Volume", "American gallon", -1),
        (0x24, 1, "Volume flow", "American gallon/min", -3),
        (0x25, 1, "Volume flow", "American gallon/min", 0),
        (0x26, 1, "Volume flow", "American gallon/h", 0),
        (0x28, 2, "Power", "W", 5),
        (0x30, 2, "Power", "J/h", 8),
        (0x58, 4, "Flow temperature", "°F", -3),
        (0x5C, 4, "Return temperature", "°F", -3),
        (0x60, 4, "Temperature difference", "°F", -3),
        (0x64, 4, "External temperature", "°F", -3),
        (0x70, 4, "Cold / Warm Temperature Limit", "°F", -3),
        (0x74, 4, "Cold / Warm Temperature Limit", "°C", -3),
        (0x78, 8, "Cumul count max power", "W", -3),
    ):
        _rows(table, first, count, quantity, unit, exponent)
    return table


PRIMARY: Final = _primary()
EXTENSION_FD: Final = _extension_fd()
EXTENSION_FB: Final = _extension_fb()
RESERVED: Final = Unit("Reserved", "Reserved")

_ERRORS: Final = {
    0x01: "too many DIFEs",
    0x02: "storage number not implemented",
    0x03: "unit number not implemented",
    0x04: "tariff number not implemented",
    0x05: "function not implemented",
    0x06: "data class not implemented",
    0x07: "data size not implemented",
    0x0B: "too many VIFEs",
    0x0C: "illegal VIF group",
    0x0D: "illegal VIF exponent",
    0x0E: "VIF and DIF do not fit",
    0x0F: "action not implemented",
    0x15: "no data available",
    0x16: "data overflow",
    0x17: "data underflow",
    0x18: "data error",
    0x1C: "premature end of record",
}
"""VIFE 01…1C in an answer: the meter says that the value of this record is none."""

_QUALIFIERS: Final = {
    0x12: "average",
    0x13: "inverse compact profile",
    0x1E: "compact profile with registers",
    0x1F: "compact profile",
    0x20: "per second",
    0x21: "per minute",
    0x22: "per hour",
    0x23: "per day",
    0x24: "per week",
    0x25: "per month",
    0x26: "per year",
    0x27: "per revolution",
    0x28: "per input pulse 0",
    0x29: "per input pulse 1",
    0x2A: "per output pulse 0",
    0x2B: "per output pulse 1",
    0x2C: "per litre",
    0x2D: "per m^3",
    0x2E: "per kg",
    0x2F: "per K",
    0x30: "per kWh",
    0x31: "per GJ",
    0x32: "per kW",
    0x33: "per K litre",
    0x34: "per V",
    0x35: "per A",
    0x36: "times s",
    0x37: "times s per V",
    0x38: "times s per A",
    0x3A: "uncorrected",
    0x3B: "only positive",
    0x3C: "only negative",
    0x3D: "alternate non-metric unit",
    0x3E: "base conditions",
    0x3F: "OBIS declaration",
    0x40: "lower limit",
    0x48: "upper limit",
    0x68: "during lower limit exceeded",
    0x69: "leakage",
    0x6C: "during upper limit exceeded",
    0x6D: "overflow",
    0x7E: "future",
}
_DATE_OF: Final = frozenset({0x39, 0x42, 0x43, 0x46, 0x47, 0x4A, 0x4B, 0x4E, 0x4F, 0x6A, 0x6B, 0x6E, 0x6F})
_COUNT_OF: Final = frozenset({0x41, 0x49})
VENDOR: Final = 0x7F
SECOND_TABLE: Final = 0x7C
"""VIFE 7C: the next VIFE is of a further table that we do not know."""


def base_unit(vib: bytes, text: str = "") -> tuple[Unit, bytes]:
    """Return the VIF's line and the VIFEs behind it. vib: VIF and VIFEs as sent; text: of VIF 7C."""
    first = vib[0]
    if first == 0xFD and len(vib) > 1:
        return EXTENSION_FD.get(vib[1] & 0x7F, RESERVED), vib[2:]
    if first == 0xFB and len(vib) > 1:
        return EXTENSION_FB.get(vib[1] & 0x7F, RESERVED), vib[2:]
    if first & 0x7F == 0x7C:
        return Unit(text, "-"), vib[1:]
    return PRIMARY.get(first & 0x7F, RESERVED), vib[1:]


@lru_cache(maxsize=1024)
def meaning(vib: bytes, text: str = "") -> Meaning:
    """Read a whole VIB (see `base_unit`)."""
    base, vifes = base_unit(vib, text)
    quantity, unit, kind, error, changed = base.quantity, base.unit, base.kind, "", False
    scale, offset = base.scale, Decimal(0)
    qualifiers: list[str] = []
    if vib[0] & 0x7F == 0x7F:
        return Meaning(base, quantity, unit, scale, offset, kind, ("vendor",), "", False)
    for raw in vifes:
        code = raw & 0x7F
        if code in (VENDOR, SECOND_TABLE):
            qualifiers.append("vendor" if code == VENDOR else "unknown VIFE table")
            break
        if 0x70 <= code <= 0x77:
            scale, offset = scale * _tens(code - 0x76), offset * _tens(code - 0x76)
        elif code == 0x7D:
            scale, offset = scale * 1000, offset * 1000
        elif 0x78 <= code <= 0x7B:
            offset += _tens(code - 0x7B)
        elif code in _ERRORS:
            error = _ERRORS[code]
        elif code in _DATE_OF:
            qualifiers.append(f"date of event {code:02X}")
            kind, unit, changed = "datetime", "-", True
        elif code in _COUNT_OF:
            qualifiers.append("number of exceeds of the " + ("lower limit" if code == 0x41 else "upper limit"))
            scale, offset, unit, changed = Decimal(1), Decimal(0), "", True
        elif 0x50 <= code <= 0x67:
            qualifiers.append(f"duration of event {code:02X}")
            scale, offset, unit, changed = _NN[code & 3], Decimal(0), "s", True
        elif code:
            qualifiers.append(_QUALIFIERS.get(code, f"VIFE {code:02X}"))
    return Meaning(base, quantity, unit, scale, offset, kind, tuple(qualifiers), error, changed)
