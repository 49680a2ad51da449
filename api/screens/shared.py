"""What many viewers ask for at the same moment is worked out once: 200 open pages cost the registry one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar, cast

from metering.clock import Clock

T = TypeVar("T")
_MOST: Final = 256


class Shared:
    """Answers that may be a moment old, by what was asked. Used from the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, Any]] = {}
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}

    async def get(self, what: Hashable, ask: Callable[[], Awaitable[T]], *, keep_s: float, ease: float = 0.0) -> T:
        """Return the answer to `what`, at most `keep_s` seconds old; errors are not kept.

        ease: an answer that was long in coming is kept so many times as long.
        """
        until, held = self._known.get(what, (-1.0, None))
        if self._clock.monotonic() < until:
            return cast(T, held)
        began = self._clock.monotonic()
        task = self._asked.get(what)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._asked[what] = asyncio.ensure_future(ask())
        try:
            answer = await asyncio.shield(task)
        finally:
            if task.done() and self._asked.get(what) is task:
                del self._asked[what]
        if len(self._known) >= _MOST:
            self._known.clear()
        now = self._clock.monotonic()
        self._known[what] = (now + max(keep_s, ease * (now - began)), answer)
        return cast(T, answer)
