"""Communication loss: no reading for longer than the meter's own rhythm explains.

A gateway, bus or district that goes quiet as a whole is one cause: see `outage`, its meters are suppressed by design
(ISA-18.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.statistics import Flags, Floats
from anomaly.verdict import Verdict


def comms_loss(silent_h: Floats, *, min_hours: Floats) -> Verdict:
    """silent_h: [h] since the newest reading at the judged moment. min_hours: [h]."""
    on = silent_h >= min_hours
    return Verdict(on, silent_h >= 0.25 * min_hours, silent_h, {"silent_h": silent_h})


def outage(
    silent_h: Floats, parent: NDArray[Any], *, min_hours: float, min_share: float, fewest_meters: int
) -> Flags:
    """True for meters whose parent (gateway, bus, district: a number per meter) is quiet as a whole."""
    groups = int(parent.max(initial=-1)) + 1
    members = np.bincount(parent, minlength=groups)
    quiet = np.bincount(parent[silent_h >= min_hours], minlength=groups)
    down = (members >= fewest_meters) & (quiet >= min_share * members)
    return np.asarray(down[parent])
