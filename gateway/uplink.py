"""Hand rows on to ingest over MQTT until it says that they are committed; `send_ledger` decides, this file acts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from gateway.outbox import Outbox
from gateway.send_ledger import Flight, SendLedger
from gateway.spans import Span
from metering.clock import Clock
from metering.errors import MessageError, OutboxError
from metering.messages import (
    MAX_BYTES,
    VERSION,
    Ack,
    Health,
    State,
    decode_ack,
    encode,
    payload_digest,
    topic,
)
from metering.mqtt import BrokerSettings, Delivery, Message, MqttSession
from metering.reading import Event

_HEAD_BYTES: Final = 1536
"""Room in a message for everything but the rows."""
_RETRY_S: Final = 0.5
_FOREIGN_EVERY_S: Final = 3600.0
_log = structlog.get_logger(__name__)


def build_up(
    gateway: str, epoch: str, seq: int, oldest: int, produced: int, sent_at: int, rows: bytes,
    gone: Sequence[Span] = (),
) -> bytes:  # fmt: skip
    """Return an `Up` message, byte for byte what `encode(Up(…))` gives. rows: JSON with commas between."""
    head = (
        f'{{"v":{VERSION},"gateway":"{gateway}","epoch":"{epoch}","seq":{seq},"oldest":{oldest},'
        f'"produced":{produced},"sent_at":{sent_at},"rows":['
    )
    tail = f'],"gone":{encode(list(gone)).decode()}}}' if gone else "]}"
    return b"".join((head.encode(), rows, tail.encode()))


class Uplink:
    """One gateway's link to ingest. `run` until cancelled.

    on_event: takes security events. health: makes the report that is published every `health_interval_s`.
    """

    def __init__(
        self,
        outbox: Outbox,
        ledger: SendLedger,
        broker: BrokerSettings,
        *,
        clock: Clock,
        version: str,
        health: Callable[[], Health],
        health_interval_s: float,
        on_event: Callable[[Event], object],
        inboxes: Mapping[str, Callable[[Delivery], None]] | None = None,
    ) -> None:
        """inboxes: who takes what comes on a topic of ours beside `ack`, by its last word (cmd, plan)."""
        self.outbox = outbox
        self.ledger = ledger
        self.counters = dict.fromkeys(("bad_acks", "retained_acks", "refused_by_broker"), 0)
        self._clock = clock
        self._version = version
        self._health = health
        self._health_interval_s = health_interval_s
        self._on_event = on_event
        self._wake = asyncio.Event()
        self._needs_epoch = False
        self._foreign_at = -_FOREIGN_EVERY_S
        self._topic = partial(topic, outbox.gateway)
        self._inboxes = {self._topic(leaf): take for leaf, take in (inboxes or {}).items()}
        self.session = MqttSession(
            broker,
            client_id=f"mg-gateway-{outbox.gateway}",
            clock=clock,
            subscriptions=[(name, 1) for name in (self._topic("ack"), *self._inboxes)],
            will=Message(self._topic("state"), self._state(online=False), 1, True),
            on_connect=self._connected,
            on_disconnect=self._disconnected,
        )
        outbox.on_commit = self._committed
        outbox.on_epoch = self._renumbered
        self._renumbered()

    async def run(self) -> None:
        """Work until cancelled; says goodbye on the state topic."""
        jobs = (self.session.run(), self._send_for_ever(), self._listen(), self._report())
        try:
            async with asyncio.TaskGroup() as tasks:
                for job in jobs[1:]:
                    tasks.create_task(job)
                session = asyncio.ensure_future(jobs[0])
                try:
                    await asyncio.shield(session)
                finally:
                    self._say_goodbye()
                    await self._clock.sleep(0)
                    session.cancel()
                    await asyncio.gather(session, return_exceptions=True)
        finally:
            self.outbox.on_commit = self.outbox.on_epoch = lambda: None

    def send_tap(self, lines: bytes) -> None:
        """Publish raw frames that somebody wants to see; what gets lost is lost."""
        self.session.send(self._topic("tap"), lines, qos=0).add_done_callback(_seen)

    def _say_goodbye(self) -> None:
        """A clean end sends no last will, so it is said here."""
        if self.session.connected:
            goodbye = self.session.send(self._topic("state"), self._state(online=False), retain=True)
            goodbye.add_done_callback(_seen)

    def _state(self, *, online: bool) -> bytes:
        now, epoch = self._clock.now_ms(), self.outbox.epoch
        return encode(State(VERSION, self.outbox.gateway, online, now, epoch, self._version))

    def _connected(self) -> None:
        self.ledger.connect(self._clock.monotonic())
        birth = self.session.send(self._topic("state"), self._state(online=True), retain=True)
        birth.add_done_callback(_seen)
        self._wake.set()

    def _disconnected(self, reason: str) -> None:
        _log.warning("link to the broker lost", gateway=self.outbox.gateway, why=reason)
        self.ledger.disconnect()

    def _committed(self) -> None:
        self.ledger.add(self.outbox.produced)
        self._wake.set()

    def _renumbered(self) -> None:
        """The outbox got another epoch: everything it holds is to be sent under it."""
        self.ledger.reset(self.outbox.epoch, self.outbox.held, self.outbox.produced)
        if self.session.connected:
            self._connected()

    async def _send_for_ever(self) -> None:
        while True:
            self._wake.clear()
            try:
                if self._needs_epoch:
                    await self.outbox.start_epoch()
                    self._needs_epoch = False
                await self._send_what_may()
            except OutboxError as error:  # the disk cannot be read now; what is on it is sent later
                _log.warning("rows cannot be read from the outbox", gateway=self.outbox.gateway, why=error.message)
                await self._clock.sleep(_RETRY_S)
                continue
            await self._wait()

    async def _wait(self) -> None:
        now = self._clock.monotonic()
        pause = self.ledger.wake_at(now) - now
        try:
            await self._clock.timeout(self._wake.wait(), max(0.001, pause))
        except TimeoutError:
            self.ledger.tick(self._clock.monotonic())

    async def _send_what_may(self) -> None:
        ledger = self.ledger
        ledger.tick(self._clock.monotonic())
        while (wanted := ledger.next(self._clock.monotonic())) is not None:
            epoch = ledger.epoch
            count, rows = await self.outbox.read(wanted.low, wanted.high, MAX_BYTES - _HEAD_BYTES)
            if not count:
                self.outbox.distrust(f"rows from {wanted.low} on should be in the outbox and are not")
                raise OutboxError("the outbox is about to be replaced")
            if not self.session.connected:
                return  # at the end nobody tells the ledger, and rows in memory are read without a pause: no turning
            if epoch != ledger.epoch:
                continue
            self._send(wanted.low, count, rows)
        if ledger.gone and ledger.connected and not ledger.in_flight:
            self._publish(ledger.produced + 1, b"")

    def _send(self, low: int, count: int, rows: bytes) -> None:
        payload, sent = self._publish(low, rows)
        flight = self.ledger.sent(low, low + count - 1, payload_digest(payload), self._clock.monotonic())
        sent.add_done_callback(partial(self._puback, flight))

    def _publish(self, seq: int, rows: bytes) -> tuple[bytes, asyncio.Future[None]]:
        ledger, gone = self.ledger, self.ledger.take_gone()
        payload = build_up(
            self.outbox.gateway, ledger.epoch, seq, ledger.oldest, ledger.produced, self._clock.now_ms(), rows, gone
        )
        sent = self.session.send(self._topic("up"), payload)
        sent.add_done_callback(_seen)
        return payload, sent

    def _puback(self, flight: Flight, sent: asyncio.Future[None]) -> None:
        """A PUBACK only controls flow; a refusal sends the rows again after a pause."""
        if not sent.cancelled() and sent.exception() is not None and self.session.connected:
            self.counters["refused_by_broker"] += 1
            self.ledger.failed(flight, self._clock.monotonic())
        self._wake.set()

    async def _listen(self) -> None:
        while True:
            for delivery in await self.session.receive(100):
                if (inbox := self._inboxes.get(delivery.topic)) is not None:
                    inbox(delivery)
                elif delivery.retain:  # an acknowledgement of another day
                    self.counters["retained_acks"] += 1
                elif delivery.topic == self._topic("ack"):
                    self._hear(delivery.payload)
                delivery.ack()

    def _hear(self, payload: bytes) -> None:
        try:
            ack = decode_ack(payload)
        except MessageError as error:
            self.counters["bad_acks"] += 1
            _log.warning("unreadable acknowledgement", gateway=self.outbox.gateway, why=error.message)
            return
        answered = self.ledger.acknowledged(ack, self._clock.monotonic())
        if answered.done:
            self.outbox.acknowledge(answered.done)
        if answered.foreign:
            self._foreign(ack)
        if answered.needs_epoch:
            why = f"ingest acknowledged {ack.upto}, only {self.outbox.produced} were produced: a restored disk"
            _log.warning("the outbox gets a new epoch", gateway=self.outbox.gateway, why=why)
            self._needs_epoch = True
        self._wake.set()

    def _foreign(self, ack: Ack) -> None:
        """An epoch that was never ours: another gateway uses our name. Reported at most once an hour."""
        now = self._clock.monotonic()
        if ack.epoch not in self.outbox.past_epochs() and now - self._foreign_at >= _FOREIGN_EVERY_S:
            self._foreign_at = now
            text = f"acknowledgement for epoch {ack.epoch}, which was never ours: is a second gateway using this id?"
            self._on_event(Event(kind="security", at=self._clock.now_ms(), cause="foreign_epoch", text=text))

    async def _report(self) -> None:
        while True:
            if self.session.connected:
                self.session.send(self._topic("health"), encode(self._health()), qos=0).add_done_callback(_seen)
            await self._clock.sleep(self._health_interval_s)


def _seen(future: asyncio.Future[None]) -> None:
    """Look at an error, so that asyncio does not call it forgotten: what was not sent is sent again."""
    if not future.cancelled():
        future.exception()
