"""Anomalies that are put into a fleet, each with its label.

Kinds and severities are the words of the labelled sample; shares, sizes and lengths follow it as far as 60 meters
tell them. At most one lasting anomaly per meter; bad values (spikes) come on top of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.fleet.model import DAY, HOUR, QUARTER, QUARTERS, Floats, Label, Meter, Trace

Apply = Callable[[Meter, Trace, np.random.Generator], None]
_LITRE: Final = 0.001  # m³
_EMPTY: Final = ("uncommissioned_idle", "vacant", "move_in", "valve_closed")


@dataclass(frozen=True, slots=True)
class Kind:
    """weight: share among anomalies. fits: can happen at this meter."""

    weight: float
    fits: Callable[[Meter, Trace], bool]
    apply: Apply


def add_anomaly(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    """Put one lasting anomaly into this meter, of a kind that can happen there."""
    kinds = [kind for kind in KINDS.values() if kind.fits(meter, trace)]
    if kinds:
        weights = np.array([kind.weight for kind in kinds])
        kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))].apply(meter, trace, rng)


def _in_use(meter: Meter, trace: Trace) -> bool:
    return not any(trace.during(kind) for kind in _EMPTY) and float(trace.use.mean()) * QUARTERS > 0.05


def _carries_fluid(meter: Meter) -> bool:
    """True for gas and water that has been let in: nothing leaks behind a meter that was never commissioned."""
    return meter.medium != "electricity" and meter.commissioned


def _start(meter: Meter, rng: np.random.Generator, *, leave_days: float) -> float:
    """Draw the beginning of an anomaly: some days of ordinary life before it, `leave_days` behind."""
    before = 9.0 if meter.interval_s < DAY else 25.0
    return float(rng.uniform(meter.start + before * DAY, meter.end - leave_days * DAY))


def _rests(meter: Meter, trace: Trace) -> bool:
    """True when the meter stands still for hours on an ordinary day."""
    hours = trace.use.reshape(-1, 4).sum(axis=1)
    return float((hours < 1e-4).mean()) > 0.15


def _leak(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    drawn = rng.random()
    scale = 1.0 if meter.is_household else float(rng.uniform(1.0, 4.0))
    if not _rests(meter, trace):
        severity, rate, lasts = "masked", rng.uniform(20, 90) * scale, np.inf
    elif drawn < 0.3:
        severity, rate, lasts = "burst", rng.uniform(500, 1_500) * scale, rng.uniform(1.0, 2.2)
    elif drawn < 0.6:
        severity, rate, lasts = "small", rng.uniform(4, 15), np.inf
    else:
        severity, rate, lasts = "medium", rng.uniform(15, 60) * scale, np.inf
    start = _start(meter, rng, leave_days=10 if lasts > 5 else 3)
    if lasts > 5 and rng.random() < 0.25:
        lasts = rng.uniform(9, 25)
    end = min(meter.end, start + lasts * DAY)
    part = trace.part(meter, start, end)
    trace.use[part] += rate * _LITRE / 4 * rng.uniform(0.93, 1.07, trace.use[part].size)
    trace.labels.append(Label("leak", start, end, severity, f"{rate:.1f} L/h"))


def _leak_intermittent(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    severity, rate = ("small", rng.uniform(6, 16)) if rng.random() < 0.5 else ("medium", rng.uniform(16, 60))
    start = _start(meter, rng, leave_days=14)
    end = min(meter.end, start + rng.uniform(10, 25) * DAY)
    first_hour, length, days = rng.uniform(0, 24), rng.uniform(5, 12), 0
    midnight = start - (start + 8 * HOUR) % DAY
    while midnight < end:
        if rng.random() < 0.88:
            begin = midnight + (first_hour + rng.normal(0, 0.6)) * HOUR
            part = trace.part(meter, max(start, begin), min(end, begin + length * rng.uniform(0.8, 1.2) * HOUR))
            trace.use[part] += rate * _LITRE / 4
            days += part.stop > part.start
        midnight += DAY
    trace.labels.append(Label("leak_intermittent", start, end, severity, f"{rate:.1f} L/h on {days} days"))


def _zero_use(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    drawn = rng.random()
    if meter.days > 100 and drawn < 0.15:
        severity, days = "z90", rng.uniform(91, 110)
    elif drawn < 0.5:
        severity, days = "z30", rng.uniform(31, 48 if meter.days > 100 else 40)
    else:
        severity, days = "z7", rng.uniform(9, 20)
    start = rng.uniform(meter.start + 7 * DAY, meter.end - (days + 2) * DAY)
    trace.use[trace.part(meter, start, start + days * DAY)] = 0.0
    trace.labels.append(Label("zero_use", start, start + days * DAY, severity, f"{days:.0f} days"))


def _reverse_flow(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=8)
    part = trace.part(meter, start, meter.end)
    if meter.medium != "electricity" and rng.random() < 0.4:
        pulses = rng.random(trace.use[part].size) < rng.uniform(2, 6) / QUARTERS
        trace.use[part] -= pulses * rng.uniform(0.5, 2.0, pulses.size) * _LITRE * rng.uniform(20, 60)
        trace.labels.append(Label("reverse_flow", start, meter.end, "pulses", "backflow in short pulses"))
        return
    trace.use[part] *= -1.0
    trace.labels.append(Label("reverse_flow", start, meter.end, "reversed", "meter installed backwards"))


def _stuck(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=14)
    trace.use[trace.part(meter, start, meter.end)] = 0.0
    severity = "household" if meter.is_household else "business"
    trace.labels.append(Label("stuck", start, meter.end, severity, "register frozen while gas/water flows"))


def _high_use(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=12)
    end = min(meter.end, start + rng.uniform(12, 30) * DAY)
    part = trace.part(meter, start, end)
    severity, extra = ("over50", rng.uniform(52, 90)) if rng.random() < 0.6 else ("over100", rng.uniform(105, 180))
    if not meter.is_household:
        factor = rng.uniform(2.0, 3.5)
        severity, extra = "surge", float(trace.use.mean()) * QUARTERS * 30 * (factor - 1)
    habit = np.convolve(np.maximum(0.0, trace.use[part]), np.ones(5) / 5, "same") + 1e-6
    noise = rng.uniform(0.5, 1.5, habit.size)
    share = habit * noise / (habit * noise).sum()
    trace.use[part] += share * extra * (end - start) / (30 * DAY)
    trace.labels.append(Label("high_use", start, end, severity, f"+{extra:.0f} units per 30 days"))


def _comms_loss(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=8)
    days = rng.uniform(4.5, 16) * (1.0 if meter.interval_s < DAY else 1.6)
    restored = rng.random() < 0.65 and start + days * DAY < meter.end - 2 * DAY
    end = start + days * DAY if restored else meter.end
    trace.silences.append((start, end))
    severity = "restored" if restored else "lost"
    trace.labels.append(Label("comms_loss", start, end, severity, f"{(end - start) / DAY:.1f} days without readings"))


def _tamper(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=20)
    factor, drawn = rng.uniform(0.15, 0.5), rng.random()
    severity, flag = ("partial", "") if drawn < 0.5 else ("magnet", "MAG") if drawn < 0.75 else ("cover", "COVER")
    trace.use[trace.part(meter, start, meter.end)] *= factor
    if flag == "MAG":
        trace.flags.append((start, meter.end, flag))
    elif flag:
        trace.flags.append((start - HOUR, start + rng.uniform(1, 5) * max(HOUR, meter.interval_s), flag))
    trace.labels.append(Label("tamper", start, meter.end, severity, f"consumption x {factor:.2f}"))


def _unauthorised(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=10)
    trace.use[: trace.quarter(meter, start)] = 0.0
    if rng.random() < 0.5:
        severity = "valve_closed"
        trace.flags.append((meter.start, meter.end, "VALVE_CLOSED"))
    else:
        severity, meter.commissioned = "uncommissioned", False
    note = "consumption on a meter that should pass none"
    trace.labels.append(Label("unauthorised", start, meter.end, severity, note))


def _drift(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = rng.uniform(meter.start + 12 * DAY, meter.start + 0.5 * meter.days * DAY)
    error = rng.uniform(0.06, 0.25) * (-1 if rng.random() < 0.65 else 1)
    days = rng.uniform(8, 30)
    moment = meter.start + QUARTER * np.arange(trace.use.size)
    ramp: Floats = np.clip((moment - start) / (days * DAY), 0.0, 1.0)
    trace.use *= 1 + error * ramp
    severity = "slow" if error < 0 else "fast"
    note = f"{100 * error:+.1f} % reached in {days:.0f} days"
    trace.labels.append(Label("drift", start, meter.end, severity, note))


_UNITS: Final = (("x10", 10.0), ("x100", 100.0), ("x1000", 1000.0), ("/10", 0.1), ("/1000", 0.001))


def _unit_error(meter: Meter, trace: Trace, rng: np.random.Generator) -> None:
    start = _start(meter, rng, leave_days=6)
    severity, factor = _UNITS[int(rng.integers(len(_UNITS)))]
    trace.scales.append((start, factor))
    trace.labels.append(Label("unit_error", start, meter.end, severity, ""))


def add_spikes(trace: Trace, rng: np.random.Generator) -> None:
    """Give some meters one or two bad values; `simulators.fleet.telemetry` places and labels them."""
    if rng.random() < 0.055:
        trace.spikes = [str(rng.choice(["max", "digit", "shift", "zero"])) for _ in range(int(rng.integers(1, 3)))]


KINDS: Final[dict[str, Kind]] = {
    "leak": Kind(0.2, lambda m, t: _carries_fluid(m) and m.habit not in ("continuous", "two_shift"), _leak),
    "leak_intermittent": Kind(
        0.08, lambda m, t: _carries_fluid(m) and m.is_household and _rests(m, t), _leak_intermittent
    ),
    "zero_use": Kind(0.12, lambda m, t: m.habit != "continuous" and _in_use(m, t), _zero_use),
    "reverse_flow": Kind(0.13, lambda m, t: m.is_household and _in_use(m, t), _reverse_flow),
    "stuck": Kind(0.08, _in_use, _stuck),
    "high_use": Kind(
        0.26,
        lambda m, t: (
            _in_use(m, t)
            and m.medium != "electricity"
            and m.habit not in ("boiler", "continuous", "two_shift")
            and m.medium != "water"
        ),
        _high_use,
    ),
    "comms_loss": Kind(0.08, lambda m, t: True, _comms_loss),
    "tamper": Kind(0.13, lambda m, t: _in_use(m, t) and m.habit not in ("continuous", "flush"), _tamper),
    "unauthorised": Kind(
        0.11, lambda m, t: m.medium != "electricity" and m.is_household and _in_use(m, t), _unauthorised
    ),
    "drift": Kind(0.08, _in_use, _drift),
    "unit_error": Kind(0.07, _in_use, _unit_error),
}
