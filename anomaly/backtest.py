"""Back-test: a grid of parameters over one period -> alarms, recall, precision, delay, and which meters flip."""

from __future__ import annotations

import itertools
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

from anomaly.files import Readings
from anomaly.findings import Finding
from anomaly.meters import MeterTable
from anomaly.run import run
from anomaly.scoring import Labels, Score, score
from anomaly.thresholds import Thresholds
from metering.errors import SettingsError

MOST_TRIALS: Final = 200
CREDIBLE_S: Final = 45 * 86_400


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters and what it did. alarms: per rule, withdrawn ones and info left out.

    per_1000: the same per 1,000 meters and 30 days. flagged: (meter, kind) pairs with an alarm.
    """

    name: str
    values: dict[str, float]
    alarms: dict[str, int]
    per_1000: dict[str, float]
    flagged: frozenset[tuple[str, str]]
    score: Score | None
    findings: list[Finding]


def read_grid(path: Path, names: Thresholds) -> dict[str, list[float]]:
    """Read a grid: TOML, `"rule.threshold" = [values]`. Raises: SettingsError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    grid: dict[str, list[float]] = {}
    for name, values in data.items():
        if name not in names.defaults:
            raise SettingsError(f'{path}: {name!r} is not a threshold; write "rule.threshold" = [values]')
        listed = values if isinstance(values, list) else [values]
        if not listed or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in listed):
            raise SettingsError(f"{path}: {name} = {values!r}: a list of numbers is needed")
        grid[name] = [float(v) for v in listed]
    return grid


def combinations(grid: dict[str, list[float]]) -> list[dict[str, float]]:
    """All combinations, the defaults ({}) first. Raises: SettingsError above 200."""
    trials = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []
    if len(trials) > MOST_TRIALS:
        raise SettingsError(f"{len(trials)} combinations; {MOST_TRIALS} are allowed: make the grid smaller")
    return [{}, *trials]


def backtest(
    meters: MeterTable,
    readings: Readings,
    thresholds: Thresholds,
    trials: list[dict[str, float]],
    *,
    labels: Labels | None,
    meter_days: float,
    weather: dict[date, float] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Trial]:
    """Run every trial over the same rows. meter_days: observed days summed over meters."""
    out = []
    for number, values in enumerate(trials):
        name = ", ".join(f"{key} = {value:g}" for key, value in values.items()) or "defaults"
        if progress is not None:
            progress(f"trial {number + 1} of {len(trials)}: {name}")
        changed = thresholds.with_values(values, version=f"{thresholds.version}#{number}") if values else thresholds
        engine = run(meters, readings, changed, weather=weather)
        out.append(_trial(name, values, engine.book.findings, meters, labels, meter_days))
    return out


def _trial(
    name: str,
    values: dict[str, float],
    findings: list[Finding],
    meters: MeterTable,
    labels: Labels | None,
    meter_days: float,
) -> Trial:
    real = [f for f in findings if f.withdrawn_s is None and not f.kind.startswith("info")]
    alarms = Counter(f.rule for f in real)
    months = max(meter_days / 30_000, 1e-9)
    result = None
    if labels is not None:
        lines: list[dict[str, Any]] = [finding.line() for finding in findings]
        intervals = {m.meter_id: float(m.interval_s) for m in meters.meters}
        result = score(lines, labels, intervals=intervals, meter_days=meter_days)
    return Trial(
        name,
        values,
        dict(sorted(alarms.items())),
        {rule: count / months for rule, count in sorted(alarms.items())},
        frozenset((f.meter_id, f.kind) for f in real),
        result,
        findings,
    )


def flips(base: Trial, other: Trial) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(meter, kind) pairs that only the other trial flags, and that it no longer flags."""
    return sorted(other.flagged - base.flagged), sorted(base.flagged - other.flagged)


def observed_days(readings: Readings) -> float:
    """Days between the first and last reading of each meter, summed; readings with impossible clocks left out."""
    sane = np.abs(readings.ts - readings.received) < CREDIBLE_S
    meter, ts = readings.meter[sane], readings.ts[sane]
    if not meter.size:
        return 0.0
    first = np.full(int(meter.max()) + 1, np.iinfo(np.int64).max)
    last = np.full(first.size, np.iinfo(np.int64).min)
    np.minimum.at(first, meter, ts)
    np.maximum.at(last, meter, ts)
    seen = last >= first
    return float((last[seen] - first[seen]).sum()) / 86_400
