"""What many viewers ask for at the same moment is worked out once: 200 open pages cost the registry one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from metering.clock import Clock

T = TypeVar("T")
_MOST: Final = 256
_OLDEST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """until: by the clock's own time. slow: it was long in coming."""

    until: float
    answer: Any
    slow: bool = False


_NONE: Final = _Answer(-1.0, None)


class Shared:
    """Answers that may be a moment old, by what was asked. Used from the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Hashable, _Answer] = {}
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}

    async def get(self, what: Hashable, ask: Callable[[], Awaitable[T]], *, keep_s: float, ease: float = 0.0) -> T:
        """Return the answer to `what`, at most `keep_s` seconds old; errors are not kept.

        ease: an answer that was long in coming is kept so many times as long, and is still given, up to half a
        minute, while the next one is worked out: nobody waits for it but the first.
        """
        held, now = self._known.get(what, _NONE), self._clock.monotonic()
        if now < held.until:
            return cast(T, held.answer)
        task = self._asked.get(what)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._asked[what] = asyncio.ensure_future(self._ask(what, ask, keep_s, ease))
            task.add_done_callback(_seen)
        if held.slow and now < held.until + _OLDEST_S:
            return cast(T, held.answer)
        return cast(T, await asyncio.shield(task))

    async def _ask(self, what: Hashable, ask: Callable[[], Awaitable[T]], keep_s: float, ease: float) -> T:
        began = self._clock.monotonic()
        try:
            answer = await ask()
        finally:
            self._asked.pop(what, None)
        if len(self._known) >= _MOST:
            self._known.clear()
        now = self._clock.monotonic()
        eased_s = ease * (now - began)
        self._known[what] = _Answer(now + max(keep_s, eased_s), answer, slow=eased_s > keep_s)
        return answer


def _seen(task: asyncio.Future[Any]) -> None:
    """An error of an answer that nobody waited for is asked for again at the next look."""
    if not task.cancelled():
        task.exception()
