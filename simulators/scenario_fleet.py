"""The meters of a scenario, and what is true about them: exact curves, labels, ordinary situations.

What a customer uses comes from `simulators.fleet`; what the script does to it is put in here, quarter hour by quarter
hour, before the run begins. So the truth of any moment is known without asking the run.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

import numpy as np

from metering.errors import SettingsError
from metering.quantities import MICRO
from simulators.consumption import temperature_c
from simulators.fleet.city import OFFSET_S
from simulators.fleet.model import DAY, QUARTER, QUARTERS, Floats, Label, Meter, Trace
from simulators.fleet.population import HABITS, pick, qmax_of
from simulators.fleet.situations import add_situations, heating_from
from simulators.fleet.use import use_of
from simulators.scenario import INDEX_KINDS, LINE_KINDS, METER_KINDS, USE_KINDS, Event, Group, Scenario

QUARTER_MS: Final = 900_000
_LEAST_DAYS: Final = 60
"""Ordinary life is drawn over so many days, also for a shorter run: trips and works holidays need room."""
_CURVES_FROM: Final = date(2024, 1, 1)
_LONG_SILENCE_DAYS: Final = 4.0
"""Silence of so many days is a comms_loss to be found; shorter ones are ordinary."""


class TraceCurve:
    """The exact index of one meter: quarter hours that were drawn before the run, straight lines between them.

    steps: [10⁻⁶ house units] at each quarter hour from start_ms on. scale: (from [ms UTC], factor) of a wrong unit.
    """

    def __init__(self, steps: list[int], start_ms: int, scale: tuple[int, int, int] | None = None) -> None:
        self._steps, self._start, self._scale = steps, start_ms, scale

    def passed(self, t_ms: int) -> int:
        """Return the index without any wrong unit [10⁻⁶ house units]: what went through the meter is its truth."""
        quarter, inside = divmod(t_ms - self._start, QUARTER_MS)
        if quarter < 0:
            return self._steps[0]
        if quarter >= len(self._steps) - 1:
            return self._steps[-1]
        begin = self._steps[quarter]
        return begin + inside * (self._steps[quarter + 1] - begin) // QUARTER_MS

    def index(self, t_ms: int) -> int:
        """Return what the register counts [10⁻⁶ house units]."""
        passed = self.passed(t_ms)
        if self._scale is None or t_ms < self._scale[0]:
            return passed
        return passed * self._scale[1] // self._scale[2]

    def flow(self, t_ms: int) -> int:
        """Return the rate of the quarter hour [10⁻⁶ house units per hour]; a reversed flow shows as none."""
        quarter = (t_ms - self._start) // QUARTER_MS
        if not 0 <= quarter < len(self._steps) - 1:
            return 0
        return max(0, 4 * (self._steps[quarter + 1] - self._steps[quarter]))


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
    free = [name for name in names if not taken.get(name)]
    if len(free) < event.count:
        raise SettingsError(
            f"event[{number}].count = {event.count}: only {len(free)} meters of {group.name} have no event yet"
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
    meter = _facts(scenario, group, name, rng)
    warm = np.round(temperature_c(_days(scenario, meter.days), scenario.seed) + scenario.weather.warmer_c, 1)
    heated_from = heating_from(meter, rng)
    trace = Trace(use_of(meter, warm, heated_from, rng))
    add_situations(meter, trace, heated_from, rng)
    peak = float(trace.use.reshape(-1, 4).sum(axis=1).max())
    meter.qmax_per_h = qmax_of(meter, peak * rng.uniform(1.1, 2.0))
    meter.first_index = float(np.round(200 + (700 if meter.is_household else 6_000) * np.exp(rng.normal(0, 1.0)), 2))
    scale = None
    for event, begin, end in events:
        if event.kind in USE_KINDS:
            _change_use(meter, trace, event, begin / 1000, end / 1000, rng)
        elif event.kind == "unit_error":
            scale = (begin, *_ratio(event.factor or 10.0))
            trace.labels.append(Label("unit_error", begin / 1000, end / 1000, f"x{event.factor or 10:g}", event.note))
        elif event.kind == "spike":
            until = begin / 1000 + group.interval_s + 60
            trace.labels.append(Label("spike", begin / 1000 - 60, until, "zero", event.note))
        elif event.kind == "silent" and (end - begin) / 86_400_000 >= _LONG_SILENCE_DAYS:
            severity = "lost" if end >= scenario.end_ms else "restored"
            trace.labels.append(Label("comms_loss", begin / 1000, end / 1000, severity, event.note))
    passed = np.concatenate([[0], np.cumsum(np.round(trace.use * MICRO).astype(np.int64))])
    first = round(meter.first_index * MICRO)
    for event, begin, _ in events:
        if event.kind == "rollover":
            first = 10**digits * MICRO - int(passed[trace.quarter(meter, begin / 1000)])
    steps = [int(step) for step in first + passed]
    bus, unit = divmod(number - 1, group.per_bus)
    curve = TraceCurve(steps, scenario.start_ms, scale)
    return SimMeter(name, group, f"{group.name}-b{bus + 1}", unit + 1, meter, trace, curve, events)


def _facts(scenario: Scenario, group: Group, name: str, rng: np.random.Generator) -> Meter:
    return Meter(
        id=name,
        medium=group.medium,
        customer_class=group.customer_class,
        habit=group.habit or pick(HABITS[group.medium, group.customer_class], rng),
        install_date=date(2020, 1, 1),
        digits=8,
        decimals=3,
        interval_s=group.interval_s,
        district=group.district,
        start=scenario.start_ms / 1000,
        days=max(_LEAST_DAYS, int(np.ceil(scenario.days))),
    )


def _days(scenario: Scenario, count: int) -> Floats:
    local = datetime.fromtimestamp(scenario.start_ms / 1000 + OFFSET_S, UTC).date()
    return np.arange(count, dtype=np.float64) + (local - _CURVES_FROM).days


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
        hours = (np.arange(size) // 4 + int(rng.integers(24))) % 24
        use[part] += np.where(hours < 8, event.rate / 4, 0.0)
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
        use[part] *= event.factor or 3.0
        severity = severity or "surge"
    trace.labels.append(Label(kind, start, end, severity, event.note))


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(name.encode())))  # noqa: TID251  the seed comes from the scenario
