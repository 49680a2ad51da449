"""The MQTT driver and a real Mosquitto: acknowledged only when kept, in order, once; heard again after an outage."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from gateway.protocols import sparkplug_b
from metering.mqtt import BrokerSettings, MqttSession
from simulators.answer_log import read_answers
from simulators.mqtt_meters import MqttMeters as Simulated
from simulators.mqtt_settings import MqttMeterSettings, MqttMetersSettings
from tests.brokers import mosquitto
from tests.brokers import running as running_broker
from tests.gateway.drivers.field import CLOCK, Kept, plan, running, running_driver, sender, until

CLOCKLESS = (("P-1", "p1", "json-meter-no-clock"),)


async def _say(session: MqttSession, numbers: range) -> None:
    for number in numbers:
        await session.publish("pulse/p1/state", json.dumps({"total_m3": number}).encode())


def _indexes(kept: Kept) -> list[int]:
    return [row.values["volume"] // 1_000_000 for row in kept.readings]


def test_nothing_is_acknowledged_before_the_outbox_has_it(tmp_path: Path) -> None:
    """The first driver ends without a commit; the second gets everything from the broker, in order."""

    async def scenario(port: int) -> None:
        kept = Kept(refuse=True)
        async with sender(port) as session:
            async with running_driver(tmp_path, plan(*CLOCKLESS), port, kept) as driver:
                await _say(session, range(20))
                await until(lambda: driver.session.counters["received"] > 0, "messages arrive")
            assert kept.rows == []
            await _say(session, range(20, 40))  # while nobody is there
            kept.refuse = False
            async with running_driver(tmp_path, plan(*CLOCKLESS), port, kept):
                await until(lambda: len(kept.keys) >= 40, "all messages are kept")
        assert _indexes(kept) == list(range(40))

    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))


def test_a_kill_between_commit_and_acknowledgement_makes_no_second_reading(tmp_path: Path) -> None:
    """The driver dies when its rows are committed and nothing is acknowledged; meters without a clock."""

    class Dying(Kept):
        async def keep(self, rows):  # type: ignore[no-untyped-def]  # as the parent's
            await super().keep(rows)
            await asyncio.Event().wait()  # the commit happened, and its caller never hears of it

    async def scenario(port: int) -> None:
        first, second = Dying(), Kept()
        async with sender(port) as session:
            async with running_driver(tmp_path, plan(*CLOCKLESS), port, first):
                await _say(session, range(30))
                await until(lambda: len(first.readings) > 0, "a first commit")
            async with running_driver(tmp_path, plan(*CLOCKLESS), port, second) as driver:
                await until(lambda: len(second.keys) >= 30, "the rest and the repeats")
        assert driver.rows.counters["redelivered"] == len(first.readings)
        assert len(first.keys | second.keys) == 30, "the same message has the same key"
        assert sorted(_indexes(second)) == list(range(30))

    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))


def test_an_acknowledged_message_does_not_come_again(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        kept = Kept()
        async with sender(port) as session:
            for part in range(3):
                async with running_driver(tmp_path, plan(*CLOCKLESS), port, kept) as driver:
                    await _say(session, range(part * 10, part * 10 + 10))
                    await until(lambda: driver.rows.counters["acknowledged"] == 10, "all are kept")
        assert _indexes(kept) == list(range(30))
        assert driver.rows.counters["redelivered"] == 0

    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))


def test_a_persistent_session_of_mqtt_3_1_1_keeps_messages_too(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        kept = Kept()
        async with sender(port) as session:
            async with running_driver(tmp_path, plan(*CLOCKLESS), port, kept, "3.1.1") as driver:
                assert driver.session.protocol == "3.1.1"
                await _say(session, range(10))
                await until(lambda: len(kept.keys) >= 10, "all are kept")
            await _say(session, range(10, 20))
            async with running_driver(tmp_path, plan(*CLOCKLESS), port, kept, "3.1.1"):
                await until(lambda: len(kept.keys) >= 20, "what came in between is kept")
        assert sorted(set(_indexes(kept))) == list(range(20))

    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))


def test_sparkplug_hosts_are_seen_to_come_and_go(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        heard: list[bool] = []
        topic = ("spBv1.0/STATE/metergate-gw-1", 1)
        watcher = MqttSession(BrokerSettings(port=port), client_id="w", clock=CLOCK, subscriptions=[topic])

        async def listen() -> None:
            while True:
                for delivery in await watcher.receive(10):
                    delivery.ack()
                    heard.append(sparkplug_b.decode_state(delivery.payload))

        async with running(watcher.run()), running(listen()):
            await until(lambda: watcher.connected, "the watcher connects")
            buses = plan(("S-1", "gas/gw1/fc-1", "sparkplug-flow-computer"))
            async with running_driver(tmp_path, buses, port, Kept()):
                await until(lambda: heard == [True], "it is online")
            await until(lambda: heard == [True, False], "it is offline")

    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))


def test_lost_sparkplug_messages_are_reported_and_a_rebirth_mends_the_names(tmp_path: Path) -> None:
    """A third of the DDATA is lost on the way; gaps are events, and no value is given to a wrong name."""

    async def scenario(port: int) -> None:
        kept, log = Kept(), tmp_path / "answers.tsv"
        meter = MqttMeterSettings(
            meter="S-1", format="sparkplug", device="gas/gw1/fc-1", interval_s=0.05, curve="counting", drop=0.3
        )
        settings = MqttMetersSettings(
            meter=(meter,), broker=BrokerSettings(port=port), log=log, wait_for_host="metergate-gw-1"
        )
        buses = plan(("S-1", "gas/gw1/fc-1", "sparkplug-flow-computer"))
        async with running_driver(tmp_path, buses, port, kept), running(Simulated(settings, CLOCK).run()):
            await until(lambda: kept.events("counter_gap", "seq") != [], "a gap is reported")
            await until(lambda: kept.events("read_failed", "no_birth") != [], "what it costs is said")
        shown = {answer.index for answer in read_answers(log) if answer.outcome == "ok"}
        assert {row.values["volume_standard"] for row in kept.readings} <= shown, "nothing was guessed"

    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))


def test_a_broker_without_anybody_home_is_said_as_an_event(tmp_path: Path) -> None:
    """Told after ten seconds of a clock that the test moves."""
    from metering.clock import ManualClock
    from tests.gateway.drivers.field import make_driver

    async def scenario() -> None:
        clock, kept = ManualClock(), Kept()
        driver = make_driver(tmp_path, plan(*CLOCKLESS), 1, kept, clock)
        async with running(driver.run()):
            for _ in range(200):
                await clock.advance(0.5)
                await asyncio.sleep(0.05)  # real: ten seconds of the clock are enough for a thread to be refused
                if kept.rows:
                    break
        (event,) = kept.events("read_failed", "connect")
        assert event.text.startswith("field broker: cannot connect to the broker: ")

    asyncio.run(scenario())
