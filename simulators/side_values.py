"""What a meter shows beside its index: pressure, temperature, voltages, the other counters.

Plausible and repeatable, not physics: enough that a corrector's own numbers agree with each other (base volume =
actual volume * conversion factor at the reference the meter keeps) and that nothing stands still like a dead sensor.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable
from typing import Final

from metering.quantities import MICRO, Quantity
from simulators.simulated_meter import SideValues

_DAY_MS: Final = 86_400_000
_TARIFF_SHARES: Final = (0.28, 0.42, 0.2, 0.1)  # peak, flat, valley, night; sums to 1

Values = dict[Quantity, int]


def side_values(medium: str, *, meter: str, seed: int) -> SideValues:
    """Return the function that a meter of this medium asks for its slow quantities.

    The result takes (index, flow, t_ms): [10⁻⁶ house units], [the same per hour], [ms UTC].
    """
    rng = random.Random(zlib.crc32(meter.encode()) ^ seed ^ 0x51DE)
    return {"gas": _gas, "water": _water, "electricity": _electricity, "heat": _heat}[medium](rng)


def _gas(rng: random.Random) -> Callable[[int, int, int], Values]:
    gauge_kpa = rng.choice([2.5, 3.0, 20.0, 100.0, 200.0])
    warmth, phase = rng.uniform(8, 18), rng.random()
    factor = (101.325 + gauge_kpa) / 101.325 * 293.15 / (273.15 + warmth)
    per_mille = round(factor * 1000)

    def values(index: int, flow: int, t_ms: int) -> Values:
        swing = math.sin(2 * math.pi * (t_ms / _DAY_MS + phase))
        return {
            "volume": index,
            "volume_standard": index,
            "volume_actual": index * 1000 // per_mille,
            "flow": flow * 1000 // per_mille,
            "pressure": round((101.325 + gauge_kpa * (1 + 0.01 * swing)) * MICRO),
            "temperature": round((warmth + 2.0 * swing) * MICRO),
            "conversion_factor": per_mille * 1000,
            "battery": 3_600_000,
            "valve": 0,
        }

    return values


def _water(rng: random.Random) -> Callable[[int, int, int], Values]:
    warmth, phase, backwards = rng.uniform(8, 16), rng.random(), rng.randrange(0, 400) * 1000

    def values(index: int, flow: int, t_ms: int) -> Values:
        swing = math.sin(2 * math.pi * (t_ms / _DAY_MS + phase))
        return {
            "volume": index,
            "volume_reverse": backwards,
            "flow": flow,
            "temperature": round((warmth + swing) * MICRO),
            "pressure": round((320 + 15 * swing) * MICRO),
            "battery": 3_600_000,
            "valve": 0,
        }

    return values


def _heat(rng: random.Random) -> Callable[[int, int, int], Values]:
    supply, phase = rng.uniform(55, 75), rng.random()

    def values(index: int, flow: int, t_ms: int) -> Values:
        swing = math.sin(2 * math.pi * (t_ms / _DAY_MS + phase))
        return {
            "energy_import": index,
            "power": flow,
            "volume": index * 43 // 1000,  # 1 kWh is 43 L of water cooled by 20 K
            "temperature": round((supply + 2 * swing) * MICRO),
            "temperature_2": round((supply - 20 + swing) * MICRO),
        }

    return values


def _electricity(rng: random.Random) -> Callable[[int, int, int], Values]:
    phase, ratio = rng.random(), rng.choice([0, 0, 7])

    def values(index: int, flow: int, t_ms: int) -> Values:
        swing = math.sin(2 * math.pi * (t_ms / _DAY_MS + phase))
        volts = 230.0 + 3.0 * swing
        found: Values = {
            "energy_import": index,
            "energy_export": index * ratio // 100,
            "power": flow,
            "voltage": round(volts * MICRO),
            "current": round(flow / MICRO * 1000 / 3 / volts * MICRO),
        }
        tariffs: tuple[Quantity, ...] = ("energy_import_t1", "energy_import_t2", "energy_import_t3")
        for tariff, share in zip(tariffs, _TARIFF_SHARES, strict=False):
            found[tariff] = int(index * share)
        found["energy_import_t4"] = index - sum(found[tariff] for tariff in tariffs)
        return found

    return values
