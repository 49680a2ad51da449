"""Rules that do not wait for the end of the day: burst, reverse flow, unauthorised use, flags of the meter."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.rules import burst, reverse_flow, states, tamper, unauthorised
from anomaly.shard import ALL, Shard
from anomaly.verdict import Verdict
from metering.reading import Flag
from metering.steps import Step

Rows = NDArray[np.int64]
BURST_HOURS: Final = 6
REVERSE_HOURS: Final = 72
REVERSE_DAYS: Final = 4
USE_CELLS: Final = 24
BURST_DAYS: Final = 45
"""[d] of the meter's own largest held flow."""
FEWEST_DAYS: Final = 5
"""[d] of history before a burst can be told from ordinary use."""


def burst_verdict(shard: Shard, slot: int, rows: Any = ALL, *, before: int | None = None) -> Verdict:
    """Meters of an hourly shard at the boundary `slot`. before: last day of their history, the newest when None."""
    hour = slot // shard.per_hour
    use, span = shard.hours(hour - BURST_HOURS, hour, rows)
    held = np.where((span >= 1) & (span <= 3), use, np.nan)
    day = shard.date_of(max(shard.day, 0))
    verdict = burst.burst(
        held,
        held_before=_held_before(shard, shard.day if before is None else min(before, shard.day), rows),
        qmax=shard.table.qmax[rows],
        min_share=shard.values("burst.min_share", day)[rows],
        min_ratio=shard.values("burst.min_ratio", day)[rows],
    )
    verdict.on &= ~shard.electric[rows]
    return verdict


def day_before_burst(shard: Shard, slot: int) -> int:
    """Last day that ended before the hours which `burst_verdict` looks at: a burst is no habit of its own."""
    return (slot - BURST_HOURS * shard.per_hour) // shard.per_day - 1


def _held_before(shard: Shard, day: int, rows: Any) -> NDArray[Any]:
    held = shard.history("held6", day, BURST_DAYS, rows)
    top = np.where(np.isnan(held), -np.inf, held).max(axis=0)
    known = np.count_nonzero(~np.isnan(held), axis=0)
    return np.where(known >= FEWEST_DAYS, top, np.inf)


def reverse_verdict(shard: Shard, slot: int, rows: Rows) -> Verdict:
    """Meters that fell lately, at the boundary `slot`."""
    cells = REVERSE_DAYS if shard.slot_s > 3600 else REVERSE_HOURS * 3600 // shard.slot_s
    use, span = shard.cells(slot - cells, slot, rows)
    day = shard.date_of(max(shard.day, 0))
    verdict = reverse_flow.reverse_flow(
        np.where(span > 0, use, 0.0),
        resolution=shard.table.resolution[rows],
        min_counts=shard.values("reverse_flow.min_counts", day)[rows],
        min_steps=shard.values("reverse_flow.min_steps", day)[rows],
    )
    verdict.back_h *= shard.slot_s / 3600  # the rule counts cells
    return verdict


def unauthorised_verdict(shard: Shard, slot: int, rows: Rows) -> Verdict:
    """Meters that may pass nothing, at the boundary `slot`."""
    cells = 2 if shard.slot_s > 3600 else USE_CELLS * shard.per_hour
    use, span = shard.cells(slot - cells, slot, rows)
    closed = (shard.flags(slot - cells, slot + 1, rows) & Flag.VALVE_CLOSED) > 0
    forbidden = (closed[1:] & closed[:-1]) | ~shard.table.commissioned[rows]
    day = shard.date_of(max(shard.day, 0))
    verdict = unauthorised.unauthorised(
        np.where(span > 0, use, 0.0),
        forbidden=forbidden,
        resolution=shard.table.resolution[rows],
        min_counts=shard.values("unauthorised.min_counts", day)[rows],
    )
    verdict.back_h *= shard.slot_s / 3600  # the rule counts cells
    return verdict


def flag_verdicts(shard: Shard, slot: int, rows: Rows) -> dict[str, Verdict]:
    """Meters whose last readings carry status bits, at the boundary `slot`."""
    cells = 3 if shard.slot_s > 3600 else 6 * shard.per_hour
    flags = shard.flags(slot - cells + 1, slot + 1, rows)
    known = shard.grid.raw[slot - cells + 1 - shard.grid.first : slot + 1 - shard.grid.first]
    there = np.pad(known, ((cells - known.shape[0], 0), (0, 0)), constant_values=-1)[:, rows] >= 0
    enough = int(shard.thresholds.number("low_battery.min_readings"))
    return {
        "tamper_flags": tamper.flagged((flags & (Flag.MAGNET | Flag.COVER)) > 0),
        "low_battery": states.reported((flags & Flag.LOW_BATTERY) > 0, there, min_readings=enough),
        "valve": states.reported((flags & Flag.VALVE_CLOSED) > 0, there, min_readings=1),
    }


def fallen(shard: Shard) -> set[int]:
    """Meters whose index fell within the time that `reverse_verdict` looks at."""
    cells = REVERSE_DAYS if shard.slot_s > 3600 else REVERSE_HOURS * 3600 // shard.slot_s
    last = shard.grid.frontier - shard.grid.first + 1
    part = shard.grid.code[max(last - cells, 0) : max(last, 0)]
    return set(np.flatnonzero((part == Step.REVERSE).any(axis=0)).tolist())
