"""Exact factors from a meter's unit to the house unit: a quantity is converted once, here at the edge."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_TO_HOUSE: Final[dict[str, dict[str, str]]] = {
    "m3": {"m3": "1", "L": "0.001", "mL": "0.000001"},
    "m3/h": {"m3/h": "1", "m3/min": "60", "m3/s": "3600", "L/h": "0.001", "L/min": "0.06", "L/s": "3.6"},
    "kWh": {"kWh": "1", "Wh": "0.001", "MWh": "1000"},
    "kW": {"kW": "1", "W": "0.001", "MW": "1000"},
    "kPa": {"kPa": "1", "Pa": "0.001", "hPa": "0.1", "mbar": "0.1", "bar": "100", "MPa": "1000"},
    "degC": {"degC": "1"},
    "V": {"V": "1", "mV": "0.001", "kV": "1000"},
    "A": {"A": "1", "mA": "0.001"},
    "1": {"1": "1", "%": "0.01"},
}


def units_of(house_unit: str) -> list[str]:
    """Return the units that can be converted to this house unit, itself first."""
    return list(_TO_HOUSE[house_unit])


def factor(unit: str, house_unit: str) -> Decimal:
    """Return by what a number in `unit` is multiplied to be one in `house_unit`. Raises: KeyError when unrelated."""
    return Decimal(_TO_HOUSE[house_unit][unit])
