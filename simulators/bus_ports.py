"""How a simulated bus is reached: a pseudo-terminal with a stable name, a transparent TCP port, or RFC 2217."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from serial.rfc2217 import PortManager

_CHUNK: Final = 4096
Received = Callable[[bytes], None]


class PtyPort:
    """A pseudo-terminal; `link` is a name that keeps pointing to it, as /dev/serial/by-id does.

    on_sent, on_read: told how many bytes the terminal took from us, and how many we took from it. on_open, on_closed:
    told that our end came and went.
    """

    def __init__(self, link: Path | None, received: Received) -> None:
        self.path = ""
        self.on_sent: Callable[[int], None] = lambda count: None
        self.on_read: Callable[[int], None] = lambda count: None
        self.on_open: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None
        self._link = link
        self._received = received
        self._master = self._slave = -1

    async def open(self) -> None:
        """Make the terminal. Raises: OSError."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        if self._link is not None:
            self._link.parent.mkdir(parents=True, exist_ok=True)
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(self.path)
            self.path = str(self._link)
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        self.on_open()

    def write(self, data: bytes) -> None:
        """Send; what nobody reads is thrown away when the terminal is full, as on a real wire."""
        with suppress(BlockingIOError, OSError):
            self.on_sent(os.write(self._master, data))

    def close(self) -> None:
        """Take the terminal away: whoever has it open notices."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self.on_closed()
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, _CHUNK)
        except (BlockingIOError, OSError):
            return
        if data:
            self.on_read(len(data))
            self._received(data)


class TcpServerPort:
    """A box on TCP with one client at a time; a new one takes over. telnet: it speaks RFC 2217 (pyserial's)."""

    def __init__(self, host: str, port: int, received: Received, *, telnet: bool) -> None:
        self.path = ""
        self.told = ToldSettings()
        self._host, self._port = host, port
        self._received = received
        self._telnet = telnet
        self._server: asyncio.Server | None = None
        self._client: _Client | None = None

    async def open(self) -> None:
        """Listen. Raises: OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.path = f"{self._host}:{self._port}"

    def write(self, data: bytes) -> None:
        """Send to the client, if there is one."""
        if self._client is not None:
            self._client.send(data)

    def close(self) -> None:
        """Stop listening and drop the client."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._client is not None:
            self._client.drop()

    def came(self, client: _Client) -> None:
        """A client connected."""
        if self._client is not None:
            self._client.drop()
        self._client = client

    def went(self, client: _Client) -> None:
        """A client left."""
        if self._client is client:
            self._client = None

    def heard(self, data: bytes) -> None:
        """Bytes for the wire came."""
        self._received(data)

    def manager(self, write: Callable[[bytes], None]) -> PortManager | None:
        """Return pyserial's own server side of RFC 2217 for one client; None for a transparent port."""
        return PortManager(self.told, _Connection(write)) if self._telnet else None


class ToldSettings:
    """What an RFC 2217 client sets: looks to pyserial like a port, and only remembers."""

    def __init__(self) -> None:
        self.baudrate, self.bytesize, self.parity, self.stopbits = 9600, 8, "N", 1.0
        self.xonxoff = self.rtscts = self.dtr = self.rts = self.break_condition = False
        self.cts = self.dsr = self.ri = self.cd = False
        self.in_waiting = 0

    def reset_input_buffer(self) -> None:
        """Nothing waits here."""

    def reset_output_buffer(self) -> None:
        """Nothing waits here."""


class _Connection:
    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


class _Client(asyncio.Protocol):
    def __init__(self, port: TcpServerPort) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._manager: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._manager = self._port.manager(self._transport.write)
        self._port.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone."""
        self._transport = None
        self._port.went(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        if self._manager is not None:
            data = b"".join(self._manager.filter(data))
        if data:
            self._port.heard(data)

    def send(self, data: bytes) -> None:
        """Write to the client."""
        if self._transport is not None:
            self._transport.write(b"".join(self._manager.escape(data)) if self._manager is not None else data)

    def drop(self) -> None:
        """Close."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
