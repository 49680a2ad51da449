"""Modbus RTU master: reads registers, and never takes a late answer for the next one.

RTU answers carry neither a number nor the register: only unit, function and byte count tell them apart. After a
timeout the unit owes an answer of that form; before it is asked for the same form again, a read of another length
(part of the same registers) goes first. A slave answers in order, so when that comes, everything before it has come
or never will. A slave that refuses the shorter read is waited out instead.

Measured with pymodbus 3.16.1 without this: one answer later than the timeout shifts all later ones by one request.
Source: Modbus over Serial Line V1.02; Modbus Application Protocol V1.1b3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_debts import Debts
from gateway.drivers.serial_link import SerialLink
from gateway.protocols.framing import Cut, StreamSplitter
from gateway.protocols.modbus import EXCEPTIONS, MAX_RTU, Frame, ReadRequest, encode, encode_rtu, rtu_splitter
from gateway.protocols.modbus.framing import measure_rtu
from metering.clock import Clock
from metering.errors import FrameError, MeterError, MetergateError

_EXCEPTION: Final = 0x80
_OVERHEAD: Final = 5
_LEAST_PATIENCE_S: Final = 0.2
_PATIENCE: Final = 2
"""[timeouts] a late answer is waited for before its unit is asked for the same form again."""


@dataclass(frozen=True, slots=True)
class RtuAsk:
    """One read, prepared once. item_bytes: [bytes] per register; 4 or 8 for Enron style devices."""

    unit: int
    function: int
    start: int
    count: int
    frame: bytes
    size: int

    @property
    def address(self) -> str:
        """What counts and logs call the meter on its bus."""
        return f"unit {self.unit}"

    @property
    def mark(self) -> tuple[int, int]:
        """All that an answer tells beside its unit: function and byte count."""
        return self.function, self.size


def make_rtu_ask(unit: int, function: int, start: int, count: int, *, item_bytes: int = 2) -> RtuAsk:
    """Prepare a read; it may be sent any number of times."""
    pdu = encode(ReadRequest(function, start, count))
    return RtuAsk(unit, function, start, count, encode_rtu(Frame(unit, pdu)), count * item_bytes)


class ModbusRtuMaster:
    """See the module."""

    def __init__(self, link: SerialLink, counts: BusCounts, clock: Clock) -> None:
        self._link = link
        self._counts = counts
        self._debts = Debts(clock)

    async def read(self, ask: RtuAsk, timeout_s: float) -> bytes:
        """Return the register bytes. Raises: MetergateError."""
        if self._debts.owes(ask.address, ask.mark):
            await self._resynchronise(ask, timeout_s)
        return await self._once(ask, timeout_s)

    def stray(self, data: bytes) -> None:
        """Sort out bytes that came while nobody was asked."""
        splitter = rtu_splitter()
        for piece in splitter.feed(data) + splitter.flush():
            if isinstance(piece, Cut):
                address = f"unit {piece.raw[0]}"
                count = self._counts.of(address)
                if self._debts.paid(address, _mark(piece.raw)):
                    count.late += 1
                else:
                    count.foreign += 1

    async def _once(self, ask: RtuAsk, timeout_s: float) -> bytes:
        count = self._counts.of(ask.address)
        try:
            data = await self._link.ask(
                ask.frame, _splitter(ask), lambda raw: self._judge(ask, raw, count), timeout_s=timeout_s, count=count
            )
        except MeterError:
            raise
        except MetergateError:
            self._debts.owe(ask.address, ask.mark, max(_LEAST_PATIENCE_S, _PATIENCE * timeout_s))
            raise
        self._debts.settle(ask.address)
        return data

    async def _resynchronise(self, ask: RtuAsk, timeout_s: float) -> None:
        """Make sure that no old answer is under way that looks like the one we want."""
        patience = self._debts.patience_s(ask.address)
        if patience:
            await self._link.drain(patience)
            if not self._debts.owes(ask.address, ask.mark):
                return
        probe = self._probe(ask)
        if probe is None:
            await self._wait_out(ask, timeout_s)
            return
        try:
            await self._once(probe, timeout_s)
        except MeterError:  # it does not read part of the block; whether this came late cannot be told
            await self._wait_out(ask, timeout_s)

    async def _wait_out(self, ask: RtuAsk, timeout_s: float) -> None:
        await self._link.drain(max(_LEAST_PATIENCE_S, timeout_s))
        self._debts.settle(ask.address)

    def _probe(self, ask: RtuAsk) -> RtuAsk | None:
        """Return a shorter read of the same registers whose answer cannot be confused with what is owed."""
        owed = self._debts.marks(ask.address)
        item = ask.size // ask.count
        for count in range(1, ask.count):
            if (ask.function, count * item) not in owed:
                return make_rtu_ask(ask.unit, ask.function, ask.start, count, item_bytes=item)
        return None

    def _judge(self, ask: RtuAsk, raw: bytes, count: MeterCount) -> bytes | None:
        """Accept only what matches unit, function and byte count and is not owed from before."""
        unit, function = raw[0], raw[1]
        if unit != ask.unit:
            address = f"unit {unit}"
            if self._debts.paid(address, _mark(raw)):
                self._counts.of(address).late += 1
            else:
                count.foreign += 1
            return None
        if _mark(raw) != ask.mark and self._debts.paid(ask.address, _mark(raw)):
            count.late += 1
            return None
        if function == ask.function | _EXCEPTION:
            if self._debts.owes_any(ask.address):
                count.late += 1  # perhaps the refusal of an older question: proves nothing
                return None
            code = raw[2]
            raise MeterError(f"the meter refuses: {EXCEPTIONS.get(code, f'exception {code:02X}')}", raw, code=code)
        if function != ask.function:
            raise FrameError(f"asked for function {ask.function}, answered {function}", raw, sort="function")
        if raw[2] != ask.size:
            raise FrameError(f"asked for {ask.size} bytes, {raw[2]} came", raw, sort="length")
        return raw[3:-2]


def _splitter(ask: RtuAsk) -> StreamSplitter:
    """Return a splitter in which nothing shorter than the answer overtakes it.

    Register bytes may well look like a whole small frame with a right CRC (seen once in 3,000 answers of counters);
    while a longer one has begun before, that is what it is.
    """
    return StreamSplitter(measure_rtu("answer"), MAX_RTU, overtake=_OVERHEAD + ask.size)


def _mark(raw: bytes) -> tuple[int, int]:
    """Return function and byte count of a checked answer frame."""
    return raw[1], raw[2] if raw[1] < _EXCEPTION else 0
