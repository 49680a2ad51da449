"""Where a bus's bytes come from and go to: a serial port of this host, or a serial-to-TCP box that passes them on.

A `Transport` only moves bytes and says when it is gone; frames, silence and meters are the business of
`serial_link`. Nothing here blocks and nothing starts a thread: ports are read when the event loop says so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

import serial

from metering.clock import Clock
from metering.errors import ConnectError, TransportError

Parity = Literal["none", "even", "odd"]
Received = Callable[[bytes], None]
Lost = Callable[[str], None]

_CHUNK: Final = 4096
_MOST_UNSENT: Final = 65_536
_PSEUDO: Final = "/dev/pts/"
_PARITIES: Final[dict[Parity, str]] = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
}


@dataclass(frozen=True, slots=True)
class Line:
    """How characters travel on the pair. baud: [bit/s]; data_bits: 7 or 8; stop_bits: 1 or 2."""

    baud: int = 9600
    parity: Parity = "none"
    data_bits: int = 8
    stop_bits: int = 1

    @property
    def char_s(self) -> float:
        """[s] one character takes: start bit, data, parity, stop."""
        return (1 + self.data_bits + (self.parity != "none") + self.stop_bits) / self.baud

    @property
    def silence_s(self) -> float:
        """[s] that must be silent between two frames: 3.5 characters, 1.75 ms above 19200 baud.

        Source: Modbus over Serial Line V1.02, clause 2.5.1.1; the other protocols ask for no more than that.
        """
        return 3.5 * self.char_s if self.baud <= 19_200 else 0.00175

    def wire_s(self, size: int) -> float:
        """[s] that `size` bytes take."""
        return size * self.char_s

    def __str__(self) -> str:
        return f"{self.baud} {self.data_bits}{self.parity[0].upper()}{self.stop_bits}"


class Transport(Protocol):
    """Moves bytes. `open` may be called again after `close` or a loss; `close` is harmless at any time."""

    @property
    def name(self) -> str:
        """What messages call it."""

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        """Connect. lost: called once when the connection ends by itself. Raises: ConnectError."""

    def write(self, data: bytes) -> None:
        """Send without waiting. Raises: TransportError when it is not open."""

    def set_line(self, line: Line) -> None:
        """Change speed and format, where the transport can."""

    def close(self) -> None:
        """Close without calling `lost`."""


class SerialPort:
    """A port of this host, by device path or stable id (/dev/serial/by-id/…): the name is looked up at each open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._port: serial.Serial | None = None
        self._fd = -1
        self._received: Received = lambda data: None
        self._lost: Lost = lambda why: None
        self._unsent = b""

    @property
    def name(self) -> str:
        """The path as the plan has it."""
        return self._path

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        """Open and lock the port. Raises: ConnectError."""
        self.close()
        try:
            self._port = _opened(self._path, self._possible(line))
        except (OSError, ValueError, termios.error) as error:
            raise ConnectError(f"cannot open at {line}: {_words(error)}", port=self._path) from None
        self._fd = self._port.fileno()
        self._received, self._lost = received, lost
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def write(self, data: bytes) -> None:
        """Hand bytes to the driver; what it does not take now follows when it can."""
        if self._port is None:
            raise TransportError("the port is not open", port=self._path)
        if self._unsent:
            if len(self._unsent) + len(data) > _MOST_UNSENT:
                raise TransportError("the port takes no bytes (flow control?)", port=self._path)
            self._unsent += data
            return
        self._unsent = data
        self._writable()
        if self._unsent:
            asyncio.get_running_loop().add_writer(self._fd, self._writable)

    def set_line(self, line: Line) -> None:
        """Change speed and format. Raises: TransportError."""
        if self._port is None:
            return
        line = self._possible(line)
        try:
            self._port.baudrate = line.baud
            self._port.bytesize = line.data_bits
            self._port.parity = _PARITIES[line.parity]
            self._port.stopbits = line.stop_bits
        except (OSError, ValueError, termios.error) as error:
            raise TransportError(f"the port refuses {line}: {_words(error)}", port=self._path) from None

    def close(self) -> None:
        """Let the port go."""
        port, self._port = self._port, None
        self._unsent = b""
        if port is None:
            return
        with suppress(RuntimeError, OSError, ValueError):  # no loop any more, or it forgot the descriptor
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.remove_writer(self._fd)
        with suppress(OSError):
            port.close()

    def _possible(self, line: Line) -> Line:
        """A pseudo-terminal has no parity and no 7 bits; the C library objects from the second opening on."""
        return Line(line.baud) if os.path.realpath(self._path).startswith(_PSEUDO) else line

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._gone(_words(error))
            return
        if data:
            self._received(data)
        else:
            self._gone("the port gives no more bytes: unplugged?")

    def _writable(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            # the loss is told from the loop: a caller that is just writing must not be called back
            asyncio.get_running_loop().call_soon(self._gone, _words(error))
            self._unsent = b""
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._fd)

    def _gone(self, why: str) -> None:
        if self._port is not None:
            self.close()
            self._lost(why)


class TcpPort:
    """A serial-to-TCP box in transparent mode: what we send leaves its port, what comes in is passed to us."""

    def __init__(self, host: str, port: int, *, clock: Clock, timeout_s: float = 5.0) -> None:
        self._host, self._port = host, port
        self._clock = clock
        self._timeout_s = timeout_s
        self._wire: _Wire | None = None

    @property
    def name(self) -> str:
        """host:port."""
        return f"{self._host}:{self._port}"

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        """Connect; the box keeps its own speed and format. Raises: ConnectError."""
        self.close()
        wire = _Wire(received, lost)
        connecting = asyncio.get_running_loop().create_connection(lambda: wire, self._host, self._port)
        try:
            await self._clock.timeout(connecting, self._timeout_s)
        except TimeoutError:
            raise ConnectError("no connection in time", port=self.name) from None
        except OSError as error:
            raise ConnectError(_words(error), port=self.name) from None
        self._wire = wire

    def write(self, data: bytes) -> None:
        """Send."""
        if self._wire is None or self._wire.transport is None:
            raise TransportError("not connected", port=self.name)
        self._wire.transport.write(data)

    def set_line(self, line: Line) -> None:
        """Nothing: a transparent box cannot be told."""

    def close(self) -> None:
        """Cut the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.cut()


class _Wire(asyncio.Protocol):
    """One TCP connection; silent once it is cut, so that its late goodbye cannot hit its successor."""

    def __init__(self, received: Received, lost: Lost) -> None:
        self.transport: asyncio.Transport | None = None
        self._received: Received | None = received
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        if self._received is not None:
            self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone."""
        self.transport = None
        if self._received is not None:
            self._received = None
            self._lost(f"connection lost: {exc}" if exc else "the other side closed the connection")

    def cut(self) -> None:
        """Close at once, without a word."""
        self._received = None
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def _opened(path: str, line: Line) -> serial.Serial:
    return serial.Serial(
        path, line.baud, bytesize=line.data_bits, parity=_PARITIES[line.parity], stopbits=line.stop_bits,
        timeout=0, write_timeout=0, exclusive=True,
    )  # fmt: skip


def _words(error: Exception) -> str:
    """Return what the system says, without pyserial's own wrapping of it."""
    number = getattr(error, "errno", None) or (error.args[0] if isinstance(error, termios.error) else None)
    return os.strerror(number) if isinstance(number, int) else str(error)
