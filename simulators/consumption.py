"""Consumption curves: the exact index of a simulated meter at any moment, from a seed.

A day's amount comes from a table that is drawn once per meter, the shape within the day from a generator seeded by
(seed, meter, day); both are integers of 10⁻⁶ house units, so that an index never depends on who asked before, and
the sum of a day's quarter hours is the day exactly.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from metering.quantities import MICRO
from simulators.habits import HABITS, Habit, Peak

DAY_MS: Final = 86_400_000
QUARTER_MS: Final = 900_000
ORIGIN_MS: Final = 1_704_038_400_000
"""2024-01-01T00:00 at UTC+8: every curve starts counting here and stands at its start index before."""
_DAYS: Final = 4_383  # curves run for 12 years (to the end of 2035) and stand still afterwards
_QUARTERS: Final = 96
_HEATING_BELOW_C: Final = 15.0

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Curve(Protocol):
    """The index of one meter over time."""

    def index(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units] at `t_ms` [ms UTC]."""

    def flow(self, t_ms: int) -> int:
        """Return the rate [10⁻⁶ house units per hour] at `t_ms` [ms UTC]."""


class HabitCurve:
    """The index of a meter whose customer lives by a `Habit`.

    Evaluating inside the quarter hour of the last question costs well under 1 µs; a new day about 100 µs.
    """

    def __init__(self, habit: Habit, *, seed: int, meter: str, start_index: int = 0) -> None:
        self._habit = habit
        self._key = (seed, zlib.crc32(meter.encode()))
        basic, heat = _daily_amounts(habit, self._key)
        self._heat_share = (heat / np.maximum(1, basic + heat)).astype(np.float32)
        self._opening: Ints = start_index + np.concatenate([np.zeros(1, np.int64), np.cumsum(basic + heat)])
        self._day = -1
        self._marks: list[int] = []  # index at each quarter hour of self._day, 97 entries
        self._from = self._to = 0  # the quarter hour that was asked last [ms UTC]
        self._at_from = self._in_quarter = 0

    def index(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units]; never falls as `t_ms` rises."""
        if not self._from <= t_ms < self._to:
            self._seek(t_ms)
        return self._at_from + (t_ms - self._from) * self._in_quarter // QUARTER_MS

    def flow(self, t_ms: int) -> int:
        """Return the rate of the current quarter hour [10⁻⁶ house units per hour]."""
        if not self._from <= t_ms < self._to:
            self._seek(t_ms)
        return self._in_quarter * 4

    def _seek(self, t_ms: int) -> None:
        day, in_day = divmod(t_ms - ORIGIN_MS, DAY_MS)
        if not 0 <= day < _DAYS:
            self._stand(int(self._opening[0 if day < 0 else -1]), t_ms)
            return
        if day != self._day:
            self._marks = self._quarters(day)
            self._day = day
        quarter = in_day // QUARTER_MS
        self._from = ORIGIN_MS + day * DAY_MS + quarter * QUARTER_MS
        self._to = self._from + QUARTER_MS
        self._at_from = self._marks[quarter]
        self._in_quarter = self._marks[quarter + 1] - self._at_from

    def _stand(self, index: int, t_ms: int) -> None:
        self._from, self._to, self._at_from, self._in_quarter = t_ms, t_ms + 1, index, 0

    def _quarters(self, day: int) -> list[int]:
        """Return the index at each quarter hour of a day, 97 entries from midnight to midnight."""
        opening, closing = int(self._opening[day]), int(self._opening[day + 1])
        rng = _generator(*self._key, day + 1)
        basic = (1 - self._habit.base) * _shape(self._habit.peaks, rng) + self._habit.base / _QUARTERS
        heat = float(self._heat_share[day])
        share = (1 - heat) * basic + heat * _shape(self._habit.heating_peaks, rng)
        inner = opening + np.floor(np.cumsum(share)[:-1] * (closing - opening)).astype(np.int64)
        return [opening, *np.minimum(inner, closing).tolist(), closing]


class CountingCurve:
    """An index that rises by one `step` each time it is asked, so that every answer is unique.

    The loss judge uses it: an index that is in the simulator's log and not in the store is a lost reading.
    """

    def __init__(self, *, step: int, start_index: int = 0) -> None:
        if step < 1:
            raise ValueError(f"step of a counting curve must be 1 or more, not {step}")
        self._step = step
        self._next = start_index

    def index(self, t_ms: int) -> int:
        """Return the next index [10⁻⁶ house units]; time plays no part."""
        value = self._next
        self._next += self._step
        return value

    def flow(self, t_ms: int) -> int:
        """Return 0: a counting meter has no rate."""
        return 0


class SteadyCurve:
    """A constant rate from the origin on; rate 0 is a meter at rest."""

    def __init__(self, *, per_hour: int, start_index: int = 0) -> None:
        self._per_hour = per_hour
        self._start = start_index

    def index(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units]."""
        return self._start + max(0, t_ms - ORIGIN_MS) * self._per_hour // 3_600_000

    def flow(self, t_ms: int) -> int:
        """Return the rate [10⁻⁶ house units per hour]."""
        return self._per_hour


