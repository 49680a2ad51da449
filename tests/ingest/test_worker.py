"""The thread for blocking work: in order, errors come back, and it cannot hold up the end."""

from __future__ import annotations

import asyncio
from functools import partial
from threading import Event, get_ident

import pytest

from ingest.worker import Worker


def test_calls_are_done_in_one_other_thread_and_in_order() -> None:
    async def scenario() -> None:
        worker = Worker("w")
        done: list[int] = []

        def work(number: int) -> int:
            done.append(number)
            return get_ident()

        threads = await asyncio.gather(*(worker.run(partial(work, number)) for number in range(50)))
        assert done == list(range(50))
        assert len(set(threads)) == 1
        assert threads[0] != get_ident()
        assert worker.close(5)

    asyncio.run(scenario())


def test_an_error_is_raised_where_somebody_waits_and_the_thread_goes_on() -> None:
    async def scenario() -> None:
        worker = Worker("w")
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        assert await worker.run(lambda: 7) == 7
        assert worker.close(5)

    asyncio.run(scenario())


def test_a_call_that_hangs_is_left_behind() -> None:
    hanging = Event()

    async def scenario() -> None:
        worker = Worker("w")
        task = asyncio.create_task(worker.run(hanging.wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not worker.close(0.05)
        hanging.set()
        assert worker.close(5)

    asyncio.run(scenario())
