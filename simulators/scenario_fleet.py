"""The meters of a scenario, and what is true about them: exact curves, labels, ordinary situations.

What a customer uses comes from `simulators.fleet`; what the script does to it is put in here, quarter hour by quarter
hour, before the run begins. So the truth of any moment is known without asking the run.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import numpy as np

from metering.errors import SettingsError
from metering.quantities import MICRO
from simulators.consumption import temperature_c
from simulators.fleet.city import OFFSET_S, midnight
from simulators.fleet.model import DAY, HOUR, QUARTER, QUARTERS, Floats, Label, Meter, Trace
from simulators.fleet.population import HABITS, pick, qmax_of
from simulators.fleet.situations import add_situations
from simulators.fleet.use import use_of
from simulators.scenario import Group, Scenario
from simulators.scenario_calendar import heated, weekdays_of
from simulators.scenario_curve import Misread, TraceCurve
from simulators.scenario_events import INDEX_KINDS, LINE_KINDS, METER_KINDS, USE_KINDS, Event

_LEAST_DAYS: Final = 60
"""Ordinary life is drawn over so many days, also for a shorter run: trips and works holidays need room."""
_CURVES_FROM: Final = date(2024, 1, 1)
_NIGHT: Final = (21, 24)
_NIGHT_HOURS: Final = 8
"""A leak that comes and goes does so at night, when the pressure is high: for so many hours from one of these on."""
_UNFIT: Final[dict[str, frozenset[str]]] = {
    "leak": frozenset({"continuous", "two_shift", "drip", "pilot"}),
    "leak_intermittent": frozenset({"drip", "pilot"}),
    "high_use": frozenset({"boiler", "continuous", "two_shift", "pilot"}),
    "tamper": frozenset({"continuous", "flush", "pilot"}),
}
"""Habits at which an event could be told by nobody from ordinary use: no meter that lives so is drawn for it."""
_SHUT: Final = "shut by hand; no meter of the scenario has a bit that says so, so rest is what a rule may call it"
_LONG_SILENCE_DAYS: Final = 2.5
"""Silence of so many days is a comms_loss to be found (its rule says so after 52 h); shorter ones are ordinary."""


@dataclass(slots=True)
class SimMeter:
    """One meter of a scenario with its truth. unit, bus: where it hangs. events: of the script, with from and to."""

    name: str
    group: Group
    bus: str
    unit: int
    facts: Meter
    trace: Trace
    curve: TraceCurve
    events: list[tuple[Event, int, int]] = field(default_factory=list)


def make_meters(scenario: Scenario, digits: dict[str, int]) -> list[SimMeter]:
    """Return all meters of a scenario. digits: of the counter before the point, by profile.

    Raises: SettingsError for events that contradict each other at one meter.
    """
    events = share_out(scenario)
    return [
        _make(scenario, group, number, events.get(f"{group.name}-{number:04}", []), digits.get(group.profile, 8))
        for group in scenario.fleet
        for number in range(1, group.count + 1)
    ]


def share_out(scenario: Scenario) -> dict[str, list[tuple[Event, int, int]]]:
    """Give every event of meters to its meters, and refuse what cannot be true at once."""
    found: defaultdict[str, list[tuple[Event, int, int]]] = defaultdict(list)
    problems: list[str] = []
    for number, event in enumerate(scenario.event):
        if event.kind not in METER_KINDS:
            continue
        begin, end = scenario.span(event)
        for name in _chosen(scenario, number, event, found):
            for other, since, until in found[name]:
                if since < end and begin < until and _contradict(event, other):
                    day = (max(begin, since) - scenario.start_ms) / 86_400_000
                    problems.append(
                        f"event[{number}].kind = {event.kind}: contradicts {other.kind} at {name} on day {day:g}; "
                        f"one meter has one story of its use, and one of its line, at a time"
                    )
            found[name].append((event, begin, end))
    if problems:
        raise SettingsError(problems)
    return found


def _chosen(
    scenario: Scenario, number: int, event: Event, taken: dict[str, list[tuple[Event, int, int]]]
) -> list[str]:
    """Return the meters of an event; those of a group are drawn among the ones without a story."""
    if event.meters:
        return list(event.meters)
    group = next(group for group in scenario.fleet if group.name == event.group)
    names = [f"{group.name}-{n:04}" for n in range(1, group.count + 1)]
    if event.count is None:
        return names
    unfit = _UNFIT.get(event.kind, frozenset())
    free = [name for name in names if not taken.get(name) and _habit(scenario, group, name) not in unfit]
    if len(free) < event.count:
        raise SettingsError(
            f"event[{number}].count = {event.count}: only {len(free)} meters of {group.name} are free for it"
        )
    drawn = _generator(scenario.seed, f"event {number}").choice(len(free), event.count, replace=False)
    return [free[int(place)] for place in sorted(drawn)]


def _contradict(one: Event, other: Event) -> bool:
    families = (USE_KINDS | INDEX_KINDS, LINE_KINDS)
    return one.kind == other.kind or any(one.kind in family and other.kind in family for family in families)


def _make(
    scenario: Scenario, group: Group, number: int, events: list[tuple[Event, int, int]], digits: int
) -> SimMeter:
    name = f"{group.name}-{number:04}"
    rng = _generator(scenario.seed, name)
    meter = _facts(scenario, group, name)
    warm = weather_of(scenario, meter.days)
    first = scenario.start - timedelta(days=scenario.history_days)
    felt, heated_from = heated(scenario.calendar, first, warm, rng)
    weekday = weekdays_of(scenario.calendar, first, meter.days)
    trace = Trace(use_of(meter, felt, heated_from, rng, weekday=weekday))
    lived_in = any(event.kind in USE_KINDS for event, _, _ in events)
    add_situations(
        meter, trace, heated_from, rng, festival=_festival(scenario.calendar.spring_festival), lived_in=lived_in
    )
    trace.labels += [
        Label("ignore", s.start, s.end, "zero_use stuck", _SHUT) for s in trace.situations if s.kind == "valve_closed"
    ]
    peak = float(trace.use.reshape(-1, 4).sum(axis=1).max())
    meter.qmax_per_h = qmax_of(meter, peak * rng.uniform(1.1, 2.0))
    meter.first_index = float(np.round(200 + (700 if meter.is_household else 6_000) * np.exp(rng.normal(0, 1.0)), 2))
    misreads: list[Misread] = []
    for event, begin, end in events:
        if begin >= end:  # a run that was cut short ends before it
            continue
        if event.kind in USE_KINDS:
            _change_use(meter, trace, event, begin / 1000, end / 1000, rng)
        elif event.kind == "unit_error":
            misreads.append(Misread("scale", begin, end, *_ratio(event.factor or 10.0)))
            trace.labels.append(Label("unit_error", begin / 1000, end / 1000, f"x{event.factor or 10:g}", event.note))
        elif event.kind == "exchange" and not event.in_books:
            trace.labels.append(
                Label("ignore", begin / 1000 - HOUR, begin / 1000 + 2 * DAY, "any", "not in the books")
            )
        elif event.kind == "wrong_decode":
            misreads.append(Misread("words", begin, end))
            trace.labels.append(Label("spike", begin / 1000, end / 1000, "wrong_decode", event.note))
        elif event.kind == "spike":
            if group.protocol != "modbus-tcp":  # there the wire does it, for one read
                misreads.append(Misread("zero", begin, begin + group.interval_s * 1000))
            until = begin / 1000 + group.interval_s + 60
            trace.labels.append(Label("spike", begin / 1000 - 60, until, "zero", event.note))
        elif event.kind == "silent" and (end - begin) / 86_400_000 >= _LONG_SILENCE_DAYS:
            severity = "lost" if end >= scenario.end_ms else "restored"
            trace.labels.append(Label("comms_loss", begin / 1000, end / 1000, severity, event.note))
    passed = np.concatenate([[0], np.cumsum(np.round(trace.use * MICRO).astype(np.int64))])
    first_index = round(meter.first_index * MICRO)
    for event, begin, _ in events:
        if event.kind == "rollover":
            first_index = 10**digits * MICRO - int(passed[trace.quarter(meter, begin / 1000)])
    steps = [int(step) for step in first_index + passed]
    bus, unit = divmod(number - 1, group.per_bus)
    swaps = sorted(
        (begin, round(event.start_index * MICRO)) for event, begin, _ in events if event.kind == "exchange"
    )
    curve = TraceCurve(steps, _history_ms(scenario), tuple(misreads), tuple(swaps))
    return SimMeter(name, group, f"{group.name}-b{bus + 1}", unit + 1, meter, trace, curve, events)


def _habit(scenario: Scenario, group: Group, name: str) -> str:
    """How the customer behind a meter lives."""
    return group.habit or pick(
        HABITS[group.medium, group.customer_class], _generator(scenario.seed, f"habit of {name}")
    )


def _facts(scenario: Scenario, group: Group, name: str) -> Meter:
    return Meter(
        id=name,
        medium=group.medium,
        customer_class=group.customer_class,
        habit=_habit(scenario, group, name),
        install_date=date(2020, 1, 1),
        digits=8,
        decimals=3,
        interval_s=group.interval_s,
        district=group.district,
        start=_history_ms(scenario) / 1000,
        days=max(_LEAST_DAYS, int(np.ceil(scenario.history_days + scenario.days))),
    )


def _history_ms(scenario: Scenario) -> int:
    """[ms UTC] local midnight from which on the meters' lives are drawn."""
    return scenario.start_ms - scenario.history_days * 86_400_000


