"""An InfluxDB that dies in the middle of writing, refuses our token, is overloaded, or says yes and drops.

Real: Mosquitto, influxd, the ingest process, the gateways' outboxes and uplinks. A front before influxd misbehaves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest.service import READY_KEY
from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from metering.mqtt import BrokerSettings
from registry import ledger as books
from registry.database import Database
from tests.brokers import mosquitto, running
from tests.databases import influxd, serving
from tests.end_to_end.fleet import CLOCK, Fleet, IngestProcess, at_rest, enrol, until
from tests.ingest.influx_front import Front

TOKEN = "right"


class Site:
    """One ingest process, its InfluxDB behind a front, and a few gateways."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        broker = stack.enter_context(running(mosquitto(folder / "broker")))
        self.influx = stack.enter_context(serving(influxd(folder / "influxd")))
        self.front = Front(self.influx.port, TOKEN)
        stack.callback(self.front.close)
        url = f"sqlite:///{folder / 'registry.db'}"
        self.database = Database(url)
        stack.callback(self.database.close)
        self.database.upgrade()
        self.fleet = Fleet(folder, BrokerSettings(port=broker.port), enrol(self.database, 4, 5), meters=5)
        config = folder / "ingest.toml"
        config.write_text(
            f"""[broker]
port = {broker.port}
[registry]
url = "{url}"
[store]
kind = "influxdb"
[store.influxdb]
url = "{self.front.url}"
wire = "v2"
bucket = "metergate"
org = "org"
token = "{TOKEN}"
read_back_s = 0
[ingest]
report_s = 0.5
"""
        )
        self.ingest = IngestProcess(config)
        stack.callback(self.ingest.kill)

    def problem(self) -> str:
        """What ingest says of its store."""
        with self.database.read() as connection:
            said = books.get_state(connection, READY_KEY + "ingest-1")
        return str(json.loads(said)["problems"]["store"]) if said else "nothing said"

    def acknowledged(self) -> int:
        return sum(outbox.oldest for outbox in self.fleet.outboxes.values())

    def judge(self) -> None:
        store = InfluxStore(InfluxSettings(url=self.influx.url), mode="read", clock=CLOCK)
        stored = {(r.meter, r.read_at): r.values["volume"] for r in store.range(None, 0, 2**62)}
        store.close()
        assert stored == self.fleet.produced, self.ingest.words()
        with self.database.read() as connection:
            positions = books.load_positions(connection).values()
        assert sum(position.stored for position in positions) == len(stored)
        assert sum(position.quarantined for position in positions) == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


Outage = Callable[[Site, float], Awaitable[None]]


async def _quiet_while(site: Site, seconds: float, word: str) -> None:
    """During an outage: ingest says why, meters go on, and nothing is acknowledged."""
    await until(
        lambda: word in site.problem(), f"ingest says {word!r}, not {site.problem()!r}\n{site.ingest.words()}"
    )
    before, produced = await at_rest(site.acknowledged), len(site.fleet.produced)
    await asyncio.sleep(seconds)
    assert site.acknowledged() == before, "rows were acknowledged while nothing could be stored"
    assert len(site.fleet.produced) > produced


async def dies(site: Site, seconds: float) -> None:
    site.influx.kill()
    await _quiet_while(site, seconds, "503")  # the front finds nobody behind it
    await asyncio.to_thread(site.influx.start)


async def wrong_token(site: Site, seconds: float) -> None:
    site.front.token = "changed by the administrator"
    await _quiet_while(site, seconds, "401")
    site.front.token = TOKEN


async def overloaded(site: Site, seconds: float) -> None:
    site.front.mode = 503
    await _quiet_while(site, seconds, "503")
    site.front.mode = "pass"


async def drops(site: Site, seconds: float) -> None:
    site.front.mode = "drop"
    await _quiet_while(site, seconds, "said yes")
    site.front.mode = "pass"


OUTAGES: dict[str, Outage] = {
    "influxd is killed": dies,
    "the token is wrong": wrong_token,
    "it says 503": overloaded,
    "it says 204 and drops": drops,
}


async def _play(site: Site, seconds: float) -> None:
    site.ingest.start()
    await site.fleet.start()
    try:
        for outage in OUTAGES.values():
            mark = site.acknowledged()
            await until(lambda mark=mark: site.acknowledged() > mark + 50, f"rows flow\n{site.ingest.words()}")  # type: ignore[misc]
            await outage(site, seconds)
        await site.fleet.drain()
        await until(lambda: site.problem() == "", "ingest is well again")
        site.ingest.stop()
        site.judge()
    finally:
        await site.fleet.stop()


@pytest.mark.timeout(900)
def test_a_store_that_dies_refuses_or_drops_costs_nothing(site: Site) -> None:
    asyncio.run(_play(site, 2.0))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_minute_of_each_costs_nothing(site: Site) -> None:
    asyncio.run(_play(site, 60.0))


@pytest.mark.timeout(900)
def test_influxd_killed_again_and_again_in_the_middle_of_writing_loses_nothing(site: Site) -> None:
    async def play() -> None:
        site.fleet.every_s = 0.01
        site.ingest.start()
        await site.fleet.start()
        try:
            for _ in range(4):
                mark = site.acknowledged()
                await until(lambda mark=mark: site.acknowledged() > mark + 200, f"rows flow\n{site.ingest.words()}")  # type: ignore[misc]
                writes = len(site.front.requests)
                await until(lambda writes=writes: len(site.front.requests) > writes, "a request is on its way")  # type: ignore[misc]
                site.influx.kill()
                await asyncio.to_thread(site.influx.start)
            await site.fleet.drain()
            site.ingest.stop()
            site.judge()
        finally:
            await site.fleet.stop()

    asyncio.run(play())
