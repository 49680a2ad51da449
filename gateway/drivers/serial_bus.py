"""One bus: a serial link, the masters that speak on it, and the one task that owns it.

To whoever polls it looks like any other connection: `dial`, `ask` while `free`, `done` gets bytes or the error.
Requests on demand go before the next of a sweep; a lost port is opened again with growing pauses, by its stable name.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_link import Echo, SerialLink, Tap
from gateway.drivers.serial_port import Line, Transport
from metering.clock import Clock
from metering.errors import (
    ConnectError,
    MeterError,
    MetergateError,
    NoAnswerError,
    ProtocolError,
    TransportError,
)

_FIRST_RETRY_S: Final = 0.2
_LAST_RETRY_S: Final = 10.0
_STEADY_S: Final = 5.0

Done = Callable[[bytes | MetergateError], None]


class Ask(Protocol):
    """A prepared question; its type says which master asks it."""

    @property
    def address(self) -> str:
        """What counts and logs call the meter on its bus."""


class Master(Protocol):
    """Speaks one protocol on a link that it does not own alone."""

    async def read(self, ask: Any, timeout_s: float) -> bytes:
        """Return what the question brings. Raises: MetergateError."""

    def stray(self, data: bytes) -> None:
        """Sort out bytes that came while nobody was asked."""


MakeMaster = Callable[[SerialLink, BusCounts, Clock], Master]


@dataclass(slots=True)
class _Job:
    ask: Ask
    timeout_s: float
    done: Done
    first: bool


class SerialBus:
    """See the module.

    masters: type of question -> how its master is made. counters: by kind, shared with whoever reports them.
    """

    def __init__(
        self,
        transport: Transport,
        line: Line,
        masters: dict[type, MakeMaster],
        *,
        clock: Clock,
        rng: random.Random,
        counters: dict[str, int],
        echo: Echo = "auto",
        idle_gap_s: float = 0.1,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[MetergateError], None] = lambda error: None,
    ) -> None:
        self.counts = BusCounts()
        self.counters = counters
        self.error: MetergateError = ConnectError("not open yet", port=transport.name)
        self.link = SerialLink(
            transport, line, clock=clock, counts=self.counts, echo=echo, idle_gap_s=idle_gap_s, on_lost=self._lost
        )
        self._clock = clock
        self._rng = rng
        self._on_up, self._on_down = on_up, on_down
        self._make = masters
        self._masters: dict[type, Master] = {}
        self._line = line
        self._jobs: deque[_Job] = deque()
        self._busy: _Job | None = None
        self._owner: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing = False
        self._retry_s = 0.0
        self._retry_at = 0.0
        self._up_at = 0.0
        self.link.on_stray = self._stray

    @property
    def up(self) -> bool:
        """True while the port is open."""
        return self.link.up

    @property
    def free(self) -> bool:
        """True when a sweep may ask its next question; what was asked on demand goes before it all the same."""
        if not self.link.up or (self._busy is not None and not self._busy.first):
            return False
        return all(job.first for job in self._jobs)

    @property
    def busy(self) -> bool:
        """True while an answer is awaited."""
        return self._busy is not None or bool(self._jobs)

    @property
    def asking(self) -> str:
        """Address of whoever is being asked; "" when nobody is."""
        return self._busy.ask.address if self._busy is not None else ""

    @property
    def tap(self) -> Tap | None:
        """Who sees all raw bytes, if anybody does."""
        return self.link.tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self.link.tap = tap

    @property
    def name(self) -> str:
        """Port or host:port."""
        return self.link.name

    def dial(self, timeout_s: float) -> bool:
        """Begin to open the port unless it is under way; False while a pause after a failure lasts."""
        if self.up or self._opening is not None:
            return True
        if self._closing or self._clock.monotonic() < self._retry_at:
            return False
        self._opening = asyncio.get_running_loop().create_task(self._open())
        return True

    def ask(self, ask: Ask, timeout_s: float, done: Done, *, first: bool = False) -> None:
        """Ask when the bus is free; `done` gets bytes or the error, once. first: before what waits (on demand)."""
        if not self.up:
            raise ConnectError("not open", port=self.name)
        job = _Job(ask, timeout_s, done, first)
        if first:
            self._jobs.insert(sum(waiting.first for waiting in self._jobs), job)
        else:
            self._jobs.append(job)
        self._start()

    async def read(self, ask: Ask, timeout_s: float) -> bytes:
        """Open the port if need be, ask before all that waits, and return the bytes. Raises: MetergateError."""
        if not self.up:
            if not self.dial(timeout_s):
                raise self.error
            if self._opening is not None:
                await asyncio.shield(self._opening)
        if not self.up:
            raise self.error
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(result: bytes | MetergateError) -> None:
            if answer.done():
                return
            if isinstance(result, MetergateError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.ask(ask, timeout_s, done, first=True)
        return await answer

    def expire(self, now: float) -> None:
        """Nothing: the task that owns the bus keeps its own deadlines."""

    def close(self) -> None:
        """Close, and fail what waits."""
        for task in (self._opening, self._owner):
            if task is not None:
                task.cancel()
        self._opening = self._owner = None
        self.link.close()
        self._closing = True  # who is told now must not open it again
        self._fail_waiting(ConnectError("closed", port=self.name))
        self._closing = False

    def _start(self) -> None:
        if self._owner is None or self._owner.done():
            self._owner = asyncio.get_running_loop().create_task(self._own())

    async def _own(self) -> None:
        """The one task that talks on the bus; it ends when nothing is left to ask."""
        while self._jobs:
            job = self._busy = self._jobs.popleft()
            result = await self._run(job)
            self._busy = None
            job.done(result)

    async def _run(self, job: _Job) -> bytes | MetergateError:
        count = self.counts.of(job.ask.address)
        count.asked += 1
        begin = self._clock.monotonic()
        try:
            data = await self._master(type(job.ask)).read(job.ask, job.timeout_s)
        except MetergateError as error:
            error.port = error.port or self.name
            self._note(count, error)
            return error
        finally:
            count.busy_s += self._clock.monotonic() - begin
        count.answered += 1
        count.answered_at = self._clock.now_ms()
        return data

    def _note(self, count: MeterCount, error: MetergateError) -> None:
        if isinstance(error, NoAnswerError):
            count.silent += 1
            self._count("timeout")
        elif isinstance(error, MeterError):
            count.refused += 1
        elif isinstance(error, ProtocolError):
            self._count(f"frame_{error.sort}")
        else:
            count.lost += 1

    def _master(self, kind: type) -> Master:
        master = self._masters.get(kind)
        if master is None:
            master = self._masters[kind] = self._make[kind](self.link, self.counts, self._clock)
        return master

    def _stray(self, data: bytes) -> None:
        for master in self._masters.values():
            master.stray(data)

    async def _open(self) -> None:
        try:
            await self.link.open()
        except ConnectError as error:
            self.error = error
            self._opening = None
            self._count("connect_failed")
            self._wait_longer()
            self._on_down(error)
            return
        self._opening = None
        self._up_at = self._clock.monotonic()
        self._count("connects")
        self._on_up()

    def _lost(self, why: str) -> None:
        """The port went away by itself; what is being asked fails in its own task."""
        self.error = ConnectError(why, port=self.name)
        self._count("disconnects")
        if self._clock.monotonic() - self._up_at < _STEADY_S:
            self._wait_longer()
        else:
            self._retry_s = 0.0
        waiting, self._jobs = self._jobs, deque()
        for job in waiting:
            job.done(TransportError(f"the port was lost: {why}", port=self.name))
        self._on_down(self.error)

    def _fail_waiting(self, error: MetergateError) -> None:
        busy, self._busy = self._busy, None
        waiting, self._jobs = self._jobs, deque()
        for job in (*((busy,) if busy is not None else ()), *waiting):
            job.done(error)

    def _wait_longer(self) -> None:
        self._retry_s = min(_LAST_RETRY_S, max(_FIRST_RETRY_S, self._retry_s * 2))
        self._retry_at = self._clock.monotonic() + self._retry_s * self._rng.uniform(0.75, 1.25)

    def _count(self, kind: str) -> None:
        self.counters[kind] = self.counters.get(kind, 0) + 1
