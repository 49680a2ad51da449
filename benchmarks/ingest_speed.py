"""What one reading costs ingest, from the broker's socket to the acknowledgement.

    python -m benchmarks.ingest_speed [--messages 4000] [--repeat 2]

A real Mosquitto, a producer in a process of its own and the subject in another share this machine. Each message has
100 readings of three quantities; 1,000 meters on 10 gateways. Three subjects take turns in one run:

    ceiling   the MQTT session, msgspec decoding, MQTT acknowledgement, and nothing else
    null      the whole ingest service into a store that forgets; the registry is real SQLite
    sqlite    the whole ingest service into the embedded store

One JSON object per run on stdout: readings/s (which the broker and the producer share) and CPU µs per reading of the
subject's process, all threads (the fairer number). The producer is not waited for: the broker's queue is unlimited.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog
import uvloop

from ingest.service import IngestService
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.messages import Up, decode_up, encode, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.quantities import Quantity
from metering.reading import Reading
from metering.store import Key, ReadingStore
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from tests.brokers import mosquitto, running

ROOT: Final = Path(__file__).parents[1]
READINGS: Final = 100
GATEWAYS: Final = 10
CLOCK: Final = SystemClock()


class NullStore:
    """Says yes and forgets."""

    def write(self, readings: Sequence[Reading]) -> list[str | None]:
        return [None] * len(readings)

    def get(self, keys: Sequence[Key]) -> dict[Key, Reading]:
        return {}

    def range(
        self,
        meters: Sequence[str] | None,
        t0: int,
        t1: int,
        *,
        quantities: Sequence[Quantity] | None = None,
        limit: int | None = None,
        after: Key | None = None,
    ) -> Iterator[Reading]:
        return iter(())

    def at_or_before(self, meters: Sequence[str], t: int, *, quantity: Quantity | None = None) -> dict[str, Reading]:
        return {}

    def counts(self, t0: int, t1: int) -> dict[str, int]:
        return {}

    def close(self) -> None:
        return None


def payloads(messages: int) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload of each message; every key is new and rises, as live readings do."""
    start = CLOCK.now_ms() - messages * 10
    for number in range(messages):
        gateway = number % GATEWAYS
        turn = number // GATEWAYS
        seq = turn * READINGS + 1
        rows = [
            Reading(
                f"M{gateway:02d}-{meter:04d}",
                start + turn * 10,
                {"volume": 123_456_789 + turn, "flow": 250_000 + meter, "battery": 3_600_000},
            )
            for meter in range(READINGS)
        ]
        name = f"gw-{gateway}"
        yield topic(name, "up"), encode(Up(1, name, "00ff00ff", seq, seq, seq + READINGS - 1, start, list(rows)))


async def produce(port: int, messages: int) -> None:
    """Publish everything as fast as the broker takes it."""
    ready = list(payloads(messages))
    session = MqttSession(BrokerSettings(port=port), client_id="producer", clock=CLOCK)
    task = asyncio.create_task(session.run())
    await _until(lambda: session.connected)
    sys.stdin.readline()
    for start in range(0, messages, 100):
        await asyncio.gather(*(session.send(name, payload) for name, payload in ready[start : start + 100]))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def ceiling(port: int, messages: int) -> dict[str, Any]:
    """Receive, decode, acknowledge."""
    session = MqttSession(
        BrokerSettings(port=port), client_id="ceiling", clock=CLOCK, subscriptions=[("mg/v1/+/+/up", 1)]
    )
    task = asyncio.create_task(session.run())
    await _until(lambda: session.connected)
    meter = Meterstick()
    got = 0
    while got < messages:
        for delivery in await session.receive(50):
            meter.begin()
            got += 1
            assert len(decode_up(delivery.payload).rows) == READINGS
            delivery.ack()
    result = meter.end(messages)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return result


