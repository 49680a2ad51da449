"""Meters that speak MQTT: one session with the field broker, acknowledged only after the outbox commit (promise 1).

A delivery is decoded, its rows are committed to the outbox, its counters are written down, and only then the broker
is told that it need not deliver it again, in order. While the outbox takes nothing nothing is acknowledged, and
receive-maximum keeps the rest at the broker. The session is persistent: what arrives for us while we are away waits
at the broker as long as its limits and `session_expiry_s` allow.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from gateway.drivers.mqtt_memory import MqttMemory
from gateway.drivers.mqtt_rows import Batch, RowMaker, Stamp, silent
from gateway.plan_mqtt import MqttBus
from gateway.protocols import sparkplug_b
from gateway.protocols.sparkplug_births import rebirth_command
from metering.clock import Clock
from metering.errors import BrokerError, OutboxError
from metering.mqtt import BrokerSettings, Delivery, Message, MqttSession
from metering.reading import Event, Row

Keep = Callable[[Sequence[Row]], Awaitable[None]]
"""Takes rows and returns after their commit. Raises: OutboxError, and none was taken."""

_AT_ONCE: Final = 500
_RETRY_S: Final = 1.0
_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 10.0
"""A broker that starts again is not worth an event."""
_log = structlog.get_logger(__name__)


class MqttMeters:
    """All MQTT buses of a plan. `run` until cancelled.

    client_id: names our session at the broker; two clients with one id throw each other out.
    """

    def __init__(
        self,
        buses: Sequence[MqttBus],
        broker: BrokerSettings,
        *,
        client_id: str,
        receive_maximum: int,
        session_expiry_s: int,
        clock: Clock,
        memory: MqttMemory,
        stamp: Stamp,
        keep: Keep,
        look_s: float = _LOOK_S,
    ) -> None:
        """look_s: [s] between two looks at whether the broker is there."""
        self.buses = tuple(buses)
        self.rows = RowMaker(self.buses, memory, stamp)
        self.tap: Callable[[Delivery], None] | None = None
        self._look_s = look_s
        self._clock = clock
        self._memory = memory
        self._keep = keep
        self._started = clock.now_ms()
        self._state_topic = ""
        topics = dict.fromkeys(topic for bus in self.buses for topic in bus.topics)
        if any(bus.speaks_sparkplug for bus in self.buses):
            self._state_topic = f"{sparkplug_b.NAMESPACE}/STATE/{client_id}"
        self.session = MqttSession(
            broker,
            client_id=client_id,
            clock=clock,
            subscriptions=[(topic, 1) for topic in topics],
            will=Message(self._state_topic, self._state(online=False), 1, True) if self._state_topic else None,
            receive_maximum=receive_maximum,
            session_expiry_s=session_expiry_s,
            on_connect=self._up,
            on_disconnect=self._down,
        )

    @property
    def counters(self) -> dict[str, int]:
        """What came, what became of it, and how the connection is."""
        session = {f"mqtt_{name}": count for name, count in self.session.counters.items()}
        return {f"field_{name}": count for name, count in {**self.rows.counters, **session}.items()}

    @property
    def meters(self) -> int:
        """How many meters the plan has here."""
        return sum(len(bus.meters) for bus in self.buses)

    @property
    def meters_silent(self) -> int:
        """How many of them sent nothing for three of their intervals."""
        return silent(self.buses, self.rows.last_seen, self._started, self._clock.now_ms())

    async def run(self) -> None:
        """Connect, receive and keep until cancelled."""
        await self._open_memory()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stay_connected())
                tasks.create_task(self._work())
                tasks.create_task(self._watch())
        finally:
            await self._memory.close()

    async def _open_memory(self) -> None:
        while True:
            try:
                await self._memory.open()
                return
            except OutboxError as error:
                _log.error("no message is taken before this is mended", why=error.message)
                await self._clock.sleep(_RETRY_S)

    async def _stay_connected(self) -> None:
        """Run the session; at the end say on Sparkplug's STATE topic that we leave: a proper end has no will."""
        link = asyncio.ensure_future(self.session.run())
        try:
            await asyncio.shield(link)
        finally:
            if self._state_topic and self.session.connected:
                self._tell_state(online=False)
            link.cancel()
            with suppress(asyncio.CancelledError):
                await link

    async def _watch(self) -> None:
        """Say once when the broker cannot be had, and again when it can: nobody is heard in between."""
        lost_since, said = self._clock.monotonic(), False
        while True:
            await self._clock.sleep(self._look_s)
            now, event = self._clock.now_ms(), None
            if self.session.connected:
                lost_since = self._clock.monotonic()
                if said:
                    event = Event(kind="read_recovered", at=now, cause="connect", text="the field broker is back")
                said = False
            elif not said and self._clock.monotonic() - lost_since >= _PATIENCE_S:
                said, why = True, self.session.last_problem
                _log.error("no field broker", why=why)
                text = f"field broker: {why}"[:500]
                event = Event(kind="read_failed", at=now, cause="connect", text=text)
            if event is not None:
                with suppress(OutboxError):  # its own state says what is wrong then
                    await self._keep([event])

    async def _work(self) -> None:
        while True:
            deliveries = await self.session.receive(_AT_ONCE)
            batch = Batch()
            for delivery in deliveries:
                if self.tap is not None:
                    self.tap(delivery)
                self.rows.take(delivery, self._clock.now_ms(), batch)
            await self._commit(batch)
            for delivery in deliveries:
                delivery.ack()
            self.rows.counters["acknowledged"] += len(deliveries)
            for group, edge in batch.rebirths:
                self._ask_rebirth(group, edge)

    async def _commit(self, batch: Batch) -> None:
        """Stamps, rows, counters: in this order, however long the disk takes to let us."""
        await self._until_kept(lambda: self._memory.keep_stamps(batch.stamps))
        if batch.rows:
            await self._until_kept(lambda: self._keep(batch.rows))
        await self._until_kept(lambda: self._memory.keep_counters(batch.counters))

    async def _until_kept(self, work: Callable[[], Awaitable[None]]) -> None:
        said = False
        while True:
            try:
                await work()
                return
            except OutboxError as error:
                if not said:
                    _log.error("field messages wait, unacknowledged", why=error.message)
                said = True
                await self._clock.sleep(_RETRY_S)

    def _ask_rebirth(self, group: str, edge: str) -> None:
        topic = f"{sparkplug_b.NAMESPACE}/{group}/NCMD/{edge}"
        payload = sparkplug_b.encode(rebirth_command(timestamp=self._clock.now_ms()))
        self._send(topic, payload, qos=0)

    def _state(self, *, online: bool) -> bytes:
        return json.dumps({"online": online, "timestamp": self._started}).encode()

    def _tell_state(self, *, online: bool) -> None:
        self._send(self._state_topic, self._state(online=online), qos=1, retain=True)

    def _send(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        def sent(future: asyncio.Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BrokerError):
                _log.warning("the field broker did not take our message", topic=topic, why=error.message)

        self.session.send(topic, payload, qos=qos, retain=retain).add_done_callback(sent)

    def _up(self) -> None:
        _log.info("field broker connected", buses=[bus.name for bus in self.buses])
        if self._state_topic:
            self._tell_state(online=True)

    def _down(self, why: str) -> None:
        _log.warning("field broker lost", why=why)
