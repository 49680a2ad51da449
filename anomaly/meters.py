"""Master data of usage points as arrays: what rules and intervals need to know of each meter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from metering.steps import LimitArrays, limit_arrays, limits_of

MEDIA: Final = ("gas", "water", "electricity", "heat")
CLASSES: Final = ("residential", "residential_heating", "restaurant", "commercial", "public", "industrial")
OTHER_CLASS: Final = "other"
"""Class of a meter whose class nobody knows: judged by rules that need no class."""

DEFAULT_QMAX: Final[Mapping[str, float]] = {"gas": 6.0, "water": 5.0, "electricity": 15.0, "heat": 15.0}
"""[m³/h, kW] of a household connection, for meters whose file does not say: G4 (EN 1359), Q3 4 (ISO 4064), 60 A."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One usage point. index_digits: integer digits. resolution, qmax_per_h: [micro], [micro/h]. *_s: [s since 1970].

    commissioned: False when gas must not flow yet. replaced_s: recorded exchange, 0 when none is known. until_s: end
    of the observation (removed, or handed to another system), 0 when it goes on. parent: meter that supplies it.
    """

    meter_id: str
    medium: str = "gas"
    customer_class: str = "residential"
    unit: str = "m3"
    index_digits: int = 6
    resolution: int = 10_000
    interval_s: int = 3600
    qmax_per_h: int = 6_000_000
    tz: str = "Asia/Shanghai"
    district: str = ""
    commissioned: bool = True
    replaced_s: int = 0
    parent: str = ""
    until_s: int = 0


@dataclass(slots=True)
class MeterTable:
    """Meters in a fixed order; row i of every array is meter i."""

    meters: list[Meter]
    rows: dict[str, int] = field(init=False)
    medium: NDArray[np.int8] = field(init=False)
    customer_class: NDArray[np.int8] = field(init=False)
    interval_s: NDArray[np.int64] = field(init=False)
    resolution: NDArray[np.float64] = field(init=False)
    qmax: NDArray[np.float64] = field(init=False)
    commissioned: NDArray[np.bool_] = field(init=False)
    replaced_s: NDArray[np.int64] = field(init=False)
    district: NDArray[np.int32] = field(init=False)
    districts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Fill the arrays. medium: place in MEDIA; customer_class: place in CLASSES, len(CLASSES) for `other`."""
        places = {name: i for i, name in enumerate(CLASSES)}
        self.rows = {meter.meter_id: i for i, meter in enumerate(self.meters)}
        self.medium = self._array([MEDIA.index(m.medium) for m in self.meters], np.int8)
        self.customer_class = self._array([places.get(m.customer_class, len(CLASSES)) for m in self.meters], np.int8)
        self.interval_s = self._array([m.interval_s for m in self.meters], np.int64)
        self.resolution = self._array([m.resolution / 1e6 for m in self.meters], np.float64)
        self.qmax = self._array([m.qmax_per_h / 1e6 for m in self.meters], np.float64)
        self.commissioned = self._array([m.commissioned for m in self.meters], np.bool_)
        self.replaced_s = self._array([m.replaced_s for m in self.meters], np.int64)
        self.districts = sorted({m.district for m in self.meters})
        numbers = {name: i for i, name in enumerate(self.districts)}
        self.district = self._array([numbers[m.district] for m in self.meters], np.int32)

    @staticmethod
    def _array(values: Sequence[Any], dtype: Any) -> NDArray[Any]:
        return np.array(values, dtype)

    def __len__(self) -> int:
        return len(self.meters)

    def limits(self, *, over_factor: float = 1.5) -> LimitArrays:
        """What each meter can pass, for `metering.steps`."""
        return limit_arrays(
            [
                limits_of(digits=m.index_digits, resolution=m.resolution, qmax=m.qmax_per_h, over_factor=over_factor)
                for m in self.meters
            ]
        )

    def part(self, rows: NDArray[np.int64]) -> MeterTable:
        """Table of some of the meters."""
        return MeterTable([self.meters[i] for i in rows.tolist()])
