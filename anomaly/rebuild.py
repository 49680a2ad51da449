"""Folding days again: after a restart, and when a reading of the next day makes the last hours of a day known."""

from __future__ import annotations

import numpy as np

from anomaly.intervals import Rows
from anomaly.shard import Shard


def refold(shard: Shard) -> None:
    """Fold days again whose last hours became known only with a reading of the day after."""
    days: dict[int, list[Rows]] = {}
    for rows, slots in shard.grid.filled:
        first = (slots - 1) // shard.per_day
        for day in np.unique(first[first <= shard.day]).tolist():
            for again in range(max(day, shard.first_day), min(day + 1, shard.day) + 1):
                days.setdefault(again, []).append(rows[first == day])
    shard.grid.filled.clear()
    for day, groups in days.items():
        shard.fold(day, np.unique(np.concatenate(groups)))


def rebuild(shard: Shard, frontier: int) -> None:
    """Take the rows that were put up to `frontier` into matrix and days without asking any rule."""
    shard.make_room()
    late, since = shard.grid.advance(max(frontier, shard.grid.frontier))
    refold(shard)
    first = np.maximum((since - 1) // shard.per_day, shard.first_day)
    for day in range(int(first.min(initial=shard.day + 1)), shard.day + 1):
        part = late[first <= day]
        if part.size:
            shard.fold(day, part)
    for day in range(max(shard.day, -1) + 1, shard.complete_day() + 1):
        shard.make_room()
        shard.day = day
        shard.fold(day)
    shard.grid.marks.clear()
