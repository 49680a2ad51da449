"""Data identifiers of DL/T 645-2007 (4 bytes) and -1997 (2 bytes): how their data lie, and which of our quantities
they are. Identifiers that are not here come back as plain bytes; a profile may bring further forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from metering.quantities import Quantity

Edition = Literal["2007", "1997"]
Kind = Literal["number", "demand", "date", "clock", "minute", "stamp", "status", "digits"]


@dataclass(frozen=True, slots=True)
class Form:
    """How one item lies behind an identifier, low byte first.

    kind: number BCD; demand number and minute; date WW DD MM YY; clock ss mm hh; minute mm hh DD MM YY; stamp clock
    and date; status a bit word; digits an address or number to be shown. size: [bytes] of one item. signed: the top
    bit of the highest byte is the sign. block: several items follow each other.
    """

    kind: Kind
    size: int
    decimals: int = 0
    unit: str = ""
    signed: bool = False
    block: bool = False


_ENERGY: Final = Form("number", 4, 2, "kWh")
_DATE: Final = Form("date", 4)
_CLOCK: Final = Form("clock", 3)
_MINUTE: Final = Form("minute", 5)
_STATUS: Final = Form("status", 2)
_DIGITS: Final = Form("digits", 6)

_ENERGY_UNITS_2007: Final = {
    0: "kWh",
    1: "kWh",
    2: "kWh",
    9: "kVAh",
    10: "kVAh",
    **dict.fromkeys(range(3, 9), "kvarh"),
}
_PHASE_2007: Final[Mapping[int, Form]] = {
    0x01: Form("number", 2, 1, "V"),
    0x02: Form("number", 3, 3, "A", signed=True),
    0x03: Form("number", 3, 4, "kW", signed=True),
    0x04: Form("number", 3, 4, "kvar", signed=True),
    0x05: Form("number", 3, 4, "kVA", signed=True),
    0x06: Form("number", 2, 3, "", signed=True),
    0x07: Form("number", 2, 1, "deg"),
}
"""02 xx pp 00, pp: 1 to 3 phase A to C, 0 the total (not for voltage, current, angle), FF all."""

_SINGLE_2007: Final[Mapping[int, Form]] = {
    0x02800001: Form("number", 3, 3, "A"),
    0x02800002: Form("number", 2, 2, "Hz"),
    0x02800003: Form("number", 3, 4, "kW", signed=True),
    0x02800004: Form("number", 3, 4, "kW", signed=True),
    0x02800005: Form("number", 3, 4, "kvar", signed=True),
    0x02800006: Form("number", 3, 4, "kVA", signed=True),
    0x02800007: Form("number", 2, 1, "degC", signed=True),
    0x02800008: Form("number", 2, 2, "V"),
    0x02800009: Form("number", 2, 2, "V"),
    0x0280000A: Form("number", 4, 0, "min"),
    0x04000101: _DATE,
    0x04000102: _CLOCK,
    0x0400010C: Form("stamp", 7),
    0x04000401: _DIGITS,
    0x04000402: _DIGITS,
    0x00900100: _ENERGY,
    0x00900200: Form("number", 4, 2, "CNY"),
    0x040005FF: replace(_STATUS, block=True),
    **{0x04000500 + word: _STATUS for word in range(1, 8)},
}

RELAY_WORD: Final = 0x04000503
"""Status word 3: bit 4 is the relay, 1 = open, that is disconnected."""
RELAY_BIT: Final = 0x10

_PHASE_1997: Final[Mapping[int, Form]] = {
    0x1: Form("number", 2, 0, "V"),
    0x2: Form("number", 2, 2, "A"),
    0x3: Form("number", 3, 4, "kW"),
    0x4: Form("number", 2, 2, "kvar"),
    0x5: Form("number", 2, 3, ""),
}
"""B6 xp, p: 1 to 3 phase A to C, 0 the total, F all."""

_SINGLE_1997: Final[Mapping[int, Form]] = {
    0xC010: _DATE,
    0xC011: _CLOCK,
    0xC030: _DIGITS,
    0xC031: _DIGITS,
    0xC032: _DIGITS,
    0xC033: _DIGITS,
}

QUANTITIES: Final[Mapping[int, Quantity]] = {
    0x00010000: "energy_import",
    0x00020000: "energy_export",
    0x00010100: "energy_import_t1",
    0x00010200: "energy_import_t2",
    0x00010300: "energy_import_t3",
    0x00010400: "energy_import_t4",
    0x02010100: "voltage",
    0x02020100: "current",
    0x02030000: "power",
    0x02800007: "temperature",
    0x02800008: "battery",
    0x9010: "energy_import",
    0x9020: "energy_export",
    0x9011: "energy_import_t1",
    0x9012: "energy_import_t2",
    0x9013: "energy_import_t3",
    0x9014: "energy_import_t4",
    0xB611: "voltage",
    0xB621: "current",
    0xB630: "power",
}
"""Identifier -> our quantity, where unit and meaning are the same. Combined energy (00000000) is none: it may add or
subtract the reverse direction, as the meter is set."""


def form_of(di: int, edition: Edition) -> Form | None:
    """Return how the data of an identifier lie, None when it is not known here."""
    return _form_2007(di) if edition == "2007" else _form_1997(di)


def _form_2007(di: int) -> Form | None:
    single = _SINGLE_2007.get(di)
    if single is not None:
        return single
    di3, di2, di1, di0 = di.to_bytes(4, "big")
    if di3 == 0x00 and di2 in _ENERGY_UNITS_2007 and _in_block(di1, 0x3F) and _in_block(di0, 0x0C):
        return replace(_ENERGY, unit=_ENERGY_UNITS_2007[di2], block=0xFF in (di1, di0))
    if di3 == 0x01 and di2 in (1, 2) and _in_block(di1, 0x3F) and _in_block(di0, 0x0C):
        return Form("demand", 8, 4, "kW", block=0xFF in (di1, di0))
    if di3 == 0x02 and di2 in _PHASE_2007 and _in_block(di1, 3) and not di0:
        return replace(_PHASE_2007[di2], block=di1 == 0xFF)
    if di3 == 0x05 and di2 in (0x00, 0x04, 0x06) and 1 <= di0 <= 0x3E:
        return _freeze_2007(di1)
    return None


def _freeze_2007(part: int) -> Form | None:
    """05 00 timed, 05 04 hourly, 05 06 daily freeze: 00 its time, 01 the forward block, 02 the reverse block."""
    if part == 0:
        return _MINUTE
    return replace(_ENERGY, block=True) if part in (1, 2) else None


def _form_1997(di: int) -> Form | None:
    single = _SINGLE_1997.get(di)
    if single is not None:
        return single
    high, row, column = di >> 8, di >> 4 & 15, di & 15
    if high in (0x90, 0x94, 0x98) and row in (1, 2):
        return replace(_ENERGY, block=column == 15)
    if high in (0x91, 0x95, 0x99) and 1 <= row <= 6:
        return replace(_ENERGY, unit="kvarh", block=column == 15)
    if high == 0xB6 and row in _PHASE_1997 and column in (0, 1, 2, 3, 15):
        return replace(_PHASE_1997[row], block=column == 15)
    return None


def _in_block(byte: int, last: int) -> bool:
    return byte <= last or byte == 0xFF
