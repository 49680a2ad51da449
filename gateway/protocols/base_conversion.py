"""Gas volumes at base conditions: Vb = Vm x (P / Pb) x (Tb / T) x (Zb / Z).

P is absolute. Mixing it with gauge pressure is the classic error: at 3 kPa gauge it makes Vb about 35 times too
small. The base state belongs to the value: Vb at 20 degC is 1.07322 times Vb at 0 degC, so a volume never travels
without it.
All arguments are integers in 10⁻⁶ of the house unit (m3, kPa, degC; Z and factors: 1). The arithmetic is exact, and
rounded once, half to even, at the end.
Source: the law of real gases; EN 12405-1 uses this form for volume conversion devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from metering.quantities import INT64_MAX, MICRO, from_micro

ZERO_C: Final = 273_150_000
"""0 degC in [10⁻⁶ K]."""
STANDARD_ATMOSPHERE: Final = 101_325_000
"""[10⁻⁶ kPa] at sea level."""


def _check(pressure: int, temperature: int, z: int) -> None:
    if pressure <= 0:
        raise ValueError(f"pressure {from_micro(pressure)} kPa: absolute pressure is above 0")
    if temperature + ZERO_C <= 0:
        raise ValueError(f"temperature {from_micro(temperature)} degC lies below absolute zero")
    if z <= 0:
        raise ValueError(f"compressibility {from_micro(z)}: it is above 0")


@dataclass(frozen=True, slots=True)
class BaseState:
    """Base pressure [10⁻⁶ kPa, absolute], temperature [10⁻⁶ degC] and compressibility there [10⁻⁶]."""

    pressure: int = STANDARD_ATMOSPHERE
    temperature: int = 20 * MICRO
    z: int = MICRO

    def __post_init__(self) -> None:
        _check(self.pressure, self.temperature, self.z)

    def __str__(self) -> str:
        return f"{from_micro(self.temperature)} degC, {from_micro(self.pressure)} kPa"


CHINA: Final = BaseState()
"""20 degC and 101.325 kPa."""
NORMAL: Final = BaseState(temperature=0)
"""0 degC and 101.325 kPa, common in Europe."""
ISO_13443: Final = BaseState(temperature=15 * MICRO)
"""15 degC and 101.325 kPa."""


@dataclass(frozen=True, slots=True)
class StandardVolume:
    """A volume [10⁻⁶ m3] and the base state that it holds for."""

    volume: int
    base: BaseState


def conversion_factor(*, pressure: int, temperature: int, z: int = MICRO, base: BaseState = CHINA) -> Fraction:
    """Return the exact C = Vb / Vm.

    pressure: [10⁻⁶ kPa], absolute. temperature: [10⁻⁶ degC]. z: compressibility at both [10⁻⁶].
    Raises: ValueError for a pressure, absolute temperature or compressibility that is not above 0.
    """
    _check(pressure, temperature, z)
    top = pressure * (base.temperature + ZERO_C) * base.z
    return Fraction(top, base.pressure * (temperature + ZERO_C) * z)


def to_base(vm: int, *, pressure: int, temperature: int, z: int = MICRO, base: BaseState = CHINA) -> StandardVolume:
    """Return the volume at base conditions for the volume `vm` [10⁻⁶ m3] as it passed the meter.

    Arguments as `conversion_factor`. Raises: ValueError, also when the result leaves int64.
    """
    factor = conversion_factor(pressure=pressure, temperature=temperature, z=z, base=base)
    return StandardVolume(_rounded(vm * factor), base)


def rebase(value: StandardVolume, base: BaseState) -> StandardVolume:
    """Return the same gas at another base state. Raises: ValueError when the result leaves int64."""
    was = value.base
    factor = conversion_factor(pressure=was.pressure, temperature=was.temperature, z=was.z, base=base)
    return StandardVolume(_rounded(value.volume * factor), base)


def absolute_pressure(gauge: int, *, atmosphere: int = STANDARD_ATMOSPHERE) -> int:
    """Return the absolute pressure [10⁻⁶ kPa]; atmosphere: at the meter, see `atmosphere_at`."""
    return gauge + atmosphere


def atmosphere_at(altitude_m: float) -> int:
    """Return the mean air pressure [10⁻⁶ kPa] at an altitude [m] from -500 to 9000.

    Source: ISO 2533 standard atmosphere, troposphere: 101.325 (1 - 2.25577e-5 h)^5.25588 kPa.
    Raises: ValueError outside this range.
    """
    if not -500 <= altitude_m <= 9000:
        raise ValueError(f"altitude {altitude_m} m; -500 to 9000 are possible")
    share: float = (1 - 2.25577e-5 * altitude_m) ** 5.25588
    return round(STANDARD_ATMOSPHERE * share)


def disagrees(told: int, computed: int, *, limit: int = 10_000) -> bool:
    """True when a device's own Vb and the computed one differ by more than `limit` [10⁻⁶ of the computed, 1 %].

    A device's Vb is the one to bill; the computed one is only a check of it.
    """
    return abs(told - computed) * MICRO > limit * abs(computed)


def _rounded(number: Fraction) -> int:
    whole = round(number)
    if abs(whole) > INT64_MAX:
        raise ValueError("the volume at base conditions is too large")
    return whole
