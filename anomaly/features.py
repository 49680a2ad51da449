"""A day of one meter in a few numbers: what the daily rules look at.

Hours are folded into daily features as soon as a local day is complete, so that two months of a city fit in memory
(16 numbers a day instead of 24 hours with indexes). A late reading folds its own days again, with the same function.
Arrays are [hours or days, meters].
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from anomaly.statistics import Floats, sum_rows

HOURLY: Final = (
    "total",
    "known",
    "zeros",
    "min1",
    "min3",
    "min6",
    "low1",
    "low3",
    "low6",
    "held6",
    "active",
    "seen",
    "steady",
)
"""Features of a day of hours, in the unit of the meter unless said otherwise.

total: consumption of the day; NaN when more than 4 hours are unknown. known: [hours] read to the hour. zeros: [hours]
known and without consumption. minK: smallest consumption of K hours in a row that end on this day; NaN when fewer
than 8 such windows are known. lowK: their lower quartile. held6: largest flow that was held for 6 hours. active,
seen: bit h is set when the hour that starts at h:00 had consumption / is known. steady: [hours] longest run of hours
with the same flow, as a leak makes them and a boiler does not.
"""
DAILY: Final = ("total", "known")
"""Features of a meter that is read once a day (or less often than hourly); known: 1 when read on both midnights."""

CONTEXT_HOURS: Final = 11
"""[h] before the day that windows and runs reach back."""
FEWEST_WINDOWS: Final = 8
MOST_UNKNOWN_HOURS: Final = 4
SAME_FLOW: Final = 0.0105
"""[unit] one count of a 0.01 meter: two hours this close carry the same flow. A 0.1 count is too coarse to say so."""


def fold_hours(use: Floats, span: NDArray[np.uint8], quiet: Floats) -> dict[str, Floats]:
    """Fold one local day. use, span: [11 + 24, meters], the day's hours behind 11 hours of the day before.

    use: consumption of the hour, NaN unknown; span: over how many hours a known amount was averaged (0: unknown).
    quiet: [unit] per meter, at or below which an hour counts as still (half a count of its last digit).
    """
    day, day_span = use[CONTEXT_HOURS:], span[CONTEXT_HOURS:]
    known = day_span == 1
    hours = np.where(known, day, np.nan)
    spread = sum_rows(np.where(day_span > 0, day, 0.0))
    count = np.count_nonzero(day_span, axis=0)
    full = day.shape[0]
    out = {"total": np.where(count >= full - MOST_UNKNOWN_HOURS, spread * (full / np.maximum(count, 1)), np.nan)}
    out["known"] = np.count_nonzero(known, axis=0)
    active = known & (day > quiet)
    out["zeros"] = np.count_nonzero(known & (np.abs(hours) <= quiet), axis=0)
    filled = np.where((span >= 1) & (span <= 6), use, np.nan)
    out["min1"], out["low1"] = _low_end(hours)
    for width in (3, 6):
        out[f"min{width}"], out[f"low{width}"] = _low_end(_window_sums(filled, width)[-full:])
    out["held6"] = _held(filled, 6, full)
    bits = (1 << np.minimum(np.arange(full), 23)).astype(np.int32)[:, None]
    out["active"] = np.bitwise_or.reduce(np.where(active, bits, 0), axis=0)
    out["steady"] = _steady(filled, quiet, full)
    out["seen"] = np.bitwise_or.reduce(np.where(known, bits, 0), axis=0)
    return out


def fold_days(use: Floats, span: NDArray[np.uint8]) -> dict[str, Floats]:
    """Fold one day of meters read daily. use, span: [meters]; a missed day keeps the mean of two."""
    total = np.where((span >= 1) & (span <= 2), use, np.nan)
    return {
        "total": np.where(np.isnan(total), np.nan, np.maximum(total, 0.0)),
        "known": (span == 1).astype(use.dtype),
    }


def _window_sums(hours: Floats, width: int) -> Floats:
    """Sums of `width` hours in a row, NaN when one is unknown; row i ends with hour i + width - 1."""
    sums = hours[width - 1 :].copy()
    for back in range(1, width):
        sums += hours[width - 1 - back : hours.shape[0] - back]
    return sums


def _held(hours: Floats, width: int, rows: int) -> Floats:
    """Largest flow that no hour of `width` in a row fell below, for windows that end on the day."""
    low = hours[width - 1 :].copy()
    for back in range(1, width):
        np.minimum(low, hours[width - 1 - back : hours.shape[0] - back], out=low)
    return _largest(low[-rows:])


def _steady(hours: Floats, quiet: Floats, rows: int) -> Floats:
    """Longest run of hours whose flow stays within 15 % or one count, for runs that end on the day."""
    best = np.zeros(hours.shape[1], np.int16)
    run = np.zeros(hours.shape[1], np.int16)
    with np.errstate(invalid="ignore"):
        for i in range(1, hours.shape[0]):
            now, before = hours[i], hours[i - 1]
            same = (before > quiet) & (now > quiet)
            same &= np.abs(now - before) <= np.maximum(
                np.minimum(2.1 * quiet, SAME_FLOW), 0.15 * np.maximum(now, before)
            )
            run = np.where(same, run + 1, 0)
            if i >= hours.shape[0] - rows:
                np.maximum(best, run, out=best)
    return np.where(best > 0, best + 1, 0).astype(hours.dtype)


def _largest(values: Floats) -> Floats:
    """Largest known value; NaN when none is."""
    top = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return np.where(np.isfinite(top), top, np.nan)


def _low_end(values: Floats) -> tuple[Floats, Floats]:
    """Smallest and lower quartile of the known values; NaN when fewer than 8 are known."""
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)  # NaN sorts to the end
    count = np.count_nonzero(~np.isnan(values), axis=0)
    few = count < FEWEST_WINDOWS
    place = np.maximum((0.25 * (count - 1)).astype(np.int64), 0)
    quarter = ordered[np.arange(values.shape[1]), place]
    return np.where(few, np.nan, ordered[:, 0]), np.where(few, np.nan, quarter)
