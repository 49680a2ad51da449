"""Tamper: consumption drops to a share of the habit and stays there, or the meter reports a magnet or an open cover.

Source: utility manuals (tampering, private re-piping 私拆、移、改装: report at once, keep evidence). The drop is
judged by medians over two weeks, against what peers do in the same days: a journey of a week, a warm spell or the
festival moves the mean but not this.
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Flags, Floats, count_known, known_less, known_more, quantiles
from anomaly.verdict import Verdict


def drop(
    total: Floats,
    *,
    peers: Floats,
    still_below: Floats,
    max_ratio: Floats,
    min_ratio: Floats,
    max_spread: Floats,
    days: int,
    gap: int = 2,
    fewest_days: int = 14,
) -> Verdict:
    """total: [unit/d], [days, meters]. peers: movement of the group against its habit, [days, meters].

    max_ratio: drop to at most this share, of the habit against peers and (nearly) of the plain habit, so that a
    boiler that starts later than its neighbours' is no case. min_ratio: less than this is rest, not tampering.
    max_spread: the 25 % quantile of the earlier days must lie above this share of their median, so that a meter
    whose use always wanders is not judged. days: [d] looked at.
    """
    level = total / np.maximum(peers, 0.05)
    before = level[: -days - gap]
    recent = level[-days:]
    habit, low, lowest = quantiles(before, (0.5, 0.25, 0.08), fewest=fewest_days)
    now, high_now = quantiles(recent, (0.5, 0.85), fewest=days - 4)
    plain_habit = quantiles(total[: -days - gap], (0.5,), fewest=fewest_days)[0]
    plain_now = quantiles(total[-days:], (0.5,), fewest=days - 4)[0]
    used = np.count_nonzero(known_more(total[-days:], still_below), axis=0)
    ratio = now / np.where(known_more(habit, 0), habit, np.nan)
    on = known_less(ratio, max_ratio) & known_less(high_now, low) & known_less(now, 0.8 * lowest)
    on &= known_more(ratio, min_ratio) & known_less(plain_now, 0.5 * (max_ratio + 1) * plain_habit)
    on &= known_more(low, max_spread * habit) & (used >= 0.6 * count_known(recent))
    hold = known_less(now, 0.5 * (1 + max_ratio) * habit) | np.isnan(now)
    back = np.full(on.shape, 24.0 * days)
    return Verdict(on, hold, back, {"ratio": ratio, "per_day": now, "habit_per_day": habit})


def flagged(flags: Flags) -> Verdict:
    """The meter itself reports a magnetic field or an open cover. flags: [cells, meters]."""
    hit: Flags = np.asarray(flags.any(axis=0), np.bool_)
    return Verdict(hit, hit, np.full(hit.shape, float(flags.shape[0])), {"readings_flagged": flags.sum(axis=0)})
