"""IEC 62056-21 reader, mode C: sign on, change speed, take the data; LIS-200 correctors are read value by value.

The talk goes from 300 baud to the speed that the meter offers; behind a box that cannot change its speed,
`baud_change` is off and the meter is told to stay. Characters have 7 bits: where the port hands over the parity bit
too, it is checked and taken off.
Source: IEC 62056-21:2002 clauses 5 and 6; what public readers do with LIS-200 correctors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_debts import Debts
from gateway.drivers.serial_link import SerialLink
from gateway.drivers.serial_port import Line
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.framing import Cut, Damaged
from gateway.protocols.iec62056_21 import Answer, Command, Data, Identification, Message, Option
from metering.clock import Clock
from metering.errors import FrameError, MeterError, MetergateError

_MOST_BLOCKS: Final = 64
_SETTLE_S: Final = 0.2
"""A meter needs this long between the acknowledgement of a speed and its first byte at that speed."""
_REACTION_S: Final = 1.5
"""Longest reaction time of the standard, clause 6.5."""
_BREAK: Final = Command("B0")
_M = TypeVar("_M", bound=Message)
_SEVEN: Final = bytes(byte if byte < 0x80 else byte & 0x7F if byte.bit_count() % 2 == 0 else 0 for byte in range(256))


@dataclass(frozen=True, slots=True)
class IecAsk:
    """Read a meter's data lines. meter: its device address, "" for anybody. registers: LIS-200 addresses, () for all.

    baud_change: False keeps the port's own speed throughout.
    """

    meter: str = ""
    registers: tuple[str, ...] = ()
    baud_change: bool = True

    @property
    def address(self) -> str:
        """What counts and logs call the meter on its bus."""
        return self.meter or "the only meter"


class IecMaster:
    """See the module. `read` returns the data lines as ASCII bytes."""

    def __init__(self, link: SerialLink, counts: BusCounts, clock: Clock) -> None:
        self._link = link
        self._counts = counts
        self._clock = clock
        self._debts = Debts(clock)

    async def read(self, ask: IecAsk, timeout_s: float) -> bytes:
        """Return the data lines. Raises: MetergateError."""
        count = self._counts.of(ask.address)
        if patience := self._debts.patience_s(ask.address):
            await self._link.drain(patience)
        start = self._link.line
        try:
            return await self._talk(ask, start, timeout_s, count)
        except MetergateError as error:
            if not isinstance(error, MeterError):
                self._debts.owe(ask.address, "data", max(_REACTION_S, 2 * timeout_s))
            raise
        finally:
            if self._link.up:
                self._link.set_line(start)

    def stray(self, data: bytes) -> None:
        """Bytes that came while nobody was asked are a meter that talks on after its deadline."""
        splitter = _SevenBits()
        for piece in splitter.feed(data) + splitter.flush():
            if isinstance(piece, Cut) and len(piece.raw) > 1:
                self._counts.of("the only meter").late += 1

    async def _talk(self, ask: IecAsk, start: Line, timeout_s: float, count: MeterCount) -> bytes:
        sign_on = iec.encode(iec.SignOn(ask.meter))
        who = await self._exchange(sign_on, Identification, timeout_s, count)
        mode: Literal["readout", "programming"] = "programming" if ask.registers else "readout"
        option = iec.choose(who, mode)
        if not ask.baud_change or who.baud is None:
            option = Option(_own_speed(start), option.mode)
        baud = iec.BAUD.get(option.baud_char, start.baud)
        faster = Line(baud, start.parity, start.data_bits, start.stop_bits) if ask.baud_change else start
        first = await self._change_speed(iec.encode(option), faster, timeout_s, count)
        if not ask.registers:
            return await self._blocks(first, timeout_s, count)
        return await self._registers(ask, timeout_s, count)

    async def _change_speed(self, option: bytes, line: Line, timeout_s: float, count: MeterCount) -> Data:
        """Acknowledge at the old speed, listen at the new one."""
        await self._link.drain(_SETTLE_S)
        self._link.send(option)
        await self._clock.sleep(self._link.line.wire_s(len(option)) + self._link.line.char_s)
        self._link.set_line(line)
        return await self._exchange(b"", Data, timeout_s, count)

    async def _blocks(self, first: Data, timeout_s: float, count: MeterCount) -> bytes:
        """Return the data of all blocks; a block that ends with EOT is acknowledged and followed by the next."""
        blocks = [first]
        while blocks[-1].more:
            if len(blocks) == _MOST_BLOCKS:
                raise FrameError(f"more than {_MOST_BLOCKS} blocks in one read-out", sort="length")
            blocks.append(await self._exchange(iec.encode(Answer(True)), Data, timeout_s, count))
        return "".join(block.text for block in blocks).encode()

    async def _registers(self, ask: IecAsk, timeout_s: float, count: MeterCount) -> bytes:
        """Read values one by one in programming mode; each answer says its address."""
        lines = []
        for register in ask.registers:
            request = iec.encode(iec.lis200_read(register))
            data = await self._exchange(request, Data, timeout_s, count)
            text = data.text.strip()
            if text.startswith("(#"):
                raise MeterError(f"the meter refuses {register}: {text}", text.encode(), code=_code(text))
            said = text.partition("(")[0]
            if said not in ("", register):
                raise FrameError(f"asked for {register}, got {said}", text.encode(), sort="di")
            lines.append(text if said else register + text)
        await self._link.quiet()
        self._link.send(iec.encode(_BREAK))
        return "\r\n".join(lines).encode()

    async def _exchange(self, request: bytes, kind: type[_M], timeout_s: float, count: MeterCount) -> _M:
        def judge(raw: bytes) -> _M | None:
            message = iec.decode(raw)
            if isinstance(message, Answer) and not message.accepted:
                raise MeterError("the meter answers NAK", raw)
            if isinstance(message, kind):
                return message
            count.foreign += 1
            return None

        return await self._link.ask(request, _SevenBits(), judge, timeout_s=timeout_s, count=count)


class _SevenBits:
    """A splitter that takes parity bits off before it cuts; a wrong one becomes a byte that no block may hold."""

    def __init__(self) -> None:
        self._inner = iec.splitter()

    @property
    def limit(self) -> int:
        """[bytes] longest possible frame."""
        return self._inner.limit

    @property
    def waiting(self) -> int:
        """[bytes] kept for an unfinished frame."""
        return self._inner.waiting

    def feed(self, data: bytes) -> list[Cut | Damaged]:
        """Add bytes."""
        return self._inner.feed(data if data.isascii() else data.translate(_SEVEN))

    def flush(self) -> list[Cut | Damaged]:
        """The line fell silent."""
        return self._inner.flush()


def _own_speed(line: Line) -> str:
    """Return the baud character of the port's own speed. Raises: FrameError when the standard has none."""
    for char, baud in iec.BAUD.items():
        if baud == line.baud:
            return char
    raise FrameError(f"{line.baud} baud has no character in IEC 62056-21; allowed: {sorted(iec.BAUD.values())}")


def _code(text: str) -> int:
    """Return the number in a LIS-200 refusal, (#0018) for one."""
    digits = "".join(char for char in text if char.isdigit())
    return int(digits or 0) & 0xFFFF
