"""An MQTT broker within this process, for a virtual house without a broker on the wire.

Sessions think that they are connected; what they send reaches who subscribed, in order, within the same virtual
moment. QoS 1 is kept until acknowledged and bounded by receive-maximum; retained messages and last wills are kept,
and sessions that ask for it, with what was sent to them meanwhile. `stop` and `start` are a broker that is killed and
comes back, without what it had kept. A client's way to it can be cut, be slow, or end half-open.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from paho.mqtt.client import topic_matches_sub

from metering.broker_settings import BrokerSettings, Credential
from metering.errors import BrokerError
from metering.mqtt import Delivery, Message, MqttSession


@dataclass(slots=True)
class _Away:
    """A session whose client is not there. until: [s of the monotonic clock] how long it is kept."""

    subscriptions: list[tuple[str, int]]
    until: float
    messages: deque[Message] = field(default_factory=deque)
    unacknowledged: int = 0


@dataclass(slots=True)
class _Way:
    """A client's way to the broker. why: why it does not get through, "" when it does. delay_s: [s] each way."""

    why: str = ""
    delay_s: float = 0.0


class MemoryBroker:
    """The middle of it. `settings` is what services get as their broker. counters: published, delivered.

    watchers: called with each message that is published. unheard: messages that no session wanted, by topic.
    """

    def __init__(self) -> None:
        self.counters = {"published": 0, "delivered": 0}
        self.up = True
        self.watchers: list[Callable[[Message], None]] = []
        self.unheard: Counter[str] = Counter()
        self._links: list[MemoryLink] = []
        self._retained: dict[str, Message] = {}
        self._away: dict[str, _Away] = {}
        self._ways: dict[str, _Way] = {}
        self.settings = BrokerSettings().carried_by(self.carry)

    def carry(self, session: MqttSession, _: bool) -> MemoryLink:
        """Make a session's next link (`BrokerSettings.carried_by`)."""
        return MemoryLink(self, session)

    def stop(self) -> None:
        """Die: all links are lost, what was kept is gone, nobody gets in."""
        self.up = False
        self._retained.clear()
        self._away.clear()
        for link in list(self._links):
            link.lose("the broker is gone")

    def start(self) -> None:
        """Come back, empty."""
        self.up = True

    def lose(self, client_id: str) -> None:
        """Break the link of one client, as a cable that is pulled: its last will is published."""
        for link in [link for link in self._links if link.session.client_id == client_id]:
            link.lose("link to the broker lost", with_will=True)

    def cut(self, client_id: str) -> None:
        """Break a client's way; it does not get through until `mend`."""
        self.way(client_id).why = "cannot connect to the broker: no route"
        self.lose(client_id)

    def half_open(self, client_id: str) -> None:
        """Let a client's connection end without a word; it does not get through until `mend`.

        Nothing arrives any more, either way; the client notices when its signs of life stay without an answer.
        """
        self.way(client_id).why = "the broker does not answer"
        for link in self._links:
            if link.session.client_id == client_id:
                link.go_deaf()

    def delay(self, client_id: str, seconds: float) -> None:
        """Let a client's messages take so long, both ways; 0 ends it."""
        self.way(client_id).delay_s = seconds

    def mend(self, client_id: str) -> None:
        """Let a client through again, at once."""
        self._ways.pop(client_id, None)

    def way(self, client_id: str) -> _Way:
        """Return how a client's way is."""
        return self._ways.setdefault(client_id, _Way())

    def join(self, link: MemoryLink) -> None:
        """Let a link in, with what was kept for its session. Raises: BrokerError while the broker is away."""
        session = link.session
        if why := "" if self.up else "cannot connect to the broker: it is away":
            raise BrokerError(why)
        if why := self.way(session.client_id).why:
            raise BrokerError(why)
        self._links.append(link)
        away = self._away.pop(session.client_id, None)
        if away is not None and away.until >= session.clock.monotonic():
            for place, message in enumerate(away.messages):
                link.deliver(message, retained=False, again=place < away.unacknowledged)

    def leave(self, link: MemoryLink, *, with_will: bool) -> None:
        """Forget a link; harmless twice."""
        if link in self._links:
            self._links.remove(link)
            session = link.session
            if self.up and session.session_expiry_s:
                until = session.clock.monotonic() + session.session_expiry_s
                self._away[session.client_id] = _Away(list(session.subscriptions), until, *link.kept())
            if with_will and self.up and link.session.will is not None:
                self.publish(link.session.will)

    def publish(self, message: Message) -> None:
        """Hand a message to everybody who subscribed."""
        self.counters["published"] += 1
        for watcher in tuple(self.watchers):
            watcher(message)
        heard = False
        for away in self._away.values():
            if message.qos and any(topic_matches_sub(wanted, message.topic) for wanted, _ in away.subscriptions):
                away.messages.append(message)
                heard = True
        if message.retain and message.payload:
            self._retained[message.topic] = message
        elif message.retain:
            self._retained.pop(message.topic, None)
        for link in list(self._links):
            if any(topic_matches_sub(wanted, message.topic) for wanted, _ in link.session.subscriptions):
                link.deliver(message, retained=False)
                heard = True
        self.unheard[message.topic] += not heard

    def retained(self, wanted: str) -> list[Message]:
        """Return what is kept for a subscription, by topic."""
        return [self._retained[name] for name in sorted(self._retained) if topic_matches_sub(wanted, name)]


