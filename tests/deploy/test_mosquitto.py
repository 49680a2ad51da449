"""The broker's files and passwords, as docker-compose mounts them, on a real Mosquitto: who may say and hear what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from metering.clock import SystemClock
from metering.errors import BrokerError
from metering.messages import topic
from metering.mqtt import BrokerSettings, MqttSession
from tests.brokers import BrokerProcess, free_port
from tests.deploy.tools import DEPLOY, compose, make_secrets, program, run

CLOCK = SystemClock()
DEADLINE_S = 90.0


class Broker:
    """The broker of docker-compose.yml with its paths moved into a folder."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secrets"
        make_secrets(self.secrets, "gw-1", "gw-2")
        (folder / "data").mkdir()
        for name in ("users", "acl"):
            copy = folder / name
            copy.write_bytes((self.secrets / f"mosquitto_{name}").read_bytes())
            copy.chmod(0o600)
        port = free_port()
        text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text("utf-8")
        for said, here in {
            "listener 1883": f"listener {port} 127.0.0.1",
            "password_file /tmp/users": f"password_file {folder}/users",
            "acl_file /tmp/acl": f"acl_file {folder}/acl",
            "/mosquitto/data/": f"{folder}/data/",
        }.items():
            assert text.count(said) == 1, said
            text = text.replace(said, here)
        config = folder / "mosquitto.conf"
        config.write_text(text + "user root\n")
        self.process = BrokerProcess([program("mosquitto"), "-c", str(config)], port, folder)

    def settings(self, user: str, password: str | None = None) -> BrokerSettings:
        if password is None:
            password = (self.secrets / f"broker_{user}").read_text()
        return BrokerSettings(port=self.process.port, username=user, password=SecretStr(password))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.process.start()
    yield broker
    broker.process.stop()


class Client:
    """One user's session, and what it heard."""

    def __init__(self, settings: BrokerSettings, subscriptions: list[tuple[str, int]]) -> None:
        self.session = MqttSession(
            settings, client_id=f"test-{settings.username}", clock=CLOCK, subscriptions=subscriptions
        )
        self.heard: list[str] = []

    async def listen(self) -> None:
        while True:
            for delivery in await self.session.receive(100):
                self.heard.append(delivery.topic)
                delivery.ack()

    async def may(self, name: str) -> bool:
        """True when the broker takes a publication from this user."""
        try:
            await CLOCK.timeout(self.session.publish(name, b"{}"), DEADLINE_S)
        except BrokerError:
            return False
        return True


@asynccontextmanager
async def client(broker: Broker, user: str, *filters: str) -> AsyncIterator[Client]:
    made = Client(broker.settings(user), [(name, 1) for name in filters])
    tasks = [asyncio.create_task(made.session.run()), asyncio.create_task(made.listen())]
    try:
        await until(lambda: made.session.connected)
        yield made
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool]) -> None:
    end = CLOCK.monotonic() + DEADLINE_S
    while not condition():
        assert CLOCK.monotonic() < end, "it never happened"
        await CLOCK.sleep(0.02)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_a_gateway_speaks_for_itself_and_for_nobody_else(broker: Broker) -> None:
    async def scenario() -> None:
        async with client(broker, "gw-1") as gateway:
            for leaf in ("up", "state", "health", "tap"):
                assert await gateway.may(topic("gw-1", leaf))
                assert not await gateway.may(topic("gw-2", leaf))
            for name in (topic("gw-1", "ack"), "mg/v1/1/notice", "mg/v1/1/gw-1/cmd", "else", "$SYS/broker/uptime"):
                assert not await gateway.may(name)

    play(scenario)


def test_ingest_hears_all_gateways_and_answers_each(broker: Broker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            ingest = await stack.enter_async_context(
                client(broker, "ingest", "mg/v1/+/+/up", "mg/v1/+/+/state", "mg/v1/+/+/health")
            )
            one = await stack.enter_async_context(client(broker, "gw-1", topic("gw-1", "ack"), topic("gw-2", "ack")))
            two = await stack.enter_async_context(client(broker, "gw-2", "#", "mg/v1/+/+/ack"))
            for leaf in ("up", "state", "health"):
                assert await one.may(topic("gw-1", leaf))
            await until(lambda: len(ingest.heard) == 3)
            assert await ingest.may(topic("gw-1", "ack"))
            assert await ingest.may(topic("gw-2", "ack"))
            assert await ingest.may("mg/v1/7/notice")
            assert not await ingest.may(topic("gw-1", "up"))
            assert not await ingest.may(topic("gw-1", "state"))
            await until(lambda: bool(one.heard and two.heard))
            # a last word that both would hear, had they been given anything else before
            assert await ingest.may(topic("gw-1", "ack"))
            assert await ingest.may(topic("gw-2", "ack"))
            await until(lambda: len(one.heard) == 2 and len(two.heard) >= 2)
            assert set(one.heard) == {topic("gw-1", "ack")}
            assert set(two.heard) == {topic("gw-2", "ack")}

    play(scenario)


@pytest.mark.parametrize(("user", "password"), [("gw-1", "wrong"), ("gw-1", "of gw-2"), ("nobody", "x"), ("", "")])
def test_strangers_do_not_get_in(broker: Broker, user: str, password: str) -> None:
    async def scenario() -> None:
        known = (broker.secrets / "broker_gw-2").read_text() if password == "of gw-2" else password
        made = Client(broker.settings(user, known), [])
        running = asyncio.create_task(made.session.run())
        await until(lambda: "not connected yet" not in made.session.last_problem)
        assert not made.session.connected
        assert re.search(r"(?i)auth", made.session.last_problem), made.session.last_problem
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    play(scenario)


def test_the_health_check_of_compose_hears_the_broker_and_nothing_else(broker: Broker) -> None:
    async def scenario() -> None:
        async with client(broker, "gw-1") as gateway:
            await gateway.session.publish(topic("gw-1", "state"), b"{}", retain=True)  # there for whoever may read it

    play(scenario)
    shell = compose()["services"]["mosquitto"]["healthcheck"]["test"][1].replace("$$", "$")
    words = shell.replace("/run/secrets/", f"{broker.secrets}/") + f" -p {broker.process.port}"
    done = run("sh", "-c", words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("seconds")
    elsewhere = re.sub(r"-t \S+", "-t 'mg/v1/#'", words).replace("-W 5", "-W 1")
    assert run("sh", "-c", elsewhere).returncode == 27  # nothing came in time
    as_ingest = elsewhere.replace("watch", "ingest").replace("mg/v1/#", "mg/v1/+/+/state")
    assert run("sh", "-c", as_ingest).returncode == 0  # though it is there


def test_the_container_keeps_the_users_file_to_itself(tmp_path: Path) -> None:
    """The entry point, with its paths moved, up to the point where the broker starts."""
    make_secrets(tmp_path / "secrets", "gw-1")
    shell, option, line = compose()["services"]["mosquitto"]["entrypoint"]
    moved = line.replace(" /tmp/", f" {tmp_path}/").replace("/run/secrets", str(tmp_path / "secrets"))
    done = run("sh", option, moved.replace("exec mosquitto -c /mosquitto/config/mosquitto.conf", "exit 0"))
    assert (shell, done.returncode) == ("/bin/sh", 0)
    for name in ("users", "acl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "secrets" / f"mosquitto_{name}").read_bytes()
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
