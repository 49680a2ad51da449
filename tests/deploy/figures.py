"""The real page of figures: a real broker, ingest, rules, gateway and registry in which everything happened once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from anomaly.service import run_anomaly
from anomaly.settings import AnomalySettings
from api.metrics import ApiMetrics
from api.queries.reported import samples
from gateway.plan import load_plan
from gateway.profiles import load_profiles
from gateway.service import Gateway
from gateway.settings import GatewaySettings
from ingest.service import run_ingest
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.errors import StoreError
from metering.messages import encode, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Reading
from registry.database import Database
from registry.models import Counter, GatewayStatus
from tests.brokers import BrokerProcess, mosquitto, running
from tests.deploy.tools import DEPLOY
from tests.ingest.house import House, up

CLOCK = SystemClock()
DEADLINE_S = 60.0


class Limping(SqliteStore):
    """A store whose first write fails, as one that is just starting does."""

    failed = False

    def write(self, readings: Sequence[Reading]) -> list[str | None]:
        if not self.failed:
            self.failed = True
            raise StoreError("still starting")
        return super().write(readings)


def page(folder: Path) -> str:
    """Return the text of /metrics."""
    House(folder).close()  # the registry: gw-1 with M1 and M2, gw-2 with M3
    with running(mosquitto(folder / "broker")) as broker:
        asyncio.run(_live(folder, broker))
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    metrics = ApiMetrics()
    metrics.answered("/readyz", 200, 0.01)
    metrics.refuse("foreign-host")
    with database.read() as connection:
        text = metrics.page(lambda: list(samples(connection, now_ms=CLOCK.now_ms(), stale_s=60)))
    database.close()
    return text.decode()


async def _live(folder: Path, broker: BrokerProcess) -> None:
    """Let ingest run until everything that is sent to it is reported in the registry."""
    link, stop = BrokerSettings(port=broker.port), asyncio.Event()
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    session = MqttSession(link, client_id="gateways", clock=CLOCK, subscriptions=[("mg/v1/+/+/ack", 1)])
    tasks = [
        asyncio.create_task(session.run()),
        asyncio.create_task(
            run_ingest(
                IngestSettings(flush_s=0.1, report_s=0.5),
                broker=link,
                database=database,
                store=Limping(folder / "readings.db", mode="write"),
                clock=CLOCK,
                stop=stop,
            )
        ),
        asyncio.create_task(
            run_anomaly(
                AnomalySettings(report_s=0.5),
                broker=link,
                database=database,
                store=SqliteStore(folder / "readings.db", mode="read"),
                clock=CLOCK,
                stop=stop,
            )
        ),
    ]
    await _until(lambda: session.connected)
    wanted = {"metergate_ingest_" + name for name in ("readings_total", "quarantined_total", "security_total")}
    wanted |= {"metergate_ingest_retries_total", "metergate_ingest_acknowledgements_total"}
    wanted |= {"metergate_anomaly_last_evaluation_timestamp_seconds"}
    await _send_everything(
        session,
        folder,
        lambda: (
            wanted <= set(_ask(database, sa.select(Counter.name)))
            and "gw-1" in _ask(database, sa.select(GatewayStatus.gateway))
        ),
    )
    stop.set()
    await asyncio.gather(*tasks[1:])
    tasks[0].cancel()
    with suppress(asyncio.CancelledError):
        await tasks[0]
    database.close()


async def _send_everything(session: MqttSession, folder: Path, reported: Callable[[], bool]) -> None:
    """Until it is reported: ingest may not have subscribed yet; repeats are harmless."""
    rows = [Reading("M1", CLOCK.now_ms(), {"volume": 5}), Reading("M2", 1000, {"volume": 5})]  # the second is of 1970
    health = encode(await _gateway_health(folder))

    async def tell() -> None:
        good = up(1, rows)
        await session.publish(good.topic, good.payload)
        await session.publish(topic("gw-2", "up"), good.payload)  # gw-1's message on gw-2's topic
        await session.publish(topic("gw-1", "up"), b"{{{{")
        await session.publish(topic("gw-1", "health"), health, qos=0)

    end = CLOCK.monotonic() + DEADLINE_S
    while not reported():
        assert CLOCK.monotonic() < end, "it never happened"
        await tell()
        await CLOCK.sleep(0.5)


async def _gateway_health(folder: Path) -> Any:
    """What a real gateway of the example plan says of itself."""
    gateway = Gateway(
        GatewaySettings(outbox=folder / "gateway" / "outbox.db"),
        load_plan(DEPLOY / "compose" / "plan.toml", load_profiles()),
        broker=BrokerSettings(port=1),
        clock=CLOCK,
        rng=random.Random(1),
    )
    work = asyncio.create_task(gateway.run())
    await _until(lambda: gateway.uplink is not None)
    health = gateway.health()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    return health


def _ask(database: Database, statement: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(statement).scalars())


async def _until(condition: Callable[[], bool]) -> None:
    end = CLOCK.monotonic() + DEADLINE_S
    while not condition():
        assert CLOCK.monotonic() < end, "it never happened"
        await CLOCK.sleep(0.05)