async def ingest(port: int, messages: int, folder: Path, store: ReadingStore) -> dict[str, Any]:
    """The whole service, with a real registry."""
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    database.upgrade()
    _fill(database)
    service = IngestService(
        IngestSettings(), broker=BrokerSettings(port=port), database=database, store=store, clock=CLOCK
    )
    task = asyncio.create_task(service.run())
    await _until(lambda: not any(service.problems().values()))
    counters, meter = service.pipeline.counters, Meterstick()
    await _until(lambda: meter.begin() if service._rows.counters["received"] else False)
    wanted = messages * READINGS
    await _until(lambda: counters["readings_total", 'result="stored"'] >= wanted)
    await _until(lambda: sum(p.stored for p in service.pipeline.checker.positions.values()) >= wanted)
    await service.pipeline.flush()  # what is still in memory belongs to the price
    result = meter.end(messages)
    assert counters["readings_total", 'result="stored"'] == wanted
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    database.close()
    return result


class Meterstick:
    """Wall and CPU time of this process from the first message on."""

    def __init__(self) -> None:
        self._wall = 0.0
        self._cpu = 0.0

    def begin(self) -> bool:
        if not self._wall:
            self._wall, self._cpu = time.perf_counter(), time.process_time()
        return True

    def end(self, messages: int) -> dict[str, Any]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        readings = messages * READINGS
        return {
            "readings": readings,
            "readings_per_s": round(readings / wall),
            "cpu_us_per_reading": round(cpu / readings * 1e6, 3),
            "core_busy": round(cpu / wall, 2),
        }


async def _until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 (it looks at counters, which wake nobody)
        await asyncio.sleep(0.002)


def _fill(database: Database) -> None:
    meters = [
        (f"M{gateway:02d}-{meter:04d}", f"gw-{gateway}") for gateway in range(GATEWAYS) for meter in range(READINGS)
    ]
    with database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": f"gw-{gateway}"} for gateway in range(GATEWAYS)])
        connection.execute(
            sa.insert(UsagePoint),
            [{"id": f"U-{meter}", "medium": "water", "tz": "Asia/Shanghai"} for meter, _ in meters],
        )
        connection.execute(
            sa.insert(Meter),
            [{"id": meter, "medium": "water", "quantity": "volume", "gateway_id": gw} for meter, gw in meters],
        )
        connection.execute(
            sa.insert(Installation),
            [{"meter_id": meter, "usage_point_id": f"U-{meter}", "installed_at": 0} for meter, _ in meters],
        )


async def subject(kind: str, port: int, messages: int, folder: Path) -> dict[str, Any]:
    """Run one subject to its end."""
    if kind == "ceiling":
        return await ceiling(port, messages)
    store: ReadingStore = NullStore() if kind == "null" else SqliteStore(folder / "readings.db", mode="write")
    return await ingest(port, messages, folder, store)


def measure(kind: str, messages: int) -> dict[str, Any]:
    """One broker, one subject, one producer."""
    with (
        tempfile.TemporaryDirectory() as name,
        running(mosquitto(Path(name) / "broker", "max_queued_messages 0\nmax_inflight_messages 0")) as broker,
    ):
        options = ["--port", str(broker.port), "--messages", str(messages), "--folder", name]
        command = [sys.executable, "-m", "benchmarks.ingest_speed", *options, "--role"]
        with (
            subprocess.Popen([*command, kind], cwd=ROOT, stdout=subprocess.PIPE, text=True) as consumer,
            subprocess.Popen([*command, "producer"], cwd=ROOT, stdin=subprocess.PIPE, text=True) as producer,
        ):
            time.sleep(3 + messages / 2000)  # the subject subscribes, the producer prepares its messages
            assert producer.stdin is not None
            producer.stdin.write("go\n")
            producer.stdin.flush()
            out, _ = consumer.communicate(timeout=600)
    return {"store": kind, **json.loads(out)}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "producer":
        uvloop.run(produce(options.port, options.messages))
    elif options.role:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
        print(json.dumps(uvloop.run(subject(options.role, options.port, options.messages, options.folder))))
    else:
        for _ in range(options.repeat):
            for kind in ("ceiling", "null", "sqlite"):
                print(json.dumps(measure(kind, options.messages)), flush=True)


if __name__ == "__main__":
    main()
