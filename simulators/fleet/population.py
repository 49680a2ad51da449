"""Which meters a city has: media, classes, cadences, resolutions, dates.

Shares follow the labelled sample of 60 meters as far as so few tell them.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final, TypeVar

import numpy as np

from simulators.fleet.city import AUTUMN, DISTRICTS, FESTIVAL, SEASON
from simulators.fleet.model import CustomerClass, Medium, Meter

_KINDS: Final[tuple[tuple[float, Medium, CustomerClass], ...]] = (
    (0.385, "gas", "residential"),
    (0.115, "gas", "residential_heating"),
    (0.085, "gas", "restaurant"),
    (0.035, "gas", "commercial"),
    (0.033, "gas", "industrial"),
    (0.200, "water", "residential"),
    (0.033, "water", "commercial"),
    (0.017, "water", "public"),
    (0.082, "electricity", "residential"),
    (0.015, "electricity", "commercial"),
)
HABITS: Final[dict[tuple[Medium, CustomerClass], tuple[tuple[str, float], ...]]] = {
    ("gas", "residential"): (("cook", 0.42), ("cook_shower", 0.41), ("boiler", 0.13), ("pilot", 0.04)),
    ("gas", "residential_heating"): (("boiler", 1.0),),
    ("gas", "restaurant"): (("meals", 0.6), ("night_meals", 0.2), ("all_day_meals", 0.2)),
    ("gas", "commercial"): (("bakery", 0.5), ("canteen", 0.25), ("hotel", 0.25)),
    ("gas", "industrial"): (("continuous", 0.5), ("two_shift", 0.5)),
    ("water", "residential"): (("taps", 0.985), ("drip", 0.015)),
    ("water", "commercial"): (("office", 0.6), ("shop", 0.4)),
    ("water", "public"): (("flush", 0.5), ("school", 0.5)),
    ("electricity", "residential"): (("home", 0.7), ("home_heater", 0.3)),
    ("electricity", "commercial"): (("shop", 1.0),),
}
"""Who lives how, with shares; the habits are those of `simulators.fleet.use`."""
_DECIMALS: Final[dict[Medium, tuple[tuple[int, float], ...]]] = {
    "gas": ((1, 0.18), (2, 0.62), (3, 0.20)),
    "water": ((1, 0.13), (2, 0.47), (3, 0.40)),
    "electricity": ((2, 1.0),),
}
T = TypeVar("T")
_DAILY_SHARE: Final = 0.205
_ROLLOVER_SHARE: Final = 0.055


def draw_meter(number: int, rng: np.random.Generator) -> Meter:
    """Draw the meter with this running number [1…]."""
    shares = np.array([share for share, _, _ in _KINDS])
    _, medium, customer_class = _KINDS[int(rng.choice(len(_KINDS), p=shares / shares.sum()))]
    habit = pick(HABITS[medium, customer_class], rng)
    daily = customer_class != "industrial" and rng.random() < _DAILY_SHARE
    interval_s = 86_400 if daily else 900 if customer_class == "industrial" else 3_600
    cohort = SEASON if daily else AUTUMN if rng.random() < 0.5 else FESTIVAL
    return Meter(
        id=f"SM{10_000 + number}",
        medium=medium,
        customer_class=customer_class,
        habit=habit,
        install_date=date(2017, 9, 1) + timedelta(days=int(rng.integers(0, 2_750))),
        digits=_digits(medium, customer_class, rng),
        decimals=pick(_DECIMALS[medium], rng),
        interval_s=interval_s,
        district=str(rng.choice(DISTRICTS)),
        start=cohort.start,
        days=cohort.days,
    )


def fit_to_use(meter: Meter, total: float, peak_per_h: float, rng: np.random.Generator) -> bool:
    """Choose Qmax and first index for what will go through; return whether the index will roll over.

    total: [units] over the observation. peak_per_h: [units/h].
    """
    meter.qmax_per_h = qmax_of(meter, peak_per_h * rng.uniform(1.1, 2.0))
    full = 10.0**meter.digits
    drawn = rng.random() < _ROLLOVER_SHARE and meter.replaced is None
    if drawn and total > 20 * 10.0**-meter.decimals:
        meter.first_index = full - total * rng.uniform(0.1, 0.9)
        return True
    typical = 700.0 if meter.is_household else 6_000.0
    meter.first_index = float(min(typical * np.exp(rng.normal(0, 1.3)), 0.85 * full - total))
    meter.first_index = max(meter.first_index, min(0.2 * full, 5.0))
    return False


def qmax_of(meter: Meter, wanted: float) -> float:
    """Return the Qmax [units/h] of the size that a planner would choose for a peak of `wanted` [units/h]."""
    if meter.is_household:
        return 13.2 if meter.medium == "electricity" else 4.0
    ladder: tuple[float, ...] = (
        (5.0, 10.0) if meter.medium == "water" else (10.0, 20.0, 25.0, 50.0, 85.0, 110.0, 160.0, 250.0, 400.0, 650.0)
    )
    if meter.medium == "electricity":
        ladder = (13.2, 24.0, 45.0, 66.0, 110.0)
    return next((step for step in ladder if step >= wanted), max(ladder[-1], float(np.ceil(wanted))))


def _digits(medium: Medium, customer_class: CustomerClass, rng: np.random.Generator) -> int:
    if medium == "electricity":
        return 6
    if customer_class in ("residential", "residential_heating"):
        return 4 if rng.random() < 0.22 else 5
    if customer_class in ("commercial", "industrial"):
        return int(rng.integers(6, 8))
    return int(rng.integers(7, 9))


def pick(choices: tuple[tuple[T, float], ...], rng: np.random.Generator) -> T:
    """Draw one of (choice, share)."""
    shares = np.array([share for _, share in choices])
    return choices[int(rng.choice(len(choices), p=shares / shares.sum()))][0]
