"""How much goes through a meter, quarter hour by quarter hour, for each habit.

Levels and shapes are chosen so that daily amounts, shares of still hours and hourly profiles of a generated fleet lie
where those of the labelled sample lie; they are no measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.fleet.city import weekdays
from simulators.fleet.model import QUARTERS, Floats, Meter

_HOURS: Final[Floats] = np.arange(QUARTERS) / 4.0
_HEATING_BELOW_C: Final = 15.5


@dataclass(frozen=True, slots=True)
class Days:
    """The local days of one meter. temperature: [°C]. weekday: 0 Monday. heating_from: first day with heating."""

    temperature: Floats
    weekday: Floats
    heating_from: int

    @property
    def count(self) -> int:
        """How many."""
        return self.temperature.size

    @property
    def weekend(self) -> Floats:
        """1.0 on Saturday and Sunday."""
        return (self.weekday >= 5).astype(np.float64)


Maker = Callable[[Days, np.random.Generator], Floats]
"""Returns [units per quarter hour], shape (days, 96)."""


def use_of(
    meter: Meter, temperature: Floats, heating_from: int, rng: np.random.Generator, *, weekday: Floats | None = None
) -> Floats:
    """Return what a healthy meter's customer uses [m³ or kWh per quarter hour], shape (days * 96,).

    weekday: by which each day is lived, when it is not the calendar's (holidays).
    """
    days = Days(temperature, weekdays(meter.start, meter.days) if weekday is None else weekday, heating_from)
    return np.maximum(0.0, _MAKERS[f"{meter.medium}.{meter.habit}"](days, rng)).ravel()


def _events(
    days: Days,
    rng: np.random.Generator,
    *,
    hour: float,
    spread: float,
    chance: Floats | float,
    length_h: float,
    amount: float,
) -> Floats:
    """Draw one kind of daily event: at most one a day, around `hour`, over about `length_h`, of about `amount`."""
    found = np.zeros((days.count, QUARTERS))
    happens = np.flatnonzero(rng.random(days.count) < chance)
    first = np.rint((hour + spread * rng.normal(size=happens.size)) * 4).astype(np.int64) % QUARTERS
    lasts = np.maximum(1, np.rint(length_h * 4 * np.exp(rng.normal(0, 0.35, happens.size)))).astype(np.int64)
    each = amount * np.exp(rng.normal(0, 0.35, happens.size)) / lasts
    for step in range(int(lasts.max(initial=0))):
        on = lasts > step
        np.add.at(
            found, (happens[on], (first[on] + step) % QUARTERS), each[on] * rng.uniform(0.7, 1.3, int(on.sum()))
        )
    return found


def _shaped(days: Days, rng: np.random.Generator, *, daily: Floats, shape: Floats, noise: float = 0.15) -> Floats:
    """Spread daily amounts over a fixed shape (any scale) with quarter-hour noise."""
    weight = shape[None, :] * np.exp(rng.normal(0, noise, (days.count, QUARTERS)))
    total = weight.sum(axis=1, keepdims=True)
    return np.asarray(daily[:, None] * weight / np.where(total > 0, total, 1.0), dtype=np.float64)


def _bump(middle: float, width: float) -> Floats:
    """A bell over the hours of the day, wrapping at midnight."""
    apart = np.abs(_HOURS - middle)
    return np.asarray(np.exp(-0.5 * (np.minimum(apart, 24 - apart) / width) ** 2), dtype=np.float64)


def _between(first: float, last: float) -> Floats:
    """1.0 from hour `first` to hour `last`, wrapping at midnight."""
    since = (_HOURS - first) % 24.0
    return (since < (last - first) % 24.0).astype(np.float64)


def _levels(days: Days, rng: np.random.Generator, *, level: float, spread: float, weekend: float = 1.0) -> Floats:
    """Daily amounts around `level` with slow and fast noise; weekend: factor."""
    slow = np.convolve(rng.normal(0, spread, days.count + 6), np.ones(7) / 7**0.5, "valid")
    noise = np.exp(0.35 * slow + rng.normal(0, spread, days.count))
    return np.asarray(level * noise * np.where(days.weekend > 0, weekend, 1.0), dtype=np.float64)


def _cooking(days: Days, rng: np.random.Generator) -> Floats:
    size, diligence = np.exp(rng.normal(0, 0.4)), rng.uniform(0.6, 1.0)
    total = np.zeros((days.count, QUARTERS))
    meals = ((7.0, 0.4, 0.5 * diligence, 0.4, 0.05), (11.6, 0.4, 0.65, 0.6, 0.12), (18.0, 0.5, 0.95, 0.8, 0.22))
    for hour, spread, chance, length, amount in meals:
        own_hour = hour + rng.normal(0, 0.5)
        likely = np.clip(chance * diligence + (0.15 * days.weekend if 9 < hour < 14 else 0), 0, 1)
        total += _events(
            days, rng, hour=own_hour, spread=spread, chance=likely, length_h=length, amount=amount * size
        )
    return total


def _showers(days: Days, rng: np.random.Generator) -> Floats:
    people, total = int(rng.integers(1, 5)), np.zeros((days.count, QUARTERS))
    for _ in range(people):
        hour = rng.normal(21.0, 0.9) if rng.random() < 0.7 else rng.normal(7.0, 0.5)
        total += _events(
            days, rng, hour=hour, spread=0.5, chance=rng.uniform(0.4, 0.9), length_h=0.3, amount=rng.uniform(0.1, 0.2)
        )
    for hour in (8.0, 12.5, 19.0):  # dishes and hands
        total += _events(days, rng, hour=hour, spread=1.0, chance=0.5, length_h=0.3, amount=0.03)
    return total


def _boiler(days: Days, rng: np.random.Generator) -> Floats:
    per_degree = 0.42 * np.exp(rng.normal(0, 0.4))
    degrees = np.maximum(0.0, _HEATING_BELOW_C - days.temperature) * (np.arange(days.count) >= days.heating_from)
    shape = 0.75 + rng.uniform(0.5, 2.5) * _bump(7.2, 1.6) + rng.uniform(0.5, 2.0) * _bump(18.8, 2.2)
    if rng.random() < 0.5:
        shape = shape * (1 - rng.uniform(0.8, 1.0) * _between(22.5, 5.0))  # off at night
    heat = _shaped(days, rng, daily=per_degree * degrees * np.exp(rng.normal(0, 0.12, days.count)), shape=shape)
    duty = np.clip(0.25 + degrees / 20.0, 0.2, 1.0)[:, None] * rng.uniform(0.7, 1.1)
    runs = np.repeat(rng.random((days.count, QUARTERS // 2)) < duty, 2, axis=1)
    heat = heat * runs / np.clip(duty, 0.2, 1.0)
    return heat + _cooking(days, rng) * rng.uniform(0.5, 1.0) + _showers(days, rng)


def _pilot(days: Days, rng: np.random.Generator) -> Floats:
    return _cooking(days, rng) + rng.uniform(0.006, 0.02) / 4


def _meals(days: Days, rng: np.random.Generator) -> Floats:
    level = 40 * np.exp(rng.normal(0, 0.45))
    shape = _bump(11.6, 1.0) + rng.uniform(1.0, 1.4) * _bump(18.4, 1.5)
    shape = shape * (_between(9.3, 13.8) + _between(15.8, 21.5)) + 0.06 * _between(13.8, 15.8)
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.18, weekend=1.2), shape=shape)


def _night_meals(days: Days, rng: np.random.Generator) -> Floats:
    level = 35 * np.exp(rng.normal(0, 0.45))
    shape = 0.5 * _bump(18.5, 1.5) + _bump(23.5, 2.4) * _between(17.0, rng.uniform(3.0, 5.5))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.18, weekend=1.25), shape=shape)


def _all_day_meals(days: Days, rng: np.random.Generator) -> Floats:
    level = 28 * np.exp(rng.normal(0, 0.4))
    shape = 0.6 + 0.25 * _bump(7.5, 2.0) + 0.3 * _bump(12.0, 2.5) + 0.3 * _bump(18.5, 2.5)
    daily = _levels(days, rng, level=level, spread=0.12)
    if rng.random() < 0.5:
        daily = daily * (days.weekday != rng.integers(0, 7))  # a day of rest
    return _shaped(days, rng, daily=daily, shape=shape, noise=0.08)


def _bakery(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.12 + _bump(2.8, 3.0) + 0.15 * _bump(20.0, 2.0)
    level = 60 * np.exp(rng.normal(0, 0.8))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.12, weekend=1.05), shape=shape)


def _canteen(days: Days, rng: np.random.Generator) -> Floats:
    shape = _bump(7.0, 0.7) * 0.5 + _bump(11.3, 1.0) + 0.4 * _bump(17.5, 0.9)
    level = 45 * np.exp(rng.normal(0, 0.5))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.12, weekend=0.1), shape=shape)


def _hotel(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.15 + _bump(7.5, 1.5) + 0.6 * _bump(12.0, 1.5) + 0.9 * _bump(20.5, 2.2)
    warmth = 1 + 0.04 * np.maximum(0.0, _HEATING_BELOW_C - days.temperature)
    level = 60 * np.exp(rng.normal(0, 0.6))
    return _shaped(days, rng, daily=warmth * _levels(days, rng, level=level, spread=0.1, weekend=1.1), shape=shape)


def _continuous(days: Days, rng: np.random.Generator) -> Floats:
    level = 1_000 * np.exp(rng.normal(0, 0.4))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.01), shape=np.ones(QUARTERS), noise=0.02)


def _two_shift(days: Days, rng: np.random.Generator) -> Floats:
    level = 1_000 * np.exp(rng.normal(0, 0.4))
    shape = _between(6.0, 22.0 + 2.0 * (rng.random() < 0.5)) + rng.choice([0.0, 0.01])
    daily = _levels(days, rng, level=level, spread=0.05) * np.where(days.weekday == 6, rng.choice([0.0005, 1.0]), 1.0)
    return _shaped(days, rng, daily=daily, shape=shape, noise=0.12)


_PEOPLE_AT_HOME: Final = (
    0.15 + 1.6 * _bump(7.3, 1.0) + 0.6 * _bump(12.0, 1.4) + 1.0 * _bump(18.8, 1.5) + 1.1 * _bump(21.8, 1.1)
) * (1 - 0.92 * _between(0.8, 5.2))


def _taps(days: Days, rng: np.random.Generator) -> Floats:
    """Tap, toilet, shower and washing machine as draws; about 110 L a person and day."""
    people = int(rng.choice([1, 2, 3, 4, 5], p=[0.2, 0.3, 0.27, 0.15, 0.08]))
    shifted = rng.uniform(12, 50) if rng.random() < 0.12 else rng.normal(0, 2.5)  # some work at night
    activity = np.roll(_PEOPLE_AT_HOME, round(shifted))
    rate = activity / activity.sum()
    present = np.exp(rng.normal(0, 0.22, days.count))[:, None] * (1 + 0.15 * days.weekend[:, None])
    total = rng.gamma(rng.poisson(people * 9.0 * rate * present) * 1.2, 0.0028)
    total += 0.006 * rng.poisson(people * 4.5 * rate * present)
    for _ in range(people):
        hour = rng.normal(21.5, 1.0) if rng.random() < 0.6 else rng.normal(7.2, 0.6)
        total += _events(days, rng, hour=hour, spread=0.4, chance=0.6, length_h=0.25, amount=0.045)
    total += _events(days, rng, hour=rng.uniform(8, 20), spread=2.0, chance=0.35, length_h=1.0, amount=0.05)
    total += _events(days, rng, hour=rng.uniform(8, 22), spread=2.5, chance=0.12, length_h=0.5, amount=0.16)
    return np.asarray(total * np.exp(rng.normal(0, 0.25)), dtype=np.float64)


def _drip(days: Days, rng: np.random.Generator) -> Floats:
    return _taps(days, rng) + rng.uniform(0.0012, 0.004) / 4


def _water_office(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.01 + _between(7.5, 20.5) * (0.6 + _bump(8.5, 1.5) + 0.5 * _bump(12.5, 1.2) + 0.5 * _bump(18.5, 1.0))
    level = 4.8 * np.exp(rng.normal(0, 0.5))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.1, weekend=0.18), shape=shape, noise=0.5)


def _water_shop(days: Days, rng: np.random.Generator) -> Floats:
    level = 3.0 * np.exp(rng.normal(0, 0.5))
    return _shaped(
        days, rng, daily=_levels(days, rng, level=level, spread=0.15, weekend=1.15), shape=_between(9, 22), noise=0.7
    )


def _flush(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.8 + 0.5 * _bump(8.5, 1.5) + 0.3 * _bump(14.0, 2.0) + 0.2 * _bump(20.0, 2.0)
    level = 5.5 * np.exp(rng.normal(0, 0.4))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.04), shape=shape, noise=0.15)


def _school(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.01 + _between(6.8, 18.5) * (0.5 + _bump(9.0, 1.0) + _bump(12.2, 0.8) + _bump(15.8, 1.0))
    level = 8.0 * np.exp(rng.normal(0, 0.5))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.1, weekend=0.08), shape=shape, noise=0.5)


def _home(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.55 + 0.25 * _bump(7.3, 1.2) + 0.3 * _bump(12.3, 1.4) + rng.uniform(0.8, 1.5) * _bump(20.0, 2.2)
    daily = _levels(days, rng, level=7.2 * np.exp(rng.normal(0, 0.3)), spread=0.18, weekend=1.1)
    base = _shaped(days, rng, daily=daily, shape=shape, noise=0.35)
    return base + _events(days, rng, hour=19.0, spread=1.5, chance=0.4, length_h=1.2, amount=1.3)


def _home_heater(days: Days, rng: np.random.Generator) -> Floats:
    cold = np.maximum(0.0, 12.0 - days.temperature) * rng.uniform(0.3, 0.8)
    shape = 0.2 + _bump(7.5, 1.2) + 1.6 * _bump(20.5, 2.0)
    return _home(days, rng) + _shaped(days, rng, daily=cold * np.exp(rng.normal(0, 0.3, days.count)), shape=shape)


def _power_shop(days: Days, rng: np.random.Generator) -> Floats:
    shape = 0.12 + _between(8.5, 21.0) * (1 + 0.8 * _bump(18.5, 1.8))
    level = 30 * np.exp(rng.normal(0, 0.6))
    return _shaped(days, rng, daily=_levels(days, rng, level=level, spread=0.35, weekend=1.1), shape=shape, noise=0.3)


_MAKERS: Final[dict[str, Maker]] = {
    "gas.cook": _cooking,
    "gas.cook_shower": lambda days, rng: _cooking(days, rng) + _showers(days, rng),
    "gas.boiler": _boiler,
    "gas.pilot": _pilot,
    "gas.meals": _meals,
    "gas.night_meals": _night_meals,
    "gas.all_day_meals": _all_day_meals,
    "gas.bakery": _bakery,
    "gas.canteen": _canteen,
    "gas.hotel": _hotel,
    "gas.continuous": _continuous,
    "gas.two_shift": _two_shift,
    "water.taps": _taps,
    "water.drip": _drip,
    "water.office": _water_office,
    "water.shop": _water_shop,
    "water.flush": _flush,
    "water.school": _school,
    "electricity.home": _home,
    "electricity.home_heater": _home_heater,
    "electricity.shop": _power_shop,
}
