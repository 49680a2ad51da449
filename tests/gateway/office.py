"""The office's side of commands for the gateway's tests: a key, envelopes, a session, and what came up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from metering.clock import SystemClock
from metering.messages import Ack, Command, SignedPlan, decode_up, encode, nonce_of, pack_plan, topic
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Event, Row
from metering.signing import OfficeKey, make_key, new_nonce

GATEWAY = "gw"


class Office:
    """Signs, publishes, hears the gateway's rows and acknowledges them (unless `deaf`)."""

    def __init__(self, folder: Path, port: int, gateway: str = GATEWAY) -> None:
        self.key: OfficeKey = make_key(folder / "office.key")
        self.public = folder / "office.pub"
        self.gateway = gateway
        self.clock = SystemClock()
        self.rows: list[Row] = []
        self._seen: set[tuple[str, int]] = set()
        self.session = MqttSession(
            BrokerSettings(port=port), client_id="office", clock=self.clock, subscriptions=[(topic(gateway, "up"), 1)]
        )

    async def run(self) -> None:
        """Until cancelled."""
        link = asyncio.ensure_future(self.session.run())
        try:
            while True:
                for delivery in await self.session.receive(100):
                    self._hear(delivery.payload)
                    delivery.ack()
        finally:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    def _hear(self, payload: bytes) -> None:
        up = decode_up(payload)
        for place, row in enumerate(up.rows):
            if (up.epoch, up.seq + place) not in self._seen:
                self._seen.add((up.epoch, up.seq + place))
                self.rows.append(row)
        self.session.send(topic(self.gateway, "ack"), encode(Ack(1, up.epoch, up.seq + len(up.rows) - 1)))

    def command(self, name: str, args: dict[str, Any], **changes: Any) -> tuple[str, bytes]:
        """Return (nonce, envelope)."""
        now = self.clock.now_ms()
        facts: dict[str, Any] = {
            "v": 1, "gateway": self.gateway, "name": name, "args": args, "nonce": new_nonce(),
            "issued_at": now, "deadline": now + 60_000,
        }  # fmt: skip
        command = msgspec.convert(facts | changes, Command)
        return command.nonce, self.key.seal("command", encode(command))

    def plan(self, text: str, version: int, **changes: Any) -> bytes:
        """Return a signed plan."""
        facts: dict[str, Any] = {
            "v": 1, "gateway": self.gateway, "version": version, "issued_at": 0, "packed": pack_plan(text)
        }  # fmt: skip
        return self.key.seal("plan", encode(msgspec.convert(facts | changes, SignedPlan)))

    async def send(self, payload: bytes, *, leaf: str = "cmd", retain: bool = False) -> None:
        """Publish on one of the gateway's topics."""
        await self.session.publish(topic(self.gateway, leaf), payload, retain=retain)

    def events(self, kind: str, cause: str = "") -> list[Event]:
        """Return the events that came up."""
        found = [row for row in self.rows if isinstance(row, Event) and row.kind == kind]
        return [event for event in found if event.cause == cause or not cause]

    def finals(self, nonce: str) -> list[Event]:
        """Return the closing rows of a command: there should be one."""
        return [e for e in self.events("command_result") if not e.meter and nonce_of(e.text)[0] == nonce]

    def results(self, nonce: str) -> dict[str, Event]:
        """Return the result row of each meter."""
        return {e.meter: e for e in self.events("command_result") if e.meter and nonce_of(e.text)[0] == nonce}


async def until(condition: Callable[[], object], deadline_s: float = 90.0, what: str = "it") -> None:
    """Wait for a condition. Raises: AssertionError."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {deadline_s} s"
        await asyncio.sleep(0.02)
