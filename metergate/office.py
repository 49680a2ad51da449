"""The office service: what clerks posted in the registry goes the way of every reading, as gateway `office`.

    office_row (waits) ─► Outbox COMMIT ─► office_row (taken: epoch, seq) ─► broker ─► ingest ─ack─► acknowledged

A crash between two arrows repeats one of them: a row is then twice in the outbox, and its key makes it one reading.
Rows that the table calls taken and the outbox does not know (a lost disk, a new epoch) wait again. The API writes
only the table, so that "posted" is true when its transaction committed, whether or not this service runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from gateway.outbox import Outbox
from gateway.send_ledger import SendLedger
from gateway.uplink import Uplink
from metergate.office_settings import OfficeSettings
from metering.clock import Clock
from metering.errors import OutboxError, RegistryError
from metering.messages import OFFICE, VERSION, Health
from metering.mqtt import BrokerSettings
from metering.reading import Event
from registry import office
from registry.database import Database

T = TypeVar("T")
_AHEAD_ROWS: Final = 20_000
"""Rows in the outbox that ingest has not acknowledged, at most: the queue is the table."""
_HEALTH_S: Final = 5.0
_log = structlog.get_logger("office")


def _no_fault(step: str) -> None:
    """Tests put a hook here that dies at a step."""


class OfficeService:
    """Everything of the office; `run` until cancelled."""

    def __init__(
        self,
        settings: OfficeSettings,
        *,
        broker: BrokerSettings,
        database: Database,
        clock: Clock,
        rng: random.Random,
        version: str = "",
        fault: Callable[[str], None] = _no_fault,
    ) -> None:
        self.settings = settings
        self.counters = dict.fromkeys(("taken", "acknowledged", "taken_back", "registry_retries"), 0)
        self._broker = broker
        self._database = database
        self._clock = clock
        self._version = version
        self._fault = fault
        self._settled = "", 0
        self.outbox = Outbox(Path(settings.outbox), gateway=OFFICE, clock=clock, rng=rng)
        self.ledger = SendLedger(rng)

    async def run(self) -> None:
        """Open the outbox, then move and send. Raises: OutboxTaken when another process works as the office."""
        await self.outbox.open()
        try:
            uplink = Uplink(
                self.outbox,
                self.ledger,
                self._broker,
                clock=self._clock,
                version=self._version,
                health=self.health,
                health_interval_s=_HEALTH_S,
                on_event=self._say,
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(uplink.run())
                tasks.create_task(self._move_for_ever())
        finally:
            await self.outbox.close()

    async def _move_for_ever(self) -> None:
        while True:
            try:
                moved = await self.move()
            except (RegistryError, DBAPIError, OutboxError) as error:
                self.counters["registry_retries"] += 1
                _log.warning("waiting", error=str(error))
                moved = 0
            if not moved:
                await self._clock.sleep(self.settings.poll_s)

    async def move(self) -> int:
        """Do one turn: settle what is acknowledged, then take over what waits. Return how many rows were taken."""
        room = await self._settle()
        if room <= 0 or self.outbox.state != "ok" or not self.outbox.epoch:
            return 0
        rows = await self._in_registry(lambda c: office.waiting(c, min(room, self.settings.batch_rows)))
        if not rows:
            return 0
        self._fault("looked")
        epoch, first = self.outbox.epoch, self.outbox.next + self.outbox.in_memory
        await self.outbox.append([reading for _, reading in rows])
        self._fault("kept")
        if self.outbox.epoch != epoch:  # the file was replaced meanwhile: the next turn takes them once more
            return 0
        numbers = [number for number, _ in rows]
        await self._write(lambda c: office.taken(c, numbers, epoch, first))
        self._fault("noted")
        self.counters["taken"] += len(rows)
        return len(rows)

    async def _settle(self) -> int:
        """Bring the table up to what the outbox knows; return how many more rows may go into it."""
        outbox = self.outbox
        epoch, oldest, produced, spans = outbox.epoch, outbox.oldest, outbox.produced, list(outbox.held)
        if not epoch:
            return 0

        def settle(connection: Connection) -> tuple[int, int, int]:
            done = office.acknowledged(connection, epoch, oldest, self._clock.now_ms())
            back = office.take_back(connection, epoch, spans, produced)
            return done, back, office.held_back(connection)

        held = await self._in_registry(office.held_back)
        if held and self._settled != (epoch, oldest):
            done, back, held = await self._write(settle)
            self._settled = epoch, oldest
            self.counters["acknowledged"] += done
            self.counters["taken_back"] += back
            self._fault("settled")
        return _AHEAD_ROWS - held

    async def _in_registry(self, work: Callable[[Connection], T]) -> T:
        def read() -> T:
            with self._database.read() as connection:
                return work(connection)

        return await asyncio.to_thread(read)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def write() -> T:
            with self._database.begin() as connection:
                return work(connection)

        return await asyncio.to_thread(write)

    def _say(self, event: Event) -> None:
        """The outbox carries readings only, so that their numbers stay in a row; what happened goes into the log."""
        _log.warning("event", kind=event.kind, cause=event.cause, text=event.text)

    def health(self) -> Health:
        """Return how the office is, in the words of a gateway."""
        outbox = self.outbox
        return Health(
            v=VERSION,
            gateway=OFFICE,
            epoch=outbox.epoch,
            at=self._clock.now_ms(),
            produced=outbox.produced,
            acknowledged=outbox.oldest - 1,
            waiting=outbox.held.count,
            in_memory=outbox.in_memory,
            oldest_at=outbox.oldest_at,
            outbox=outbox.state,
            outbox_reason=outbox.reason,
            meters=0,
            meters_silent=0,
            counters=dict(self.counters),
        )


async def run_office(
    settings: OfficeSettings,
    *,
    broker: BrokerSettings,
    database: Database,
    clock: Clock,
    rng: random.Random,
    stop: asyncio.Event,
    version: str = "",
    fault: Callable[[str], None] = _no_fault,
) -> None:
    """Run the office until `stop` is set."""
    service = OfficeService(
        settings, broker=broker, database=database, clock=clock, rng=rng, version=version, fault=fault
    )
    work = asyncio.create_task(service.run())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
