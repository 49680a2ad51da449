"""The sample fleet through a real broker and the real ingest, on a clock moved by hand, gives what `detect` finds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from anomaly.city import City
from anomaly.files import Readings
from anomaly.meters import MeterTable
from ingest.service import IngestService
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metering.errors import BrokerError
from metering.messages import Up, decode_ack, encode, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Reading
from registry.alarm_states import AlarmEvent
from registry.findings_actions import act
from registry.roles import console
from tests.anomaly.site import BILLED, HOUR, Site, WallClock
from tests.anomaly.test_city import START, expected, found, house, ten_days, use
from tests.brokers import mosquitto

GATEWAY = "gw-1"


class Wire:
    """A gateway's messages over a broker: each is sent when the clock stands at its second, and awaited."""

    def __init__(self, port: int, clock: WallClock) -> None:
        self._clock = clock
        self._session = MqttSession(
            BrokerSettings(port=port), client_id="sender", clock=clock, subscriptions=[(topic(GATEWAY, "ack"), 1)]
        )
        self._seq = 1

    async def run(self) -> None:
        await self._session.run()

    async def send(self, readings: list[Reading]) -> None:
        """Publish one message and wait until ingest has acknowledged it, which it does once it is stored."""
        last = self._seq + len(readings) - 1
        message = Up(1, GATEWAY, "00ff00ff", self._seq, 1, last, self._clock.now_ms(), list(readings))
        self._seq = last + 1
        payload = encode(message)
        end = self._clock.monotonic() + 60
        while self._clock.monotonic() < end:
            with suppress(BrokerError):  # the link is not there yet
                await self._session.publish(topic(GATEWAY, "up"), payload)
                if await self._acknowledged(last):
                    return
            await self._clock.sleep(0.02)
        raise AssertionError("ingest did not acknowledge within a minute")

    async def _acknowledged(self, last: int) -> bool:
        try:
            while True:
                for delivery in await self._clock.timeout(self._session.receive(100), 3.0):
                    delivery.ack()
                    said = decode_ack(delivery.payload)
                    if said.upto >= last and not said.missing:
                        return True
        except TimeoutError:
            return False


@contextmanager
def a_broker(folder: Path) -> Iterator[int]:
    broker = mosquitto(folder / "broker")
    broker.start()
    try:
        yield broker.port
    finally:
        broker.stop()


class Way:
    """Site whose readings come over broker and ingest; `city` is the service that follows them."""

    def __init__(self, site: Site, port: int) -> None:
        self.site, self.wire = site, Wire(port, site.clock)
        settings = IngestSettings(flush_s=60.0, report_s=60.0)
        self._ingest = IngestService(
            settings, broker=BrokerSettings(port=port), database=site.database, store=site.store, clock=site.clock
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Way:
        self._tasks = [asyncio.create_task(self._ingest.run()), asyncio.create_task(self.wire.run())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def city(self) -> City:
        reader = SqliteStore(self.site.folder / "readings.db", mode="read")
        city = City(self.site.settings, database=self.site.database, store=reader, clock=self.site.clock)
        await asyncio.to_thread(city.start)
        return city


def arriving(table: MeterTable, rows: Readings, second: int) -> list[Reading]:
    """What the gateway sends in one second."""
    sent = []
    for i in np.flatnonzero(rows.received == second).tolist():
        meter = table.meters[int(rows.meter[i])]
        at, values = int(rows.ts[i]) * 1000, {BILLED[meter.medium]: int(rows.micro[i])}
        sent.append(Reading(meter.meter_id, at, values, flags=int(rows.flags[i])))
    return sent


def test_the_sample_over_broker_and_ingest_gives_the_findings_of_the_files_to_the_second(tmp_path: Path) -> None:
    table, rows = ten_days()

    async def scenario() -> None:
        site = Site(tmp_path, WallClock(int(rows.received[0]) - 10))
        site.add(table.meters)
        with a_broker(tmp_path) as port:
            async with Way(site, port) as way:
                city = await way.city()
                for second in np.unique(rows.received).tolist():
                    site.clock.now_s = second + 0.2
                    await way.wire.send(arriving(table, rows, second))
                    await asyncio.to_thread(city.look)
        lines = found(site)
        assert lines == expected(table, rows)
        assert {kind for _, kind, *_ in lines} >= {"unit_error", "spike"}
        site.database.close()

    asyncio.run(scenario())


def test_a_late_backfill_withdraws_names_those_who_knew_and_says_why(tmp_path: Path) -> None:
    site = house(tmp_path)

    def past(first: int, last: int) -> list[Reading]:
        return [Reading("A", (START + hour * HOUR) * 1000, {"volume": use(hour)}) for hour in range(first, last)]

    async def scenario() -> None:
        with a_broker(tmp_path) as port:
            async with Way(site, port) as way:
                site.clock.now_s = START + 240 * HOUR
                await way.wire.send(past(0, 240))
                city = await way.city()
                site.clock.now_s = START + 300 * HOUR + 900  # 60 hours of silence: more than the 52 that are allowed
                await asyncio.to_thread(city.look)
                assert [row["state"] for row in site.of("comms_loss")] == ["UNACK"]
                number = site.of("comms_loss")[0]["id"]
                with site.database.begin() as connection:
                    act(connection, console("li"), number, AlarmEvent.ACKNOWLEDGE, now_ms=site.clock.now_ms())
                city.changes.clear()
                site.clock.now_s = START + 300 * HOUR + 1000
                await way.wire.send(past(240, 301))  # the gateway had them all in its outbox
                site.clock.now_s = START + 301 * HOUR + 900
                await asyncio.to_thread(city.look)
        (row,) = site.of("comms_loss")
        assert (row["state"], row["withdrawn_at"] is not None, bool(row["withdrawn_why"])) == ("NORM", True, True)
        assert site.history(number) == ["raise", "acknowledge", "withdraw"]
        (change,) = [change for change in city.changes if change.sort == "withdrawn"]
        assert change.people == ("console:li",)
        site.database.close()

    asyncio.run(scenario())
