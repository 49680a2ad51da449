"""The city around the meters: its calendar, its weather, its concentrators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np

from simulators.fleet.model import DAY, HOUR, Floats

OFFSET_S: Final = 8 * HOUR
TZ: Final = "Asia/Shanghai"
DISTRICTS: Final = tuple(f"D{n}" for n in range(8))
FIRST_DAY: Final = date(2025, 10, 15)
WEATHER_DAYS: Final = 150
SPRING_FESTIVAL: Final = date(2026, 2, 17)
_CLIMATE_C: Final = ((0, 15.0), (31, 8.6), (62, 6.2), (93, 4.0), (120, 8.3), (150, 10.5))
"""(days after 15 October, mean temperature [°C]): the level of the sample fleet's weather."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Meters that are observed over the same local days."""

    name: str
    first: date
    days: int

    @property
    def start(self) -> float:
        """[s UTC]."""
        return midnight(self.first)


AUTUMN: Final = Cohort("autumn", date(2025, 10, 20), 60)
FESTIVAL: Final = Cohort("festival", date(2026, 1, 10), 60)
SEASON: Final = Cohort("season", FIRST_DAY, WEATHER_DAYS)


@dataclass(frozen=True, slots=True)
class Outage:
    """A concentrator that is away for some hours: its meters' rows arrive together afterwards; times [s UTC]."""

    district: str
    start: float
    end: float

    @property
    def day(self) -> float:
        """Local midnight before it [s UTC]."""
        return midnight(local_date(self.start))


@dataclass(frozen=True, slots=True)
class City:
    """Weather [°C, daily mean from FIRST_DAY on] and outages that all meters share."""

    temperature: Floats
    outages: tuple[Outage, ...]

    def temperatures(self, start: float, days: int) -> Floats:
        """Return the daily means from the local day that begins at `start` [s UTC]."""
        first = round((start - midnight(FIRST_DAY)) / DAY)
        return self.temperature[first : first + days]


def make_city(rng: np.random.Generator) -> City:
    """Draw one city's winter."""
    knots, levels = zip(*_CLIMATE_C, strict=True)
    climate = np.interp(np.arange(WEATHER_DAYS), knots, levels)
    anomaly, temperatures = 0.0, []
    for normal in climate:
        anomaly = 0.62 * anomaly + rng.normal(0, 2.3)
        temperatures.append(round(float(normal + anomaly), 1))
    outages = []
    for cohort in (AUTUMN, FESTIVAL):
        begin = cohort.start + rng.integers(15, 45) * DAY + 10 * HOUR + rng.uniform(-2, 6) * HOUR
        outages.append(Outage(str(rng.choice(DISTRICTS)), begin, begin + rng.uniform(6, 14) * HOUR))
    return City(np.array(temperatures), tuple(outages))


def midnight(day: date) -> float:
    """Return [s UTC] of the local day's beginning."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() - OFFSET_S


def local_date(moment: float) -> date:
    """Return the local day of [s UTC]."""
    return (datetime.fromtimestamp(moment, UTC) + timedelta(seconds=OFFSET_S)).date()


def weekdays(start: float, days: int) -> Floats:
    """Return the weekday (0 Monday) of each local day from `start` [s UTC] on."""
    return np.asarray((np.arange(days) + local_date(start).weekday()) % 7, dtype=np.float64)
