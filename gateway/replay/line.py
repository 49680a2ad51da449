"""One replayed pair of wires or connection: requests come in, the book's answers leave at their recorded moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.replay.book import Book, Said
from metering.clock import Clock

_STALE_S: Final = 0.1
_MOST: Final = 1024


class Pace:
    """How fast a recording is replayed. speed: times the recorded one; 0: without any waiting.

    What was recorded as later than the master waits stays as late: at 10x a silent meter is silent all the same.
    """

    def __init__(self, speed: float, timeout_s: float) -> None:
        self._speed = speed
        self._timeout_s = timeout_s

    def delay_s(self, recorded_s: float) -> float:
        """Return how long to wait."""
        if recorded_s > self._timeout_s:
            return recorded_s
        return recorded_s / self._speed if self._speed else 0.0

    def took_s(self, recorded_s: float) -> float:
        """Return how long an answer takes."""
        return recorded_s / self._speed if self._speed else 0.0


class ReplayLine:
    """See the module. write: sends bytes to the master."""

    def __init__(self, book: Book, clock: Clock, pace: Pace) -> None:
        self.write: Callable[[bytes], None] = lambda data: None
        self.book = book
        self._clock = clock
        self._pace = pace
        self._heard = b""
        self._heard_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """True while something is still to be said."""
        return bool(self._tasks)

    def received(self, data: bytes) -> None:
        """Take in bytes of the master; a request is what the book knows, or what a pause ends."""
        now = self._clock.monotonic()
        if self._heard and now - self._heard_at > _STALE_S:
            self._forget()
        self._heard_at = now
        self._heard += data
        if self.book.knows(self._heard):
            request, self._heard = self._heard, b""
            self.play(self.book.take(request))
        elif len(self._heard) > _MOST:
            self._forget()

    def play(self, answers: list[Said]) -> None:
        """Say these from now on."""
        for said in answers:
            task = asyncio.get_running_loop().create_task(self._say(said, self._clock.monotonic()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Say nothing more."""
        for task in tuple(self._tasks):
            task.cancel()

    def _forget(self) -> None:
        """What was heard is no recorded request: nobody answers."""
        self._heard = b""
        self.book.unknown += 1

    async def _say(self, said: Said, asked_at: float) -> None:
        begin, sent = asked_at + self._pace.delay_s(said.delay_s), 0
        for after_s, size in said.pieces or ((0.0, len(said.data)),):
            await self._until(begin + self._pace.took_s(after_s))
            self.write(said.data[sent : sent + size])
            sent += size

    async def _until(self, moment: float) -> None:
        rest = moment - self._clock.monotonic()
        if rest > 0:
            await self._clock.sleep(rest)
