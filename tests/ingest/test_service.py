"""The whole service against a real Mosquitto: rows, answers, status, restarts of the broker, a quick end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingest.service import READY_KEY, run_ingest, topics
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.messages import (
    Health,
    Notice,
    State,
    Up,
    decode_ack,
    decode_notice,
    encode,
    notice_topic,
    part_of,
    topic,
)
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Reading, Row
from registry import ledger as books
from registry.database import Database
from registry.models import Counter, GatewayStatus, Quarantine
from tests.brokers import BrokerProcess, free_port, mosquitto
from tests.ingest.house import EPOCH, House

CLOCK = SystemClock()
DEADLINE_S = 90.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    broker = mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


class Door:
    """The way from ingest to the broker: while it is shut, nobody is there; open, each byte passes."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.port = free_port()
        self._broker = broker
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    def shut(self) -> None:
        """Let nobody in; who is in stays."""
        if self._server:
            self._server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._broker.port)
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


class Site:
    """The service in this loop, and a session that plays its gateways."""

    def __init__(self, folder: Path, broker: BrokerProcess, door: Door | None = None) -> None:
        House(folder).close()  # its registry: gw-1 with M1 and M2, gw-2 with M3
        self.folder = folder
        self.broker = broker
        self.settings = IngestSettings(flush_s=0.1, report_s=0.5, reload_s=1.0)
        self.stop = asyncio.Event()
        self.heard: list[tuple[str, bytes]] = []
        self.link = BrokerSettings(port=door.port if door else broker.port)
        self.gateway = MqttSession(
            BrokerSettings(port=broker.port),
            client_id="gateways",
            clock=CLOCK,
            subscriptions=[("mg/v1/+/+/ack", 1), ("mg/v1/+/notice", 0)],
        )

    async def play(self, scenario: Callable[[Site], Awaitable[None]]) -> float:
        """Run the scenario; return how long the service took to end [s]."""
        listening = [asyncio.create_task(self.gateway.run()), asyncio.create_task(self._listen())]
        service = asyncio.create_task(self.start())
        try:
            await self.until(lambda: self.gateway.connected)
            await self.until(
                lambda: not any(json.loads(self.ready() or '{"problems": {"": "?"}}')["problems"].values())
            )
            await scenario(self)
        finally:
            began = time.monotonic()
            self.stop.set()
            await service
            took = time.monotonic() - began
            for task in listening:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return took

    async def start(self) -> None:
        database = Database(f"sqlite:///{self.folder / 'registry.db'}")
        store = SqliteStore(self.folder / "readings.db", mode="write")
        await run_ingest(self.settings, broker=self.link, database=database, store=store, clock=CLOCK, stop=self.stop)
        database.close()

    async def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, "it never happened"
            await asyncio.sleep(0.02)

    async def send(self, seq: int, rows: list[Row], *, gateway: str = "gw-1", retain: bool = False) -> None:
        message = Up(1, gateway, EPOCH, seq, 1, seq + len(rows) - 1, CLOCK.now_ms(), rows)
        await self.gateway.publish(topic(gateway, "up"), encode(message), retain=retain)

    def acked(self, gateway: str = "gw-1") -> int:
        mine = [decode_ack(payload) for name, payload in self.heard if name == topic(gateway, "ack")]
        return max((ack.upto for ack in mine), default=0)

    def refusals(self) -> list[str]:
        acks = [decode_ack(payload) for name, payload in self.heard if name.endswith("/ack")]
        return [ack.refused.reason for ack in acks if ack.refused]

    def notices(self) -> list[Notice]:
        return [decode_notice(payload) for name, payload in self.heard if name.endswith("/notice")]

    def ask(self, statement: Any) -> list[Any]:
        database = Database(f"sqlite:///{self.folder / 'registry.db'}")
        with database.read() as connection:
            rows = list(connection.execute(statement).mappings())
        database.close()
        return rows

    def ready(self) -> str | None:
        database = Database(f"sqlite:///{self.folder / 'registry.db'}")
        with database.read() as connection:
            found = books.get_state(connection, READY_KEY + "ingest-1")
        database.close()
        return found

    def stored(self) -> list[tuple[str, int]]:
        store = SqliteStore(self.folder / "readings.db", mode="read")
        found = [(r.meter, r.values["volume"]) for r in store.range(None, 0, 2**60)]
        store.close()
        return found

    async def _listen(self) -> None:
        while True:
            for delivery in await self.gateway.receive(100):
                self.heard.append((delivery.topic, delivery.payload))
                delivery.ack()


