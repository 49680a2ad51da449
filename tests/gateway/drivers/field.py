"""A field broker, the MQTT driver and what it kept, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.drivers.mqtt_memory import MqttMemory
from gateway.drivers.mqtt_meters import MqttMeters
from gateway.plan import parse_plan
from gateway.plan_mqtt import MqttBus
from gateway.stamps import MeterStamps
from metering.clock import Clock, SystemClock
from metering.errors import OutboxError
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Event, Reading, Row

CLOCK = SystemClock()


def plan(*meters: tuple[str, str, str], more: str = "") -> tuple[MqttBus, ...]:
    """Return the buses of a plan with one bus per profile. meters: (meter, device, profile)."""
    lines = ['gateway = "gw-1"']
    for profile in dict.fromkeys(profile for _, _, profile in meters):
        lines += ["[[mqtt_bus]]", f'name = "{profile}"', more]
    for meter, device, profile in meters:
        lines += ["[[mqtt_meter]]", f'meter = "{meter}"', f'bus = "{profile}"', f'device = "{device}"']
        lines += [f'profile = "{profile}"']
    return parse_plan("\n".join(lines), {}, name="plan").mqtt


@dataclass
class Kept:
    """Stands for the outbox: rows in the order of their commit. refuse: the disk takes nothing."""

    rows: list[Row] = field(default_factory=list)
    refuse: bool = False

    async def keep(self, rows: Sequence[Row]) -> None:
        await asyncio.sleep(0)
        if self.refuse:
            raise OutboxError("disk full")
        self.rows += rows

    @property
    def readings(self) -> list[Reading]:
        return [row for row in self.rows if isinstance(row, Reading)]

    def events(self, kind: str = "", cause: str = "") -> list[Event]:
        found = [row for row in self.rows if isinstance(row, Event)]
        return [event for event in found if kind in ("", event.kind) and cause in ("", event.cause)]

    @property
    def keys(self) -> set[tuple[str, int]]:
        return {(row.meter, row.read_at) for row in self.readings}


def make_driver(
    folder: Path,
    buses: tuple[MqttBus, ...],
    port: int,
    kept: Kept,
    clock: Clock = CLOCK,
    protocol: Literal["auto", "5", "3.1.1"] = "auto",
) -> MqttMeters:
    stamps: dict[str, MeterStamps] = {}
    return MqttMeters(
        buses,
        BrokerSettings(port=port, protocol=protocol),
        client_id="metergate-gw-1",
        receive_maximum=50,
        session_expiry_s=3600,
        clock=clock,
        memory=MqttMemory(folder / "mqtt-memory.db", clock),
        stamp=lambda meter, now: stamps.setdefault(meter, MeterStamps()).stamp(now)[0],
        keep=kept.keep,
    )


@contextlib.asynccontextmanager
async def running_driver(
    folder: Path,
    buses: tuple[MqttBus, ...],
    port: int,
    kept: Kept,
    protocol: Literal["auto", "5", "3.1.1"] = "auto",
) -> AsyncIterator[MqttMeters]:
    """Run a driver until the block ends."""
    driver = make_driver(folder, buses, port, kept, protocol=protocol)
    async with running(driver.run()):
        await until(lambda: driver.session.connected, "the driver connects")
        yield driver


@contextlib.asynccontextmanager
async def sender(port: int, name: str = "sender") -> AsyncIterator[MqttSession]:
    """A connected session to send with."""
    session = MqttSession(BrokerSettings(port=port), client_id=name, clock=CLOCK)
    async with running(session.run()):
        await until(lambda: session.connected, "the sender connects")
        yield session


@contextlib.asynccontextmanager
async def running(work: object) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]  # a coroutine
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool], what: str, deadline_s: float = 90.0) -> None:
    """Wait for a condition. Raises: AssertionError that says what did not happen."""
    end = CLOCK.monotonic() + deadline_s
    while not condition():
        assert CLOCK.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.01)
