"""The broker within the process keeps the manners of a real one as far as our sessions rely on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from metergate.memory_broker import MemoryBroker
from metergate.virtual_time import VirtualClock, VirtualLoop
from metering.errors import BrokerError
from metering.mqtt import Message, MqttSession

Scene = Callable[[MemoryBroker, VirtualClock, Callable[..., MqttSession]], Awaitable[Any]]


def play(scene: Scene) -> Any:
    """Run a scene with a broker and a maker of running sessions."""
    clock = VirtualClock(0)

    async def work() -> Any:
        broker, tasks = MemoryBroker(), list[asyncio.Task[None]]()

        def session(name: str, *topics: tuple[str, int], **options: Any) -> MqttSession:
            made = MqttSession(broker.settings, client_id=name, clock=clock, subscriptions=topics, **options)
            tasks.append(asyncio.create_task(made.run()))
            return made

        try:
            return await scene(broker, clock, session)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(work())


def test_messages_reach_who_subscribed_in_order() -> None:
    async def scene(
        _: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]
    ) -> list[tuple[str, bytes]]:
        ear, mouth = session("ear", ("mg/+/up", 1)), session("mouth")
        await clock.sleep(1.0)
        for number in range(3):
            await mouth.publish("mg/1/up", b"%d" % number)
        await mouth.publish("mg/1/ack", b"not for you")
        await clock.sleep(1.0)
        return [(each.topic, each.payload) for each in await ear.receive(10)]

    assert play(scene) == [("mg/1/up", b"0"), ("mg/1/up", b"1"), ("mg/1/up", b"2")]


def test_a_receiver_that_does_not_acknowledge_gets_no_more_than_its_maximum() -> None:
    async def scene(_: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]) -> tuple[int, int]:
        ear, mouth = session("ear", ("t", 1), receive_maximum=2), session("mouth")
        await clock.sleep(1.0)
        for _n in range(5):
            await mouth.publish("t", b"x")
        await clock.sleep(1.0)
        first = await ear.receive(10)
        for delivery in first:
            delivery.ack()
        await clock.sleep(1.0)
        return len(first), len(await ear.receive(10))

    assert play(scene) == (2, 2)


def test_a_killed_broker_fails_what_is_sent_and_sessions_come_back_by_themselves() -> None:
    async def scene(
        broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]
    ) -> tuple[Any, ...]:
        mouth, ear = session("mouth"), session("ear", ("t", 1))
        await clock.sleep(1.0)
        broker.stop()
        await clock.sleep(1.0)
        with pytest.raises(BrokerError, match="away"):
            await mouth.publish("t", b"lost")
        broker.start()
        await clock.sleep(60.0)
        await mouth.publish("t", b"again")
        await clock.sleep(1.0)
        return mouth.counters["connects"], [each.payload for each in await ear.receive(5)]

    assert play(scene) == (2, [b"again"])


def test_what_is_retained_is_handed_to_who_comes_later_until_it_is_cleared() -> None:
    async def scene(_: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]) -> tuple[Any, ...]:
        mouth = session("mouth")
        await clock.sleep(1.0)
        await mouth.publish("plan/1", b"one", retain=True)
        await mouth.publish("plan/2", b"two", retain=True)
        await mouth.publish("plan/2", b"", retain=True)
        ear = session("ear", ("plan/#", 1))
        await clock.sleep(1.0)
        (found,) = await ear.receive(5)
        return found.topic, found.payload, found.retain

    assert play(scene) == ("plan/1", b"one", True)


def test_a_link_that_breaks_sends_its_last_will_and_a_goodbye_does_not() -> None:
    async def scene(broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]) -> list[bytes]:
        ear = session("ear", ("state", 1))
        session("sick", will=Message("state", b"gone"))
        await clock.sleep(1.0)
        broker.lose("sick")
        await clock.sleep(1.0)
        return [each.payload for each in await ear.receive(5)]

    assert play(scene) == [b"gone"]
