"""Blocking reads of registry and store run in a few threads, each with a deadline; the event loop never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from api.problems import ProblemError
from metering.clock import Clock

T = TypeVar("T")


class Workers:
    """A bounded pool: a store that hangs costs its own threads and answers of 503, not the service."""

    def __init__(self, *, threads: int, timeout_s: float, clock: Clock) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="api")
        self._timeout_s = timeout_s
        self._clock = clock

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns. Raises: ProblemError 503 after the deadline; work not yet begun is dropped."""
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, work)
            return await self._clock.timeout(future, self._timeout_s)
        except TimeoutError:
            detail = f"no answer from registry or store within {self._timeout_s:g} s"
            raise ProblemError(503, "too-slow", detail, headers={"retry-after": "5"}) from None

    def close(self) -> None:
        """Drop what has not begun; harmless twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)
