"""What a clerk posted reaches the store once: real broker, real ingest, and kill -9 at every step of the office."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from registry import ledger, office, quarantine
from registry.database import Database
from registry.models import Closing, Latest, Quarantine
from registry.models_books import OfficeRow
from registry.roles import console
from tests.brokers import BrokerProcess, mosquitto
from tests.ingest.house import House

LI = console("li")
DEADLINE_S = 90.0
HOUR = 3_600_000


class Site:
    """Registry with M1 … M3 (M3 of no gateway), broker, ingest as a process, the office as a process that may die."""

    def __init__(self, folder: Path, broker: BrokerProcess) -> None:
        house = House(folder)
        with house.database.begin() as connection:
            connection.exec_driver_sql("UPDATE meter SET gateway_id = NULL WHERE id = 'M3'")
        house.close()
        self.folder = folder
        self.config = folder / "metergate.toml"
        self.config.write_text(
            f"""[broker]
port = {broker.port}
[registry]
url = "sqlite:///{folder / "registry.db"}"
[store]
path = "{folder / "readings.db"}"
[ingest]
flush_s = 0.2
[office]
outbox = "{folder / "office.db"}"
poll_s = 0.1
""",
            "utf-8",
        )
        self.database = Database(f"sqlite:///{folder / 'registry.db'}")
        self.store = SqliteStore(folder / "readings.db", mode="read")
        self.now = time.time_ns() // 1_000_000
        self.expected: dict[tuple[str, int], int] = {}

    def ingest(self) -> subprocess.Popen[bytes]:
        return self._start("metergate", "ingest", "--config", str(self.config))

    def office(self, step: str = "") -> subprocess.Popen[bytes]:
        return self._start("tests.metergate.office_process", str(self.config), step)

    def _start(self, module: str, *args: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{module}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", module, *args], stdout=log, stderr=log)

    def post(self, rows: int) -> None:
        for _ in range(rows):
            number = len(self.expected) + 1
            meter, read_at = f"M{number % 3 + 1}", self.now - 900 * 24 * HOUR + number * HOUR
            with self.database.begin() as connection:
                office.post_manual(
                    connection, LI, meter, read_at=read_at, values={"volume": number}, person="wang", now=self.now
                )
            self.expected[meter, read_at] = number

    def count(self, state: int) -> int:
        with self.database.read() as connection:
            query = sa.select(sa.func.count()).select_from(OfficeRow).where(OfficeRow.state == state)
            return int(connection.execute(query).scalar_one())

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            logs = "".join(path.read_text("utf-8", "replace")[-1500:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}\n{logs}"
            time.sleep(0.05)

    def settled(self) -> bool:
        return self.count(office.WAITS) == self.count(office.TAKEN) == 0

    def stored(self) -> dict[tuple[str, int], Reading]:
        return {(reading.meter, reading.read_at): reading for reading in self.store.range(None, 0, 2**60)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    broker = mosquitto(tmp_path / "broker")
    broker.start()
    site = Site(tmp_path, broker)
    yield site
    site.store.close()
    site.database.close()
    broker.stop()


@contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_posted_readings_survive_kill_9_at_every_step_and_arrive_once(site: Site) -> None:
    ingest = site.ingest()
    for step in ("looked", "kept", "noted", "settled"):
        site.post(20)
        with running(site.office(step)) as dying:
            site.until(lambda dying=dying: dying.poll() is not None, f"death at {step}")  # type: ignore[misc]  # bound now
            assert dying.returncode == -signal.SIGKILL
        if step == "kept":
            with running(ingest):
                pass  # kill -9, too
            ingest = site.ingest()
    site.post(20)
    with running(ingest), running(site.office()):
        site.until(site.settled, "every row acknowledged")
        stored = site.stored()
        assert {key: reading.values["volume"] for key, reading in stored.items()} == site.expected
        assert {(r.quality, r.source, r.reason) for r in stored.values()} == {("manual", "manual", "manual")}
        with site.database.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(Quarantine)).scalar_one() == 0
            people = connection.execute(sa.select(OfficeRow.person).distinct()).scalars().all()
            assert people == ["wang"]
        site.until(lambda: len(closings(site)) > 0, "a meter without a gateway has closings, too")


def closings(site: Site) -> list[str]:
    with site.database.read() as connection:
        assert connection.execute(sa.select(Latest.meter)).scalars() is not None
        return list(connection.execute(sa.select(Closing.day).where(Closing.meter == "M3")).scalars())


def test_rows_of_a_lost_outbox_are_sent_again_from_the_table(site: Site) -> None:
    site.post(5)
    with running(site.office()):  # nobody acknowledges
        site.until(lambda: site.count(office.TAKEN) == 5, "rows in the outbox")
    for file in site.folder.glob("office.db*"):
        file.unlink()
    with running(site.ingest()), running(site.office()):
        site.until(site.settled, "every row acknowledged")
        site.until(lambda: len(site.stored()) == 5, "every row stored")


def test_a_conflict_is_quarantined_and_the_clerk_can_see_it_and_an_old_row_can_be_adopted(site: Site) -> None:
    read_at = site.now - 500 * 24 * HOUR
    old = Reading("M1", read_at, {"volume": 7_000_000})
    row = ledger.QuarantineRow(
        "gw-1", "d1", site.now, "time_past", "too old", b'{"type":"reading","meter":"M1","read_at":%d,"values":'
        b'{"volume":7000000}}' % read_at, meter="M1", read_at=read_at,
    )  # fmt: skip
    with site.database.begin() as connection:
        ledger.add_quarantine(connection, [row])
    with site.database.begin() as connection:
        number = connection.execute(sa.select(Quarantine.id)).scalar_one()
        adopted = quarantine.adopt(connection, LI, number, reason="modem was in a drawer", now=site.now)
    with running(site.ingest()), running(site.office()):
        site.until(site.settled, "the adopted row acknowledged")
        found = site.stored()[old.meter, read_at]
        assert (found.values, found.quality, found.reason) == (old.values, "suspect", "adopted_time_past")
        with site.database.begin() as connection:
            connection.execute(sa.delete(OfficeRow))  # as if another office had posted the first one
            wrong = office.post_manual(
                connection, LI, "M1", read_at=read_at, values={"volume": 8_000_000}, person="wang", now=site.now
            )
        site.until(site.settled, "the conflict acknowledged")
        with site.database.read() as connection:
            fate = office.fates(connection, [wrong])[wrong]
            assert (fate.state, fate.reason) == ("quarantined", "conflict")
            assert quarantine.decisions(connection, [number])[number]["office_row_id"] == adopted
            raw = connection.execute(sa.select(Quarantine.raw).where(Quarantine.id == number)).scalar_one()
        assert raw == row.raw
        assert site.stored()["M1", read_at].values == old.values
