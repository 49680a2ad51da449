"""A recording served back as meters on the wire: pseudo-terminals or TCP boxes, Modbus TCP ports, MQTT messages.

Each recorded bus answers the requests that were recorded on it with what was recorded, silence, lateness and damage
included (`gateway.replay.book`). At N times the speed answers come N times as soon, and late ones stay late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from gateway.protocols.framing import Cut
from gateway.protocols.modbus.framing import tcp_splitter
from gateway.replay.book import Book
from gateway.replay.line import Pace, ReplayLine
from metering.clock import Clock
from metering.mqtt import MqttSession
from metering.recording import Frame, Recording
from simulators.bus_ports import PtyPort, TcpServerPort

SerialKind = Literal["pty", "tcp"]


class ReplayFarm:
    """See the module. Starting opens the ports; closing twice is harmless.

    speed: times the recorded one, 0 as fast as it goes. again: begin anew at the end. links: folder of stable names
    of the pseudo-terminals.
    """

    def __init__(
        self,
        recording: Recording,
        clock: Clock,
        *,
        speed: float = 1.0,
        again: bool = False,
        serial: SerialKind = "pty",
        host: str = "127.0.0.1",
        links: Path | None = None,
    ) -> None:
        self.books: dict[str, Book] = {}
        self._ports: dict[str, PtyPort | TcpServerPort | _TcpPort] = {}
        self._lines: list[ReplayLine] = []
        for name, bus in recording.buses.items():
            frames = [frame for frame in recording.frames if frame.bus == name and not frame.topic]
            if not frames:
                continue
            book = self.books[name] = Book(frames, bus, again=again)
            pace = Pace(speed, bus.timeout_s)
            if bus.kind == "modbus-tcp":
                self._ports[name] = _TcpPort(host, partial(ReplayLine, book, clock, pace))
                continue
            line = ReplayLine(book, clock, pace)
            link = links / name if links is not None else None
            port = PtyPort(link, line.received) if serial == "pty" else _box(host, line)
            line.write = port.write
            self._lines.append(line)
            self._ports[name] = port

    async def start(self) -> None:
        """Open all ports. Raises: OSError."""
        for port in self._ports.values():
            await port.open()

    async def close(self) -> None:
        """Close all ports."""
        for line in self._lines:
            line.close()
        for port in self._ports.values():
            port.close()

    def path(self, bus: str) -> str:
        """Return where a bus is: device path, or host:port."""
        return self._ports[bus].path

    def greeting(self) -> dict[str, Any]:
        """Say where everything is, and how much there is to be asked."""
        exchanges = {name: len(book.order) for name, book in self.books.items()}
        return {"event": "listening", "buses": {n: p.path for n, p in self._ports.items()}, "exchanges": exchanges}

    def stats(self) -> dict[str, Any]:
        """Count by bus: answered from the recording, never recorded, asked more often than recorded, still left."""
        return {
            name: {"asked": book.asked, "unknown": book.unknown, "over": book.over, "left": book.unused}
            for name, book in self.books.items()
        }


def _box(host: str, line: ReplayLine) -> TcpServerPort:
    return TcpServerPort(host, 0, line.received, telnet=False)


class _TcpPort:
    """A Modbus TCP port; each connection has a line of its own, all answer from one book."""

    def __init__(self, host: str, line: Callable[[], ReplayLine]) -> None:
        self.path = ""
        self._host = host
        self._line = line
        self._server: asyncio.Server | None = None
        self._clients: set[_Client] = set()

    async def open(self) -> None:
        """Listen on a free port. Raises: OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self._line(), self._clients), self._host, 0)
        self.path = f"{self._host}:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop listening and drop the clients."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in tuple(self._clients):
            client.drop()


class _Client(asyncio.Protocol):
    def __init__(self, line: ReplayLine, clients: set[_Client]) -> None:
        self._line = line
        self._clients = clients
        self._splitter = tcp_splitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._line.write = self._transport.write
        self._clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone."""
        self._transport = None
        self._line.close()
        self._clients.discard(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: requests came."""
        for piece in self._splitter.feed(data):
            if isinstance(piece, Cut):
                self._line.play(self._line.book.take(piece.raw))

    def drop(self) -> None:
        """Close."""
        self._line.close()
        if self._transport is not None:
            self._transport.abort()


async def publish(frames: Iterable[Frame], session: MqttSession, clock: Clock, *, speed: float = 1.0) -> int:
    """Publish recorded messages at their recorded distances; return how many.

    What was retained when it was recorded was old then, and is left out. Raises: BrokerError when the broker refuses.
    """
    sent, first, begun = 0, None, clock.monotonic()
    for frame in frames:
        if not frame.topic or frame.retain:
            continue
        first = frame.t if first is None else first
        if speed and (rest := begun + (frame.t - first) / speed - clock.monotonic()) > 0:
            await clock.sleep(rest)
        await session.publish(frame.topic, frame.data, qos=frame.qos)
        sent += 1
    return sent
