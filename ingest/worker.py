"""One thread that does blocking work in order, so that the asyncio loop never waits for a disk or a database.

A daemon thread, unlike those of `concurrent.futures`: a call that hangs in a dead database must not keep the program
from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "Future[Any]"]


class Worker(Executor):
    """`await run(call)` does the call in this thread; calls are done one after the other, in order.

    An `Executor`, so that the loop knows of every call: a virtual loop holds its clock until they are done.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As every executor's."""
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()  # from now on cancelling gives up the answer, not the call
        self._jobs.put((lambda: fn(*args, **kwargs), answer))
        return answer

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises. Cancelling gives up the answer, not the call."""
        return await asyncio.get_running_loop().run_in_executor(self, call)

    def post(self, call: Callable[[], Any]) -> None:
        """Do the call without an answer; what it raises is nobody's business any more."""
        asyncio.get_running_loop().run_in_executor(self, call).add_done_callback(_ignore)

    def close(self, timeout_s: float) -> bool:
        """Let the calls that wait be done; return False when that took longer than `timeout_s`."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while job := self._jobs.get():
            call, answer = job
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 (it is raised where `run` waits)
                answer.set_exception(error)
            else:
                answer.set_result(result)


def _ignore(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()
