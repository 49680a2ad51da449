"""Ordinary situations that are no anomalies, though they look like some: trips, festivals, empty flats, boilers, …

Each function changes what a customer uses and notes it. Shares follow the labelled sample.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from simulators.fleet.city import AUTUMN, SPRING_FESTIVAL, City, midnight
from simulators.fleet.model import DAY, HOUR, QUARTERS, Label, Meter, Situation, Trace

_FESTIVAL: Final = midnight(SPRING_FESTIVAL)
_WHOLE: Final = {
    "night_meals": "night_restaurant",
    "continuous": "continuous_industry",
    "flush": "continuous_flush",
    "pilot": "pilot_flame",
}
_CONTINUES: Final = {"pilot": 0.0025, "drip": 0.0006}
"""[m³ per quarter hour] what flows on in an empty flat."""
_HEATING_STARTS: Final = (14, 33)
"""Days after 20 October between which boilers are first switched on."""


def heating_from(meter: Meter, rng: np.random.Generator) -> int:
    """Return the first day of the observation on which this customer heats; 0 or less: always."""
    chosen = AUTUMN.start + int(rng.integers(*_HEATING_STARTS)) * DAY
    return round((chosen - meter.start) / DAY)


def add_situations(
    meter: Meter,
    trace: Trace,
    heated_from: int,
    rng: np.random.Generator,
    *,
    festival: float | None = _FESTIVAL,
    lived_in: bool = False,
) -> None:
    """Put ordinary life into a customer's use.

    festival: [s UTC] beginning of the Spring Festival's first day, None without one. lived_in: somebody uses the
    place all the time: neither empty nor shut down nor closed for weeks.
    """
    _note_habit(meter, trace, heated_from)
    if festival is not None and not meter.start <= festival < meter.end:
        festival = None
    if meter.is_household:
        _household(meter, trace, rng, festival, lived_in)
    elif not lived_in:
        _business(meter, trace, rng, festival)


def add_outages(meter: Meter, trace: Trace, city: City, rng: np.random.Generator) -> None:
    """Put in what the way of the readings does: concentrators, uploads that come late, clocks, batteries."""
    for outage in city.outages:
        hourly_then = meter.interval_s < DAY and meter.start <= outage.start < meter.end
        if hourly_then and outage.district == meter.district:
            trace.situations.append(Situation("concentrator_outage", outage.day, outage.day + DAY))
            trace.bursts.append((outage.start, outage.end, 900.0))
    if rng.random() < 0.2:
        for _ in range(1 if rng.random() < 0.2 else 2):
            start = rng.uniform(meter.start + DAY, meter.end - 2 * DAY)
            end = start + rng.uniform(8, 33) * HOUR
            trace.situations.append(Situation("late_upload", start, end))
            trace.bursts.append((start, end, 600.0))
    if rng.random() < 0.033:
        trace.situations.append(Situation("bad_clock", meter.start, meter.end))
        trace.bad_clock_rows = int(rng.integers(1, 4))
    if rng.random() < 0.033:
        trace.flags.append((rng.uniform(meter.start + 5 * DAY, meter.end), meter.end, "LOWBAT"))


def add_exchange(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    """Exchange some meters; half of the exchanges never reach the master data."""
    if rng.random() >= 0.034:
        return
    at = rng.uniform(meter.start + 6 * DAY, meter.end - 6 * DAY)
    meter.recorded = rng.random() < 0.5
    if meter.recorded:
        day = at - (at + 8 * HOUR) % DAY
        meter.replaced = day + rng.integers(9, 21) * HOUR  # working hours, noted to the full hour
        trace.situations.append(Situation("replacement", day, day + 2 * DAY))
    else:
        meter.replaced = at
        note = "meter replaced, not in master data"
        trace.labels.append(Label("ignore", at - HOUR, at + 2 * DAY, "any", note))


def _note_habit(meter: Meter, trace: Trace, heated_from: int) -> None:
    whole = (meter.start, meter.end)
    if meter.habit in _WHOLE:
        trace.situations.append(Situation(_WHOLE[meter.habit], *whole))
    if meter.habit == "boiler":
        known = meter.customer_class == "residential_heating"
        trace.situations.append(Situation("boiler" if known else "boiler_unregistered", *whole))
        if 0 < heated_from < meter.days - 7:
            begin = meter.start + heated_from * DAY
            trace.situations.append(Situation("heating_start", begin, begin + 7 * DAY))
        if not known and _busiest_month(trace) > 50:
            note = "boiler unknown to the master data does exceed 50 m3 a month"
            trace.labels.append(Label("ignore", *whole, "high_use", note))
    if meter.habit == "pilot":
        trace.labels.append(
            Label("ignore", *whole, "leak leak_intermittent", "standing pilot looks like an old leak")
        )
    if meter.habit == "drip":
        trace.labels.append(Label("ignore", *whole, "leak leak_intermittent", "possible real drip"))


def _busiest_month(trace: Trace) -> float:
    """Return the largest use of 30 days in a row [units]."""
    closing = np.concatenate([[0.0], np.cumsum(trace.use)])[::QUARTERS]
    return float(np.max(closing[30:] - closing[:-30]))


def _household(meter: Meter, trace: Trace, rng: np.random.Generator, festival: float | None, lived_in: bool) -> None:
    if not lived_in and _empty(meter, trace, rng):
        return
    if not lived_in and rng.random() < 0.02:
        begin = rng.uniform(meter.start + 6 * DAY, meter.end - 30 * DAY)
        end = begin + rng.uniform(10, 22) * DAY
        _away(meter, trace, "valve_closed", begin, end)
        trace.flags.append((begin, end, "VALVE_CLOSED"))
    if rng.random() < 0.22:
        begin = rng.uniform(meter.start + 6 * DAY, meter.end - 8 * DAY)
        _away(meter, trace, "holiday_trip", begin, begin + rng.uniform(2.5, 6.0) * DAY)
    if rng.random() < 0.03:
        saturday = meter.start + rng.integers(1, meter.days // 7) * 7 * DAY
        saturday += (4 - (saturday / DAY + 8 / 24 - 4) % 7) % 7 * DAY  # 1 January 1970 was a Thursday
        _more(meter, trace, "party_weekend", saturday, saturday + 3 * DAY, rng.uniform(2.0, 4.0))
    if festival is not None and not lived_in:
        _festival_at_home(meter, trace, rng, festival)


def _empty(meter: Meter, trace: Trace, rng: np.random.Generator) -> bool:
    """Flats nobody uses, or not yet; returns True when nothing else can happen there."""
    drawn = rng.random()
    whole = (meter.start, meter.end)
    if meter.medium != "electricity" and drawn < 0.035:
        meter.commissioned = False
        trace.use[:] = 0.0
        trace.situations.append(Situation("uncommissioned_idle", *whole))
        return True
    if drawn < 0.06:
        trace.use *= 0.01 if meter.medium == "electricity" else 0.0
        trace.situations.append(Situation("vacant", *whole))
        return True
    if drawn < 0.08:
        moved = meter.start + rng.integers(round(0.3 * meter.days), round(0.85 * meter.days)) * DAY
        _away(meter, trace, "move_in", meter.start, moved)
    return False


def _festival_at_home(meter: Meter, trace: Trace, rng: np.random.Generator, festival: float) -> None:
    drawn = rng.random()
    if drawn < 0.27:
        begin = festival - rng.uniform(1.0, 6.0) * DAY
        _away(meter, trace, "spring_festival_away", begin, begin + rng.uniform(6, 12) * DAY)
    elif drawn < 0.46:
        _more(meter, trace, "spring_festival_guests", festival - 3 * DAY, festival + 5 * DAY, rng.uniform(1.6, 2.8))


def _business(meter: Meter, trace: Trace, rng: np.random.Generator, festival: float | None) -> None:
    if meter.habit == "two_shift" and rng.random() < 0.4:
        begin = meter.start + rng.integers(8, meter.days - 22) * DAY
        _shut(meter, trace, "factory_restart", begin, begin + rng.integers(5, 13) * DAY, rest=0.0005)
    likely = 0.6 if meter.habit in ("two_shift", "school", "canteen") else 0.35
    likely *= festival is not None and meter.habit not in ("continuous", "flush")
    if rng.random() < likely and festival is not None:
        begin = festival - rng.integers(1, 8) * DAY
        _shut(meter, trace, "spring_festival_closed", begin, begin + rng.integers(8, 17) * DAY, rest=0.01)


def _away(meter: Meter, trace: Trace, kind: str, start: float, end: float) -> None:
    """Nobody there; unless the flat is shut down, a boiler, a pilot flame or a refrigerator runs on."""
    part = trace.part(meter, start, end)
    shut_down = kind in ("valve_closed", "move_in")
    keeps = 0.3 if meter.habit == "boiler" else 0.35 if meter.medium == "electricity" else 0.0
    continues = _CONTINUES.get(meter.habit, 0.0)
    trace.use[part] = 0.0 if shut_down else trace.use[part] * keeps + continues
    trace.situations.append(Situation(kind, start, end))


def _more(meter: Meter, trace: Trace, kind: str, start: float, end: float, factor: float) -> None:
    trace.use[trace.part(meter, start, end)] *= factor
    trace.situations.append(Situation(kind, start, end))


def _shut(meter: Meter, trace: Trace, kind: str, start: float, end: float, *, rest: float) -> None:
    trace.use[trace.part(meter, start, end)] *= rest
    trace.situations.append(Situation(kind, start, end))
