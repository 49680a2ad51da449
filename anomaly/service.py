"""`metergate anomaly`: the rules as a service, beside ingest.

    ingest's log (registry) ──┐
    notices (broker, QoS 0) ──┴─ look: read what was touched, judge, record ── findings (registry)

A notice only wakes the service up; what was touched stands in the log, which is written with the acknowledged
positions. So a lost notice, a broken session or hours without the service lose nothing.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from anomaly.city import City, StoppedError
from anomaly.settings import AnomalySettings
from metering.clock import Clock
from metering.errors import BrokerError, MetergateError, RegistryError, SettingsError, StoreError
from metering.mqtt import BrokerSettings, MqttSession
from metering.store import ReadingStore
from registry import ledger as ledger_tables
from registry.database import Database
from registry.findings_settings import AlarmSettings
from registry.watch import PartTakenError

T = TypeVar("T")
READY_KEY: Final = "ready_anomaly."
"""Prefix of the registry's small fact with which an anomaly process says how it is; its instance name follows."""

_FIRST_RETRY_S: Final = 0.2
_LAST_RETRY_S: Final = 5.0
_CLOSE_S: Final = 1.0
_STALE_BEATS: Final = 3
_HTTP_S: Final = 10.0
_log = structlog.get_logger("anomaly")


class AnomalyService:
    """Everything of one anomaly process; `run` until cancelled."""

    def __init__(
        self,
        settings: AnomalySettings,
        *,
        broker: BrokerSettings,
        database: Database,
        store: ReadingStore,
        clock: Clock,
        alarms: AlarmSettings | None = None,
    ) -> None:
        self.settings, self._database, self._store, self._clock = settings, database, store, clock
        self.problem = "still starting"
        self._stopped = False
        self.city = City(
            settings, database=database, store=store, clock=clock, alarms=alarms, stopping=lambda: self._stopped
        )
        self._notices = MqttSession(
            broker,
            client_id=f"{settings.instance}-notices",
            clock=clock,
            subscriptions=[("mg/v1/+/notice", 0)],
        )
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "anomaly")
        self._reports = ThreadPoolExecutor(1, "anomaly-report")

    async def run(self) -> None:
        """Work until cancelled; safe to end at any moment."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for job in (self._notices.run(), self._hear(), self._work(), self._report(), self._beat()):
                    tasks.create_task(job)
        finally:
            self._stopped = True
            with suppress(MetergateError, DBAPIError, TimeoutError):
                await self._clock.timeout(asyncio.shield(self._in(self._thread, self.city.close)), _CLOSE_S)
            for pool in (self._thread, self._reports):
                pool.shutdown(wait=False, cancel_futures=True)
            self._store.close()

    # --- judging ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._patiently(self.city.start)
            self.problem = ""
            _log.info("started", instance=self.settings.instance, **self._words())
            with suppress(PartTakenError):  # somebody took over: wait until the parts are free again
                await self._follow()
            _log.warning("parts lost", instance=self.settings.instance)

    async def _follow(self) -> None:
        reload_at = self._clock.monotonic() + self.settings.reload_s
        while True:
            self._wake.clear()
            await self._patiently(self.city.look)
            if self._clock.monotonic() >= reload_at:
                began = self._clock.monotonic()
                await self._patiently(self.city.reload)
                took = self._clock.monotonic() - began
                reload_at = self._clock.monotonic() + max(self.settings.reload_s, 10 * took)
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await self._clock.timeout(self._wake.wait(), self.settings.look_s)

    async def _patiently(self, call: Callable[[], T]) -> T:
        """Do a call in the service's thread, again and again until registry and store let it through."""
        delay = _FIRST_RETRY_S
        while True:
            try:
                result = await self._in(self._thread, call)
            except PartTakenError as error:
                if call != self.city.start:
                    raise
                self.problem = str(error)
            except (RegistryError, StoreError, SettingsError, DBAPIError) as error:
                if not self.problem:
                    _log.warning("waiting", error=str(error))
                self.problem = str(getattr(error, "orig", None) or error)
                self.city.counters["retries_total"] += 1
            else:
                self.problem = ""
                return result
            await self._clock.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY_S)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    # --- notices ---------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """A notice says that it is worth looking at once; what it says of meters stands in the log."""
        while True:
            with suppress(BrokerError):
                for delivery in await self._notices.receive(1000):
                    delivery.ack()
                    self._wake.set()

    # --- how it is -------------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        while True:
            with suppress(RegistryError, DBAPIError):
                await self._in(self._reports, partial(self._save_report, self.problem))
            await self._clock.sleep(self.settings.report_s)

    def _save_report(self, problem: str) -> None:
        now = self._clock.now_ms()
        with self._database.begin() as connection:
            ledger_tables.save_counters(connection, self.settings.instance, self.city.figures(), now)
            said = {"at": now, "evaluated_at": self.city.evaluated_ms, "problems": {"anomaly": problem}}
            ledger_tables.set_state(connection, READY_KEY + self.settings.instance, json.dumps(said))

    async def _beat(self) -> None:
        """Touch the file and call the address while judging goes on; whoever misses them raises the alarm."""
        while True:
            if self._alive():
                try:
                    await self._in(self._reports, self._heartbeat)
                    self.city.counters["heartbeats_total"] += 1
                except OSError as error:
                    self.city.counters["heartbeats_failed_total"] += 1
                    _log.warning("heartbeat", error=str(error))
            await self._clock.sleep(self.settings.heartbeat_s)

    def _alive(self) -> bool:
        age_s = (self._clock.now_ms() - self.city.evaluated_ms) / 1000
        return age_s <= max(_STALE_BEATS * self.settings.look_s, self.settings.heartbeat_s)

    def _heartbeat(self) -> None:
        path, url = self.settings.heartbeat_file, self.settings.heartbeat_url
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{self.city.evaluated_ms}\n", "utf-8")
        if url:
            request = urllib.request.Request(url, data=b"", method="POST", headers={"User-Agent": "metergate"})
            with urllib.request.urlopen(request, timeout=_HTTP_S) as answer:  # the pattern lets only http(s) through
                answer.read(1024)

    def _words(self) -> dict[str, Any]:
        figures = self.city.figures()
        return {
            "meters": int(figures.get("metergate_anomaly_meters", 0)),
            "rows": self.city.counters["rows_read_total"],
        }


async def run_anomaly(
    settings: AnomalySettings,
    *,
    broker: BrokerSettings,
    database: Database,
    store: ReadingStore,
    clock: Clock,
    stop: asyncio.Event,
    alarms: AlarmSettings | None = None,
) -> None:
    """Run the anomaly service until `stop` is set (the front door sets it on SIGTERM). Closes the store."""
    service = AnomalyService(settings, broker=broker, database=database, store=store, clock=clock, alarms=alarms)
    work = asyncio.create_task(service.run())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError, StoppedError):
        await work
