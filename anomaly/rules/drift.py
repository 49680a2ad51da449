"""Drift: a meter slowly reads too much or too little.

Source: utility manuals (meter fast or slow 表快、慢: report at once, test within 5 working days; gas meters ±1.5 %).
A few percent can be told from life only where use is regular; the rule asks for a shift of the level, relative to
peers, that is many times the scatter of the daily values and builds up rather than jumps.
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Floats, count_known, known_more, mean_known
from anomaly.verdict import Verdict


def drift(
    total: Floats, *, peers: Floats, min_shift: Floats, max_shift: Floats, min_score: Floats, days: int
) -> Verdict:
    """total: [unit/d], [days, meters]. peers: movement of the group. min_shift, max_shift: relative change of the
    level between the first and the last `days`. min_score: shift over its standard error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.log(np.where(total > 0, total, np.nan) / np.maximum(peers, 0.05))
    early, late = level[:-days], level[-days:]
    first, last = mean_known(early, fewest=days), mean_known(late, fewest=days - 4)
    shift = last - first
    scatter = np.sqrt(_variance(early, first) / np.maximum(count_known(early), 1) + _variance(late, last) / days)
    score = np.abs(shift) / np.maximum(scatter, 1e-4)
    steps = np.abs(_step(level, days))
    on = known_more(np.abs(shift), min_shift) & ~known_more(np.abs(shift), max_shift) & known_more(score, min_score)
    on &= ~known_more(steps, 0.8 * np.abs(shift))
    hold = known_more(score, 0.5 * min_score)
    return Verdict(on, hold, np.full(on.shape, 24.0 * days), {"shift": np.expm1(shift), "score": score})


def _variance(values: Floats, mean: Floats) -> Floats:
    """Variance of the known days, with one week of autocorrelation (daily use is not independent)."""
    return mean_known((values - mean) ** 2, fewest=3) * 1.5


def _step(level: Floats, days: int) -> Floats:
    """Change between the week before and the week after the middle: large for a jump, small for a drift."""
    middle = level.shape[0] - days
    return mean_known(level[middle : middle + 5], fewest=3) - mean_known(level[middle - 5 : middle], fewest=3)