CURVES: Final = (*HABITS, "counting", "steady", "rest")
"""What settings may call `curve`."""


def make_curve(
    name: str, *, seed: int, meter: str, start_index: int | None = None, step: int = MICRO // 100
) -> Curve:
    """Return the curve of `name` (one of `CURVES`) for one meter.

    start_index: [10⁻⁶ house units] at 2024-01-01 local; None draws one from the seed, below 5,000 units.
    step: [10⁻⁶ house units] what a counting curve adds at each answer.
    Raises: ValueError for an unknown name.
    """
    if name not in CURVES:
        raise ValueError(f"curve {name!r} is unknown; there are {', '.join(CURVES)}")
    drawn = int(_generator(seed, zlib.crc32(meter.encode()), 0).integers(0, 5_000 * 1000)) * (MICRO // 1000)
    start = drawn if start_index is None else start_index
    if name == "counting":
        return CountingCurve(step=step, start_index=start // step * step)
    if name in ("steady", "rest"):
        return SteadyCurve(per_hour=MICRO if name == "steady" else 0, start_index=start)
    return HabitCurve(HABITS[name], seed=seed, meter=meter, start_index=start)


def temperature_c(day: Floats, seed: int) -> Floats:
    """Return the daily mean temperature [°C] `day` days after 2024-01-01: a northern Chinese city.

    One city has one weather, hence no meter in the seed.
    """
    season = 13.0 - 14.5 * np.cos(2 * np.pi * (day - 15) / 365.25)
    rng = _generator(seed, 0, 0)
    waves = sum(2.0 * np.sin(2 * np.pi * (day / length + rng.random())) for length in (5.3, 8.9, 17.0))
    return np.asarray(season + waves, dtype=np.float64)


def _daily_amounts(habit: Habit, key: tuple[int, int]) -> tuple[Ints, Ints]:
    """Return (basic, heating) [10⁻⁶ house units] for every day."""
    rng = _generator(*key, 0)
    rng.integers(0, 5_000 * 1000)  # the start index was drawn from the same generator
    level = habit.per_day * np.exp(rng.normal(0, habit.between))
    day = np.arange(_DAYS, dtype=np.float64)
    noise = np.exp(rng.normal(0, habit.spread, _DAYS))
    awake = rng.random(_DAYS) >= habit.idle
    weekday = day.astype(np.int64) % 7  # 2024-01-01 was a Monday
    basic = level * noise * awake * np.where(weekday >= 5, habit.weekend, 1.0)
    degrees = np.maximum(0.0, _HEATING_BELOW_C - temperature_c(day, key[0]))
    heat = habit.heating * degrees * np.exp(rng.normal(0, habit.between / 2)) * np.where(degrees > 2, noise, 0.0)
    return np.asarray(basic * MICRO, dtype=np.int64), np.asarray(heat * MICRO, dtype=np.int64)


def _shape(peaks: tuple[Peak, ...], rng: np.random.Generator) -> Floats:
    """Return the share of each quarter hour of a day; sums to 1 (0 without peaks)."""
    share = np.zeros(_QUARTERS)
    for peak in peaks:
        middle, happens, size = peak.at_h + peak.spread_h * rng.normal(), rng.random(), rng.lognormal(0, 0.25)
        if happens < peak.chance:
            first = round((middle - peak.length_h / 2) * 4)
            quarters = np.arange(first, first + max(1, round(peak.length_h * 4))) % _QUARTERS
            share[quarters] += peak.weight * size * rng.uniform(0.6, 1.4, quarters.size)
    if peaks and not share.any():
        share[round(peaks[-1].at_h * 4) % _QUARTERS] = 1.0
    return np.asarray(share / (share.sum() or 1.0), dtype=np.float64)


def _generator(seed: int, meter: int, day: int) -> np.random.Generator:
    return np.random.default_rng((seed, meter, day))  # noqa: TID251  the seed comes from the caller
