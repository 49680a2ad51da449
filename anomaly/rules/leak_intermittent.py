"""Intermittent leak: hours that used to be still are no longer, again and again.

Source: Neptune (flow in 50-95 of 96 quarter hours: intermittent). Counting restless hours of a day confuses guests
with a dripping cistern, and a boiler that starts its season with a leak; here only hours of the day count in which
this meter stood still on nearly all earlier days, and only on days with a run of hours of one and the same flow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.statistics import Floats, known_less, known_more, mean_known, quantiles
from anomaly.verdict import Verdict


def intermittent(
    active: Floats,
    seen: Floats,
    steady: Floats,
    total: Floats,
    *,
    recent_days: int,
    max_habit: Floats,
    min_hours: Floats,
    min_days: Floats,
    min_run: Floats,
    min_rate: Floats,
    max_rate: Floats,
    long_run: int = 6,
    fewest_days: int = 10,
) -> Verdict:
    """active, seen: bit h = the hour had consumption / is known, [days, meters], NaN before the first day. steady:
    [hours] longest run of one flow per day. total: [unit/d].

    max_habit: an hour of the day is quiet when it was active on at most this share of the earlier days. min_hours:
    quiet hours with consumption that make a day count. min_run: [hours] of one flow that make a day count. min_days:
    such days among the last `recent_days`. min_rate, max_rate: [unit/h] what those hours added at least and at
    most: a boiler adds more.
    long_run: [hours] of one flow that mark a day at any time of day.
    """
    on_bits, seen_bits = _bits(active), _bits(seen)
    earlier = slice(0, active.shape[0] - recent_days)
    hits = np.zeros((active.shape[0], active.shape[1]), np.int16)
    quiet_hours = np.zeros(active.shape[1], np.int16)
    for hour in range(24):
        on = (on_bits >> hour) & 1
        known = (seen_bits >> hour) & 1
        days = known[earlier].sum(axis=0)
        quiet = (days >= fewest_days) & (on[earlier].sum(axis=0) <= max_habit * days)
        quiet_hours += quiet
        hits += (on * quiet).astype(np.int16)
    runs = np.where(np.isnan(steady), 0, steady)
    marked = ((hits >= min_hours) & (runs >= min_run)) | (runs >= long_run)
    now = marked[-recent_days:].sum(axis=0)
    usual = marked[earlier].mean(axis=0) if active.shape[0] > recent_days else np.ones(active.shape[1])
    added = mean_known(np.where(marked, total, np.nan)[-recent_days:], fewest=1)
    added = added - quantiles(total[earlier], (0.5,), fewest=fewest_days)[0]
    rate = added / np.maximum(
        mean_known(np.where(marked, np.maximum(hits, runs), np.nan)[-recent_days:], fewest=1), 1
    )
    on = (
        (now >= min_days)
        & (usual <= 0.12)
        & (quiet_hours >= 5)
        & known_less(rate, max_rate)
        & known_more(rate, min_rate)
    )
    hold = now >= np.maximum(min_days - 2, 1)
    first = recent_days - np.argmax(marked[-recent_days:], axis=0)
    total = hits[-recent_days:].sum(axis=0)
    return Verdict(
        on,
        hold,
        first * 24.0,
        {"days_marked": now, "rate_per_h": rate, "quiet_hours_with_flow": total, "habit": usual},
    )


def _bits(values: Floats) -> NDArray[Any]:
    return np.where(np.isnan(values), 0, values).astype(np.int32)
