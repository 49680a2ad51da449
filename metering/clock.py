"""The one place where time comes from (promise 7).

Everything that waits or stamps takes a `Clock`. `SystemClock` is the real one; `ManualClock` is moved by hand, so
that a test of a 90-day rule or a 30 s back-off takes no time at all. A ruff rule keeps `time` and `sleep` out of
every other file.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

T = TypeVar("T")


class Clock(Protocol):
    """Wall time for stamps, monotonic time for durations, and both kinds of waiting."""

    def now_ms(self) -> int:
        """Wall time [ms since 1970, UTC]; may step when the host's clock is corrected."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps."""

    async def sleep(self, seconds: float) -> None:
        """Wait; `seconds` <= 0 only gives other tasks a turn."""

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await with a deadline. Raises: TimeoutError, and the awaitable is cancelled."""

    def pause(self, seconds: float) -> None:
        """Block this thread; only for threads that do blocking I/O."""


class SystemClock:
    """The host's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        async with asyncio.timeout(seconds):
            return await awaitable

    def pause(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that stands until `advance` moves it; sleepers wake in the order of their deadlines."""

    def __init__(self, start_ms: int = 1_772_323_200_000) -> None:  # 2026-03-01T00:00:00Z
        self._wall_base_ms = start_ms
        self._mono = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._wall_base_ms + round(self._mono * 1000)

    def monotonic(self) -> float:
        return self._mono

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono + seconds, next(self._order), future))
        await future

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        work = asyncio.ensure_future(awaitable)
        alarm = asyncio.ensure_future(self.sleep(seconds))
        try:
            await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            work.cancel()
            raise TimeoutError
        finally:
            alarm.cancel()
            if not work.done():
                work.cancel()

    def pause(self, seconds: float) -> None:
        self._step(seconds)

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking every sleeper whose moment comes, and let the woken tasks run."""
        end = self._mono + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._step(due - self._mono)
            future.set_result(None)
            await self._settle()
        self._step(end - self._mono)

    def step_wall(self, milliseconds: int) -> None:
        """Correct the wall clock as an administrator or NTP would; monotonic time does not notice."""
        self._wall_base_ms += milliseconds

    def _step(self, seconds: float) -> None:
        self._mono += max(0.0, seconds)

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):  # enough turns for a chain of woken tasks
            await asyncio.sleep(0)


def rfc3339(ms: int) -> str:
    """1772323200000 -> "2026-03-01T00:00:00.000Z"."""
    stamp = datetime.fromtimestamp(ms / 1000, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """Return [ms since 1970, UTC]. Raises: ValueError, also when the offset is missing."""
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        raise ValueError(f"time without offset: {text!r} (write 2026-03-01T00:00:00Z or +08:00)")
    return round(stamp.timestamp() * 1000)


def parse_day(text: str, zone: str = "UTC") -> int:
    """Return [ms since 1970, UTC] of 00:00 local time of a date such as 2026-03-20. Raises: ValueError."""
    return round(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
