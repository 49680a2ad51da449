"""Times of readings: unique per meter, and honest about a host clock that was wrong."""

from __future__ import annotations

from array import array
from typing import Final

_REMEMBERED: Final = 256
"""Stamps kept per meter: after a step back, none of them is given out again."""
_JITTER_MS: Final = 100
"""Readings that crowd into one millisecond move their stamps ahead of the clock; that is no doubt about the clock."""
_STEP_MS: Final = 2000
"""The wall clock may drift against the monotonic one by this much between two looks before it is called a step."""


class MeterStamps:
    """Gives one meter's readings their `read_at` [ms UTC]."""

    __slots__ = ("_latest", "_next", "_used")

    def __init__(self) -> None:
        self._latest = 0
        self._used = array("q")
        self._next = 0

    def stamp(self, now: int) -> tuple[int, bool]:
        """Return (read_at, doubtful); doubtful while the clock is behind a time that was given out already."""
        at, doubtful = now, False
        if now <= self._latest:
            doubtful = self._latest - now > _JITTER_MS
            while at in self._used:
                at += 1
        self._remember(at)
        return at, doubtful

    def _remember(self, at: int) -> None:
        if len(self._used) < _REMEMBERED:
            self._used.append(at)
        else:
            self._used[self._next] = at
            self._next = (self._next + 1) % _REMEMBERED
        self._latest = max(self._latest, at)


class ClockWatch:
    """Notices when the host's wall clock is set: compare it with the monotonic clock now and then."""

    def __init__(self, now_ms: int, monotonic: float) -> None:
        self._offset = now_ms - monotonic * 1000

    def step(self, now_ms: int, monotonic: float) -> int:
        """Return by how much the wall clock was set since the last look [ms, signed], 0 when it was not."""
        offset = now_ms - monotonic * 1000
        moved, self._offset = round(offset - self._offset), offset
        return moved if abs(moved) >= _STEP_MS else 0
