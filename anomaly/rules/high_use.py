"""High use: far more than the household limit and far more than this meter's habit.

Source: utility manuals (household above 50 m³ a month: go in and look; above 100 m³: read again before billing).
A week at a rate that would pass the monthly limit, sustained on most days and at least twice the meter's own habit
(moved by what its peers do, so that a cold wave is nobody's anomaly), is enough; a party weekend is not.
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Flags, Floats, count_known, known_more, mean_known, quantiles, sum_rows
from anomaly.verdict import Verdict


def high_use(
    total: Floats,
    *,
    peers: Floats,
    festival: Flags,
    month_limit: Floats,
    min_ratio: Floats,
    days: int,
    fewest_days: int = 10,
) -> Verdict:
    """total: [unit/d], [days, meters]. peers: [days, meters] how the group's use moved against its habit (1: not).

    month_limit: [unit/30 d]. min_ratio: times the habit. days: length of the look-back. festival: [days] such days
    are left out of the look-back (guests are no anomaly).
    """
    usual = np.where(np.isnan(total[: -days - 2]), np.nan, total[: -days - 2] / np.maximum(peers[: -days - 2], 0.2))
    habit, high = quantiles(usual, (0.5, 0.9), fewest=fewest_days)
    recent = np.where(festival[-days:, None], np.nan, total[-days:])
    expected = habit * np.maximum(peers[-days:], 1.0)
    now = mean_known(recent, fewest=days - 2)
    move = mean_known(expected, fewest=1)
    above = np.count_nonzero(known_more(recent, np.maximum(1.5 * expected, high[None, :])), axis=0)
    on = known_more(now * 30, month_limit) & known_more(now, min_ratio * move)
    on &= known_more((now - move) * 30, 0.4 * month_limit) & (above >= days - 2)
    worked = np.count_nonzero(known_more(usual, 0.1 * np.where(np.isnan(high), 0, high)), axis=0)
    on &= known_more(now, 1.2 * high * np.maximum(move / np.maximum(habit, 1e-9), 1.0)) & (worked >= fewest_days)
    hold = known_more(total[-1], 1.5 * habit) | np.isnan(total[-1])
    back = np.full(on.shape, 24.0 * days)
    evidence = {
        "per_day": now,
        "habit_per_day": move,
        "month_rate": now * 30,
        "limit": np.broadcast_to(month_limit, on.shape),
    }
    return Verdict(on, hold, back, evidence)


def month_over_limit(total: Floats, *, month_limit: Floats, applies: Flags) -> Verdict:
    """More than the limit within the last 30 days, whatever the habit."""
    month = total[-30:]
    used = sum_rows(np.where(np.isnan(month), 0, month))
    on = applies & known_more(used, month_limit) & (count_known(month) >= min(20, month.shape[0]))
    return Verdict(on, used > 0.9 * month_limit, np.full(on.shape, 720.0), {"used_30_d": used})


def over_range(hours: Floats, *, qmax: Floats, min_ratio: Floats) -> Verdict:
    """More than Qmax in all of the last hours: the meter is too small, or wrongly set. hours: [cells, meters]"""
    low = np.where(np.isnan(hours).any(axis=0), np.nan, hours.min(axis=0))
    on = known_more(low, min_ratio * qmax)
    return Verdict(
        on, known_more(hours[-1], qmax), np.full(on.shape, float(hours.shape[0])), {"per_h": low, "qmax": qmax}
    )
