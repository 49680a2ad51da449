"""A Mosquitto as a utility would run it: users, access list and TLS, all written by `metergate`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from typer.testing import CliRunner

from metergate import authority
from metergate.__main__ import build
from metering.broker_settings import BrokerSettings
from metering.clock import SystemClock
from metering.errors import BrokerError
from metering.mqtt import MqttSession
from registry.models import Gateway
from tests.brokers import BrokerProcess, mosquitto
from tests.registries import empty_registry

CLOCK = SystemClock()
DEADLINE_S = 90.0


def metergate(*words: str | Path) -> str:
    """Run a command that must succeed, in this process; returns what it wrote on standard output."""
    done = CliRunner().invoke(build([str(words[0])]), [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: str | Path) -> str:
    """Run a command that must fail; returns all that it said."""
    done = CliRunner().invoke(build([str(words[0])]), [str(word) for word in words])
    assert done.exit_code != 0, done.output
    return done.output


class Guarded:
    """A registry with gateways, and a broker that knows whom the registry lets in."""

    def __init__(self, folder: Path, gateways: Sequence[str] = ("gw-1", "gw-2"), *, tls: bool = True) -> None:
        self.folder = folder
        self.config = folder / "metergate.toml"
        self.config.write_text(f'[registry]\nurl = "sqlite:///{folder}/registry.db"\n', "utf-8")
        self.database = empty_registry(folder / "registry.db")
        with self.database.begin() as connection:
            rows = [{"id": name, "name": "", "district": ""} for name in gateways]
            connection.execute(sa.insert(Gateway), rows)
        self.tls = tls
        self.access = folder / "access"
        self.access.mkdir()
        extra = f"allow_anonymous false\npassword_file {self.access}/users\nacl_file {self.access}/acl\n"
        if tls:
            authority.create(folder / "ca", "Test", CLOCK.now_ms())
            authority.issue(folder / "ca", ["127.0.0.1", "localhost"], CLOCK.now_ms(), file="broker")
            extra += f"certfile {folder}/ca/broker.pem\nkeyfile {folder}/ca/broker.key\ntls_version tlsv1.2\n"
        self.broker: BrokerProcess = mosquitto(folder / "broker", extra + "log_type all\n")

    def credential(self, name: str, *words: str) -> Path:
        """`broker add` or, with "rotate" in words, `broker rotate`; returns the credential file."""
        verb = "rotate" if "rotate" in words else "add"
        number = len(list(self.folder.glob(f"{name}*.credential")))
        path = self.folder / f"{name}-{number}.credential"
        options = [word for word in words if word != "rotate"]
        metergate("broker", verb, name, "--config", self.config, "--out", path, *options)
        return path

    def write(self, *words: str | Path) -> None:
        """`broker write`, and SIGHUP when the broker runs."""
        metergate("broker", "write", "--folder", self.access, "--config", self.config, *words)
        if self.broker.process is not None:
            self.broker.process.send_signal(signal.SIGHUP)

    def settings(self, credential: Path | None, **options: Any) -> BrokerSettings:
        ca = {"tls_ca": self.folder / "ca" / "ca.pem"} if self.tls else {}
        return BrokerSettings(port=self.broker.port, credential_file=credential, **{**ca, **options})

    @contextmanager
    def running(self) -> Iterator[Guarded]:
        self.write()
        self.broker.start()
        try:
            yield self
        finally:
            self.broker.stop()
            self.database.close()


class Client:
    """One user's session, and what it heard."""

    def __init__(self, settings: BrokerSettings, name: str, *filters: str) -> None:
        self.session = MqttSession(settings, client_id=name, clock=CLOCK, subscriptions=[(f, 1) for f in filters])
        self.heard: list[str] = []

    async def listen(self) -> None:
        while True:
            for delivery in await self.session.receive(100):
                self.heard.append(delivery.topic)
                delivery.ack()

    async def may(self, topic: str) -> bool:
        """True when the broker says that it took a publication (3.1.1 says so always)."""
        try:
            await CLOCK.timeout(self.session.publish(topic, b"{}"), DEADLINE_S)
        except BrokerError:
            return False
        return True


@asynccontextmanager
async def connected(settings: BrokerSettings, name: str, *filters: str) -> AsyncIterator[Client]:
    """A client that is let in."""
    made = Client(settings, name, *filters)
    async with running(made):
        await until(lambda: made.session.connected, lambda: made.session.last_problem)
        yield made


@asynccontextmanager
async def running(made: Client) -> AsyncIterator[Client]:
    """A client that tries."""
    tasks = [asyncio.create_task(made.session.run()), asyncio.create_task(made.listen())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], object], words: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition. Raises: AssertionError."""
    end = CLOCK.monotonic() + DEADLINE_S
    while not condition():
        assert CLOCK.monotonic() < end, f"it never happened: {words()}"
        await CLOCK.sleep(0.02)


async def problem(settings: BrokerSettings) -> str:
    """Return why the broker lets nobody in."""
    made = Client(settings, "stranger")
    async with running(made):
        await until(lambda: made.session.last_problem != "not connected yet")
        assert not made.session.connected
        return made.session.last_problem
