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


def test_a_kept_session_gets_what_came_while_its_client_was_away_and_what_it_had_not_acknowledged() -> None:
    async def scene(
        broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]
    ) -> list[tuple[bytes, bool]]:
        ear, mouth = session("ear", ("t", 1), session_expiry_s=3600), session("mouth")
        await clock.sleep(1.0)
        await mouth.publish("t", b"first")
        await clock.sleep(1.0)
        (first,) = await ear.receive(10)
        broker.lose("ear")
        await mouth.publish("t", b"second")
        first.ack()  # too late: it belongs to the connection that is gone
        await clock.sleep(5.0)
        return [(each.payload, each.dup) for each in await ear.receive(10)]

    assert play(scene) == [(b"first", True), (b"second", False)]


def test_a_session_is_kept_no_longer_than_it_asked_for() -> None:
    async def scene(broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]) -> int:
        ear, mouth = session("ear", ("t", 1), session_expiry_s=60), session("mouth")
        await clock.sleep(1.0)
        broker.cut("ear")
        await mouth.publish("t", b"x")
        await clock.sleep(100.0)
        broker.mend("ear")
        await clock.sleep(60.0)
        assert ear.connected
        return ear.counters["received"]

    assert play(scene) == 0


def test_a_cut_way_lets_nobody_through_until_it_is_mended() -> None:
    async def scene(
        broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]
    ) -> tuple[bool, str, bool]:
        ear = session("ear", ("t", 1))
        await clock.sleep(1.0)
        broker.cut("ear")
        await clock.sleep(600.0)
        away, why = ear.connected, ear.last_problem
        broker.mend("ear")
        await clock.sleep(30.0)
        return away, why, ear.connected

    assert play(scene) == (False, "cannot connect to the broker: no route", True)


def test_a_slow_way_delays_both_directions_and_keeps_the_order() -> None:
    async def scene(
        broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]
    ) -> tuple[float, list[tuple[float, bytes]]]:
        ear, mouth = session("ear", ("t", 1)), session("mouth")
        await clock.sleep(1.0)
        broker.delay("mouth", 3.0)
        broker.delay("ear", 2.0)
        mouth.send("t", b"a")
        await clock.sleep(1.0)
        mouth.send("t", b"b")
        heard = []
        for _ in range(2):
            (delivery,) = await ear.receive(1)
            heard.append((clock.monotonic(), delivery.payload))
        return clock.monotonic(), heard

    # 3 s there and 2 s on, sent at 1 and 2
    assert play(scene) == (7.0, [(6.0, b"a"), (7.0, b"b")])


def test_a_half_open_connection_passes_nothing_and_is_noticed_by_missing_signs_of_life() -> None:
    async def scene(
        broker: MemoryBroker, clock: VirtualClock, session: Callable[..., MqttSession]
    ) -> tuple[bool, bool, str, int]:
        ear, mouth = session("ear", ("t", 1)), session("mouth")
        await clock.sleep(1.0)
        broker.half_open("mouth")
        sent = mouth.send("t", b"into the void")
        await clock.sleep(29.0)  # keep-alive 20 s: noticed after one and a half
        still = mouth.connected
        with pytest.raises(BrokerError, match="no sign of life"):
            await sent
        broker.mend("mouth")
        await clock.sleep(30.0)
        return still, mouth.connected, mouth.last_problem, ear.counters["received"]

    assert play(scene) == (True, True, "", 0)
