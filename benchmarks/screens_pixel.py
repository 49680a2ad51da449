"""How long from a reading to the changed number on an open page, at 1,000 readings a second?

    python -m benchmarks.screens_pixel [--seconds 60] [--flush-s 0.5] [--ledger]

Mosquitto, ingest and API as processes of their own, Chromium in front of the page of one meter. A thread plays two
gateways: every quarter of a second a message of 250 readings, and one of the watched meter every two seconds or so.
The delay begins when that message leaves here, before the broker has it, and ends when the browser draws the number.
With --ledger the newest readings are written into the registry instead, as ingest does: what the API and the page
take alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from metering.clock import SystemClock
from metering.messages import Up, encode, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Reading
from registry import ledger
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from tests.brokers import mosquitto, running
from tests.browser.house import browser, house

CLOCK = SystemClock()
CROWD = "gw-crowd"
METERS = [f"B-{number}" for number in range(1000)]
INDEX = 2_000_000_000
Told = dict[int, int]
"""[ms UTC] when the delay begins, by the time of the watched meter's reading."""
WATCH = """
window.drawn = {};
new MutationObserver(() => {
  const seen = document.getElementById("live")?.dataset.seen;
  if (seen && !(seen in window.drawn)) requestAnimationFrame(() => { window.drawn[seen] ??= Date.now(); });
}).observe(document.body, { childList: true, subtree: true });
"""


def turns(seconds: int) -> Iterator[tuple[int, list[str], bool]]:
    """Every quarter of a second: the time [ms UTC], 250 meters, and whether the watched one is due."""
    chance = random.Random(1)
    for turn in range(seconds * 4):
        began = time.monotonic()
        yield CLOCK.now_ms(), METERS[turn % 4 * 250 : turn % 4 * 250 + 250], turn % 8 == 0
        # by lot, so that messages do not always come at the same moment between two flushes of ingest
        time.sleep(max(0.0, 0.25 - (time.monotonic() - began) + chance.uniform(-0.1, 0.1)))


def to_ledger(database: Database, seconds: int, told: Told) -> None:
    """Write what ingest would; the delay begins after the commit."""

    def row(meter: str, at: int) -> ledger.LatestRow:
        return ledger.LatestRow(meter, at, at, None, "valid", "", "poll", 0, {"volume_standard": at * 1000})

    for at, crowd, watched in turns(seconds):
        rows = [row(meter, at) for meter in crowd]
        with database.begin() as connection:
            ledger.save_latest(connection, [*rows, row("G-0001", at)] if watched else rows)
        if watched:
            told[at] = CLOCK.now_ms()


def to_broker(port: int, seconds: int, told: Told) -> None:
    """Publish as two gateways would; the delay begins before the message leaves."""

    async def play() -> None:
        session = MqttSession(BrokerSettings(port=port), client_id="gateways", clock=CLOCK)
        task = asyncio.create_task(session.run())
        while not session.connected:  # noqa: ASYNC110 (once, at the start)
            await asyncio.sleep(0.05)
        seqs = {CROWD: 1, "gw-1": 1}
        paced = turns(seconds)
        while (turn := await asyncio.to_thread(next, paced, None)) is not None:
            at, crowd, watched = turn
            parcels = {CROWD: [Reading(meter, at, {"volume_standard": at * 1000}) for meter in crowd]}
            if watched:
                told[at] = at
                parcels["gw-1"] = [Reading("G-0001", at, {"volume_standard": INDEX + at % 10**9})]
            for gateway, rows in parcels.items():
                seq = seqs[gateway]
                seqs[gateway] = seq + len(rows)
                up = Up(1, gateway, "0badcafe", seq, seq, seqs[gateway] - 1, at, list(rows))
                await session.publish(topic(gateway, "up"), encode(up))
        task.cancel()

    asyncio.run(play())


def enrol(database: Database) -> None:
    """The crowd's meters, which stand behind a gateway of their own."""
    with database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": CROWD}])
        points = [{"id": f"U-{meter}", "medium": "gas", "tz": "Asia/Shanghai"} for meter in METERS]
        connection.execute(sa.insert(UsagePoint), points)
        meters = [{"id": m, "medium": "gas", "quantity": "volume_standard", "gateway_id": CROWD} for m in METERS]
        connection.execute(sa.insert(Meter), meters)
        places = [{"meter_id": m, "usage_point_id": f"U-{m}", "installed_at": 0} for m in METERS]
        connection.execute(sa.insert(Installation), places)


@contextmanager
def ingesting(folder: Path, flush_s: float) -> Iterator[int]:
    """Run a broker and ingest over the house's tables; the broker's port."""
    with ExitStack() as stack:
        port = stack.enter_context(running(mosquitto(folder / "broker"))).port
        settings = folder / "metergate.toml"
        settings.write_text(
            f"[broker]\nport = {port}\n[registry]\nurl = 'sqlite:///{folder / 'registry.db'}'\n"
            f"[store]\npath = '{folder / 'readings.db'}'\n[ingest]\nflush_s = {flush_s}\n"
        )
        command = [sys.executable, "-m", "metergate", "ingest", "--config", str(settings)]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        stack.callback(process.terminate)
        assert process.stdout is not None
        while b"started" not in process.stdout.readline():
            assert process.poll() is None, "ingest ended"
        yield port


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--flush-s", type=float, default=0.5)
    parser.add_argument("--ledger", action="store_true")
    options = parser.parse_args()
    told: Told = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served, database = stack.enter_context(house(folder))
        enrol(database)
        play: Callable[[], None] = partial(to_ledger, database, options.seconds, told)
        if not options.ledger:
            port = stack.enter_context(ingesting(folder, options.flush_s))
            play = partial(to_broker, port, options.seconds, told)
        window = stack.enter_context(browser(served.address))
        window.log_in("operator")
        window.open("/meters/G-0001")
        window.one("#charts[data-drawn=true]")
        window.driver.execute_script(WATCH)
        playing = threading.Thread(target=play)
        playing.start()
        playing.join()
        time.sleep(3)
        drawn = {int(at): when for at, when in window.driver.execute_script("return window.drawn").items()}
    delays = sorted(drawn[at] - when for at, when in told.items() if at in drawn)
    p95 = delays[len(delays) * 95 // 100]
    print(
        f"{len(delays)} of {len(told)} readings drawn; median {delays[len(delays) // 2]} ms, p95 {p95} ms,"
        f" most {delays[-1]} ms; load of the machine {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
