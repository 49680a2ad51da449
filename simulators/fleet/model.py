"""What a simulated meter of a fleet is, and what is true about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HOUR: Final = 3600.0
DAY: Final = 86_400.0
QUARTER: Final = 900.0
QUARTERS: Final = 96

Medium = Literal["gas", "water", "electricity"]
CustomerClass = Literal["residential", "residential_heating", "restaurant", "commercial", "public", "industrial"]
HOUSEHOLDS: Final[frozenset[CustomerClass]] = frozenset({"residential", "residential_heating"})


@dataclass(slots=True)
class Meter:
    """One meter at its usage point.

    habit: which pattern of use (see `simulators.fleet.use`). decimals: digits behind the point. start, end: [s UTC]
    observation, both at local midnight. replaced: [s UTC] of a meter exchange, recorded says whether the master data
    know it. first_index: [m³ or kWh] at the start.
    """

    id: str
    medium: Medium
    customer_class: CustomerClass
    habit: str
    install_date: date
    digits: int
    decimals: int
    interval_s: int
    district: str
    start: float
    days: int
    commissioned: bool = True
    qmax_per_h: float = 0.0
    first_index: float = 0.0
    replaced: float | None = None
    recorded: bool = True

    @property
    def end(self) -> float:
        """[s UTC]."""
        return self.start + self.days * DAY

    @property
    def is_household(self) -> bool:
        """True for both residential classes."""
        return self.customer_class in HOUSEHOLDS


@dataclass(frozen=True, slots=True)
class Label:
    """An anomaly that was put in; times [s UTC]."""

    kind: str
    start: float
    end: float
    severity: str
    note: str


@dataclass(frozen=True, slots=True)
class Situation:
    """Something ordinary that may look like an anomaly; times [s UTC]."""

    kind: str
    start: float
    end: float


@dataclass(slots=True)
class Trace:
    """What goes through a meter and how it is reported.

    use: [m³ or kWh per quarter hour], what the register counts, shape (days * 96,). flags: (from, to, name).
    scales: (from, factor) of unit errors. silences: (from, to) without any row. bursts: (from, to) whose rows arrive
    together after the end, with the spread [s] of their arrival. spikes: how many bad values of which form.
    """

    use: Floats
    labels: list[Label] = field(default_factory=list)
    situations: list[Situation] = field(default_factory=list)
    flags: list[tuple[float, float, str]] = field(default_factory=list)
    scales: list[tuple[float, float]] = field(default_factory=list)
    silences: list[tuple[float, float]] = field(default_factory=list)
    bursts: list[tuple[float, float, float]] = field(default_factory=list)
    spikes: list[str] = field(default_factory=list)
    bad_clock_rows: int = 0

    def quarter(self, meter: Meter, moment: float) -> int:
        """Return the quarter hour that holds `moment` [s UTC], within the array."""
        return int(min(max(0.0, (moment - meter.start) / QUARTER), self.use.size))

    def part(self, meter: Meter, start: float, end: float) -> slice:
        """Return the quarter hours from `start` to `end` [s UTC]."""
        return slice(self.quarter(meter, start), self.quarter(meter, end))

    def note_whole(self, meter: Meter, kind: str) -> None:
        """Note a situation that holds for the whole observation."""
        self.situations.append(Situation(kind, meter.start, meter.end))

    def during(self, kind: str) -> bool:
        """True when a situation of this kind is noted."""
        return any(s.kind == kind for s in self.situations)
