"""A serial-to-TCP box that can be told speed and format: RFC 2217, the Telnet COM port option.

Only what a bus needs: binary transmission, baud rate, data size, parity, stop size, no flow control. The box must
confirm the baud rate before the port counts as open; a box that does not speak the option is refused with a hint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.drivers.serial_port import Line, Lost, Parity, Received, TcpPort
from metering.clock import Clock
from metering.errors import ConnectError

IAC: Final = 255
DONT, DO, WONT, WILL, SB, SE = 254, 253, 252, 251, 250, 240
BINARY, SUPPRESS_GO_AHEAD, COM_PORT = 0, 3, 44
SET_BAUD, SET_DATA, SET_PARITY, SET_STOP, SET_CONTROL = 1, 2, 3, 4, 5
FROM_BOX: Final = 100
"""A box answers command n with n + 100."""
_MOST_OPTION: Final = 64
_PARITY_CODES: Final[dict[Parity, int]] = {"none": 1, "odd": 2, "even": 3}

Option = Callable[[int, bytes], None]


class Telnet:
    """Takes Telnet apart: data one way, commands the other. Memory for an unfinished option is bounded."""

    def __init__(self, on_command: Callable[[int, int], None], on_com_port: Option) -> None:
        """on_command: verb (DO, WILL …) and option. on_com_port: command of RFC 2217 and its bytes."""
        self._on_command = on_command
        self._on_com_port = on_com_port
        self._verb = 0
        self._escaped = False
        self._option: bytearray | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the data bytes among these; commands go to the callbacks."""
        if not self._verb and not self._escaped and self._option is None and IAC not in data:
            return data
        plain = bytearray()
        for byte in data:
            if self._verb:
                verb, self._verb = self._verb, 0
                self._on_command(verb, byte)
            elif self._escaped:
                self._escaped = False
                self._after_iac(byte, plain)
            elif byte == IAC:
                self._escaped = True
            elif self._option is None:
                plain.append(byte)
            elif len(self._option) < _MOST_OPTION:
                self._option.append(byte)
        return bytes(plain)

    def _after_iac(self, byte: int, plain: bytearray) -> None:
        if byte == IAC:
            (plain if self._option is None else self._option).append(IAC)
        elif byte in (DO, DONT, WILL, WONT):
            self._verb = byte
        elif byte == SB:
            self._option = bytearray()
        elif byte == SE and self._option is not None:
            option, self._option = bytes(self._option), None
            if len(option) > 1 and option[0] == COM_PORT:
                self._on_com_port(option[1], option[2:])


def escape(data: bytes) -> bytes:
    """Return data as Telnet sends it: FF doubled."""
    return data.replace(b"\xff", b"\xff\xff")


def com_port(command: int, value: bytes) -> bytes:
    """Return one command of RFC 2217."""
    return bytes((IAC, SB, COM_PORT, command)) + escape(value) + bytes((IAC, SE))


def line_commands(line: Line) -> bytes:
    """Return the commands that set speed and format, without flow control."""
    settings = [
        (SET_BAUD, line.baud.to_bytes(4, "big")),
        (SET_DATA, bytes((line.data_bits,))),
        (SET_PARITY, bytes((_PARITY_CODES[line.parity],))),
        (SET_STOP, bytes((line.stop_bits,))),
        (SET_CONTROL, b"\x01"),
    ]
    return b"".join(com_port(command, value) for command, value in settings)


class Rfc2217Port:
    """A `Transport` over such a box."""

    def __init__(self, host: str, port: int, *, clock: Clock, timeout_s: float = 5.0) -> None:
        self._tcp = TcpPort(host, port, clock=clock, timeout_s=timeout_s)
        self._clock = clock
        self._timeout_s = timeout_s
        self._received: Received = lambda data: None
        self._telnet = Telnet(self._command, self._com_port)
        self._told: asyncio.Future[int] | None = None

    @property
    def name(self) -> str:
        """host:port."""
        return self._tcp.name

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        """Connect and set speed and format. Raises: ConnectError, also when the box does not confirm the speed."""
        self._received = received
        self._telnet = Telnet(self._command, self._com_port)
        told = self._told = asyncio.get_running_loop().create_future()

        def lost_now(why: str) -> None:
            if not told.done():
                told.set_exception(ConnectError(why, port=self.name))
            else:
                lost(why)

        await self._tcp.open(line, self._bytes, lost_now)
        offers = ((WILL, BINARY), (DO, BINARY), (DO, SUPPRESS_GO_AHEAD), (WILL, COM_PORT))
        self._tcp.write(b"".join(bytes((IAC, verb, option)) for verb, option in offers) + line_commands(line))
        try:
            baud = await self._clock.timeout(told, self._timeout_s)
        except TimeoutError:
            self.close()
            hint = 'the box confirms no baud rate: is RFC 2217 on? (mode = "raw" needs none)'
            raise ConnectError(hint, port=self.name) from None
        if baud != line.baud:
            self.close()
            raise ConnectError(f"the box answers {baud} baud instead of {line.baud}", port=self.name)

    def write(self, data: bytes) -> None:
        """Send."""
        self._tcp.write(escape(data))

    def set_line(self, line: Line) -> None:
        """Change speed and format; bytes that are written afterwards leave at the new speed."""
        self._tcp.write(line_commands(line))

    def close(self) -> None:
        """Cut the connection."""
        self._tcp.close()

    def _bytes(self, data: bytes) -> None:
        plain = self._telnet.feed(data)
        if plain:
            self._received(plain)

    def _command(self, verb: int, option: int) -> None:
        """Refuse what was not offered; a box that refuses the COM port option cannot be used."""
        known = option in (BINARY, SUPPRESS_GO_AHEAD, COM_PORT)
        if verb == DONT and option == COM_PORT and self._told is not None and not self._told.done():
            self._told.set_exception(ConnectError("the box does not speak RFC 2217", port=self.name))
        elif verb == DO and not known:
            self._tcp.write(bytes((IAC, WONT, option)))
        elif verb == WILL and not known:
            self._tcp.write(bytes((IAC, DONT, option)))

    def _com_port(self, command: int, value: bytes) -> None:
        if command == FROM_BOX + SET_BAUD and len(value) == 4 and self._told is not None and not self._told.done():
            self._told.set_result(int.from_bytes(value, "big"))
