"""One thread that does blocking work in order, so that the asyncio loop never waits for a disk or a database.

A daemon thread, unlike those of `concurrent.futures`: a call that hangs in a dead database must not keep the program
from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Worker:
    """`await run(call)` does the call in this thread; calls are done one after the other, in order."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises. Cancelling gives up the answer, not the call."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put((call, answer, loop))
        return await answer

    def post(self, call: Callable[[], Any]) -> None:
        """Do the call without an answer; what it raises is nobody's business any more."""

        def quietly() -> None:
            with suppress(Exception):
                call()

        loop = asyncio.get_running_loop()
        self._jobs.put((quietly, loop.create_future(), loop))

    def close(self, timeout_s: float) -> bool:
        """Let the calls that wait be done; return False when that took longer than `timeout_s`."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while job := self._jobs.get():
            call, answer, loop = job
            try:
                result: Any = call()
                settle = _settle(answer, result, None)
            except BaseException as error:  # noqa: BLE001 (it is raised where `run` waits)
                settle = _settle(answer, None, error)
            with suppress(RuntimeError):  # the loop has ended, nobody waits any more
                loop.call_soon_threadsafe(settle)


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> Callable[[], None]:
    def settle() -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    return settle
