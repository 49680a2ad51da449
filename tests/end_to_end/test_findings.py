"""The live service as a process of its own behind a real broker and a real ingest, killed at random points."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.outbox import Outbox
from gateway.send_ledger import SendLedger
from gateway.uplink import Uplink
from metering.mqtt import BrokerSettings
from metering.reading import Reading
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from registry.models_findings import FindingHistory, FindingRecord
from tests.brokers import mosquitto
from tests.end_to_end.fleet import IngestProcess, _health
from tests.end_to_end.town import CLOCK, until

METERS = 40
HOUR_MS = 3_600_000
GATEWAY = "gw-1"


class AnomalyProcess(IngestProcess):
    """`metergate anomaly` in a process of its own."""

    def start(self) -> None:
        with self.config.with_suffix(".anomaly.log").open("ab") as log:
            command = [sys.executable, "-m", "metergate", "anomaly", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def words(self) -> str:
        return self.config.with_suffix(".anomaly.log").read_text("utf-8", "replace")[-3000:]


def _books(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": GATEWAY}])
        for number in range(METERS):
            name = f"M{number}"
            place = {"id": f"U{name}", "medium": "water", "customer_class": "residential", "tz": "UTC"}
            connection.execute(sa.insert(UsagePoint), [place])
            facts = {"id": name, "medium": "water", "quantity": "volume", "gateway_id": GATEWAY}
            connection.execute(sa.insert(Meter), [facts | {"interval_s": 3600, "commissioned_at": 0}])
            stay = {"meter_id": name, "usage_point_id": f"U{name}", "installed_at": 0}
            connection.execute(sa.insert(Installation), [stay])


@contextmanager
def _city(folder: Path) -> Iterator[tuple[Database, BrokerSettings, AnomalyProcess]]:
    broker = mosquitto(folder / "broker")
    database = Database(f"sqlite:///{folder}/registry.db")
    database.upgrade()
    _books(database)
    config = folder / "metergate.toml"
    config.write_text(
        f'[broker]\nport = {broker.port}\n[registry]\nurl = "{database.url}"\n'
        f'[store]\npath = "{folder}/readings.db"\n'
        "[anomaly]\nsettle_s = 0.0\nflood_s = 0.5\n",
        "utf-8",
    )
    ingest, rules = IngestProcess(config), AnomalyProcess(config)
    broker.start()
    ingest.start()
    try:
        yield database, BrokerSettings(port=broker.port), rules
    finally:
        rules.stop()
        ingest.stop()
        broker.stop()
        database.close()


class Sender:
    """A gateway's outbox and uplink; rows go out as soon as they are appended."""

    def __init__(self, folder: Path, broker: BrokerSettings) -> None:
        self.outbox = Outbox(folder / "outbox.db", gateway=GATEWAY, clock=CLOCK, rng=random.Random(1))
        self._broker = broker
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Sender:
        await self.outbox.open()
        uplink = Uplink(
            self.outbox,
            SendLedger(random.Random(1), ack_timeout_s=2.0, gather_s=0.02),
            self._broker,
            clock=CLOCK,
            version="test",
            health=lambda: _health(self.outbox),
            health_interval_s=5.0,
            on_event=self.outbox.put,
        )
        self._task = asyncio.create_task(uplink.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.outbox.close()

    async def send(self, rows: list[Reading]) -> None:
        await self.outbox.append(list(rows))
        for _ in range(9000):
            if not self.outbox.held.count + self.outbox.in_memory:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("ingest did not acknowledge within three minutes")


def _past(now_ms: int) -> list[Reading]:
    """Ten ordinary days of every meter, imported."""
    hours = range(240, 0, -1)
    return [
        Reading(f"M{number}", now_ms - back * HOUR_MS, {"volume": (1000 - back) * 20_000 + number}, source="import")
        for back in hours
        for number in range(METERS)
    ]


async def _scenario(folder: Path, kills: int) -> None:
    chance = random.Random(7)
    with _city(folder) as (database, broker, rules):
        async with Sender(folder, broker) as sender:
            now = CLOCK.now_ms()
            await sender.send(_past(now))
            rules.start()
            for number in range(METERS):  # each begins to run backwards: 0.2 m³ below its last index
                at = CLOCK.now_ms()
                await sender.send([Reading(f"M{number}", at, {"volume": 999 * 20_000 + number - 200_000})])
                if number % max(1, METERS // kills) == 0:
                    await asyncio.sleep(chance.random() * 3)
                    rules.signal(signal.SIGKILL)
                    rules.process.wait()  # type: ignore[union-attr]  # it was started above
                    rules.start()
            await asyncio.to_thread(
                until, lambda: len(_falls(database)) >= METERS, lambda: f"{_falls(database)}\n{rules.words()}", 180.0
            )
            await asyncio.sleep(1.0)  # whoever comes twice has time to come
    falls = _falls(database)
    assert sorted(meter for meter, _ in falls) == sorted(f"M{number}" for number in range(METERS))
    assert {tuple(events) for _, events in falls} == {("raise",)}


def _falls(database: Database) -> list[tuple[str, list[str]]]:
    with database.read() as connection:
        found = connection.execute(
            sa.select(FindingRecord.id, FindingRecord.meter).where(FindingRecord.kind == "reverse_flow")
        ).all()
        return [
            (
                row.meter,
                list(
                    connection.execute(
                        sa.select(FindingHistory.event).where(FindingHistory.finding_id == row.id)
                    ).scalars()
                ),
            )
            for row in found
        ]


def test_the_service_is_killed_while_findings_come_and_each_comes_once(tmp_path: Path) -> None:
    asyncio.run(_scenario(tmp_path, kills=3))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_service_is_killed_forty_times(tmp_path: Path) -> None:
    asyncio.run(_scenario(tmp_path, kills=METERS))
