"""Two small meter models for the tests of the farm, so that they do not move with the real profiles."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

from gateway.profile import FlagBit, MeterField, Part, Profile
from gateway.protocols.registers import Number, number
from metering.quantities import Quantity
from metering.reading import Flag


def _field(
    name: str, quantity: Quantity | None, *parts: tuple[int, Number], flags: tuple[FlagBit, ...] = ()
) -> MeterField:
    return MeterField(name, quantity, 3, tuple(Part(register, form) for register, form in parts), 0, flags)


def _profile(
    name: str, medium: Literal["gas", "water"], fields: tuple[MeterField, ...], digits: int | None
) -> Profile:
    return Profile(name, name, medium, "made for these tests", fields[0], digits, 125, 8, fields, (), ())


_STATUS: Final = (FlagBit(Flag.MAGNET, 0x0004, 0x0004), FlagBit(Flag.LOW_BATTERY, 0x0100, 0x0100))

CORRECTOR: Final = _profile(
    "test-corrector",
    "gas",
    (
        _field("base", "volume_standard", (100, number("bcd", size=6, scale="0.001"))),
        _field("pressure", "pressure", (103, number("float32", order="CDAB"))),
        _field("flow", "flow", (105, number("uint16", scale="0.01"))),
        _field("status", None, (110, Number("uint16", 2, "ABCD", Decimal(1))), flags=_STATUS),
    ),
    6,
)
"""Base volume BCD at 100…102 [0.001 m³], 6 digits; pressure 103, 104; flow 105; 106…109 nothing; status 110."""

SPLIT: Final = _profile(
    "test-split",
    "water",
    (_field("total", "volume", (0, number("uint32", order="CDAB", scale="100")), (2, number("float32"))),),
    None,
)
"""Volume as hundreds (uint32, words swapped) at 0, 1 and remainder (float32) at 2, 3."""

PROFILES: Final = {profile.id: profile for profile in (CORRECTOR, SPLIT)}
