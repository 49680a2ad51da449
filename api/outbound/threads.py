"""A blocking call in a thread of its own that nobody waits for at the end of the process.

Threads of asyncio's own pool are joined at the end: a mail server that hangs would hold up a restart of the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def aside(call: Callable[[], T]) -> T:
    """Run `call` in a daemon thread and return its result. Raises: what it raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def give(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def work() -> None:
        try:
            result, error = call(), None
        except BaseException as fault:  # noqa: BLE001 (handed to whoever waits)
            result, error = None, fault
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(give, result, error)

    threading.Thread(target=work, name="outbound-aside", daemon=True).start()
    return await future
