"""Helpers: simulated buses on real ports, and in memory on a clock that jumps from one sleeper to the next."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.drivers.serial_bus import SerialBus
from gateway.drivers.serial_port import Line, Lost, Received
from gateway.links import make_link, serial_bus
from gateway.plan import BusFile, Plan, PlanFile, make_plan
from gateway.profiles import load_profiles
from metering.clock import Clock, ManualClock, SystemClock
from metering.errors import TransportError
from simulators.bus_farm import BusFarm
from simulators.bus_line import BusLine
from simulators.bus_settings import BusFarmSettings

T = TypeVar("T")
PROFILES = load_profiles()


class JumpClock(ManualClock):
    """Moves to the next sleeper while `work` is under way: an hour of a bus in seconds."""

    async def work(self, awaitable: Awaitable[T], *, most_s: float = 1e9) -> T:
        """Run until it is done."""
        task = asyncio.ensure_future(awaitable)
        end = self._mono + most_s
        while not task.done():
            await self._settle()
            if task.done():
                break
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            assert self._sleepers, "everything waits and nobody sleeps"
            due, _, future = heapq.heappop(self._sleepers)
            assert due < end, f"not done after {most_s} s"
            self._step(due - self._mono)
            future.set_result(None)
        return task.result()

    @staticmethod
    async def _settle() -> None:
        for _ in range(8):
            await asyncio.sleep(0)


class MemoryPort:
    """A simulated line as a transport, without a descriptor."""

    name = "memory"

    def __init__(self, line: BusLine) -> None:
        self._line = line
        self._received: Received | None = None
        self._lost: Lost | None = None

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        self._received, self._lost = received, lost
        self._line.write = self._hear

    def write(self, data: bytes) -> None:
        if self._received is None:
            raise TransportError("not open", port=self.name)
        self._line.received(data)

    def set_line(self, line: Line) -> None:
        pass

    def close(self) -> None:
        self._received = None

    def _hear(self, data: bytes) -> None:
        if self._received is not None:
            self._received(data)


def farm_of(clock: Clock, *buses: dict[str, Any], log: Path | None = None, seed: int = 7) -> BusFarm:
    """Return a farm from plain settings, not started."""
    settings = BusFarmSettings.model_validate({"bus": buses, "seed": seed, "log": log}, strict=False)
    return BusFarm(settings, clock, profiles=PROFILES)


def plan_of(*buses: dict[str, Any], meters: list[dict[str, Any]]) -> Plan:
    """Return a plan from plain settings (no checks)."""
    return make_plan(PlanFile.model_validate({"gateway": "gw-t", "bus": list(buses), "meter": meters}), PROFILES)


def memory_bus(farm: BusFarm, name: str, clock: Clock, **settings: Any) -> SerialBus:
    """Return a master's bus over a simulated line in memory."""
    bus = next(each for each in farm.settings.bus if each.name == name)
    file = BusFile.model_validate(
        {"name": name, "kind": "serial", "device": "memory", "baud": bus.baud, "parity": bus.parity, **settings}
    )
    port = MemoryPort(farm.lines[name])
    return serial_bus(file, port, clock=clock, rng=random.Random(1), counters={})


@asynccontextmanager
async def running(farm: BusFarm) -> AsyncIterator[BusFarm]:
    """Start a farm, and close it."""
    await farm.start()
    try:
        yield farm
    finally:
        await farm.close()


@asynccontextmanager
async def linked(plan: Plan, name: str) -> AsyncIterator[SerialBus]:
    """Return the link of a plan's bus on the real clock, and close it."""
    file = next(bus for bus in plan.buses if bus.name == name)
    link = make_link(file, clock=SystemClock(), rng=random.Random(1), counters={})
    assert isinstance(link, SerialBus)
    try:
        yield link
    finally:
        link.close()


async def until(condition: Any, *, most_s: float = 60.0) -> None:
    """Wait for a condition on the real clock; generous, for loaded machines."""
    clock = SystemClock()
    end = clock.monotonic() + most_s
    while not condition():
        if clock.monotonic() > end:
            raise AssertionError(f"not so after {most_s} s")
        await clock.sleep(0.01)
