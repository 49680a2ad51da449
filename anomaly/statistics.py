"""Small statistics over histories with gaps: [days, meters] arrays, newest day last, NaN unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Flags = NDArray[np.bool_]


def count_known(values: Floats) -> NDArray[np.int64]:
    """Known days per meter."""
    known: NDArray[np.int64] = np.count_nonzero(~np.isnan(values), axis=0)
    return known


def quantiles(values: Floats, shares: tuple[float, ...], *, fewest: int) -> list[Floats]:
    """Quantiles of the known days (nearest rank, so that they are values that occurred); NaN below `fewest` days."""
    if values.shape[0] == 0:
        return [np.full(values.shape[1], np.nan)] * len(shares)
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)
    count = count_known(values)
    rows = np.arange(values.shape[1])
    few = count < max(fewest, 1)
    out = []
    for share in shares:
        place = np.clip(np.rint(share * (count - 1)).astype(np.int64), 0, None)
        out.append(np.where(few, np.nan, ordered[rows, place]))
    return out


def sum_rows(values: Floats) -> Floats:
    """Sum over the first axis, row after row: the same bits for one meter as for a city (numpy's own sum pairs rows
    when there is one column only)."""
    total = np.zeros(values.shape[1:], values.dtype)
    for row in values:
        total += row
    return total


def mean_known(values: Floats, *, fewest: int) -> Floats:
    """Mean of the known days; NaN below `fewest` days."""
    count = count_known(values)
    total = sum_rows(np.where(np.isnan(values), 0, values))
    return np.where(count >= max(fewest, 1), total / np.maximum(count, 1), np.nan)


def trailing_run(flags: Flags, known: Flags, *, neutral_unknown: bool) -> NDArray[np.int64]:
    """Length in days of the run of flags that ends today.

    neutral_unknown: an unknown day neither counts nor ends the run; otherwise it ends it (silence is not zero).
    """
    run = np.zeros(flags.shape[1], np.int64)
    alive = np.ones(flags.shape[1], bool)
    for day in range(flags.shape[0] - 1, -1, -1):
        counts = flags[day] & known[day] & alive
        run += counts
        alive &= counts | (~known[day] if neutral_unknown else False)
        if not alive.any():
            break
    return run


def longest_run(flags: Flags) -> NDArray[np.int64]:
    """Longest run of flagged days per meter."""
    best = np.zeros(flags.shape[1], np.int64)
    run = np.zeros(flags.shape[1], np.int64)
    for day in flags:
        run = np.where(day, run + 1, 0)
        np.maximum(best, run, out=best)
    return best


def known_less(left: Floats, right: Any) -> Flags:
    """left < right, False where either is NaN."""
    with np.errstate(invalid="ignore"):
        out: Flags = np.less(left, right)
    return out


def known_more(left: Floats, right: Any) -> Flags:
    """left > right, False where either is NaN."""
    with np.errstate(invalid="ignore"):
        out: Flags = np.greater(left, right)
    return out
