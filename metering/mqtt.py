"""One MQTT session on the asyncio loop: paho-mqtt does the protocol, this file does the manners.

- QoS 1 deliveries are acknowledged by hand, after the work, in the order of their arrival (MQTT 5, 4.6).
- Acknowledgements that belong to a lost connection are dropped: on the new one the same number may name another
  message. Each connection is a new paho client, so nothing of the old one can leak into it.
- Reason codes are read where the broker has them (MQTT 5): a message refused by an access list fails its `send`.
  MQTT 3.1.1 brokers answer "success" and throw such a message away, which is why nothing depends on PUBACK.
- The login is read anew for each connection, and looked at each second: when it changed, the session connects with
  the new one. While the broker refuses the new one, the one that worked last is used, so that no order of steps in
  replacing a password keeps anybody out.
- Bounded: QoS 1 by receive-maximum (MQTT 5; 3.1.1 brokers have their own limit), QoS 0 by `MAX_WAITING`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from metering.broker_settings import BrokerSettings, Credential
from metering.clock import Clock
from metering.errors import BrokerError
from metering.mqtt_link import Delivery, Link, Message, TcpLink

__all__ = ["MAX_WAITING", "BrokerSettings", "Delivery", "Message", "MqttSession", "TcpLink"]

MAX_WAITING: Final = 10_000
"""QoS 0 deliveries kept for a slow reader; more are dropped and counted."""
_FIRST_RETRY_S: Final = 0.2
_LAST_RETRY_S: Final = 15.0
_STEADY_S: Final = 5.0  # a link that falls sooner keeps the back-off growing (two clients with one id would storm)


class MqttSession:
    """Connects, stays connected, sends and receives; see the module's docstring for the manners.

    Counters: connects, disconnects, received, dropped_qos0, sent, refused, subscribe_refused, login_refused,
    login_changed.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        clock: Clock,
        subscriptions: Sequence[tuple[str, int]] = (),
        will: Message | None = None,
        receive_maximum: int = 100,
        maximum_packet_bytes: int = 1024 * 1024,
        session_expiry_s: int = 0,
        on_connect: Callable[[], None] | None = None,
        on_disconnect: Callable[[str], None] | None = None,
    ) -> None:
        """session_expiry_s: > 0 asks the broker to keep the session (QoS 1 messages) that long while we are away."""
        self.settings = settings
        self.client_id = client_id
        self.clock = clock
        self.subscriptions = list(subscriptions)
        self.will = will
        self.receive_maximum = receive_maximum
        self.maximum_packet_bytes = maximum_packet_bytes
        self.session_expiry_s = session_expiry_s
        self.on_connect = on_connect
        self.on_disconnect = on_disconnect
        self.last_problem = "not connected yet"
        self.counters = dict.fromkeys(
            (
                "connects",
                "disconnects",
                "received",
                "dropped_qos0",
                "sent",
                "refused",
                "subscribe_refused",
                "login_refused",
                "login_changed",
            ),
            0,
        )
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._link: Link | None = None
        self._speak_5 = settings.protocol != "3.1.1"
        self._jitter = random.Random(client_id)
        self._login_worked: Credential | None = None
        self._login_refused: Credential | None = None

    @property
    def connected(self) -> bool:
        """True between a successful CONNACK (and SUBACK) and the loss of the link."""
        return self._link is not None

    @property
    def protocol(self) -> str:
        """The MQTT version of the present (or next) connection: "5" or "3.1.1"."""
        return "5" if self._speak_5 else "3.1.1"

    def renew_login(self) -> None:
        """Look at the login again, also at one that the broker refused before; takes effect within a second."""
        self._login_refused = None

    async def run(self) -> None:
        """Keep the session up until cancelled; cancelling sends DISCONNECT."""
        delay = _FIRST_RETRY_S
        while True:
            link: Link = (self.settings.carrier or TcpLink)(self, self._speak_5)
            try:
                await link.open()
                self._set_link(link)
                opened_at = self.clock.monotonic()
                await link.lost
                self.last_problem = link.reason
                if self.clock.monotonic() - opened_at > _STEADY_S:
                    delay = _FIRST_RETRY_S
            except BrokerError as error:
                self.last_problem = error.message
                self._maybe_change_protocol(link)
            finally:
                was_up = self._link is link
                self._link = None
                link.close()
                self._note_login(link, worked=was_up)
            if was_up:
                self.counters["disconnects"] += 1
                if self.on_disconnect:
                    self.on_disconnect(self.last_problem)
            await self.clock.sleep(delay * (0.75 + 0.5 * self._jitter.random()))
            delay = min(delay * 2, _LAST_RETRY_S)

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        """Publish; the future is done after PUBACK (QoS 1) or hand-over to the socket (QoS 0).

        It fails with BrokerError when there is no link, the link breaks, or the broker gives a refusing reason code.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._link is None:
            future.set_exception(BrokerError(f"no link to the broker: {self.last_problem}", port=self._port()))
        else:
            self._link.publish(Message(topic, payload, qos, retain), future)
        return future

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """`send` and wait. Raises: BrokerError."""
        await self.send(topic, payload, qos=qos, retain=retain)

    async def receive(self, limit: int) -> list[Delivery]:
        """Wait for at least one delivery and return up to `limit`, oldest first."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> None:
        """Subscribe to more, now and after every reconnect; a broker that refuses them ends the link."""
        self.subscriptions += [wanted for wanted in topics if wanted not in self.subscriptions]
        if self._link is not None and topics:
            self._link.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Let go of topics; deliveries that are on their way may still come."""
        self.subscriptions = [wanted for wanted in self.subscriptions if wanted[0] not in topics]
        if self._link is not None and topics:
            self._link.unsubscribe(topics)

    def _port(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    def _set_link(self, link: Link) -> None:
        self._link = link
        self.last_problem = ""
        self.counters["connects"] += 1
        if self.on_connect:
            self.on_connect()

    def _login(self) -> Credential:
        """Return the login for the next connection. Raises: BrokerError when there is none."""
        worked = self._login_worked
        try:
            now = self.settings.credential()
        except BrokerError:
            if worked is None:
                raise
            return worked
        return worked if worked is not None and now == self._login_refused else now

    def _login_changed(self, link: Link) -> bool:
        """True when the settings hold another login than the link's, and the broker has not refused that one."""
        try:
            now = self.settings.credential()
        except BrokerError:
            return False  # a file that is being replaced, or gone: what works goes on
        return now not in (link.login, self._login_refused)

    def _note_login(self, link: Link, *, worked: bool) -> None:
        if worked:
            self._login_worked, self._login_refused = link.login, None
        elif link.login_refused:
            self.counters["login_refused"] += 1
            self._login_refused = link.login

    def _maybe_change_protocol(self, link: Link) -> None:
        """`auto`: a broker without MQTT 5 refuses it by code or hangs up before CONNACK; then 3.1.1 is tried."""
        if self.settings.protocol == "auto" and (link.no_such_protocol or not self._speak_5):
            self._speak_5 = not self._speak_5

    def take_in(self, delivery: Delivery) -> None:
        """Keep a delivery for `receive`; links call it."""
        self.counters["received"] += 1
        if delivery.qos == 0 and len(self._waiting) >= MAX_WAITING:
            self.counters["dropped_qos0"] += 1
            return
        self._waiting.append(delivery)
        self._arrived.set()
