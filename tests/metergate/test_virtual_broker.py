"""A virtual house with a real broker on the wire: time waits for its messages, and it may be killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from metergate.virtual_broker import WireBroker
from metergate.virtual_time import StuckError, VirtualClock, VirtualLoop
from metering.mqtt import Message, MqttSession
from tests.metergate.virtual_worlds import fleet, play_world

STORY = (
    """
title = "a broker that falls"
purpose = "the embedded broker in a process of its own"
seed = 3
start = "2026-02-19"
days = 0.2
broker = "wire"
gather_s = 900.0
"""
    + fleet("flats", 3, "gas", "fuxin-corrector")
    + fleet("pulses", 3, "water", "json-meter", protocol="mqtt")
    + """
[[event]]
kind = "broker_off"
day = 0.03
for_days = 0.03
[[event]]
kind = "ingest_kill"
day = 0.09
[[event]]
kind = "gateway_kill"
day = 0.13
for_days = 0.03
gateway = "gw-1"
"""
)


def play(scene: Any) -> Any:
    """Run `scene(broker, clock, session)` with a real broker on virtual time; session: starts one by name."""
    clock = VirtualClock(0)

    async def work() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        broker, tasks = WireBroker(clock), list[asyncio.Task[None]]()
        loop.others.append(broker)

        def session(name: str, *topics: tuple[str, int], **options: Any) -> MqttSession:
            made = MqttSession(broker.settings, client_id=name, clock=clock, subscriptions=topics, **options)
            tasks.append(asyncio.create_task(made.run()))
            return made

        await broker.start()
        try:
            return await scene(broker, clock, session)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await broker.stop()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(work())


def test_messages_over_a_real_broker_take_no_virtual_time() -> None:
    async def scene(_: WireBroker, clock: VirtualClock, session: Any) -> tuple[float, list[bytes]]:
        ear, mouth = session("ear", ("t/#", 1)), session("mouth")
        await clock.sleep(1.0)
        assert ear.connected
        assert mouth.connected
        for number in range(20):
            mouth.send("t/up", b"%d" % number)
        await clock.sleep(0.001)  # no byte of ours is under way then, and yet all of them have arrived
        assert ear.counters["received"] == 20
        return clock.monotonic(), [each.payload for each in await ear.receive(100)]

    at, payloads = play(scene)
    assert at == pytest.approx(1.001)
    assert payloads == [b"%d" % number for number in range(20)]


def test_who_does_not_acknowledge_holds_nothing_up_and_gets_the_rest_later() -> None:
    async def scene(broker: WireBroker, clock: VirtualClock, session: Any) -> tuple[int, int]:
        ear, mouth = session("ear", ("t", 1)), session("mouth")
        await clock.sleep(1.0)
        for number in range(130):
            mouth.send("t", b"%d" % number)
        await clock.sleep(3600.0)
        first = await ear.receive(1000)
        for delivery in first:
            delivery.ack()
        await clock.sleep(1.0)
        return len(first), len(await ear.receive(1000))

    assert play(scene) == (100, 30)


def test_a_kept_session_gets_what_came_while_its_client_was_away() -> None:
    async def scene(broker: WireBroker, clock: VirtualClock, session: Any) -> list[bytes]:
        ear, mouth = session("ear", ("t", 1), session_expiry_s=3600), session("mouth")
        await clock.sleep(1.0)
        await mouth.publish("t", b"never acknowledged")
        await clock.sleep(1.0)
        broker.lose("ear")
        await mouth.publish("t", b"while it is away")
        await clock.sleep(60.0)
        assert ear.counters["connects"] == 2
        return [each.payload for each in await ear.receive(10)]

    payloads = play(scene)
    assert payloads[0] == b"never acknowledged"
    assert set(payloads[1:]) == {b"never acknowledged", b"while it is away"}


def test_sessions_notice_the_brokers_death_at_once_and_come_back_after_it() -> None:
    async def scene(broker: WireBroker, clock: VirtualClock, session: Any) -> tuple[bool, float, bool]:
        ear = session("ear", ("t", 1))
        await clock.sleep(1.0)
        await broker.stop()
        await clock.sleep(0.001)
        away = ear.connected
        at = clock.monotonic()
        await clock.sleep(30.0)
        await broker.start()
        await clock.sleep(20.0)
        return away, at, ear.connected

    assert play(scene) == (False, pytest.approx(1.001), True)


def test_a_message_that_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(broker: WireBroker, clock: VirtualClock, session: Any) -> None:
        session("ear", ("t", 1))
        await clock.sleep(1.0)
        monkeypatch.setattr("metergate.virtual_time._STUCK_S", 0.3)  # real time; only now, when all links stand
        broker.note(Message("t", b"which nobody sends"))
        await clock.sleep(1.0)

    with pytest.raises(StuckError, match="ear lacks t"):
        play(scene)


def test_nothing_is_lost_over_a_real_broker_that_falls_while_parts_are_killed(tmp_path: Path) -> None:
    world = play_world(STORY, tmp_path / "run")
    assert world.problems == []
    stored = world.report["stored"]
    assert stored["lost"] == stored["invented"] == stored["worst_ms"] == 0
    assert stored["answers"] == stored["readings"] + stored["never_produced"]
    for n in (1, 2, 3):
        waited = [
            world.day(row["received_at"])
            for row in world.stored(f"flats-000{n}")
            if 0.035 < world.day(row["read_at"]) < 0.06
        ]
        assert waited
        assert min(waited) >= 0.06
