"""A clock that jumps from one sleeper to the next while work is under way: a recorded day in seconds."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from typing import Any, TypeVar

from metering.clock import ManualClock
from metering.errors import MetergateError

T = TypeVar("T")


class JumpClock(ManualClock):
    """See the module; only for work without sockets, files and threads.

    at, t: one moment on both clocks of the recording [ms UTC, s]; it begins `before_s` earlier.
    """

    def __init__(self, at: int, t: float, *, before_s: float = 0.0) -> None:
        super().__init__(at - round(t * 1000))
        self._mono = t - before_s

    async def work(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until it is done. Raises: what the work raises; MetergateError when it waits for nothing."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await self._settle()
            if task.done():
                break
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if not self._sleepers:
                task.cancel()
                raise MetergateError("replay stands still: something waits, and not for the time")
            due, _, sleeper = heapq.heappop(self._sleepers)
            self._step(due - self._mono)
            sleeper.set_result(None)
        return task.result()
