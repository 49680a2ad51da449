"""The MQTT session against real brokers: order of acknowledgements, reason codes, reconnect, both versions."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from metering.clock import SystemClock
from metering.errors import BrokerError
from metering.mqtt import BrokerSettings, Delivery, Message, MqttSession
from tests.brokers import BrokerProcess, embedded, mosquitto, running

CLOCK = SystemClock()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with running(mosquitto(tmp_path / "mosquitto")) as process:
        yield process


def session(port: int, name: str, **options: Any) -> MqttSession:
    protocol = options.pop("protocol", "auto")
    settings = BrokerSettings(host="127.0.0.1", port=port, protocol=protocol, **options.pop("settings", {}))
    return MqttSession(settings, client_id=name, clock=CLOCK, **options)


@asynccontextmanager
async def up(*sessions: MqttSession) -> Any:
    tasks = [asyncio.create_task(one.run()) for one in sessions]
    try:
        await until(lambda: all(one.connected for one in sessions))
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


async def collect(receiver: MqttSession, count: int, deadline_s: float = 60.0) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(deadline_s):
        while len(found) < count:
            found += await receiver.receive(count - len(found))
    return found


async def all_arrived(one: MqttSession) -> None:
    """Wait until the broker has what a session sent before: it answers in the order in which things come."""
    await one.publish("behind", b"")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]  # an async def gives a coroutine


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_arrive_in_order_and_are_acknowledged(broker: BrokerProcess, protocol: str) -> None:
    async def scenario() -> None:
        receiver = session(broker.port, "in", subscriptions=[("t/#", 1)], protocol=protocol)
        sender = session(broker.port, "out", protocol=protocol)
        async with up(receiver, sender):
            sent = [sender.send(f"t/{i}", str(i).encode()) for i in range(50)]
            for expected in range(50):  # a 3.1.1 broker keeps 20 in flight, so acknowledge as they come
                one = (await collect(receiver, 1))[0]
                assert (int(one.payload), one.qos) == (expected, 1)
                one.ack()
            await asyncio.gather(*sent)

    run(scenario)


def test_an_unacknowledged_delivery_comes_again_in_a_kept_session(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        first = session(broker.port, "keep", subscriptions=[("t", 1)], session_expiry_s=60)
        async with up(first):
            async with up(session(broker.port, "out")):
                sender = session(broker.port, "out2")
                async with up(sender):
                    for i in range(3):
                        await sender.publish("t", str(i).encode())
            found = await collect(first, 3)
            found[1].ack()  # out of order: must wait for the first
            found[0].ack()
            await all_arrived(first)
        second = session(broker.port, "keep", subscriptions=[("t", 1)], session_expiry_s=60)
        async with up(second):
            again = await collect(second, 1)
            assert [one.payload for one in again] == [b"2"]

    run(scenario)


def test_an_acknowledgement_never_passes_an_unfinished_delivery(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        first = session(broker.port, "order", subscriptions=[("t", 1)], session_expiry_s=60)
        sender = session(broker.port, "out")
        async with up(first, sender):
            for i in range(3):
                await sender.publish("t", str(i).encode())
            found = await collect(first, 3)
            found[2].ack()
            found[1].ack()
            await all_arrived(first)
        second = session(broker.port, "order", subscriptions=[("t", 1)], session_expiry_s=60)
        async with up(second):
            assert [one.payload for one in await collect(second, 3)] == [b"0", b"1", b"2"]

    run(scenario)


def test_an_old_delivery_acknowledged_after_a_reconnect_does_nothing(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        receiver = session(broker.port, "again", subscriptions=[("t", 1)], session_expiry_s=60)
        sender = session(broker.port, "out")
        async with up(receiver):
            async with up(sender):
                await sender.publish("t", b"before")
            old = (await collect(receiver, 1))[0]
            broker.kill()
            await until(lambda: not receiver.connected)
            broker.start()
            await until(lambda: receiver.connected)
            fresh = session(broker.port, "out3")
            async with up(fresh):
                await fresh.publish("t", b"after")
                new = (await collect(receiver, 1))[0]
                old.ack()  # its number now names another message
                await all_arrived(receiver)
                assert receiver.connected
                new.ack()

    run(scenario)


def test_what_a_kept_session_held_may_be_acknowledged_before_the_subscription_is(broker: BrokerProcess) -> None:
    """Held messages come right after CONNACK; an acknowledgement that is dropped then stalls the broker for good."""

    class Quick(MqttSession):
        def take_in(self, delivery: Delivery) -> None:
            super().take_in(delivery)
            before.append(not self.connected)
            delivery.ack()

    before: list[bool] = []

    async def scenario() -> None:
        def receiver(kind: type[MqttSession]) -> MqttSession:
            return kind(
                BrokerSettings(port=broker.port),
                client_id="in",
                clock=SystemClock(),
                subscriptions=[("t/#", 1)],
                receive_maximum=2,
                session_expiry_s=60,
            )

        async with up(receiver(MqttSession)):
            pass
        async with up(sender := session(broker.port, "out")):
            for number in range(10):
                await sender.publish(f"t/{number}", b"")
        second = receiver(Quick)
        async with up(second):
            found = await collect(second, 10)
        assert [delivery.topic for delivery in found] == [f"t/{number}" for number in range(10)]
        assert any(before), "at least the first came before SUBACK"

    run(scenario)


def test_a_denied_publish_fails_by_reason_code(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite open/#\n")
    acl.chmod(0o600)

    async def scenario(port: int) -> None:
        sender = session(port, "out", protocol="5")
        async with up(sender):
            await sender.publish("open/x", b"1")
            with pytest.raises(BrokerError, match="refuses the message"):
                await sender.publish("closed/x", b"1")
            assert sender.counters["refused"] == 1

    with running(mosquitto(tmp_path / "m", f"acl_file {acl}\nallow_anonymous true")) as broker:
        asyncio.run(scenario(broker.port))


def test_a_broker_without_version_5_is_spoken_to_in_3_1_1(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        receiver, sender = session(port, "in", subscriptions=[("t", 1)]), session(port, "out")
        async with up(receiver, sender):
            assert receiver.protocol == "3.1.1"
            await sender.publish("t", b"x" * 60_000)
            found = await collect(receiver, 1)
            assert len(found[0].payload) == 60_000
            found[0].ack()

    with running(embedded(tmp_path / "e")) as broker:
        asyncio.run(scenario(broker.port))


def test_a_lost_broker_fails_what_waits_and_the_session_returns(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        gone: list[str] = []
        sender = session(broker.port, "out", on_disconnect=gone.append)
        async with up(sender):
            broker.kill()
            await until(lambda: not sender.connected)
            with pytest.raises(BrokerError, match="no link"):
                await sender.publish("t", b"1")
            broker.start()
            await until(lambda: sender.connected)
            await sender.publish("t", b"2")
            assert len(gone) == 1
            assert sender.counters["connects"] == 2

    run(scenario)


def test_the_last_will_is_published_when_the_client_dies(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        watcher = session(broker.port, "watch", subscriptions=[("state", 1)])
        mortal = session(broker.port, "mortal", will=Message("state", b"offline", 1, retain=True))
        async with up(watcher), up(mortal):
            link: Any = mortal._link
            link._socket.shutdown(2)  # the line is cut: no DISCONNECT leaves
            found = await collect(watcher, 1)
            assert found[0].payload == b"offline"
            found[0].ack()

    run(scenario)


def test_a_clean_end_publishes_no_will(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        watcher = session(broker.port, "watch", subscriptions=[("state", 1)])
        async with up(watcher):
            async with up(session(broker.port, "polite", will=Message("state", b"offline"))):
                pass
            with pytest.raises(TimeoutError):
                await collect(watcher, 1, deadline_s=0.5)

    run(scenario)


def test_a_wrong_password_is_told_and_retried(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        stranger = session(port, "stranger")
        task = asyncio.create_task(stranger.run())
        await until(lambda: "refuses us" in stranger.last_problem)
        assert not stranger.connected
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with running(mosquitto(tmp_path / "m", "allow_anonymous false")) as broker:
        asyncio.run(scenario(broker.port))


def test_cancelling_while_nothing_answers_leaves_no_task_behind() -> None:
    async def scenario() -> None:
        lonely = session(9, "lonely")  # nothing listens on the discard port
        task = asyncio.create_task(lonely.run())
        await until(lambda: "cannot connect" in lonely.last_problem)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario)


def test_a_reset_behind_unread_messages_is_noticed_at_once() -> None:
    """libuv reports a reset once and watches that socket no more, although its last messages were not read yet."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as dying:
            loop = asyncio.get_running_loop()
            broker = asyncio.create_task(asyncio.to_thread(die_after_messages, dying, loop))
            listener = session(dying.getsockname()[1], "in")
            task = asyncio.create_task(listener.run())
            await broker
            await until(lambda: "link to the broker lost" in listener.last_problem, deadline_s=15)  # keep-alive: 20 s
            assert len(await listener.receive(100)) == 5
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def die_after_messages(server: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    """Welcome one client, send it five messages and a reset (SO_LINGER of 0 s) in one moment."""
    client, _ = server.accept()
    client.recv(1000)
    client.sendall(bytes.fromhex("20 03 00 00 00"))  # CONNACK of MQTT 5
    loop.call_soon_threadsafe(time.sleep, 0.1)  # all of it is there when the loop looks
    time.sleep(0.03)
    client.sendall(bytes.fromhex("30 05 00 01 74 00 31") * 5)  # PUBLISH, QoS 0, topic "t"
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_flood_of_qos_0_is_bounded_and_counted(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.mqtt.MAX_WAITING", 10)

    async def scenario() -> None:
        receiver = session(broker.port, "in", subscriptions=[("t", 0)])
        sender = session(broker.port, "out")
        async with up(receiver, sender):
            for i in range(50):
                await sender.publish("t", str(i).encode(), qos=0)
            await until(lambda: receiver.counters["received"] == 50)
            assert receiver.counters["dropped_qos0"] == 40
            assert len(await collect(receiver, 10)) == 10

    run(scenario)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_topics_come_and_go_on_a_living_link_and_stay_so_after_a_reconnect(
    broker: BrokerProcess, protocol: str
) -> None:
    async def scenario() -> None:
        receiver = session(broker.port, "in", protocol=protocol)
        sender = session(broker.port, "out", protocol=protocol)

        async def heard(*names: str) -> set[str]:
            """Send on every name until "end" has come back; return what else has."""
            found: set[str] = set()
            while "end" not in found:
                for name in (*names, "end"):
                    await sender.publish(name, b"x")
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        for one in await receiver.receive(100):
                            one.ack()
                            found.add(one.topic)
            return found - {"end"}

        async with up(receiver, sender):
            receiver.subscribe([("a", 1), ("b", 1), ("end", 1)])
            await until(lambda: len(receiver.subscriptions) == 3)
            while await heard("a", "b") != {"a", "b"}:
                await asyncio.sleep(0.01)
            receiver.unsubscribe(["a"])
            while await heard("a", "b") != {"b"}:
                await asyncio.sleep(0.01)
            broker.kill()
            broker.start()
            await until(lambda: receiver.counters["connects"] == 2 and sender.connected)
            while await heard("a", "b") != {"b"}:
                await asyncio.sleep(0.01)

    run(scenario)
