"""Unauthorised use: consumption where none may be.

Source: utility manuals (use on a meter not yet in service 私自点火: any use; sealed 封表; valve closed 关阀).
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Flags, Floats, sum_rows
from anomaly.verdict import Verdict


def unauthorised(hours: Floats, *, forbidden: Flags, resolution: Floats, min_counts: Floats) -> Verdict:
    """hours: [unit] last cells, [cells, meters]. forbidden: [cells, meters] no use is allowed in that cell (never
    commissioned, or the valve was reported closed at both its ends). min_counts: counts of the last digit."""
    used = np.where(forbidden & (hours > 0), hours, 0.0)
    amount = sum_rows(used)
    cells = np.count_nonzero(used, axis=0)
    on = amount >= min_counts * resolution
    back = hours.shape[0] - np.argmax(used > 0, axis=0)
    return Verdict(on, amount > 0, back.astype(float), {"used": amount, "cells_with_use": cells})