@dataclass(frozen=True, slots=True)
class _Queued:
    """A message for a session. again: delivered before. due: [s of the monotonic clock] when it has arrived."""

    message: Message
    retained: bool
    again: bool
    due: float


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
        self._open = self._deaf = False
        self._queue: deque[_Queued] = deque()
        self._unacknowledged: deque[Delivery] = deque()
        self._due = 0.0
        self._later: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect and subscribe. Raises: BrokerError."""
        await asyncio.sleep(0)  # noqa: TID251  a turn for others, no time: connecting is never instant
        self._open = True
        self._broker.join(self)
        self.subscribe(self.session.subscriptions)

    def close(self) -> None:
        """End the connection as DISCONNECT does: without a last will."""
        self._open = False
        self._broker.leave(self, with_will=False)
        self._forget()

    def lose(self, reason: str, *, with_will: bool = False) -> None:
        """Break: the session notices and connects again."""
        self.reason, self._open = reason, False
        self._broker.leave(self, with_will=with_will)
        self._forget()
        if not self.lost.done():
            self.lost.set_result(None)

    def kept(self) -> tuple[deque[Message], int]:
        """Return what a session keeps that outlives its connection, and how many of it were delivered before."""
        again = [each for each in self._unacknowledged if not each.is_acknowledged]
        messages = deque(Message(each.topic, each.payload, each.qos) for each in again)
        messages += (each.message for each in self._queue if each.message.qos)
        return messages, len(again)

    def go_deaf(self) -> None:
        """Pass nothing on any more; after one and a half times its keep-alive the client notices."""
        self._deaf = True
        self._after(1.5 * self.session.settings.keepalive_s, lambda: self.lose("no sign of life from the broker"))

    def publish(self, message: Message, future: asyncio.Future[None]) -> None:
        """Take a message; it is acknowledged in the loop's next turn, after it was handed on."""
        self.session.counters["sent"] += 1
        self._on_its_way(lambda: self._hand_over(message, future))

    def _hand_over(self, message: Message, future: asyncio.Future[None]) -> None:
        if not self._open:
            if not future.done():
                future.set_exception(BrokerError(self.reason or "session closed"))
            return
        if self._deaf:  # PUBACK never comes
            self.lost.add_done_callback(lambda _: self._hand_over(message, future))
            return
        self._broker.publish(message)
        if not future.done():
            future.set_result(None)

    def _on_its_way(self, arrive: Callable[[], None]) -> None:
        """Let something arrive: in the loop's next turn, or later where the way is slow; order is kept."""
        delay, now = self._broker.way(self.session.client_id).delay_s, self.session.clock.monotonic()
        if not delay and self._due <= now:
            asyncio.get_running_loop().call_soon(arrive)
            return
        self._due = max(self._due, now + delay)
        self._after(self._due - now, arrive)

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        async def later() -> None:
            await self.session.clock.sleep(seconds)
            work()

        task = asyncio.get_running_loop().create_task(later())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _forget(self) -> None:
        """What is kept is with the broker; what waited here has nobody left."""
        self._queue.clear()
        self._unacknowledged.clear()

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

    def deliver(self, message: Message, *, retained: bool, again: bool = False) -> None:
        """Queue a message for the session. again: it was delivered before and not acknowledged."""
        if self._open:
            self._on_its_way(self._drain)
            self._queue.append(_Queued(message, retained, again, self._due))

    def _drain(self) -> None:
        while (
            self._open and not self._deaf and self._queue and len(self._unacknowledged) < self.session.receive_maximum
        ):
            if self._queue[0].due > self.session.clock.monotonic():
                return
            next_one = self._queue.popleft()
            message, kept = next_one.message, next_one.message.qos > 0
            delivery = Delivery(
                message.topic,
                message.payload,
                message.qos,
                next_one.retained,
                self if kept else None,
                dup=next_one.again,
            )
            if kept:
                self._unacknowledged.append(delivery)
            self._broker.counters["delivered"] += 1
            self.session.take_in(delivery)
