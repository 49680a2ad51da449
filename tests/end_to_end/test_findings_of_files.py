"""The sample fleet through broker, ingest and the service of the rules gives what `detect` finds in its files.

Real ones, on a wall clock that is moved by hand: it stands while a message is on its way, and goes on when ingest has
acknowledged it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from anomaly.city import City
from anomaly.files import Readings
from anomaly.meters import MeterTable
from anomaly.service import AnomalyService
from anomaly.settings import AnomalySettings
from ingest.service import IngestService
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metergate.commands.detect import detect
from metering.clock import parse_rfc3339
from metering.errors import BrokerError
from metering.messages import Up, decode_ack, encode, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Reading
from registry.alarm_states import AlarmEvent
from registry.findings_actions import act
from registry.roles import console
from tests.anomaly.fleet import SAMPLE, sample_fleet
from tests.anomaly.site import BILLED, HOUR, Site, WallClock
from tests.anomaly.test_city import START, Line, expected, found, house, use
from tests.brokers import mosquitto

GATEWAY = "gw-1"
LEAP_S = 1800
"""[s] the wall clock goes on before the service must have looked again: it trusts ingest's log for an hour."""
app = typer.Typer()
app.command()(detect)


class Wire:
    """A gateway's messages over a broker: each is sent when the clock stands at its second, and awaited."""

    def __init__(self, port: int, clock: WallClock, gateway: str = GATEWAY) -> None:
        self._clock, self._gateway = clock, gateway
        self._session = MqttSession(
            BrokerSettings(port=port), client_id=gateway, clock=clock, subscriptions=[(topic(gateway, "ack"), 1)]
        )
        self._seq = 1

    async def run(self) -> None:
        await self._session.run()

    async def send(self, readings: list[Reading]) -> None:
        """Publish one message and wait until ingest has acknowledged it, which it does once it is stored."""
        last = self._seq + len(readings) - 1
        message = Up(1, self._gateway, "00ff00ff", self._seq, 1, last, self._clock.now_ms(), list(readings))
        self._seq = last + 1
        payload = encode(message)
        end = self._clock.monotonic() + 60
        while self._clock.monotonic() < end:
            with suppress(BrokerError):  # the link is not there yet
                await self._session.publish(topic(self._gateway, "up"), payload)
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
    """Site whose readings come over broker and ingest; `city` follows them, as a service or look by look."""

    def __init__(self, site: Site, port: int) -> None:
        self.site, self._broker = site, BrokerSettings(port=port)
        self.wires = {gateway: Wire(port, site.clock, gateway) for gateway in site.gateways()}
        settings = IngestSettings(flush_s=60.0, report_s=60.0)
        self._ingest = IngestService(
            settings, broker=self._broker, database=site.database, store=site.store, clock=site.clock
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def wire(self) -> Wire:
        """Of a site with one gateway."""
        return self.wires[GATEWAY]

    async def __aenter__(self) -> Way:
        runs = [self._ingest.run(), *(wire.run() for wire in self.wires.values())]
        self._tasks = [asyncio.create_task(run) for run in runs]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reader(self) -> SqliteStore:
        return SqliteStore(self.site.folder / "readings.db", mode="read")

    async def city(self) -> City:
        city = City(self.site.settings, database=self.site.database, store=self._reader(), clock=self.site.clock)
        await asyncio.to_thread(city.start)
        return city

    def service(self) -> City:
        """Start `metergate anomaly`; return what it follows."""
        site = self.site
        service = AnomalyService(
            site.settings, broker=self._broker, database=site.database, store=self._reader(), clock=site.clock
        )
        self._tasks.append(asyncio.create_task(service.run()))
        return service.city

    async def looked(self, city: City, at_ms: int) -> None:
        """Wait until the service has looked at what was there at `at_ms`."""
        end = self.site.clock.monotonic() + 60
        while city.evaluated_ms < at_ms:
            assert self.site.clock.monotonic() < end, "the service does not look"
            await self.site.clock.sleep(0.003)

    async def play(self, table: MeterTable, rows: Readings) -> City:
        """Send every row at its second of arrival; return when all that is due then is judged."""
        city, clock = self.service(), self.site.clock
        for second in np.unique(rows.received).tolist():
            while second - clock.now_s > LEAP_S:
                clock.now_s += LEAP_S
                await self.looked(city, clock.now_ms() - LEAP_S * 500)
            clock.now_s = second + 0.2
            groups = self._by_gateway(arriving(table, rows, second))
            await asyncio.gather(*(self.wires[name].send(group) for name, group in groups.items()))
            await self.looked(city, clock.now_ms() - LEAP_S * 500)
        clock.now_s = int(rows.received[-1]) + self.site.settings.settle_s + 0.2
        await self.looked(city, clock.now_ms())
        return city

    def _by_gateway(self, readings: list[Reading]) -> dict[str, list[Reading]]:
        groups: dict[str, list[Reading]] = {}
        for reading in readings:
            groups.setdefault(self.site.gateway_of[reading.meter], []).append(reading)
        return groups


def arriving(table: MeterTable, rows: Readings, second: int) -> list[Reading]:
    """What the gateways send in one second."""
    sent = []
    for i in np.flatnonzero(rows.received == second).tolist():
        meter, at = table.meters[int(rows.meter[i])], int(rows.ts[i])
        values = {BILLED[meter.medium]: int(rows.micro[i])}
        sent.append(Reading(Site.device_at(meter, at), at * 1000, values, flags=int(rows.flags[i])))
    return sent


def played(folder: Path, table: MeterTable, rows: Readings, settings: AnomalySettings) -> list[Line]:
    """Findings of the service after all rows came over broker and ingest, each district's from its own gateway."""
    site = Site(folder, WallClock(int(rows.received[0]) - 10), settings)
    for district in sorted({meter.district for meter in table.meters}):
        site.add([meter for meter in table.meters if meter.district == district], gateway=f"gw-{district}")

    async def scenario() -> None:
        with a_broker(folder) as port:
            async with Way(site, port) as way:
                await way.play(table, rows)

    asyncio.run(scenario())
    lines = found(site)
    site.database.close()
    return lines


def some_days(first: int, days: int) -> tuple[MeterTable, Readings]:
    """All meters that were read in these days of the sample; what arrives within an hour arrives at its end."""
    table, rows = sample_fleet()
    rows = rows.take(rows.ts >= rows.received - 45 * 86_400)  # ingest holds back what a clock of 2000 says
    rows.received = -(-rows.received // HOUR) * HOUR
    start = rows.received[0] + first * 86_400
    rows = rows.take((rows.received >= start) & (rows.received < start + days * 86_400))
    _, once = np.unique(np.stack([rows.meter, rows.ts]), axis=1, return_index=True)
    rows = rows.take(np.sort(once))
    kept = np.unique(rows.meter)
    rows.meter = np.searchsorted(kept, rows.meter).astype(np.int32)
    return table.part(kept.astype(np.int64)), rows


def test_the_sample_over_broker_and_ingest_gives_the_findings_of_the_files_to_the_second(tmp_path: Path) -> None:
    table, rows = some_days(134, 4)
    lines = played(tmp_path, table, rows, AnomalySettings(look_s=0.05))
    assert lines == expected(table, rows)
    assert {kind for _, kind, *_ in lines} >= {"spike", "reverse_flow", "unauthorised", "info_low_battery"}


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("quick", [False, True])
def test_the_whole_sample_gives_what_the_command_finds_in_its_files(tmp_path: Path, quick: bool) -> None:
    """149 days of 60 meters; against `metergate detect` on the files as they were published.

    With quick rules each row arrives at its second. Without them a timer sees what arrived by its quarter hour, so
    that rows may wait for the end of theirs. Ingest holds back what a clock of 2000 says: `info_clock` is found in
    the files alone.
    """
    table, rows = sample_fleet()
    if not quick:
        rows = rows.take(slice(None))
        rows.received = np.minimum(-(-rows.received // 900) * 900, rows.received[-1])
    settings = AnomalySettings(look_s=0.05, quick=quick, history_days=200)
    lines = played(tmp_path, table, rows, settings)
    out = tmp_path / "findings.jsonl"
    words = ["--meters", SAMPLE / "meters.csv", "--readings", SAMPLE / "readings.csv.gz", "--out", out]
    done = CliRunner().invoke(app, [str(word) for word in words] + ["--quick"] * quick)
    assert done.exit_code == 0, done.output
    wanted = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(wanted) >= 36
    assert lines == sorted(_line(facts) for facts in wanted if facts["kind"] != "info_clock")


def _line(facts: dict[str, Any]) -> Line:
    """A line of `detect`'s file as `found` gives it."""
    times = (facts[name] for name in ("started_at", "detected_at", "cleared_at", "withdrawn_at"))
    started, detected, cleared, withdrawn = (None if at is None else parse_rfc3339(at) // 1000 for at in times)
    assert started is not None
    assert detected is not None
    return facts["meter_id"], facts["kind"], started, detected, cleared, withdrawn


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
