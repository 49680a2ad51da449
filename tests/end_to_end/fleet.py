"""Gateways without meters: real outboxes and real uplinks in one loop, fed by hand. Every row is remembered.

For tests of what comes behind the gateways: several ingest workers, stores that die, brokers that die.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from gateway.outbox import Outbox
from gateway.send_ledger import SendLedger
from gateway.uplink import Uplink
from metering.clock import SystemClock
from metering.messages import VERSION, Health
from metering.mqtt import BrokerSettings
from metering.reading import Reading
from metering.store import Key
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint

CLOCK = SystemClock()


async def until(condition: Callable[[], object], what: str, deadline_s: float = 90.0) -> None:
    """Wait for a condition while everything else goes on. Raises: AssertionError that says what did not happen."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.05)


async def at_rest(count: Callable[[], int]) -> int:
    """Let arrive what is on its way; return the count that stayed the same for a second. Raises: AssertionError."""
    end, last = time.monotonic() + 90.0, -1
    while (now := count()) != last:
        assert time.monotonic() < end, f"it does not come to rest: {last}, {now}"
        last = now
        await asyncio.sleep(1.0)
    return last


def enrol(database: Database, gateways: int, meters: int) -> list[str]:
    """Enter gw-0 … with meters `gw-0.M0` … into the registry; return the gateways."""
    names = [f"gw-{number}" for number in range(gateways)]
    ids = [(f"{name}.M{number}", name) for name in names for number in range(meters)]
    with database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": name} for name in names])
        connection.execute(
            sa.insert(UsagePoint), [{"id": f"U-{meter}", "medium": "water", "tz": "UTC"} for meter, _ in ids]
        )
        connection.execute(
            sa.insert(Meter),
            [{"id": meter, "medium": "water", "quantity": "volume", "gateway_id": name} for meter, name in ids],
        )
        connection.execute(
            sa.insert(Installation),
            [{"meter_id": meter, "usage_point_id": f"U-{meter}", "installed_at": 0} for meter, _ in ids],
        )
    return names


@dataclass
class Fleet:
    """All gateways. `produced`: key -> volume of every row that an outbox took."""

    folder: Path
    broker: BrokerSettings
    names: list[str]
    meters: int
    every_s: float = 0.1
    produced: dict[Key, int] = field(default_factory=dict)
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _feeding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the outboxes, connect, and produce one row per meter and turn."""
        for name in self.names:
            chance = random.Random(name)
            outbox = Outbox(self.folder / f"{name}.db", gateway=name, clock=CLOCK, rng=chance)
            await outbox.open()
            ledger = SendLedger(chance, ack_timeout_s=2.0, gather_s=0.05)
            uplink = Uplink(
                outbox,
                ledger,
                self.broker,
                clock=CLOCK,
                version="test",
                health=lambda outbox=outbox: _health(outbox),  # type: ignore[misc]  # the default binds this one
                health_interval_s=5.0,
                on_event=outbox.put,
            )
            self.outboxes[name] = outbox
            self._tasks.append(asyncio.create_task(uplink.run()))
        self._feeding = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        turn = 0
        while True:
            turn += 1
            at = CLOCK.now_ms()
            for name, outbox in self.outboxes.items():
                rows = [
                    Reading(f"{name}.M{number}", at, {"volume": turn * 1_000_000 + number, "flow": number})
                    for number in range(self.meters)
                ]
                self.produced.update({(row.meter, row.read_at): row.values["volume"] for row in rows})
                await outbox.append(rows)  # type: ignore[arg-type]  # a list of readings is a list of rows
            await asyncio.sleep(self.every_s)

    @property
    def waiting(self) -> int:
        """Rows that nobody has acknowledged yet."""
        return sum(outbox.held.count + outbox.in_memory for outbox in self.outboxes.values())

    async def drain(self) -> None:
        """Produce no more, and wait until everything is acknowledged."""
        assert self._feeding is not None
        self._feeding.cancel()
        with suppress(asyncio.CancelledError):
            await self._feeding
        await until(lambda: self.waiting == 0, "every outbox empties itself")

    async def stop(self) -> None:
        """End everything."""
        for task in (*self._tasks, *([self._feeding] if self._feeding else [])):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for outbox in self.outboxes.values():
            await outbox.close()


@dataclass
class IngestProcess:
    """`metergate ingest` in a process of its own."""

    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.config.with_suffix(".log").open("ab") as log:
            command = [sys.executable, "-m", "metergate", "ingest", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def words(self) -> str:
        """The end of its log, for a failing test."""
        log = self.config.with_suffix(".log")
        return f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}" if log.exists() else ""


def _health(outbox: Outbox) -> Health:
    held = outbox.held.count
    return Health(
        VERSION, outbox.gateway, outbox.epoch, CLOCK.now_ms(), outbox.produced, 0, held, 0, None, "ok", "", 0, 0, {}
    )
