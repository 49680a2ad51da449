"""How different customers use gas, water and electricity: amounts per day and shapes within a day.

A `Habit` is data; `simulators.consumption` turns it and a seed into an index. Levels are those of the users' rules
(a household above 50 m³ of gas a month is worth a look) and of plain arithmetic (a 24 kW boiler burns about
2.5 m³/h of natural gas); they are for simulation, not measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Peak:
    """A time of use within the day.

    at_h, spread_h: [h, local] usual middle and its day-to-day spread. length_h: [h] how long it lasts.
    weight: share relative to the other peaks. chance: probability that it happens on a given day.
    """

    at_h: float
    spread_h: float
    length_h: float
    weight: float
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Habit:
    """One kind of customer.

    per_day: [house units] usual amount on a weekday without heating. spread: sigma of its day-to-day lognormal
    noise. between: sigma between meters of this kind. weekend: factor on Saturday and Sunday.
    base: share of `per_day` that runs evenly around the clock (standby, a recirculation pump, 24-hour industry).
    heating: [house units per degree below 15 °C and day], 0 without a boiler; spread over the day by `heating_peaks`.
    idle: probability of a day without any use.
    """

    medium: str
    per_day: float
    peaks: tuple[Peak, ...]
    spread: float = 0.25
    between: float = 0.35
    weekend: float = 1.0
    base: float = 0.0
    heating: float = 0.0
    heating_peaks: tuple[Peak, ...] = ()
    idle: float = 0.0


_COOKING: Final = (
    Peak(7.0, 0.4, 0.5, 0.6, 0.8),
    Peak(11.8, 0.5, 0.75, 1.0, 0.7),
    Peak(18.4, 0.6, 1.0, 1.6, 0.92),
    Peak(21.3, 0.7, 0.5, 1.2, 0.85),  # showers from the gas water heater
)
_BOILER: Final = (Peak(6.5, 0.3, 3.0, 1.4), Peak(12.5, 0.8, 6.0, 1.0), Peak(19.5, 0.4, 6.0, 2.0))
_MEALS_OUT: Final = (Peak(11.8, 0.2, 3.0, 1.0), Peak(18.8, 0.3, 4.5, 1.6))
_SHIFTS: Final = (Peak(10.0, 0.1, 8.0, 1.0), Peak(18.0, 0.1, 8.0, 0.9))  # 06-14 and 14-22
_TAPS: Final = (
    Peak(7.0, 0.5, 1.0, 1.2, 0.95),
    Peak(12.3, 0.7, 1.0, 0.6, 0.8),
    Peak(18.8, 0.8, 1.5, 1.0, 0.95),
    Peak(21.8, 0.7, 1.0, 1.4, 0.9),
)
_LIGHTS: Final = (Peak(7.2, 0.4, 1.5, 0.5), Peak(12.5, 0.6, 2.0, 0.6), Peak(19.8, 0.5, 4.5, 2.2))
_OFFICE: Final = (Peak(13.3, 0.2, 9.5, 1.0),)

HABITS: Final[Mapping[str, Habit]] = MappingProxyType(
    {
        "household_gas": Habit("gas", 0.7, _COOKING, spread=0.35, weekend=1.15, idle=0.04),
        "household_gas_boiler": Habit("gas", 0.8, _COOKING, weekend=1.1, heating=0.55, heating_peaks=_BOILER),
        "restaurant_gas": Habit("gas", 38.0, _MEALS_OUT, weekend=1.2, base=0.02),
        "factory_gas": Habit("gas", 900.0, _SHIFTS, spread=0.1, weekend=0.25, base=0.05),
        "continuous_industry_gas": Habit("gas", 2400.0, _SHIFTS, spread=0.06, weekend=0.97, base=0.85),
        "household_water": Habit("water", 0.32, _TAPS, spread=0.35, weekend=1.15, idle=0.03),
        "commercial_water": Habit("water", 4.5, _OFFICE, weekend=0.6, base=0.03),
        "household_electricity": Habit("electricity", 6.5, _LIGHTS, spread=0.2, weekend=1.1, base=0.35),
        "commercial_electricity": Habit("electricity", 85.0, _OFFICE, spread=0.12, weekend=0.5, base=0.2),
        "factory_electricity": Habit("electricity", 1600.0, _SHIFTS, spread=0.08, weekend=0.3, base=0.12),
    }
)
"""Names are what a farm's settings call `curve`."""
