"""Two ingest workers share a city on PostgreSQL and InfluxDB; one is killed, one is frozen: nothing lost or stuck.

Real: Mosquitto, influxd, PostgreSQL, the ingest processes, the gateways' outboxes and uplinks. Made: the meters.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from metering.messages import PARTS, part_of
from metering.mqtt import BrokerSettings
from registry import ledger as books
from registry.database import Database
from registry.models import PartLease, Quarantine
from tests.brokers import mosquitto, running
from tests.databases import PostgresProcess, influxd, serving
from tests.end_to_end.fleet import CLOCK, Fleet, IngestProcess, at_rest, enrol, until

LEASE_S = 2.0


class City:
    """Everything of one run; the test kills what it likes."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        self.broker = stack.enter_context(running(mosquitto(folder / "broker")))
        self.influx = stack.enter_context(serving(influxd(folder / "influxd")))
        self.database = Database(url)
        stack.callback(self.database.close)
        self.names = enrol(self.database, gateways=10, meters=4)
        self.fleet = Fleet(folder, BrokerSettings(port=self.broker.port), self.names, meters=4)
        self.workers = {name: IngestProcess(self._config(folder, url, name)) for name in ("a", "b")}
        for worker in self.workers.values():
            stack.callback(worker.kill)

    def _config(self, folder: Path, url: str, name: str) -> Path:
        path = folder / f"ingest-{name}.toml"
        path.write_text(
            f"""[broker]
port = {self.broker.port}
[registry]
url = "{url}"
[store]
kind = "influxdb"
[store.influxdb]
url = "{self.influx.url}"
[ingest]
instance = "{name}"
sharing = "lease"
lease_s = {LEASE_S}
flush_s = 0.2
"""
        )
        return path

    def holders(self) -> Counter[str]:
        """How many parts each worker holds."""
        with self.database.read() as connection:
            return Counter(connection.execute(sa.select(PartLease.holder)).scalars())

    def holder_of(self, gateway: str) -> str:
        with self.database.read() as connection:
            statement = sa.select(PartLease.holder).where(PartLease.part == part_of(gateway))
            return str(connection.execute(statement).scalar_one())

    def words(self) -> str:
        return "\n".join(worker.words() for worker in self.workers.values())

    async def shared(self) -> None:
        """Wait until both work on half a city."""
        await until(
            lambda: self.holders() == {"a": 32, "b": 32}, f"the city is shared\n{self.holders()}{self.words()}"
        )

    async def flowing(self, seconds: float = 1.0) -> None:
        """Wait until every gateway has got an acknowledgement of rows younger than now."""
        marks = {name: outbox.produced for name, outbox in self.fleet.outboxes.items()}
        await until(
            lambda: all(outbox.oldest > marks[name] for name, outbox in self.fleet.outboxes.items()),
            f"rows of every gateway are acknowledged\n{self.words()}",
        )
        await asyncio.sleep(seconds)

    def acknowledged(self) -> int:
        return sum(outbox.oldest for outbox in self.fleet.outboxes.values())

    def newest(self) -> dict[str, int]:
        """When each meter was read last, as the outboxes know it."""
        found: dict[str, int] = {}
        for meter, read_at in self.fleet.produced:
            found[meter] = max(read_at, found.get(meter, 0))
        return found

    def latest(self) -> dict[str, int]:
        """The same, as the registry knows it."""
        with self.database.read() as connection:
            return {meter: row.read_at for meter, row in books.load_latest(connection).items()}

    async def end(self) -> None:
        """Let all be acknowledged, and be written what ingest writes a moment later; then end it, and judge."""
        await self.fleet.drain()
        await until(lambda: self.latest() == self.newest(), f"the latest readings are known\n{self.words()}")
        for worker in self.workers.values():
            worker.stop()
        self.judge()

    def judge(self) -> None:
        """Hold what the outboxes committed against store, ledger and latest table."""
        store = InfluxStore(InfluxSettings(url=self.influx.url), mode="read", clock=CLOCK)
        stored = {(r.meter, r.read_at): r.values["volume"] for r in store.range(None, 0, 2**62)}
        store.close()
        produced = self.fleet.produced
        lost = produced.keys() - stored.keys()
        assert not lost, f"{len(lost)} of {len(produced)} rows lost: {sorted(lost)[:5]}\n{self.words()}"
        assert stored == produced
        with self.database.read() as connection:
            positions = books.load_positions(connection).values()
            refused = connection.execute(sa.select(sa.func.count()).select_from(Quarantine)).scalar_one()
        assert sum(position.stored for position in positions) == len(produced)
        assert {position.gateway: position.spans for position in positions} == {
            name: [(1, outbox.produced)] for name, outbox in self.fleet.outboxes.items()
        }
        assert self.latest() == self.newest()
        assert refused == 0


@pytest.fixture
def city(tmp_path: Path, postgres_url: str) -> Iterator[City]:
    with ExitStack() as stack:
        yield City(tmp_path, postgres_url, stack)


async def _play(city: City, rounds: int) -> None:
    for worker in city.workers.values():
        worker.start()
    await city.fleet.start()
    try:
        await city.shared()
        assert set(map(city.holder_of, city.names)) == {"a", "b"}, "choose gateways of both halves"
        await city.flowing()
        for turn in range(rounds):
            dead, other = ("a", "b") if turn % 2 == 0 else ("b", "a")
            city.workers[dead].kill()
            await until(lambda other=other: city.holders() == {other: PARTS}, "the dead one's parts move on")  # type: ignore[misc]
            await city.flowing()
            city.workers[dead].start()
            await city.shared()
            await city.flowing()
            # frozen for longer than its lease, in the middle of whatever it was doing: it wakes up as a ghost
            city.workers[other].signal(signal.SIGSTOP)
            await until(lambda dead=dead: city.holders() == {dead: PARTS}, "the frozen one's parts move on")  # type: ignore[misc]
            await city.flowing()
            city.workers[other].signal(signal.SIGCONT)
            await city.shared()
            await city.flowing()
        await city.end()
    finally:
        await city.fleet.stop()


@pytest.mark.timeout(900)
def test_one_of_two_workers_is_killed_and_one_is_frozen_and_nothing_is_lost_or_stuck(city: City) -> None:
    asyncio.run(_play(city, 1))


@pytest.mark.timeout(900)
def test_a_registry_that_dies_under_both_workers_costs_nothing(city: City, postgres_server: PostgresProcess) -> None:
    """PostgreSQL is away for longer than the leases: nobody acknowledges, and both go on where they were."""

    async def play() -> None:
        for worker in city.workers.values():
            worker.start()
        await city.fleet.start()
        try:
            await city.shared()
            await city.flowing()
            await asyncio.to_thread(postgres_server.stop)
            try:
                before = await at_rest(city.acknowledged)
                await asyncio.sleep(1.5 * LEASE_S)
                assert city.acknowledged() == before
            finally:
                await asyncio.to_thread(postgres_server.start)
            city.database.engine.dispose()
            await city.shared()
            await city.flowing()
            await city.end()
        finally:
            await city.fleet.stop()

    asyncio.run(play())


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_forty_deaths_and_freezes_lose_nothing(city: City) -> None:
    asyncio.run(_play(city, 20))
