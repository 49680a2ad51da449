"""Burst: a large flow that does not fall for hours.

Source: Kamstrup (burst: > 5-20 % of Q3 for 30 min). Hourly indexes cannot see half an hour; six hours in a row are
asked for, and more than this meter ever held for six hours in the last weeks, so that heating days stay quiet.
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Floats, known_more
from anomaly.verdict import Verdict


def burst(hours: Floats, *, held_before: Floats, qmax: Floats, min_share: Floats, min_ratio: Floats) -> Verdict:
    """hours: [unit] the last hours, [6, meters], NaN unknown. held_before: [unit/h] largest flow that was held as
    long in the weeks before (inf: too little history). min_share: of Qmax."""
    low = np.where(
        np.isnan(hours).sum(axis=0) <= 1, np.nanmin(np.where(np.isnan(hours), np.inf, hours), axis=0), np.nan
    )
    on = known_more(low, np.maximum(min_share * qmax, min_ratio * held_before + 0.02 * qmax))
    hold = known_more(hours[-1], 0.5 * np.maximum(min_share * qmax, held_before)) | np.isnan(hours[-1])
    back = np.full(on.shape, float(hours.shape[0]))
    return Verdict(on, hold, back, {"held_per_h": low, "held_before_per_h": held_before, "share_of_qmax": low / qmax})
