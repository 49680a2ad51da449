"""What the meter says of itself: low battery, clock, valve; and the supply balance of a district.

Sources: flags of DL/T 645, CJ/T 188 and EN 13757 status bytes as the profiles map them; supply balance: the
difference between a district meter and the meters behind it (IWA water balance).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.statistics import Flags, Floats, known_more
from anomaly.verdict import Verdict


def reported(flags: Flags, known: Flags, *, min_readings: int) -> Verdict:
    """A status bit in the last readings. flags, known: [cells, meters]. min_readings: readings that carry it."""
    count = np.count_nonzero(flags & known, axis=0)
    last = flags.shape[0] - 1 - np.argmax(known[::-1], axis=0)
    now = flags[last, np.arange(flags.shape[1])] & known.any(axis=0)
    return Verdict(
        now & (count >= min_readings),
        now | ~known.any(axis=0),
        np.full(now.shape, float(flags.shape[0])),
        {"readings": count},
    )


def supply_balance(
    supply: Floats, children: Floats, known_share: Floats, *, max_loss: float, fewest_share: float = 0.9
) -> Verdict:
    """supply: [unit] what the parent meter passed; children: sum of the meters behind it; known_share: of the
    children that were read, all [meters]. max_loss: share of the supply that may go missing."""
    loss = (supply - children) / np.where(known_more(supply, 0), supply, np.nan)
    on = known_more(np.abs(loss), max_loss) & (known_share >= fewest_share)
    return Verdict(
        on, known_more(np.abs(loss), 0.7 * max_loss), np.full(on.shape, 24.0), {"loss_share": loss, "supply": supply}
    )


def group_sums(values: Floats, parent: NDArray[Any], groups: int) -> tuple[Floats, Floats]:
    """Sum of the known values and share known, per group; parent -1: in none."""
    inside = parent >= 0
    known = inside & ~np.isnan(values)
    sums = np.bincount(parent[known], values[known], minlength=groups)
    members = np.bincount(parent[inside], minlength=groups)
    return sums, np.bincount(parent[known], minlength=groups) / np.maximum(members, 1)
