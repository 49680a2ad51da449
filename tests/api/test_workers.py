"""Threads with a deadline."""

from __future__ import annotations

import asyncio
import threading

import pytest

from api.problems import ProblemError
from api.workers import Workers
from metering.clock import ManualClock, SystemClock


def test_a_store_that_hangs_is_a_503_and_work_behind_it_is_dropped() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        workers = Workers(threads=1, timeout_s=15, clock=clock)
        hanging, ran = threading.Event(), []
        first = asyncio.create_task(workers.run(hanging.wait))
        second = asyncio.create_task(workers.run(lambda: ran.append(1)))
        await clock.advance(14)
        assert not first.done()
        await clock.advance(1)
        for task in (first, second):
            with pytest.raises(ProblemError, match="within 15 s") as refused:
                await task
            assert refused.value.status == 503
        hanging.set()
        assert await workers.run(lambda: 7) == 7
        assert ran == []
        workers.close()
        workers.close()

    asyncio.run(scenario())


def test_an_error_of_the_work_comes_through_as_it_is() -> None:
    def broken() -> None:
        raise KeyError("x")

    async def scenario() -> None:
        workers = Workers(threads=1, timeout_s=15, clock=SystemClock())
        with pytest.raises(KeyError):
            await workers.run(broken)
        workers.close()

    asyncio.run(scenario())