def test_rows_go_in_answers_and_notices_come_out_and_the_end_is_quick(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario(site: Site) -> None:
        now = CLOCK.now_ms()
        await site.send(1, [Reading("M1", now, {"volume": 5}), Reading("M2", now, {"volume": 6})])
        await site.until(lambda: site.acked() == 2)
        assert site.stored() == [("M1", 5), ("M2", 6)]
        await site.until(lambda: site.notices())
        assert sorted(site.notices()[0].meters) == ["M1", "M2"]
        assert site.heard[-1][0] == notice_topic(part_of("gw-1"))
        await site.until(
            lambda: any(
                row["name"] == "metergate_ingest_readings_total" and row["value"] == 2
                for row in site.ask(sa.select(Counter.__table__))
            )
        )

    async def main() -> None:
        assert await Site(tmp_path, broker).play(scenario) < 10.0  # 2 s are promised; this machine may be busy

    asyncio.run(main())


def test_health_and_birth_are_recorded_and_a_birth_is_greeted(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario(site: Site) -> None:
        await site.send(3, [Reading("M1", CLOCK.now_ms(), {"volume": 5})])
        await site.until(lambda: site.acked() == 3)
        site.heard.clear()
        born = State(1, "gw-1", True, 1000, EPOCH, "0.1")
        await site.gateway.publish(topic("gw-1", "state"), encode(born), retain=True)
        await site.until(lambda: site.acked() == 3)
        health = Health(1, "gw-1", EPOCH, 2000, 9, 8, 1, 0, None, "full", "no room", 2, 1, {"polls": 7})
        await site.gateway.publish(topic("gw-1", "health"), encode(health), qos=0)
        foreign = State(1, "gw-2", False, 3000)
        await site.gateway.publish(topic("gw-1", "state"), encode(foreign))
        await site.gateway.publish(topic("gw-77", "state"), encode(State(1, "gw-77", True, 1)))
        await site.gateway.publish(topic("gw-2", "health"), b"[[[[")

        def known() -> dict[str, Any]:
            return {row["gateway"]: row for row in site.ask(sa.select(GatewayStatus.__table__))}

        await site.until(lambda: known().get("gw-1", {}).get("health_at"))
        assert set(known()) == {"gw-1"}
        row = known()["gw-1"]
        assert (row["online"], row["state_at"], row["health_at"]) == (True, 1000, 2000)
        assert (row["health"]["outbox"], row["health"]["waiting"], row["health"]["counters"]) == (
            "full",
            1,
            {"polls": 7},
        )

    asyncio.run(_play(tmp_path, broker, scenario))


def test_a_broker_that_dies_is_found_again_and_unanswered_rows_are_not_lost(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    """The gateways are back before ingest is: it says unasked what it has. (Later ones ask, by their birth.)"""
    door = Door(broker)

    async def scenario(site: Site) -> None:
        await site.send(1, [Reading("M1", CLOCK.now_ms(), {"volume": 5})])
        await site.until(lambda: site.acked() == 1)
        door.shut()
        broker.kill()
        await site.until(
            lambda: "broker" in (site.ready() or "") and json.loads(site.ready() or "")["problems"]["broker"]
        )
        await site.until(lambda: not site.gateway.connected)
        site.heard.clear()
        broker.start()
        await site.until(lambda: site.gateway.connected)
        assert site.acked() == 0
        await door.open()
        await site.until(lambda: site.acked() == 1)  # said again after the reconnect, unasked
        await site.send(2, [Reading("M1", CLOCK.now_ms() + 1, {"volume": 6})])
        await site.until(lambda: site.acked() == 2)
        assert site.stored() == [("M1", 5), ("M1", 6)]

    async def main() -> None:
        await door.open()
        try:
            await Site(tmp_path, broker, door).play(scenario)
        finally:
            door.shut()

    asyncio.run(main())


def test_hostile_messages_are_refused_kept_and_do_not_stop_the_next_one(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    """What a client of the broker can do to us. 200 KB are refused here; 2 MB do not even reach this process."""

    async def scenario(site: Site) -> None:
        name = topic("gw-1", "up")
        now = CLOCK.now_ms()
        for payload in (b"[" * 100_000, b"\xff\xfe", b"{}", b" " * 200_000, b"x" * 2_000_000):
            await site.gateway.publish(name, payload)
        await site.gateway.publish("mg/v1/9/gw-1/up", b"wrong part")
        await site.gateway.publish(f"mg/v1/1/{'g' * 60_000}/up", b"long topic")
        await site.send(1, [Reading("M1", now, {"volume": 5})])
        await site.until(lambda: site.acked() == 1)
        await site.until(lambda: len(site.refusals()) >= 4)
        assert sorted(site.refusals()) == ["depth", "size", "syntax", "syntax"]
        kept = {row["reason"]: row for row in site.ask(sa.select(Quarantine.__table__))}
        assert kept["message_depth"]["raw"] == b"[" * 100_000
        assert "the first 131072 of 200000 bytes" in kept["message_size"]["detail"]
        assert kept["message_topic"]["raw"]
        assert site.stored() == [("M1", 5)]

    asyncio.run(_play(tmp_path, broker, scenario))


def test_a_retained_row_from_before_the_start_is_refused(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario(site: Site) -> None:
        await site.until(lambda: site.ask(sa.select(Quarantine.__table__)))
        (row,) = site.ask(sa.select(Quarantine.__table__))
        assert (row["gateway"], row["reason"]) == ("gw-1", "message_retained")
        assert site.stored() == []

    async def main() -> None:
        site = Site(tmp_path, broker)
        retainer = asyncio.create_task(site.gateway.run())
        await site.until(lambda: site.gateway.connected)
        await site.send(1, [Reading("M1", CLOCK.now_ms(), {"volume": 5})], retain=True)
        retainer.cancel()
        with suppress(asyncio.CancelledError):
            await retainer
        await site.play(scenario)

    asyncio.run(main())


def test_a_worker_of_some_parts_subscribes_to_those() -> None:
    assert topics((3, 63), "up") == ["mg/v1/3/+/up", "mg/v1/63/+/up"]
    assert topics((), "health") == ["mg/v1/+/+/health"]


async def _play(folder: Path, broker: BrokerProcess, scenario: Callable[[Site], Awaitable[None]]) -> None:
    await Site(folder, broker).play(scenario)
