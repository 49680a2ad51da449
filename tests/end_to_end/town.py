"""A small town under test: every service a process of its own that can be killed and started again."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ingest.store_sqlite import SqliteStore
from metergate.commands.demo import billed_quantities, read_outbox, read_progress
from metergate.house import GATEWAY, House, Kind, build
from metergate.judge import Verdict, judge
from metering.clock import SystemClock
from metering.reading import Reading
from registry.database import Database
from registry.ledger import Position, load_positions
from registry.models import EventRecord
from simulators.answer_log import Answer, read_answers
from tests.brokers import BrokerProcess, embedded, mosquitto, wait_for_port

CLOCK = SystemClock()

COUNTING = (
    Kind("G-CO", "gas", "fuxin-corrector", "counting", "industrial", "D1"),
    Kind("W-CO", "water", "usw-ultrasonic", "counting", "residential", "D1"),
    Kind("E-CO", "electricity", "abb-b23", "counting", "commercial", "D2"),
)
"""Meters whose index rises at every answer, so that each answer is unmistakable."""

_WRITING = {"x86_64": {"18", "74", "75", "296"}, "aarch64": {"68", "82", "83", "70"}}
"""System calls pwrite64, fsync, fdatasync, pwritev by machine."""


def until(condition: Callable[[], bool], what: str | Callable[[], str], deadline_s: float = 120.0) -> None:
    """Wait for a condition. Raises: AssertionError that says what did not happen."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


@dataclass
class Town:
    """All processes of one house."""

    house: House
    broker: BrokerProcess
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start services by the names of `House.services`."""
        for service in self.house.services():
            if service.name not in names:
                continue
            if service.name == "broker":
                self.broker.start()
                continue
            with (self.house.folder / f"{service.name}.log").open("ab") as log:
                command = [sys.executable, "-m", service.module, *service.args]
                self.processes[service.name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            if service.name == "meters":
                for port in self.house.farm_ports:
                    wait_for_port(port)

    def kill(self, name: str) -> int:
        """kill -9; returns the wall time of it [ms UTC]."""
        if name == "broker":
            self.broker.kill()
        else:
            self.processes[name].send_signal(signal.SIGKILL)
            self.processes[name].wait()
        return CLOCK.now_ms()

    def stop(self, *names: str) -> None:
        """SIGTERM and wait."""
        for name in names:
            if name == "broker":
                self.broker.stop()
            elif (process := self.processes.get(name)) is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def in_a_write(self, name: str, within_s: float) -> bool:
        """Wait until a thread of the process is inside a writing system call; False when none was seen in time."""
        pid, end = self.processes[name].pid, time.monotonic() + within_s
        calls = _WRITING[_machine()]
        while time.monotonic() < end:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if (task / "syscall").read_text().split(" ", 1)[0] in calls:
                        return True
        return False

    def health(self) -> dict[str, Any]:
        """Return what the gateway last wrote of itself; {} before that."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.house.outbox.parent / "health.json").read_text("utf-8"))
            return found
        return {}

    def positions(self) -> list[Position]:
        """Return the delivery ledger of our gateway, all epochs."""
        database = Database(self.house.registry_url)
        try:
            with database.read() as connection:
                return [p for (gateway, _), p in load_positions(connection).items() if gateway == GATEWAY]
        finally:
            database.close()

    def stored(self) -> int:
        """Return how many readings the store has."""
        return read_progress(self.house).stored

    def readings(self) -> list[Reading]:
        """Return everything in the store."""
        store = SqliteStore(self.house.store, mode="read")
        try:
            return list(store.range(None, 0, 2**62))
        finally:
            store.close()

    def outbox_rows(self) -> list[Reading]:
        """Return the readings in the outbox file; only meaningful while the gateway is dead."""
        return read_outbox(self.house.outbox)

    def drain(self, deadline_s: float = 120.0) -> None:
        """Silence the meters and wait until everything that they said has left the outbox.

        The gateway goes on reporting failed reads, so one moment at which nothing waits must do: all that was said
        before is accounted for by then.
        """
        self.stop("meters")
        silent_at = CLOCK.now_ms()

        def settled() -> bool:
            health = self.health()
            return bool(health) and health["at"] > silent_at + 1000 and not health["waiting"] + health["in_memory"]

        until(settled, lambda: f"the outbox empties itself; {self.health()}\n{self.words()}", deadline_s)

    def verdict(self, excuse: Callable[[Answer], bool] = lambda answer: False) -> Verdict:
        """Hold the simulators' log against the store.

        An answer that the gateway itself reports as too late for it is owed as an event, not as a reading. Failures
        for want of a connection excuse nothing: every run ends with them, when the meters are silenced.
        """
        failed = self.failed_reads()

        def excused(answer: Answer) -> bool:
            return excuse(answer) or any(abs(at - answer.at_ms) < 5_000 for at in failed.get(answer.meter, ()))

        answers = list(read_answers(self.house.answers))
        return judge(answers, self.readings(), billed_quantities(self.house), excuse=excused)

    def events(self, kind: str) -> list[str]:
        """Return the texts of all events of a kind that ingest has."""
        database = Database(self.house.registry_url)
        try:
            with database.read() as connection:
                return list(connection.execute(sa.select(EventRecord.text).where(EventRecord.kind == kind)).scalars())
        finally:
            database.close()

    def failed_reads(self) -> dict[str, list[int]]:
        """Return meter -> times [ms UTC] of reads that failed by timeout, as ingest knows them."""
        found: dict[str, list[int]] = {}
        database = Database(self.house.registry_url)
        try:
            with database.read() as connection:
                for meter, at in connection.execute(
                    sa.select(EventRecord.meter, EventRecord.at).where(
                        EventRecord.kind == "read_failed", EventRecord.cause == "timeout"
                    )
                ):
                    found.setdefault(meter, []).append(at)
        finally:
            database.close()
        return found

    def words(self) -> str:
        """Return the ends of all logs, for a failing test."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text('utf-8', 'replace')[-2000:]}"
            for path in sorted(self.house.folder.glob("*.log"))
        )


def _machine() -> str:
    import platform

    return platform.machine()


@contextmanager
def town(
    folder: Path, broker: str, *, meters: int = 24, interval_s: float = 0.25, gateway: str = ""
) -> Iterator[Town]:
    """Build a house with counting meters and end all its processes afterwards.

    broker: mosquitto or embedded. interval_s: quicker than a utility's books allow, hence put into the plan here.
    gateway: more lines for the gateway's settings.
    """
    house = build(folder, meters=meters, interval_s=1, kinds=COUNTING)
    house.plan.write_text(
        house.plan.read_text("utf-8").replace("interval_s = 1\n", f"interval_s = {interval_s}\n"), "utf-8"
    )
    quick = f"health_interval_s = 0.2\nack_timeout_s = 3.0\n{gateway}"
    house.settings.write_text(house.settings.read_text("utf-8").replace("health_interval_s = 1.0\n", quick), "utf-8")
    make = mosquitto if broker == "mosquitto" else embedded
    place = Town(house, make(folder / "broker", port=house.broker_port))
    try:
        yield place
    finally:
        place.stop("gateway", "api", "ingest", "meters", "broker")


def rows_of(path: Path, table: str) -> int:
    """Count the rows of a table in an SQLite file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()
