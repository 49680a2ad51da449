"""Sign a gateway's plan and hand it to the broker, retained: a gateway that is away gets it when it returns."""

from __future__ import annotations

import asyncio
import secrets

from metergate.settings import Settings
from metering.clock import SystemClock
from metering.errors import BrokerError
from metering.messages import SignedPlan, encode, pack_plan, topic
from metering.mqtt import MqttSession
from metering.signing import load_or_make_key

_DEADLINE_S = 15.0


def signed_plan(settings: Settings, gateway: str, version: int, text: str) -> bytes:
    """Return the envelope. Raises: SettingsError, OSError for the key."""
    key = load_or_make_key(settings.commands.signing_key)
    body = SignedPlan(1, gateway, version, SystemClock().now_ms(), pack_plan(text))
    return key.seal("plan", encode(body))


def publish_plan(settings: Settings, gateway: str, version: int, text: str) -> None:
    """Hand it to the broker. Raises: BrokerError when it cannot be reached or refuses; SettingsError, OSError."""
    asyncio.run(_publish(settings, topic(gateway, "plan"), signed_plan(settings, gateway, version, text)))


async def _publish(settings: Settings, name: str, payload: bytes) -> None:
    clock = SystemClock()
    session = MqttSession(settings.broker, client_id=f"mg-plan-{secrets.token_hex(4)}", clock=clock)
    link = asyncio.ensure_future(session.run())
    try:
        end = clock.monotonic() + _DEADLINE_S
        while not session.connected:
            if clock.monotonic() > end:
                raise BrokerError(f"the plan was not published: {session.last_problem}")
            await clock.sleep(0.02)
        await clock.timeout(session.publish(name, payload, retain=True), _DEADLINE_S)
    except TimeoutError:
        raise BrokerError("the plan was not published: the broker does not confirm it") from None
    finally:
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)
