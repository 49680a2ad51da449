"""MQTT -> InfluxDB through the whole ingest service, as a share of what the same InfluxDB takes from one bare poster.

    python -m benchmarks.influx_ingest [--messages 4000] [--repeat 3] [--wire v1] [--url http://…]

One influxd 1.6.7 and one Mosquitto; producer and subject are processes of their own, all on this machine. A round is

    bare      ready-made line protocol (the very lines that ingest writes), 5,000 a post, over one connection
    ingest    100 readings a message: broker -> checked -> InfluxDB -> registry (SQLite) -> acknowledged
    singles   the same with one reading a message (a tenth of the readings)

each into an empty database. One JSON object per subject on stdout, and at the end the share ingest/bare of each round
and CPU µs per reading of the ingest process, all its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from benchmarks import ingest_speed
from benchmarks.ingest_speed import GATEWAYS, READINGS, ROOT
from ingest.line_protocol import Encoder
from ingest.service import IngestService
from ingest.settings import InfluxSettings, IngestSettings
from ingest.store_influx import InfluxStore
from metering.clock import SystemClock
from metering.messages import Up, encode, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Reading
from registry.database import Database
from tests.brokers import mosquitto, running
from tests.databases import influx_command, influxd, serving

CLOCK: Final = SystemClock()
_POST: Final = 5000


def rows(turn: int, gateway: int, start: int, per_message: int) -> list[Reading]:
    """Return what one message carries: every key is new and rises, as live readings do."""
    first = turn * per_message % READINGS
    at = start + turn * per_message // READINGS * 10
    return [
        Reading(
            f"M{gateway:02d}-{meter:04d}",
            at,
            {"volume": 123_456_789 + turn, "flow": 250_000 + meter, "battery": 3_600_000},
        )
        for meter in range(first, first + per_message)
    ]


def payloads(messages: int, per_message: int) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload of each message."""
    start = CLOCK.now_ms() - messages * 10
    for number in range(messages):
        turn, gateway = divmod(number, GATEWAYS)
        name, seq = f"gw-{gateway}", turn * per_message + 1
        last = seq + per_message - 1
        found: list[Any] = list(rows(turn, gateway, start, per_message))
        yield topic(name, "up"), encode(Up(1, name, "00ff00ff", seq, seq, last, start, found))


def bare(port: int, database: str, messages: int) -> dict[str, Any]:
    """Post ready-made lines over one connection, the next when the one before is answered."""
    encoder, start = Encoder(), CLOCK.now_ms() - messages * 10
    lines: list[str] = []
    for number in range(messages):
        turn, gateway = divmod(number, GATEWAYS)
        for row in rows(turn, gateway, start, READINGS):
            row.received_at = start
            lines.append(encoder.line(row))
    posts = ["\n".join(lines[at : at + _POST]).encode() for at in range(0, len(lines), _POST)]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    for post in posts:
        connection.request("POST", f"/write?db={database}&precision=ms", post)
        answer = connection.getresponse()
        assert answer.status == 204, answer.read()
        answer.read()
    wall = time.perf_counter() - began
    connection.close()
    return {"readings": len(lines), "readings_per_s": round(len(lines) / wall)}


