"""A meter made of byte chunks: a transport that answers each request from a function, on a clock moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.drivers.serial_bus import MakeMaster, SerialBus
from gateway.drivers.serial_link import Echo
from gateway.drivers.serial_port import Line, Lost, Received
from metering.clock import ManualClock
from metering.errors import ConnectError, MetergateError, TransportError

T = TypeVar("T")
Chunk = tuple[float, bytes]
"""[s] to wait, then bytes that arrive."""
Respond = Callable[[bytes], Sequence[Chunk]]


@dataclass
class Scripted:
    """Plays the meters behind a port. respond: what comes back for what was written."""

    clock: ManualClock
    respond: Respond
    name: str = "scripted"
    sent: list[bytes] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    openings: int = 0
    refuse: bool = False
    _received: Received | None = None
    _lost: Lost | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        if self.refuse:
            raise ConnectError("no such port", port=self.name)
        self.openings += 1
        self._received, self._lost = received, lost

    def write(self, data: bytes) -> None:
        if self._received is None:
            raise TransportError("not open", port=self.name)
        self.sent.append(data)
        self.say(self.respond(data))

    def set_line(self, line: Line) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self._received = self._lost = None
        for task in self._tasks:
            task.cancel()

    def say(self, chunks: Sequence[Chunk]) -> None:
        """Let bytes arrive, asked for or not."""
        task = asyncio.get_running_loop().create_task(self._say(chunks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unplug(self) -> None:
        """The adapter is pulled out."""
        lost = self._lost
        self.close()
        if lost is not None:
            lost("unplugged")

    async def _say(self, chunks: Sequence[Chunk]) -> None:
        for delay, data in chunks:
            await self.clock.sleep(delay)
            if self._received is not None and data:
                self._received(data)


class Bench:
    """A bus over a scripted port, with the clock in hand."""

    def __init__(
        self,
        masters: dict[type, MakeMaster],
        respond: Respond,
        *,
        line: Line | None = None,
        echo: Echo = "auto",
        seed: int = 1,
    ) -> None:
        self.clock = ManualClock()
        self.port = Scripted(self.clock, respond)
        self.counters: dict[str, int] = {}
        self.bus = SerialBus(
            self.port, line or Line(9600), masters, clock=self.clock, rng=random.Random(seed),
            counters=self.counters, echo=echo,
        )  # fmt: skip

    async def run(self, work: Awaitable[T], *, most_s: float = 60.0) -> T:
        """Move the clock until the work is done; at most so many seconds."""
        task = asyncio.ensure_future(work)
        end = self.clock.monotonic() + most_s
        for _ in range(3):
            await asyncio.sleep(0)
        while not task.done():
            assert self.clock.monotonic() < end, f"not done after {most_s} s"
            await self.clock.advance(0.004)
        return task.result()

    async def read(self, ask: Any, timeout_s: float = 0.5) -> bytes:
        """Ask once."""
        return await self.run(self.bus.read(ask, timeout_s))

    async def outcome(self, ask: Any, timeout_s: float = 0.5) -> bytes | MetergateError:
        """Ask once; errors of ours are an outcome too."""
        try:
            return await self.read(ask, timeout_s)
        except MetergateError as error:
            return error
