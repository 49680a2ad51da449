"""A virtual clock that keeps a pace: so many virtual seconds in one second of the host, for people who look on.

It moves from moment to moment as `VirtualClock` does, and stands still as long as anything is in flight, so no
deadline depends on the load of the host; only it never runs ahead of the pace. A host that is too slow falls behind
and catches up when it can. Orders from outside (`metergate inject`) are heard while it waits.
"""

from __future__ import annotations

import asyncio
import heapq

from metergate.virtual_time import VirtualClock
from metering.clock import Clock


class PacedClock(VirtualClock):
    """Virtual time at `speed` virtual seconds a second of `host`, counted from the first time that it could move."""

    def __init__(self, start_ms: int, *, speed: float, host: Clock) -> None:
        super().__init__(start_ms)
        self._speed, self._host = speed, host
        self._began: float | None = None
        self._waiting: asyncio.TimerHandle | None = None

    def jump(self) -> bool:
        """As every virtual clock's, and at the earliest when the pace has come to the next alarm.

        Until then a timer of the loop (the host's time) ends the wait; True asks the loop to take it up.
        """
        if self._waiting is not None:
            return False
        while self._alarms and self._alarms[0].ring is None:
            heapq.heappop(self._alarms)
        if not self._alarms or self.loop is None:
            return False
        wait_s = self._wait_s(self._alarms[0].due)
        if wait_s <= 0:
            return super().jump()
        self._waiting = self.loop.call_later(wait_s, self._waited)
        return True

    def _waited(self) -> None:
        self._waiting = None

    def _wait_s(self, due: float) -> float:
        """Return how long [s of the host] it still is until this moment [s since the start]."""
        now = self._host.monotonic()
        if self._began is None:
            self._began = now - self.monotonic() / self._speed
        return self._began + due / self._speed - now
