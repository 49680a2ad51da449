"""Tamper: consumption drops to a share of the habit and stays there, or the meter reports a magnet or an open cover.

Source: utility manuals (tampering, private re-piping 私拆、移、改装: report at once, keep evidence). The drop is
judged by whole weeks, against what peers do in the same days: a journey, a warm spell or the festival moves a mean
but not this.
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Flags, Floats, known_less, known_more, mean_known, quantiles
from anomaly.verdict import Verdict


def drop(
    total: Floats,
    *,
    peers: Floats,
    still_below: Floats,
    max_ratio: Floats,
    min_ratio: Floats,
    max_spread: Floats,
    gap: int = 2,
    fewest_days: int = 10,
) -> Verdict:
    """total: [unit/d], [days, meters], NaN on days that say nothing. peers: movement of the group, [days, meters].

    Two weeks in a row must lie below max_ratio times the habit, and below every earlier week; days of absence (less
    than min_ratio of the habit) are left out, so that a journey is no tampering. Weeks, because shops have weekends.
    max_ratio: of the habit against peers and (nearly) of the plain habit, so that a boiler that starts later than its
    neighbours' is no case. max_spread: the lowest earlier week must lie above this share of the habit.
    """
    level = total / np.maximum(peers, 0.05)
    rough = quantiles(level[: -14 - gap], (0.5,), fewest=fewest_days)[0]
    absent = ~known_more(level, min_ratio * rough) | ~known_more(total, still_below)
    level, plain = np.where(absent, np.nan, level), np.where(absent, np.nan, total)
    weeks = [mean_known(level[end - 7 : end], fewest=4) for end in range(level.shape[0] - 14 - gap, 6, -3)]
    habit, lowest = quantiles(np.array(weeks), (0.5, 0.0), fewest=2)
    week_1, week_2 = mean_known(level[-14:-7], fewest=4), mean_known(level[-7:], fewest=4)
    ratio = mean_known(level[-14:], fewest=8) / np.where(known_more(habit, 0), habit, np.nan)
    plain_ratio = mean_known(plain[-14:], fewest=8) / mean_known(plain[: -14 - gap], fewest=fewest_days)
    on = known_less(ratio, max_ratio) & known_less(plain_ratio, 0.5 * (max_ratio + 1))
    on &= known_less(np.maximum(week_1, week_2), np.minimum(1.15 * max_ratio * habit, 0.85 * lowest))
    on &= known_more(ratio, min_ratio) & known_more(lowest, max_spread * habit)
    hold = known_less(week_2, 0.5 * (1 + max_ratio) * habit) | np.isnan(week_2)
    evidence = {"ratio": ratio, "per_day": mean_known(plain[-14:], fewest=8), "habit_per_day": habit}
    return Verdict(on, hold, np.full(on.shape, 24.0 * 14), evidence)


def flagged(flags: Flags) -> Verdict:
    """The meter itself reports a magnetic field or an open cover. flags: [cells, meters]."""
    hit: Flags = np.asarray(flags.any(axis=0), np.bool_)
    return Verdict(hit, hit, np.full(hit.shape, float(flags.shape[0])), {"readings_flagged": flags.sum(axis=0)})
