"""Zero use: an index at rest for longer than this meter ever rests.

Sources: utility manuals (index long at rest, default 90 d for closing a valve; electricity 180 d), Itron (N
midnight-to-midnight days, auto-close). A missing day ends a run: silence is not zero. A count of days alone confuses
an empty flat with a fault: the run is held against the meter's own habit, trips of a week pass, and days around the
Spring Festival do not count for shops and only late for homes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.statistics import Flags, Floats, count_known, longest_run
from anomaly.verdict import Verdict


def zero_run(total: Floats, *, still_below: Floats) -> NDArray[np.int64]:
    """[d] length of the run of days without consumption that ends today; an unknown day ends it."""
    run = np.zeros(total.shape[1], np.int64)
    alive = np.ones(total.shape[1], bool)
    with np.errstate(invalid="ignore"):
        for day in total[::-1]:
            alive &= np.abs(day) <= still_below
            if not alive.any():
                break
            run += alive
    return run


def zero_use(
    total: Floats,
    *,
    still_below: Floats,
    festival: Flags,
    min_days: Floats,
    festival_days: Floats,
    business: Flags,
    excluded: Flags,
    fewest_days: int = 7,
) -> Verdict:
    """total: [unit/d], [days, meters]. festival: [days]. min_days: [d]. festival_days: [d] more for homes when the
    run touches the festival. business: its festival days do not count. excluded: valve closed, not commissioned."""
    run = zero_run(total, still_below=still_below)
    days = total.shape[0]
    inside = np.arange(days)[:, None] >= days - run[None, :]
    festive = np.count_nonzero(inside & festival[:, None], axis=0)
    counted = np.where(business, run - festive, run)
    history = np.where(inside, np.nan, total)
    known = count_known(history)
    with np.errstate(invalid="ignore"):
        still = np.abs(history) <= still_below
    share = (np.count_nonzero(still, axis=0) + 0.5) / (known + 1)
    used = known - np.count_nonzero(still, axis=0)
    longest = longest_run(still)
    needed = np.maximum(min_days, np.ceil(6.0 / -np.log(np.clip(share, 1e-3, 0.97))))
    needed = np.maximum(needed, 1.3 * longest + 2)
    needed = needed + np.where(~business & (festive > 0), festival_days, 0)
    on = (counted >= needed) & (used >= fewest_days) & (share <= 0.85) & ~excluded
    hold = (run > 0) & ~excluded
    return Verdict(on, hold, run * 24.0, {"days_at_rest": run, "days_asked": needed, "habit": share})


def long_zero(total: Floats, *, still_below: Floats, min_days: Floats, excluded: Flags) -> Verdict:
    """Index long at rest: propose that the valve be closed (utility manuals: 90 d; electricity 180 d)."""
    run = zero_run(total, still_below=still_below)
    return Verdict((run >= min_days) & ~excluded, run > 0, run * 24.0, {"days_at_rest": run})


def always_on(zeros: Floats, known: Floats, *, max_share: float) -> NDArray[Any]:
    """True for meters whose hours were practically never still in the days given (base load, 24/7 work)."""
    hours = np.where(np.isnan(known), 0, known).sum(axis=0)
    still = np.where(np.isnan(zeros), 0, zeros).sum(axis=0)
    return np.asarray((hours >= 72) & (still <= max_share * hours))
