"""After an outage: how fast a backlog drains into InfluxDB against the live rate, and what live latency does.

    python -m benchmarks.backlog_drain [--backlog 1000000] [--live 1000] [--pace 20000]

Ten gateways (real outboxes and uplinks, one process) of 100 meters each hold `backlog` readings of the last hours and
go on reading `live` readings a second; one ingest process, one Mosquitto, one influxd 1.6.7, all on this machine.
Live rows come first, so that every backlog row is older than its meter's newest and is looked up before writing.
pace: readings a second of backlog that all gateways together may send (gateway.backlog_rows_s is a tenth of it).

One JSON object: drain rate, and the delay from reading to ingest (received_at - read_at) of live rows before, during
and after the drain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from gateway.outbox import Outbox
from gateway.send_ledger import SendLedger
from gateway.uplink import Uplink
from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from metering.mqtt import BrokerSettings
from metering.reading import Reading, Row
from registry.database import Database
from tests.brokers import mosquitto, running
from tests.databases import influxd, serving
from tests.end_to_end.fleet import CLOCK, IngestProcess, _health, enrol

GATEWAYS: Final = 10
METERS: Final = 100
_SETTLE_S: Final = 10.0


class Gateways:
    """All gateways in this loop."""

    def __init__(self, folder: Path, broker: BrokerSettings, pace: float) -> None:
        self.outboxes: list[Outbox] = []
        self.broker = broker
        self.folder = folder
        self.pace = pace / GATEWAYS
        self.tasks: list[asyncio.Task[None]] = []
        self.live_sent = 0

    async def open(self, names: list[str], backlog: int) -> None:
        """Open the outboxes and fill them with readings of the past."""
        now = CLOCK.now_ms()
        for name in names:
            outbox = Outbox(self.folder / f"{name}.db", gateway=name, clock=CLOCK, rng=random.Random(name))
            await outbox.open()
            turns = backlog // GATEWAYS // METERS
            for turn in range(turns):
                await outbox.append(rows(name, now - (turns - turn) * 10_000, turn))
            self.outboxes.append(outbox)

    def connect(self) -> None:
        """Start the uplinks."""
        for outbox in self.outboxes:
            uplink = Uplink(
                outbox,
                SendLedger(random.Random(outbox.gateway), backlog_rows_s=self.pace),
                self.broker,
                clock=CLOCK,
                version="benchmark",
                health=lambda outbox=outbox: _health(outbox),  # type: ignore[misc]  # the default binds this one
                health_interval_s=5.0,
                on_event=outbox.put,
            )
            self.tasks.append(asyncio.create_task(uplink.run()))

    async def live(self, rate: int) -> None:
        """Read `rate` meters a second, spread over the second."""
        turn, per_turn = 0, max(1, rate // 10 // GATEWAYS)
        while True:
            turn += 1
            at = CLOCK.now_ms()
            for outbox in self.outboxes:
                for row in rows(outbox.gateway, at, turn)[:per_turn]:
                    outbox.put(row)
                    self.live_sent += 1
            await asyncio.sleep(0.1)

    @property
    def waiting(self) -> int:
        return sum(outbox.held.count for outbox in self.outboxes)


def rows(gateway: str, at: int, turn: int) -> list[Row]:
    """One reading of each meter of a gateway."""
    volume = at // 1000 * 1000 + turn
    return [
        Reading(f"{gateway}.M{number}", at, {"volume": volume, "flow": 250_000, "battery": 3_600_000})
        for number in range(METERS)
    ]


async def drain(options: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Play it and return the figures."""
    broker = stack.enter_context(running(mosquitto(folder / "broker", "max_queued_messages 0")))
    influx = stack.enter_context(serving(influxd(folder / "influxd")))
    url = f"sqlite:///{folder / 'registry.db'}"
    database = Database(url)
    database.upgrade()
    names = enrol(database, GATEWAYS, METERS)
    database.close()
    config = folder / "ingest.toml"
    config.write_text(
        f'[broker]\nport = {broker.port}\n[registry]\nurl = "{url}"\n[store]\nkind = "influxdb"\n'
        f'[store.influxdb]\nurl = "{influx.url}"\n'
    )
    gateways = Gateways(folder, BrokerSettings(port=broker.port), options.pace)
    await gateways.open(names, options.backlog)
    ingest = IngestProcess(config)
    ingest.start()
    stack.callback(ingest.stop)
    first_live = CLOCK.now_ms()
    feeding = asyncio.create_task(gateways.live(options.live))
    await asyncio.sleep(3)
    gateways.connect()
    began, began_ms = time.monotonic(), CLOCK.now_ms()
    while gateways.waiting > options.live:  # noqa: ASYNC110 (a figure that wakes nobody)
        await asyncio.sleep(0.1)
    took, done_ms = time.monotonic() - began, CLOCK.now_ms()
    await asyncio.sleep(_SETTLE_S)
    feeding.cancel()
    while gateways.waiting:  # noqa: ASYNC110 (as above)
        await asyncio.sleep(0.1)
    for task in (feeding, *gateways.tasks):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    for outbox in gateways.outboxes:
        await outbox.close()
    delays = await asyncio.to_thread(measured, influx.url, first_live)
    return {
        "backlog": options.backlog,
        "live_per_s": options.live,
        "pace_per_s": options.pace,
        "drained_in_s": round(took, 1),
        "drained_per_s": round(options.backlog / took),
        "live_delay_ms_during": quantiles([d for at, d in delays if began_ms + 2000 <= at < done_ms]),
        "live_delay_ms_after": quantiles([d for at, d in delays if at >= done_ms + 1000]),
    }


def measured(url: str, since: int) -> list[tuple[int, int]]:
    """Return (read_at, delay [ms]) of every live reading in the store."""
    store = InfluxStore(InfluxSettings(url=url), mode="read", clock=CLOCK)
    found = [(r.read_at, (r.received_at or 0) - r.read_at) for r in store.range(None, since, 2**62)]
    store.close()
    return found


def quantiles(delays: list[int]) -> dict[str, int]:
    """Return median, 99th of 100 and largest."""
    ordered = sorted(delays) or [0]
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100], "max": ordered[-1]}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--pace", type=float, default=20_000)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(json.dumps(uvloop.run(drain(options, Path(folder), stack))))


if __name__ == "__main__":
    main()