def _festival(first: date | None) -> float | None:
    return None if first is None else midnight(first)


def weather_of(scenario: Scenario, count: int) -> Floats:
    """Return the daily mean temperatures [°C] from the first day of the history on."""
    first = scenario.start - timedelta(days=scenario.history_days)
    days = np.arange(count, dtype=np.float64)
    means = temperature_c(days + (first - _CURVES_FROM).days, scenario.seed) + scenario.weather.warmer_c
    for spell in scenario.weather.spell:
        since = scenario.history_days + spell.day
        means[(days >= since) & (days < since + spell.for_days)] += spell.warmer_c
    return np.asarray(np.round(means, 1), dtype=np.float64)


def _ratio(factor: float) -> tuple[int, int]:
    """10 -> (10, 1); 0.1 -> (1, 10): wrong units are powers of ten."""
    return (round(factor), 1) if factor >= 1 else (1, round(1 / factor))


def _change_use(meter: Meter, trace: Trace, event: Event, start: float, end: float, rng: np.random.Generator) -> None:
    """Put one event into the use, with its label. start, end: [s UTC]."""
    part = trace.part(meter, start, end)
    use, kind, severity = trace.use, str(event.kind), event.severity
    size = use[part].size
    if kind == "leak":
        severity = severity or ("burst" if event.rate >= 0.5 else "small" if event.rate < 0.015 else "medium")
        use[part] += event.rate / 4 * rng.uniform(0.93, 1.07, size)
    elif kind == "leak_intermittent":
        severity = severity or ("small" if event.rate < 0.016 else "medium")
        hour = _local_hours(start, size)
        use[part] += np.where((hour - int(rng.integers(*_NIGHT))) % 24 < _NIGHT_HOURS, event.rate / 4, 0.0)
    elif kind in ("zero_use", "stuck"):
        days = (end - start) / DAY
        household = "household" if meter.is_household else "business"
        severity = severity or (household if kind == "stuck" else "z30" if days >= 30 else "z7")
        use[part] = 0.0
    elif kind == "reverse_flow":
        use[part], severity = -use[part], severity or "reversed"
    elif kind == "backflow":
        pulses = rng.random(size) < 4.0 / QUARTERS
        use[part] -= np.where(pulses, event.rate, 0.0)
        kind, severity = "reverse_flow", severity or "pulses"
    elif kind == "unauthorised":
        use[: part.start] = 0.0
        meter.commissioned, severity = False, severity or "uncommissioned"
    elif kind == "tamper":
        use[part] *= event.factor or 0.3
        severity = severity or "partial"
    elif kind == "drift":
        ramp = np.clip((np.arange(use.size) - part.start) * QUARTER / (10 * DAY), 0.0, 1.0)
        use *= 1 + event.percent / 100 * ramp
        severity = severity or ("slow" if event.percent < 0 else "fast")
    elif kind == "high_use":
        severity = severity or ("surge" if event.per_month is None else f"over{event.per_month:g}")
        use[part] = _more(use[part], event, (end - start) / (30 * DAY), rng)
    trace.labels.append(Label(kind, start, end, severity, event.note))


def _more(use: Floats, event: Event, months: float, rng: np.random.Generator) -> Floats:
    """The use of a customer who uses more: times `factor`, or `per_month` [units in 30 d] more at about his hours."""
    if event.per_month is None:
        return np.asarray(use * (event.factor or 3.0))
    habit = np.convolve(np.maximum(0.0, use), np.ones(5) / 5, "same") + 1e-6
    share = habit * rng.uniform(0.5, 1.5, habit.size)
    return np.asarray(use + share / share.sum() * event.per_month * months)


def _local_hours(start: float, size: int) -> Floats:
    """The local hour in which each quarter hour from `start` [s UTC] on begins."""
    return np.asarray(np.floor((start + OFFSET_S + QUARTER * np.arange(size)) % DAY / HOUR), dtype=np.float64)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(name.encode())))  # noqa: TID251  the seed comes from the scenario