async def produce(port: int, messages: int, per_message: int) -> None:
    """Publish everything as fast as the broker takes it."""
    ready = list(payloads(messages, per_message))
    session = MqttSession(BrokerSettings(port=port), client_id="producer", clock=CLOCK)
    task = asyncio.create_task(session.run())
    await ingest_speed._until(lambda: session.connected)
    print("ready", flush=True)
    sys.stdin.readline()
    for start in range(0, messages, 100):
        await asyncio.gather(*(session.send(name, payload) for name, payload in ready[start : start + 100]))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def subject(options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole service until everything is stored and accounted for."""
    database = Database(f"sqlite:///{options.folder / (options.database + '.db')}")
    database.upgrade()
    ingest_speed._fill(database)
    facts = {"url": options.url, "wire": options.wire, "database": options.database, "bucket": options.database}
    store = InfluxStore(InfluxSettings.model_validate({**facts, "token": "x"}), mode="write", clock=CLOCK)
    settings = IngestSettings(batch_messages=options.batch)
    link = BrokerSettings(port=options.port)
    service = IngestService(settings, broker=link, database=database, store=store, clock=CLOCK)
    task = asyncio.create_task(service.run())
    await ingest_speed._until(lambda: not any(service.problems().values()))
    print("ready", flush=True)
    counters, wanted = service.pipeline.counters, options.messages * options.per_message
    await ingest_speed._until(lambda: service._rows.counters["received"])
    wall_before, cpu_before = time.perf_counter(), time.process_time()
    await ingest_speed._until(lambda: sum(p.stored for p in service.pipeline.checker.positions.values()) >= wanted)
    await service.pipeline.flush()
    wall, cpu = time.perf_counter() - wall_before, time.process_time() - cpu_before
    assert counters["readings_total", 'result="stored"'] == wanted
    cycles = counters["cycles_total", ""]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    database.close()
    return {
        "readings": wanted,
        "readings_per_s": round(wanted / wall),
        "cpu_us_per_reading": round(cpu / wanted * 1e6, 2),
        "readings_per_cycle": round(wanted / max(1, cycles)),
    }


def through(options: argparse.Namespace, url: str, name: str, messages: int, per_message: int) -> dict[str, Any]:
    """One broker, one ingest, one producer."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(mosquitto(Path(folder) / "broker", "max_queued_messages 0\nmax_inflight_messages 0")) as broker,
    ):
        shared = ["--port", str(broker.port), "--messages", str(messages), "--per-message", str(per_message)]
        own = ["--folder", folder, "--url", url, "--wire", options.wire, "--database", name]
        own += ["--batch", str(options.batch)]
        command = [sys.executable, "-m", "benchmarks.influx_ingest", *shared, *own, "--role"]
        with (
            subprocess.Popen([*command, "subject"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as consumer,
            subprocess.Popen(
                [*command, "producer"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as producer,
        ):
            assert consumer.stdout is not None
            assert producer.stdout is not None
            assert producer.stdin is not None
            assert consumer.stdout.readline() == producer.stdout.readline() == "ready\n"
            producer.stdin.write("go\n")
            producer.stdin.flush()
            out, _ = consumer.communicate(timeout=900)
    return dict(json.loads(out))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--wire", choices=["v1", "v2"], default="v1", help="v2 needs --url of a server that has it")
    parser.add_argument("--url", default="", help="an InfluxDB of yours; without it influxd 1.6.7 is started")
    parser.add_argument("--batch", type=int, default=IngestSettings().batch_messages, help="ingest.batch_messages")
    parser.add_argument("--per-message", type=int, default=READINGS, help=argparse.SUPPRESS)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--database", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "producer":
        uvloop.run(produce(options.port, options.messages, options.per_message))
    elif options.role:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
        print(json.dumps(uvloop.run(subject(options))))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """All rounds, and the shares at the end."""
    shares, costs = [], []
    with tempfile.TemporaryDirectory() as folder, serving(influxd(Path(folder))) as server:
        url = options.url or server.url
        for turn in range(options.repeat):
            influx_command(server, f'CREATE DATABASE "bare{turn}"')
            poster = bare(server.port, f"bare{turn}", options.messages)
            print(json.dumps({"subject": "bare", **poster}), flush=True)
            found = through(options, url, f"all{turn}", options.messages, READINGS)
            print(json.dumps({"subject": "ingest", **found}), flush=True)
            singles = through(options, url, f"one{turn}", options.messages * 10, 1)
            print(json.dumps({"subject": "singles", **singles}), flush=True)
            shares.append(round(100 * found["readings_per_s"] / poster["readings_per_s"]))
            costs.append(found["cpu_us_per_reading"])
            for name in ("bare", "all", "one"):
                influx_command(server, f'DROP DATABASE "{name}{turn}"')
    print(json.dumps({"share_percent": shares, "median": statistics.median(shares), "cpu_us_per_reading": costs}))


if __name__ == "__main__":
    main()
