"""Reverse flow: the index falls.

Source: Sensus (reverse flow for 15 min). One small fall can be a rounding or a clock; a meter installed backwards
falls at every use, backflow pulses come again.
"""

from __future__ import annotations

import numpy as np

from anomaly.statistics import Floats, sum_rows
from anomaly.verdict import Verdict


def reverse_flow(hours: Floats, *, resolution: Floats, min_counts: Floats, min_steps: Floats) -> Verdict:
    """hours: [unit] consumption of the last hours or days, [cells, meters], negative where the index fell.

    min_counts: fall in counts of the last digit that is enough on its own. min_steps: or so many falls.
    """
    back = np.where(hours < 0, hours, 0.0)
    fell = sum_rows(back)
    steps = np.count_nonzero(back, axis=0)
    on = (-fell >= min_counts * resolution) | (steps >= min_steps)
    on &= steps > 0
    first = hours.shape[0] - np.argmax(back < 0, axis=0)
    return Verdict(on, steps > 0, first.astype(float), {"fell_by": -fell, "falls": steps})
