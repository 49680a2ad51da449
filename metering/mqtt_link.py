"""One connection to a broker: what travels on it, and `TcpLink`, a paho client tied to the asyncio loop.

Each connection is a new paho client, so nothing of a lost one can leak into it. `metering.mqtt` has the manners of
the session above it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from metering.broker_settings import Credential, TlsContext, tls_words
from metering.errors import BrokerError

if TYPE_CHECKING:
    from metering.mqtt import MqttSession

_CONNECT_DEADLINE_S: Final = 10.0
_HOUSEKEEPING_S: Final = 1.0
_LOGIN_REFUSED: Final = ("Not authorized", "Bad user name or password", "Bad authentication method")


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """Something that arrived. Call `ack` when the work on it is safe; the session keeps the order.

    dup: the broker says that it may have delivered this before.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    _link: Link | None = field(repr=False, default=None)
    _mid: int = 0
    dup: bool = False
    _done: bool = False

    @property
    def is_acknowledged(self) -> bool:
        """True after `ack`."""
        return self._done

    def ack(self) -> None:
        """Tell the broker that this delivery needs no repeat; harmless twice or after a reconnect."""
        if not self._done:
            self._done = True
            if self._link is not None:
                self._link.acknowledge_ready()


class Link(Protocol):
    """One connection's life, from `open` to `close`; `TcpLink` is the one over TCP.

    lost: done when it broke, `reason` says why. login: with what it was opened.
    """

    lost: asyncio.Future[None]
    reason: str
    no_such_protocol: bool
    login: Credential
    login_refused: bool

    async def open(self) -> None:
        """Connect and subscribe to the session's subscriptions. Raises: BrokerError."""

    def close(self) -> None:
        """End the connection; what waits for an acknowledgement fails."""

    def publish(self, message: Message, future: asyncio.Future[None]) -> None:
        """Send; the future is done when the broker has it, or fails with BrokerError."""

    def acknowledge_ready(self) -> None:
        """A delivery was acknowledged: pass on what is due, in order."""

    def subscribe(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Ask without waiting."""

    def unsubscribe(self, wanted: Sequence[str]) -> None:
        """Ask without waiting."""


class TcpLink:
    """One TCP connection's life: a paho client tied to the asyncio loop."""

    def __init__(self, session: MqttSession, speak_5: bool) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._speak_5 = speak_5
        self._connack: asyncio.Future[None] = self._loop.create_future()
        self._suback: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.reason = ""
        self.no_such_protocol = False
        self.login = Credential("", "")
        self.login_refused = False
        self._context: TlsContext | None = None
        self._sent: dict[int, asyncio.Future[None]] = {}
        self._unacknowledged: deque[Delivery] = deque()
        self._misc: asyncio.Task[None] | None = None
        self._socket: Any = None
        self._closed = False
        self._client = self._make_client()

    async def open(self) -> None:
        """Connect and subscribe. Raises: BrokerError."""
        self._secure()
        try:
            await self._session.clock.timeout(self._connect(), _CONNECT_DEADLINE_S)
            await self._session.clock.timeout(self._connack, _CONNECT_DEADLINE_S)
            await self._subscribe()
        except TimeoutError:
            raise BrokerError("the broker does not answer", port=self._session._port()) from None
        except OSError as error:
            words = f"cannot connect to the broker: {error}"
            if self._context is not None:
                self._context.close_failed()
                words = tls_words(error, self._session.settings.host)
            raise BrokerError(words, port=self._session._port()) from error

    def close(self) -> None:
        """End the connection; what waits for PUBACK fails."""
        if self._misc:
            self._misc.cancel()
        self._closed = True
        self._client.on_disconnect = None
        if self._socket is not None:
            self._client.disconnect()
            with contextlib.suppress(OSError, ValueError):
                self._client.loop_write()  # let DISCONNECT leave before the socket closes
            self._forget_socket()
        self._fail_all(self.reason or "session closed")

    def publish(self, message: Message, future: asyncio.Future[None]) -> None:
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_QUEUE_SIZE):
            future.set_exception(BrokerError(f"not sent: {paho.error_string(info.rc)}"))
            return
        self._session.counters["sent"] += 1
        if message.qos == 0:
            future.set_result(None)
        else:
            self._sent[info.mid] = future

    def acknowledge_ready(self) -> None:
        """Send the acknowledgements that are due, never past a delivery that is still being worked on."""
        # not "is it the session's link": what a kept session held comes before SUBACK, and so may its acknowledgement
        if self._closed or self.lost.done():
            self._unacknowledged.clear()
            return
        while self._unacknowledged and self._unacknowledged[0]._done:
            delivery = self._unacknowledged.popleft()
            self._client.ack(delivery._mid, delivery.qos)

    def _make_client(self) -> paho.Client:
        s = self._session
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=s.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._speak_5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self._speak_5 else s.session_expiry_s == 0,
            manual_ack=True,
        )
        client.connect_timeout = _CONNECT_DEADLINE_S
        client.max_inflight_messages_set(1000)
        if s.will is not None:
            client.will_set(s.will.topic, s.will.payload, s.will.qos, s.will.retain)
        client.on_socket_close = lambda _c, _u, sock: self._socket_close(sock)
        client.on_socket_register_write = lambda _c, _u, sock: self._want_write(sock)
        client.on_socket_unregister_write = lambda _c, _u, sock: self._no_write(sock)
        client.on_connect = self._on_connack
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_suback
        client.on_message = self._on_message
        client.on_publish = self._on_puback
        return client

    def _secure(self) -> None:
        """Login and TLS as they stand now. Raises: BrokerError that names the file."""
        self.login = self._session._login()
        if self.login.username:
            self._client.username_pw_set(self.login.username, self.login.password or None)
        self._context = self._session.settings.tls_context()
        if self._context is not None:
            self._client.tls_set_context(self._context)

    async def _connect(self) -> None:
        s = self._session
        dial = partial(self._client.connect, s.settings.host, s.settings.port, s.settings.keepalive_s)
        if self._speak_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
            properties.ReceiveMaximum = s.receive_maximum
            properties.MaximumPacketSize = s.maximum_packet_bytes
            properties.SessionExpiryInterval = s.session_expiry_s
            dial = partial(dial, clean_start=s.session_expiry_s == 0, properties=properties)
        await self._loop.run_in_executor(None, self._dial, dial)
        self._misc = self._loop.create_task(self._housekeeping())

    def _dial(self, dial: Callable[[], object]) -> None:
        """Connect, in a thread, because it blocks; the loop watches the socket only when this is over.

        paho closes here what breaks before that. Had the loop watched it already, it would go on watching a number
        that the next connection gets, and never hear of that one.
        """
        dial()
        sock = self._client.socket()
        if sock is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._adopt, sock)
        except RuntimeError:  # the loop is closed
            sock.close()

    def _adopt(self, sock: Any) -> None:
        """Watch the socket of a link that stands."""
        if self._closed:  # cancelled while the thread was still connecting
            sock.close()
            return
        self._socket = sock
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._readable)
        if self._client.want_write():
            self._want_write(sock)

    async def _subscribe(self) -> None:
        wanted = self._session.subscriptions
        if not wanted:
            if self._suback.done():  # the link broke since CONNACK
                await self._suback
            else:
                self._suback.set_result(None)
            return
        self.subscribe(wanted)
        await self._session.clock.timeout(self._suback, _CONNECT_DEADLINE_S)

    def subscribe(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Ask without waiting."""
        if self._speak_5:
            self._client.subscribe([(topic, SubscribeOptions(qos=qos)) for topic, qos in wanted])
        else:
            self._client.subscribe(list(wanted))

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask without waiting."""
        self._client.unsubscribe(list(topics))

    async def _housekeeping(self) -> None:
        while self._client.loop_misc() == paho.MQTT_ERR_SUCCESS:
            await self._session.clock.sleep(_HOUSEKEEPING_S)
            if self._session.connected and self._session._login_changed(self):
                self._session.counters["login_changed"] += 1
                self.reason = "the login changed; connecting with the new one"
                self._client.disconnect()
                return

    def _here(self) -> bool:
        """True in the thread of the loop; paho calls its hooks in the connecting thread too."""
        return threading.get_ident() == self._thread

    def _readable(self) -> None:
        sock = self._socket
        self._client.loop_read()
        while self._socket is sock and isinstance(sock, ssl.SSLSocket) and sock.pending():
            self._client.loop_read()
        if self._socket is sock and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._read_to_the_end(sock)

    def _read_to_the_end(self, sock: Any) -> None:
        """Take in what came before a reset: libuv tells of a reset once and watches that socket no more."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # so that the end follows what is there
        while self._socket is sock and self._client.loop_read() == paho.MQTT_ERR_SUCCESS:
            pass

    # `self._socket` is None until the connecting thread has ended: what paho says of it before concerns nobody
    def _socket_close(self, sock: Any) -> None:
        if sock is self._socket:
            self._forget_socket()

    def _forget_socket(self) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket = None

    def _want_write(self, sock: Any) -> None:
        if sock is self._socket:
            self._loop.add_writer(sock, self._client.loop_write)

    def _no_write(self, sock: Any) -> None:
        if sock is self._socket:
            self._loop.remove_writer(sock)

    def _on_connack(self, _c: Any, _u: Any, _flags: Any, code: Any, _p: Any = None) -> None:
        if self._connack.done():
            return
        if code.is_failure:
            self.no_such_protocol = "protocol version" in str(code).lower()
            self.login_refused = str(code) in _LOGIN_REFUSED
            self._connack.set_exception(BrokerError(f"the broker refuses us: {code}", port=self._session._port()))
        else:
            self._connack.set_result(None)

    def _on_suback(self, _c: Any, _u: Any, _mid: int, codes: Any, _p: Any = None) -> None:
        refused = [
            topic for (topic, _), code in zip(self._session.subscriptions, codes, strict=False) if code.is_failure
        ]
        if self._suback.done():
            if any(code.is_failure for code in codes):
                self._session.counters["subscribe_refused"] += 1
                self._client.disconnect()  # connecting again asks for everything and says what is refused
            return
        if refused:
            self._session.counters["subscribe_refused"] += len(refused)
            self._suback.set_exception(
                BrokerError(
                    f"the broker refuses the subscription to {', '.join(refused)}", port=self._session._port()
                )
            )
        else:
            self._suback.set_result(None)

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, code: Any, _p: Any = None) -> None:
        if not self._here():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._on_disconnect, _c, _u, _flags, code, _p)
            return
        self.reason = self.reason or f"link to the broker lost: {code}"
        if not self._connack.done():
            # brokers of 3.1.1 days hang up on a CONNECT of version 5
            self.no_such_protocol = self._speak_5
            self._connack.set_exception(BrokerError(self.reason, port=self._session._port()))
            self._connack.exception()  # marks it as seen; it matters only while somebody waits
        if not self._suback.done():
            self._suback.set_exception(BrokerError(self.reason, port=self._session._port()))
            self._suback.exception()
        if not self.lost.done():
            self.lost.set_result(None)
        self._fail_all(self.reason)

    def _fail_all(self, reason: str) -> None:
        waiting, self._sent = self._sent, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(BrokerError(reason, port=self._session._port()))
        self._unacknowledged.clear()

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        delivery = Delivery(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            self if message.qos else None,
            message.mid,
            message.dup,
        )
        if message.qos:
            self._unacknowledged.append(delivery)
        self._session.take_in(delivery)

    def _on_puback(self, _c: Any, _u: Any, mid: int, code: Any, _p: Any = None) -> None:
        future = self._sent.pop(mid, None)
        if future is None or future.done():
            return
        if code.is_failure:
            self._session.counters["refused"] += 1
            future.set_exception(BrokerError(f"the broker refuses the message: {code}", port=self._session._port()))
        else:
            future.set_result(None)
