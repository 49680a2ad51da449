"""The service: a session for rows, one for what gateways say of themselves, and the clockwork around the pipeline.

Two sessions, because rows wait (unacknowledged) while the store is away, and health must not wait with them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from ingest.holding import Holding
from ingest.pipeline import Pipeline
from ingest.settings import IngestSettings
from ingest.sharing import PartKeeper
from ingest.status import GatewayWatch
from ingest.worker import Worker
from metering.clock import Clock
from metering.errors import RegistryError
from metering.messages import PARTS
from metering.mqtt import BrokerSettings, MqttSession
from metering.store import ReadingStore
from registry import ledger as books
from registry.database import Database

READY_KEY: Final = "ready."
"""Prefix of the registry's small fact with which an ingest process says how it is; its instance name follows."""

_CLOSE_S: Final = 0.5  # three threads may hang in a dead database, and the end takes two seconds at most
_BATCHES: Final = 2  # while one is accounted for, the next is stored; with more of them each would be smaller
_log = structlog.get_logger("ingest")


class IngestService:
    """Everything of one ingest process; `run` until cancelled."""

    def __init__(
        self,
        settings: IngestSettings,
        *,
        broker: BrokerSettings,
        database: Database,
        store: ReadingStore,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self._database = database
        self._store = store
        self._clock = clock
        leased = settings.sharing == "lease"  # then the parts, and with them the subscriptions, come later
        self._rows = MqttSession(
            broker,
            client_id=settings.instance,
            clock=clock,
            subscriptions=[] if leased else _row_topics(settings.parts),
            receive_maximum=2 * _BATCHES * settings.batch_messages,
            on_connect=self._connected,
        )
        self._status = MqttSession(
            broker,
            client_id=f"{settings.instance}-status",
            clock=clock,
            subscriptions=[] if leased else _status_topics(settings.parts),
        )
        self._keeper: PartKeeper | None = None
        if leased:
            self._keeper = PartKeeper(
                settings.instance,
                database,
                clock=clock,
                lease_s=settings.lease_s,
                subscribe=self._subscribe,
                unsubscribe=self._unsubscribe,
            )
        self.pipeline = Pipeline(
            self._rows,
            store,
            database,
            clock=clock,
            limits=settings.limits(),
            estimates=settings.estimates == "keep",
            max_message_bytes=settings.max_message_kb * 1024,
            holding=self._keeper.holding if self._keeper else Holding(settings.parts or range(PARTS)),
        )
        self._alarms = self.pipeline.checker.alarms
        self._watch = GatewayWatch(
            lambda: self.pipeline.meters.gateways,
            self.pipeline.greet,
            self.pipeline.counters,
            self._alarms,
            clock.now_ms,
        )
        self._reporter = Worker("report")
        self._started = False

    async def run(self) -> None:
        """Start, then work until cancelled; ends within two seconds, and safely at any moment."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report())
                await self.pipeline.start()
                self._started = True
                _log.info("started", instance=self.settings.instance, meters=len(self.pipeline.meters.states))
                for job in (self._rows.run(), self._status.run(), self._take_rows(), self._take_status()):
                    tasks.create_task(job)
                tasks.create_task(self._flush())
                tasks.create_task(self._reload())
                if self._keeper:
                    tasks.create_task(self._keeper.run(self.pipeline))
        finally:
            # what is in memory only is rebuilt at the next start, so there is nothing that must be written now
            reported = self._reporter.close(_CLOSE_S)
            if self.pipeline.close(_CLOSE_S) and reported:
                self._store.close()
            if self._keeper:
                self._keeper.close(_CLOSE_S)

    def problems(self) -> dict[str, str]:
        """Return dependency -> why ingest is not ready ("" when it is)."""
        starting = "still starting" if not self._started else self._keeper.problem if self._keeper else ""
        broker = "" if self._rows.connected else self._rows.last_problem or "not connected"
        return {"ingest": starting, "broker": broker, **self.pipeline.problems}

    async def _take_rows(self) -> None:
        room = asyncio.Semaphore(_BATCHES)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await room.acquire()
                deliveries = await self._rows.receive(self.settings.batch_messages)
                tasks.create_task(self.pipeline.cycle(deliveries)).add_done_callback(lambda _: room.release())

    async def _take_status(self) -> None:
        while True:
            for delivery in await self._status.receive(1000):
                self._watch.hear(delivery)
                delivery.ack()

    async def _flush(self) -> None:
        while True:
            await self._clock.sleep(self.settings.flush_s)
            await self.pipeline.flush()

    async def _reload(self) -> None:
        while True:
            await self._clock.sleep(self.settings.reload_s)
            await self.pipeline.reload()

    async def _report(self) -> None:
        """Tell the registry, for the API's pages: counters, readiness, and what gateways said of themselves."""
        while True:
            rows, alarms = self._watch.take(), self._alarms.take(self._clock.now_ms())
            try:
                await self._reporter.run(partial(self._save_report, rows, alarms, self.counters(), self.problems()))
            except (RegistryError, DBAPIError):
                self._watch.put_back(rows)  # the pipeline says that the registry is away
                self._alarms.put_back(alarms)
            await self._clock.sleep(self.settings.report_s)

    def _save_report(
        self,
        rows: Sequence[books.StatusRow],
        alarms: Sequence[books.EventRow],
        counters: Mapping[str | tuple[str, str], float],
        problems: dict[str, str],
    ) -> None:
        now = self._clock.now_ms()
        with self._database.begin() as connection:
            books.save_gateway_status(connection, rows)
            books.add_events(connection, alarms)
            books.save_counters(connection, self.settings.instance, counters, now)
            ready = json.dumps({"at": now, "problems": problems})
            books.set_state(connection, READY_KEY + self.settings.instance, ready)

    def counters(self) -> dict[str | tuple[str, str], float]:
        """Return every counter by Prometheus name and labels."""
        found: dict[str | tuple[str, str], float] = {
            (f"metergate_ingest_{name}", labels): count for (name, labels), count in self.pipeline.counters.items()
        }
        for session, label in ((self._rows, "rows"), (self._status, "status")):
            for name, count in session.counters.items():
                found[f"metergate_ingest_broker_{name}_total", f'session="{label}"'] = count
        for name, count in getattr(self._store, "counters", {}).items():
            found[f"metergate_ingest_store_{name}_total"] = count
        found["metergate_ingest_parts"] = len(self.pipeline.holding.ready)
        found["metergate_ingest_meters"] = len(self.pipeline.meters.states)
        return found

    def _connected(self) -> None:
        self.pipeline.announce()

    def _subscribe(self, parts: Collection[int]) -> None:
        if parts:
            self._rows.subscribe(_row_topics(sorted(parts)))
            self._status.subscribe(_status_topics(sorted(parts)))

    def _unsubscribe(self, parts: Collection[int]) -> None:
        if parts:
            self._rows.unsubscribe([topic for topic, _ in _row_topics(sorted(parts))])
            self._status.unsubscribe([topic for topic, _ in _status_topics(sorted(parts))])


def topics(parts: Sequence[int], leaf: str) -> list[str]:
    """Return the subscriptions for a leaf: one per part, or one for all."""
    return [f"mg/v1/{part}/+/{leaf}" for part in parts or ("+",)]


def _row_topics(parts: Sequence[int]) -> list[tuple[str, int]]:
    return [(topic, 1) for topic in topics(parts, "up")]


def _status_topics(parts: Sequence[int]) -> list[tuple[str, int]]:
    return [*((topic, 1) for topic in topics(parts, "state")), *((topic, 0) for topic in topics(parts, "health"))]


async def run_ingest(
    settings: IngestSettings,
    *,
    broker: BrokerSettings,
    database: Database,
    store: ReadingStore,
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """Run ingest until `stop` is set (the front door sets it on SIGTERM). Closes the store."""
    service = IngestService(settings, broker=broker, database=database, store=store, clock=clock)
    work = asyncio.create_task(service.run())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
