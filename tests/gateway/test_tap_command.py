"""The signed command `tap` on a real broker: a recording begins, comes over the broker, and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from metering.clock import SystemClock
from metering.messages import nonce_of, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.recording import Frame, Header, decode_line
from tests.brokers import mosquitto
from tests.brokers import running as broker_running
from tests.gateway.office import GATEWAY, until
from tests.gateway.test_commands import House, _house


async def _ordered(house: House, **args: object) -> tuple[str, str]:
    """Send a command and return cause and sentence of its result."""
    nonce, sealed = house.office.command("tap", dict(args))
    await house.office.send(sealed)
    await until(lambda: house.office.finals(nonce), what="the result")
    (final,) = house.office.finals(nonce)
    return final.cause, nonce_of(final.text)[1]


def test_the_office_switches_a_tap_on_and_off_and_sees_the_frames(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        listener = MqttSession(
            BrokerSettings(port=port),
            client_id="ear",
            clock=SystemClock(),
            subscriptions=[(topic(GATEWAY, "tap"), 0)],
        )
        hearing = asyncio.ensure_future(listener.run())
        async with _house(tmp_path, port, interval_s=0.2) as house:
            await until(lambda: listener.connected)
            cause, said = await _ordered(house, seconds=600, buses=["b"], meters=["W-1"], to="broker")
            assert (cause, said[:20]) == ("done", "recording b, W-1 unt")
            (delivery, *_) = await listener.receive(10)
            header, *lines = [decode_line(raw) for raw in delivery.payload.splitlines()]
            assert isinstance(header, Header)
            assert header.gateway == GATEWAY
            assert {line.meter for line in lines if isinstance(line, Frame)} == {"W-1"}
            assert await _ordered(house, seconds=0) == ("done", "the recording is ended")
            assert house.gateway.tap.order is None
            assert await _ordered(house, seconds=0) == ("done", "nothing was being recorded")
            cause, said = await _ordered(house, seconds=60, buses=["c"])
            assert (cause, said) == ("failed", 'no bus "c"; allowed: b')
            cause, said = await _ordered(house, seconds=86_401)
            assert cause == "refused"
            assert "args of tap" in said
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)

    with broker_running(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))
    assert not list(tmp_path.rglob("tap-*.jsonl"))
