"""A real broker in a process of its own, for a virtual house whose scenario says `broker = "wire"`.

Its bytes cannot be counted at its end, so messages are: what a session published is under way until the broker took
it, and until every session that subscribed to it has it. A session that has as many unacknowledged messages as the
broker hands out does not hold time up: it waits for the session, not the session for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from paho.mqtt.client import MQTTMessage, topic_matches_sub

from metergate.child import PARENT
from metering.broker_settings import BrokerSettings
from metering.clock import Clock
from metering.errors import BrokerError
from metering.mqtt import Message, MqttSession, TcpLink

IN_FLIGHT: Final = 100
"""QoS 1 messages that rumqttd hands to a client before it wants acknowledgements (iotcore's max_inflight_count)."""
_KEEPALIVE_S: Final = 600
_RARELY_S: Final = 300.0
_TRIES: Final = 2_000
_TRY_S: Final = 0.02
_WORDS: Final = 3
Owed = tuple[str, bytes]
"""Topic and payload."""


class WireBroker:
    """The broker and all sessions with it.

    watchers: called with each message that a session publishes. unheard: messages that no session wanted, by topic.
    """

    def __init__(self, clock: Clock) -> None:
        self.watchers: list[Callable[[Message], None]] = []
        self.unheard: Counter[str] = Counter()
        self.port = _free_port()
        self.settings = BrokerSettings(
            port=self.port, protocol="3.1.1", keepalive_s=_KEEPALIVE_S
        ).carried_by(self.carry)  # fmt: skip
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._links: list[CountedLink] = []
        self._retained: dict[str, bytes] = {}
        self._away: dict[str, tuple[list[tuple[str, int]], Counter[Owed]]] = {}
        self._coming = 0
        self._none_opens = asyncio.Event()
        self._none_opens.set()

    @property
    def busy(self) -> bool:
        """True while a message, a connection, or the broker's own coming and going is under way."""
        return self._coming > 0 or any(link.busy for link in self._links)

    def words(self) -> str:
        """Say for a person what is under way."""
        found = [f"{link.session_id} lacks {words}" for link in self._links if (words := link.words())]
        return "; ".join(found[:_WORDS]) or "the broker"

    def carry(self, session: MqttSession, speak_5: bool) -> CountedLink:
        """Make a session's next link (`BrokerSettings.carried_by`)."""
        return CountedLink(self, session, speak_5)

    async def start(self) -> None:
        """Start the broker and return when it listens. Raises: BrokerError."""
        self._coming += 1
        try:
            self._process = await asyncio.get_running_loop().run_in_executor(None, partial(_started, self.port))
        finally:
            self._coming -= 1

    async def stop(self) -> None:
        """Kill it (kill -9), and return when all sessions have noticed."""
        if self._process is None:
            return
        self._coming += 1
        try:
            self._process.kill()
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
            self._process = None
            self._retained.clear()
            self._away.clear()
            await asyncio.gather(*(asyncio.shield(link.lost) for link in tuple(self._links)))
        finally:
            self._coming -= 1

    def lose(self, client_id: str) -> None:
        """Break the connection of one client without a word: its last will is published."""
        for link in tuple(self._links):
            if link.session_id == client_id:
                link.break_off()
                if link.will is not None:
                    self.note(link.will)

    # --- what links tell ------------------------------------------------------------------------------------------

    async def opens(self, link: CountedLink) -> None:
        """Let one connection open at a time; nothing is published meanwhile, so that it is known who gets what."""
        while not self._none_opens.is_set():
            await self._none_opens.wait()
        self._none_opens.clear()
        self._links.append(link)
        for wanted, _ in link.subscriptions:
            for topic, payload in self._retained.items():
                if topic_matches_sub(wanted, topic):
                    link.owed[topic, payload] += 1
        _, kept = self._away.pop(link.session_id, ([], Counter[Owed]()))
        link.owed.update(kept)

    def opened(self) -> None:
        """The next may open."""
        self._none_opens.set()

    async def free(self) -> None:
        """Wait until nobody is opening a connection."""
        while not self._none_opens.is_set():
            await self._none_opens.wait()

    def note(self, message: Message) -> None:
        """A message goes to the broker: note whom it will come to."""
        if message.retain and message.payload:
            self._retained[message.topic] = message.payload
        elif message.retain:
            self._retained.pop(message.topic, None)
        for watcher in tuple(self.watchers):
            watcher(message)
        key, heard = (message.topic, message.payload), 0
        for link in self._links:
            heard += (count := _matching(link.subscriptions, message.topic))
            link.owed[key] += count
        for wanted, kept in self._away.values():
            if message.qos:
                heard += (count := _matching(wanted, message.topic))
                kept[key] += count
        self.unheard[message.topic] += not heard

    def gone(self, link: CountedLink, *, keeps: bool) -> None:
        """A link ended: nothing comes there any more, but what its session keeps will come to its next one."""
        if link not in self._links:
            return
        self._links.remove(link)
        if keeps and self._process is not None:
            self._away[link.session_id] = (list(link.subscriptions), link.kept())


class CountedLink(TcpLink):
    """A connection whose messages are counted."""

    def __init__(self, broker: WireBroker, session: MqttSession, speak_5: bool) -> None:
        super().__init__(session, speak_5)
        self.owed: Counter[Owed] = Counter()
        self._broker = broker
        self._opening = False
        self._asked = 0
        self._queue: list[asyncio.Task[None]] = []

    @property
    def session_id(self) -> str:
        """The client's name."""
        return self._session.client_id

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """What it wants."""
        return self._session.subscriptions

    @property
    def will(self) -> Message | None:
        """What the broker says when it breaks."""
        return self._session.will

    @property
    def busy(self) -> bool:
        """True while it opens, while the broker has not taken what was sent, or owes what it may send."""
        if self._opening or self._asked:
            return True
        return len(self._unacknowledged) < IN_FLIGHT and self.owed.total() > 0

    def words(self) -> str:
        """Say what is under way."""
        if self._opening:
            return "its connection"
        topics = [topic for (topic, _), count in self.owed.items() if count > 0][:_WORDS]
        return ", ".join(topics) or (f"{self._asked} PUBACK" if self._asked else "")

    async def open(self) -> None:
        """Connect and subscribe. Raises: BrokerError."""
        await self._broker.opens(self)
        self._opening = True
        try:
            await super().open()
        except BaseException:
            self._broker.gone(self, keeps=False)
            raise
        finally:
            self._opening = False
            self._broker.opened()

    def close(self) -> None:
        """End the connection."""
        self._broker.gone(self, keeps=self._session.session_expiry_s > 0)
        super().close()

    def break_off(self) -> None:
        """End it as a process does that dies: the broker hears no word."""
        sock = self._socket
        self._broker.gone(self, keeps=self._session.session_expiry_s > 0)
        if sock is not None:
            self._forget_socket()
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.reason = self.reason or "link to the broker lost"
        if not self.lost.done():
            self.lost.set_result(None)
        self._fail_all(self.reason)

    def kept(self) -> Counter[Owed]:
        """Return what will come again: delivered and not acknowledged, and what was still to come."""
        again = Counter((each.topic, each.payload) for each in self._unacknowledged if not each.is_acknowledged)
        return again + self.owed

    def publish(self, message: Message, future: asyncio.Future[None]) -> None:
        """Send when no connection is being opened; counted until the broker has it."""
        self._asked += 1
        future.add_done_callback(self._answered)
        if self._broker._none_opens.is_set() and not self._queue:
            self._hand_over(message, future)
            return
        task = asyncio.get_running_loop().create_task(self._hand_over_later(message, future))
        self._queue.append(task)
        task.add_done_callback(self._queue.remove)

    async def _hand_over_later(self, message: Message, future: asyncio.Future[None]) -> None:
        await self._broker.free()
        self._hand_over(message, future)

    def _hand_over(self, message: Message, future: asyncio.Future[None]) -> None:
        if future.done():
            return
        if self.lost.done() or self._closed:
            future.set_exception(BrokerError(self.reason or "session closed"))
            return
        self._broker.note(message)
        super().publish(message, future)

    def _answered(self, _: asyncio.Future[None]) -> None:
        self._asked -= 1

    def _on_message(self, _c: object, _u: object, message: MQTTMessage) -> None:
        key = (message.topic, bytes(message.payload))
        if self.owed[key] > 0:
            self.owed[key] -= 1
        super()._on_message(_c, _u, message)

    def _on_disconnect(self, _c: object, _u: object, _flags: object, code: object, _p: object = None) -> None:
        self._broker.gone(self, keeps=self._session.session_expiry_s > 0)
        super()._on_disconnect(_c, _u, _flags, code, _p)

    async def _housekeeping(self) -> None:
        """Signs of life go by the host's clock; virtual time passes faster than that."""
        while self._client.loop_misc() == 0:
            await self._session.clock.sleep(_RARELY_S)


def _matching(subscriptions: list[tuple[str, int]], topic: str) -> int:
    return sum(topic_matches_sub(wanted, topic) for wanted, _ in subscriptions)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started(port: int) -> subprocess.Popen[bytes]:
    """Runs in a thread: return a broker that listens. Raises: BrokerError."""
    command = [sys.executable, "-m", "metergate.child", "metergate.broker", "--port", str(port)]
    quiet, env = subprocess.DEVNULL, os.environ | {PARENT: str(os.getpid())}
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=env)
    for _ in range(_TRIES):
        if process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), _TRY_S):
            return process
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TRY_S)
    process.kill()
    raise BrokerError("the broker does not start", port=f"127.0.0.1:{port}")
