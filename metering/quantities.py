"""The closed list of quantities, their house units, and exact conversion at the edges.

Inside Metergate every quantity is an `int` in 10⁻⁶ of its house unit ("micro"): 1.5 m³ is 1_500_000.
At the edges it is a decimal string of the natural unit ("1.5"), in InfluxDB a float.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final, Literal, get_args

Quantity = Literal[
    "volume",
    "volume_actual",
    "volume_standard",
    "volume_reverse",
    "energy_import",
    "energy_export",
    "energy_import_t1",
    "energy_import_t2",
    "energy_import_t3",
    "energy_import_t4",
    "flow",
    "power",
    "pressure",
    "temperature",
    "temperature_2",
    "voltage",
    "current",
    "battery",
    "credit",
    "conversion_factor",
    "valve",
]

QUANTITIES: Final[tuple[Quantity, ...]] = get_args(Quantity)

UNITS: Final[dict[Quantity, str]] = {
    "volume": "m3",
    "volume_actual": "m3",
    "volume_standard": "m3",
    "volume_reverse": "m3",
    "energy_import": "kWh",
    "energy_export": "kWh",
    "energy_import_t1": "kWh",
    "energy_import_t2": "kWh",
    "energy_import_t3": "kWh",
    "energy_import_t4": "kWh",
    "flow": "m3/h",
    "power": "kW",
    "pressure": "kPa",
    "temperature": "degC",
    "temperature_2": "degC",
    "voltage": "V",
    "current": "A",
    "battery": "V",
    "credit": "m3",
    "conversion_factor": "1",
    "valve": "1",
}

COUNTERS: Final[frozenset[Quantity]] = frozenset(q for q in QUANTITIES if q.startswith(("volume", "energy")))
"""Quantities that accumulate; only these can be an index 表底数 and be billed."""

MICRO: Final = 1_000_000
INT64_MAX: Final = 2**63 - 1
_MAX_DIGITS: Final = 40  # longer texts are an attack, not a meter


def to_micro(text: str | int | Decimal) -> int:
    """Return the exact number of 10⁻⁶ units in a decimal number of the natural unit.

    text: "12345.678", an int or a Decimal; exponent forms are accepted, white space and signs too.
    Raises: ValueError when it is not a finite number, has more than 6 decimals, or leaves int64.
    """
    if isinstance(text, str) and len(text) > _MAX_DIGITS:
        raise ValueError(f"number of {len(text)} characters; {_MAX_DIGITS} are allowed")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not a decimal number: {text!r}") from None
    if not number.is_finite() or number.adjusted() > 20:
        raise ValueError(f"not a number a meter can show: {text!r}")
    micro = number.scaleb(6)
    whole = int(micro)
    if whole != micro:
        raise ValueError(f"more than 6 decimals: {text!r}")
    if abs(whole) > INT64_MAX:
        raise ValueError(f"too large: {text!r}")
    return whole


def from_micro(micro: int) -> str:
    """Return the shortest decimal string of the natural unit: 1_500_000 -> "1.5", 0 -> "0"."""
    sign, magnitude = ("-", -micro) if micro < 0 else ("", micro)
    whole, part = divmod(magnitude, MICRO)
    if not part:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{part:06d}".rstrip("0")


def survives_float(micro: int) -> bool:
    """True when `micro` comes back exactly after a trip through a float of the natural unit.

    Holds for every value of up to 15 significant digits (IEEE 754 binary64); InfluxDB keeps floats.
    """
    return round(micro / MICRO * MICRO) == micro
