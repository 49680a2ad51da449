"""A city that loses its power: gateways behind a broker, ingest and the services of the rules, on a virtual clock.

Everything is the product's own but the gateways, which are their messages: birth, last will, one message of readings
an hour. The broker says of one whose power is gone what it was asked to say.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from anomaly.service import run_anomaly
from anomaly.settings import AnomalySettings
from ingest.service import run_ingest
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metergate.memory_broker import MemoryBroker
from metergate.virtual_time import VirtualClock, VirtualLoop
from metering.messages import PARTS, State, Up, encode, part_of, topic
from metering.mqtt import Message, MqttSession
from metering.reading import Reading
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from registry.models_findings import FindingHistory, FindingRecord

HOUR = 3600
START_MS = 1_772_294_400_000  # 2026-02-28T16:00:00Z
EPOCH = "00ff00ff"


@dataclass(frozen=True)
class Plan:
    """hours: power is there, power is gone, power is there again. services: how many share the parts."""

    meters: int
    gateways: int
    districts: int = 1
    hours: tuple[int, int, int] = (2, 5, 8)
    services: int = 1
    settings: AnomalySettings = field(default_factory=AnomalySettings)

    def meters_of(self, gateway: int) -> range:
        each = self.meters // self.gateways
        return range(gateway * each, (gateway + 1) * each)

    def shares(self) -> list[tuple[int, ...]]:
        """Parts of each service: gateways in turn, and all other parts to the first."""
        if self.services == 1:
            return [()]
        owner = {part_of(name(number)): number % self.services for number in range(self.gateways)}
        return [
            tuple(part for part in range(PARTS) if owner.get(part, 0) == service) for service in range(self.services)
        ]


def name(gateway: int) -> str:
    return f"gw-{gateway:02}"


@dataclass
class Cut:
    """One run of a plan in a folder; `run` plays it, the rest looks at what came of it."""

    plan: Plan
    folder: Path

    def __post_init__(self) -> None:
        self.clock, self.broker, self.chance = VirtualClock(START_MS), MemoryBroker(), random.Random(3)
        self.database = Database(f"sqlite:///{self.folder}/registry.db")
        self.database.upgrade()
        self._books()

    def _books(self) -> None:
        plan = self.plan
        hung = [
            (f"M{meter:05}", name(gateway)) for gateway in range(plan.gateways) for meter in plan.meters_of(gateway)
        ]
        district = {name(gateway): f"d-{gateway % plan.districts:02}" for gateway in range(plan.gateways)}
        place = {"medium": "water", "customer_class": "residential", "tz": "UTC"}
        facts = {"medium": "water", "quantity": "volume", "interval_s": HOUR, "commissioned_at": 0}
        with self.database.begin() as connection:
            connection.execute(sa.insert(Gateway), [{"id": name(gateway)} for gateway in range(plan.gateways)])
            connection.execute(
                sa.insert(UsagePoint), [place | {"id": f"U{m}", "district": district[g]} for m, g in hung]
            )
            connection.execute(sa.insert(Meter), [facts | {"id": m, "gateway_id": g} for m, g in hung])
            stays = [{"meter_id": m, "usage_point_id": f"U{m}", "installed_at": 0} for m, _ in hung]
            connection.execute(sa.insert(Installation), stays)

    # --- gateways --------------------------------------------------------------------------------------------------

    def _session(self, gateway: str) -> MqttSession:
        def said(*, online: bool) -> bytes:
            return encode(State(1, gateway, online, self.clock.now_ms(), EPOCH, "test"))

        session = MqttSession(
            self.broker.settings,
            client_id=gateway,
            clock=self.clock,
            will=Message(topic(gateway, "state"), said(online=False), 1, True),
            on_connect=lambda: _seen(session.send(topic(gateway, "state"), said(online=True), retain=True)),
        )
        return session

    async def _gateway(self, number: int) -> None:
        """Life of a gateway while there is power: one message an hour."""
        session = self._session(name(number))
        link = asyncio.create_task(session.run())
        try:
            while True:
                past = self.clock.now_ms() // 1000 % HOUR
                await self.clock.sleep((20 + 5 * number - past) % HOUR or HOUR)
                await self._read(session, number)
        finally:
            self.broker.lose(name(number))  # nobody says goodbye: the broker tells the last will
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    async def _read(self, session: MqttSession, number: int) -> None:
        now, hour = self.clock.now_ms(), self.clock.now_ms() // 3_600_000
        rows = [
            Reading(f"M{meter:05}", now, {"volume": hour * 20_000 + meter}) for meter in self.plan.meters_of(number)
        ]
        first = (hour - START_MS // 3_600_000) * len(rows) + 1
        message = Up(1, name(number), EPOCH, first, 1, first + len(rows) - 1, now, list(rows))
        await session.publish(topic(name(number), "up"), encode(message))

    # --- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self.clock)) as runner:
            runner.run(self._scenario())

    async def _scenario(self) -> None:
        before, without, after = self.plan.hours
        stop = asyncio.Event()
        services = [asyncio.create_task(part) for part in self._services(stop)]
        await self.clock.sleep(1)
        lives = [asyncio.create_task(self._gateway(number)) for number in range(self.plan.gateways)]
        await self.clock.sleep(before * HOUR + 600)
        await self._within_a_minute(lives)
        await self.clock.sleep(without * HOUR)
        lives = [asyncio.create_task(self._gateway(number)) for number in range(self.plan.gateways)]
        await self.clock.sleep(after * HOUR)
        for task in lives:
            task.cancel()
        stop.set()
        await asyncio.gather(*services)
        await asyncio.gather(*lives, return_exceptions=True)

    async def _within_a_minute(self, lives: Sequence[asyncio.Task[None]]) -> None:
        async def lose(life: asyncio.Task[None]) -> None:
            await self.clock.sleep(self.chance.uniform(0, 60))
            life.cancel()
            with suppress(asyncio.CancelledError):
                await life

        await asyncio.gather(*(lose(life) for life in lives))

    def _services(self, stop: asyncio.Event) -> Iterator[Coroutine[Any, Any, None]]:
        path, broker = self.folder / "readings.db", self.broker.settings
        yield run_ingest(
            IngestSettings(flush_s=600.0, report_s=600.0, reload_s=HOUR),
            broker=broker,
            database=self.database,
            store=SqliteStore(path, mode="write"),
            clock=self.clock,
            stop=stop,
        )
        for number, parts in enumerate(self.plan.shares()):
            settings = self.plan.settings.model_copy(update={"instance": f"anomaly-{number + 1}", "parts": parts})
            yield run_anomaly(
                settings,
                broker=broker,
                database=self.database,
                store=SqliteStore(path, mode="read"),
                clock=self.clock,
                stop=stop,
            )

    # --- what came of it -------------------------------------------------------------------------------------------

    def shown(self, kind: str) -> int:
        """How often an alarm of a kind came into somebody's list."""
        return self._count(
            sa.select(sa.func.count())
            .select_from(FindingHistory)
            .join(FindingRecord, FindingRecord.id == FindingHistory.finding_id)
            .where(
                FindingRecord.kind == kind, FindingHistory.to_state == "UNACK", FindingHistory.from_state != "UNACK"
            )
        )

    def count(self, kind: str, **facts: object) -> int:
        """Findings of a kind with these values."""
        table = FindingRecord.__table__
        fits = [table.c[column] == value for column, value in facts.items()]
        return self._count(sa.select(sa.func.count()).select_from(table).where(table.c.kind == kind, *fits))

    def _count(self, statement: sa.Select[Any]) -> int:
        with self.database.read() as connection:
            return int(connection.execute(statement).scalar_one())


def _seen(sent: asyncio.Future[None]) -> None:
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
