"""An MQTT broker within this process, for a virtual house without a broker on the wire.

Sessions think that they are connected; what they send reaches who subscribed, in order, within the same virtual
moment. QoS 1 is kept until acknowledged and bounded by receive-maximum; retained messages and last wills are kept.
Sessions do not outlive their connection. `stop` and `start` are a broker that is killed and comes back, without what
it had retained.
"""

from __future__ import annotations

import asyncio
from collections import deque

from paho.mqtt.client import topic_matches_sub

from metering.broker_settings import BrokerSettings, Credential
from metering.errors import BrokerError
from metering.mqtt import Delivery, Message, MqttSession


class MemoryBroker:
    """The middle of it. `settings` is what services get as their broker. counters: published, delivered."""

    def __init__(self) -> None:
        self.counters = {"published": 0, "delivered": 0}
        self.up = True
        self._links: list[MemoryLink] = []
        self._retained: dict[str, Message] = {}
        self.settings = BrokerSettings().carried_by(lambda session, _: MemoryLink(self, session))

    def stop(self) -> None:
        """Die: all links are lost, what was retained is gone, nobody gets in."""
        self.up = False
        self._retained.clear()
        for link in list(self._links):
            link.lose("the broker is gone")

    def start(self) -> None:
        """Come back, empty."""
        self.up = True

    def lose(self, client_id: str) -> None:
        """Break the link of one client, as a cable that is pulled: its last will is published."""
        for link in [link for link in self._links if link.session.client_id == client_id]:
            link.lose("link to the broker lost", with_will=True)

    def join(self, link: MemoryLink) -> None:
        """Let a link in. Raises: BrokerError while the broker is away."""
        if not self.up:
            raise BrokerError("cannot connect to the broker: it is away")
        self._links.append(link)

    def leave(self, link: MemoryLink, *, with_will: bool) -> None:
        """Forget a link; harmless twice."""
        if link in self._links:
            self._links.remove(link)
            if with_will and self.up and link.session.will is not None:
                self.publish(link.session.will)

    def publish(self, message: Message) -> None:
        """Hand a message to everybody who subscribed."""
        self.counters["published"] += 1
        if message.retain and message.payload:
            self._retained[message.topic] = message
        elif message.retain:
            self._retained.pop(message.topic, None)
        for link in list(self._links):
            if any(topic_matches_sub(wanted, message.topic) for wanted, _ in link.session.subscriptions):
                link.deliver(message, retained=False)

    def retained(self, wanted: str) -> list[Message]:
        """Return what is kept for a subscription, by topic."""
        return [self._retained[name] for name in sorted(self._retained) if topic_matches_sub(wanted, name)]


class MemoryLink:
    """One session's connection; the same members as the link over TCP of `metering.mqtt`."""

    def __init__(self, broker: MemoryBroker, session: MqttSession) -> None:
        self.session = session
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reason = ""
        self.no_such_protocol = False
        self.login = Credential("", "")
        self.login_refused = False
        self._broker = broker
        self._open = False
        self._queue: deque[tuple[Message, bool]] = deque()
        self._unacknowledged: deque[Delivery] = deque()

    async def open(self) -> None:
        """Connect and subscribe. Raises: BrokerError."""
        await asyncio.sleep(0)  # noqa: TID251  a turn for others, no time: connecting is never instant
        self._broker.join(self)
        self._open = True
        self.subscribe(self.session.subscriptions)

    def close(self) -> None:
        """End the connection as DISCONNECT does: without a last will."""
        self._open = False
        self._broker.leave(self, with_will=False)

    def lose(self, reason: str, *, with_will: bool = False) -> None:
        """Break: the session notices and connects again."""
        self.reason, self._open = reason, False
        self._queue.clear()
        self._unacknowledged.clear()
        self._broker.leave(self, with_will=with_will)
        if not self.lost.done():
            self.lost.set_result(None)

    def publish(self, message: Message, future: asyncio.Future[None]) -> None:
        """Take a message; it is acknowledged in the loop's next turn, after it was handed on."""
        self.session.counters["sent"] += 1
        loop = asyncio.get_running_loop()
        loop.call_soon(self._hand_over, message, future)

    def _hand_over(self, message: Message, future: asyncio.Future[None]) -> None:
        if not self._open:
            if not future.done():
                future.set_exception(BrokerError(self.reason or "session closed"))
            return
        self._broker.publish(message)
        if not future.done():
            future.set_result(None)

    def acknowledge_ready(self) -> None:
        """Forget what is acknowledged, in order, and deliver what waited for room."""
        while self._unacknowledged and self._unacknowledged[0].is_acknowledged:
            self._unacknowledged.popleft()
        self._drain()

    def subscribe(self, wanted: object) -> None:
        """Hand over what is retained; whom to ask is read from the session's subscriptions."""
        for topic, _ in wanted if isinstance(wanted, list | tuple) else ():
            for message in self._broker.retained(topic):
                self.deliver(message, retained=True)

    def unsubscribe(self, wanted: object) -> None:
        """The session forgot them already."""

    def deliver(self, message: Message, *, retained: bool) -> None:
        """Queue a message for the session."""
        if self._open:
            self._queue.append((message, retained))
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        while self._open and self._queue and len(self._unacknowledged) < self.session.receive_maximum:
            message, retained = self._queue.popleft()
            kept = message.qos > 0
            delivery = Delivery(message.topic, message.payload, message.qos, retained, self if kept else None)
            if kept:
                self._unacknowledged.append(delivery)
            self._broker.counters["delivered"] += 1
            self.session.take_in(delivery)
