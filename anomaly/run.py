"""Runs the engine over rows in order of arrival, with timers on whole UTC quarter hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import Engine, EngineShape
from anomaly.files import Readings
from anomaly.meters import MeterTable
from anomaly.thresholds import Thresholds

TIMER_S: Final = 3600
"""[s] the timers used: one quarter hour of each hour, the one at a quarter past, when hourly reads have come in."""
TIMER_PHASE_S: Final = 900


def next_timer(at_s: int) -> int:
    """[s since 1970] first timer at or after `at_s`."""
    return -(-(at_s - TIMER_PHASE_S) // TIMER_S) * TIMER_S + TIMER_PHASE_S


def run(
    meters: MeterTable,
    readings: Readings,
    thresholds: Thresholds,
    *,
    weather: dict[date, float] | None = None,
    shape: EngineShape | None = None,
    quick: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Engine:
    """Feed all readings, fire every timer until the last arrival, and return the engine with its book of findings.

    quick: ask the quick rules at every arrival as well, as the live service does (see `anomaly.quick`); slower.

    A timer sees the rows that arrived before or with it, never later ones: cutting the input at any time leaves all
    earlier findings as they are.
    """
    first = int(readings.received[0]) if len(readings) else 0
    engine = Engine(meters, thresholds, start_s=first, weather=weather, shape=shape, quick=quick)
    feed(engine, readings, next_timer(first), progress=progress)
    return engine


def feed(engine: Engine, readings: Readings, timer: int, *, progress: Callable[[int], None] | None = None) -> int:
    """Feed rows to an engine from `timer` on; return the timer that comes next."""
    if not len(readings):
        return timer
    last = int(readings.received[-1])
    timers = np.arange(timer, last + 1, TIMER_S)
    ends = np.searchsorted(readings.received, timers, side="right").tolist()
    start = 0
    for now, end in zip(timers.tolist(), ends, strict=True):
        _push(engine, readings, start, end)
        engine.tick(now)
        start = end
        if progress is not None:
            progress(end)
    _push(engine, readings, start, len(readings))
    return timer + TIMER_S * timers.size


def _push(engine: Engine, r: Readings, start: int, end: int) -> None:
    if end > start:
        for part, now_s in arrivals(r.received[start:end]) if engine.quick.enabled else ((slice(0, end - start), 0),):
            rows = slice(start + part.start, start + part.stop)
            engine.push(r.meter[rows], r.ts[rows], r.received[rows], r.micro[rows], r.flags[rows])
            if engine.quick.enabled:
                engine.judge_now(r.meter[rows], now_s)


def arrivals(received: NDArray[np.int64]) -> Iterator[tuple[slice, int]]:
    """Yield (rows, second) of the rows that arrived in the same second; received: [s since 1970], ascending."""
    starts = np.flatnonzero(np.append(True, received[1:] != received[:-1])).tolist()
    for start, end in zip(starts, [*starts[1:], received.size], strict=True):
        yield slice(start, end), int(received[start])
