"""CJ/T 188 master: one question, one answer, matched on address, control code and DI; SER tells late answers.

The master counts SER up. Many meters echo it: once one has done so, an answer with another SER is a late one. Meters
that send a constant of their own are matched without it, as the papers say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_debts import Debts
from gateway.drivers.serial_link import SerialLink
from gateway.protocols import cjt188
from gateway.protocols.cjt188.message import READ, Order, di_of
from gateway.protocols.framing import Cut
from metering.clock import Clock
from metering.errors import FrameError, MeterError, MetergateError

_FROM_METER: Final = 0x80
_ABNORMAL: Final = 0xC0
_MORE: Final = 0x20
_LEAST_PATIENCE_S: Final = 0.2
_SURE: Final = 2
"""A meter that repeated this many SERs in a row echoes; a constant of its own may match once by chance."""


@dataclass(frozen=True, slots=True)
class CjtAsk:
    """Read one data item. meter_type: T of the meter; meter: 14 digits, AA bytes for the only one on the line.

    local_time: None to read; else the clock is set (control WRITE, DI A015) to what it returns when the frame is
    made, "2026-01-31T23:59:58" in the meter's zone.
    """

    meter_type: int
    meter: str
    di: int
    order: Order = "big"
    control: int = READ
    local_time: Callable[[], str] | None = None

    @property
    def address(self) -> str:
        """What counts and logs call the meter on its bus."""
        return self.meter


class CjtMaster:
    """See the module. `read` returns the bytes behind DI and SER."""

    def __init__(self, link: SerialLink, counts: BusCounts, clock: Clock) -> None:
        self._link = link
        self._counts = counts
        self._debts = Debts(clock)
        self._ser = 0
        self._echoed: dict[str, int] = {}  # answers in a row with our SER, up to _SURE

    async def read(self, ask: CjtAsk, timeout_s: float) -> bytes:
        """Return the bytes behind DI and SER. Raises: MetergateError."""
        count = self._counts.of(ask.address)
        if patience := self._debts.patience_s(ask.address):
            await self._link.drain(patience)
        self._ser = self._ser % 255 + 1
        ser = self._ser
        if ask.local_time is not None:
            await self._link.quiet()  # a time that is told must not wait for the line
        request = cjt188.PREAMBLE + cjt188.encode(_request(ask, ser))
        try:
            return await self._link.ask(
                request, cjt188.splitter(), lambda raw: self._judge(ask, ser, raw, count),
                timeout_s=timeout_s, count=count,
            )  # fmt: skip
        except MeterError:
            raise
        except MetergateError:
            for mark in ((ask.di,), (ask.di, ser)):
                self._debts.owe(ask.address, mark, max(_LEAST_PATIENCE_S, timeout_s))
            raise

    def stray(self, data: bytes) -> None:
        """Sort out bytes that came while nobody was asked."""
        splitter = cjt188.splitter()
        for piece in splitter.feed(data) + splitter.flush():
            if isinstance(piece, Cut):
                frame = cjt188.decode(piece.raw)
                if frame.from_meter:
                    self._not_mine(frame, self._counts.of(frame.address))

    def _judge(self, ask: CjtAsk, ser: int, raw: bytes, count: MeterCount) -> bytes | None:
        frame = cjt188.decode(raw)
        if not frame.from_meter:
            return None  # our own echo, or another master's question
        if not _same(ask.meter, frame.address) or frame.control & 0x1F != ask.control:
            self._not_mine(frame, count)
            return None
        if frame.control & _ABNORMAL == _ABNORMAL:
            self._refused(ask, frame, raw, count)
            return None
        if len(frame.data) < 3:
            raise FrameError("the answer has no DI and SER", raw, sort="length")
        di, _ = di_of(frame.data[:2], ask.order)
        mirrored, _ = di_of(frame.data[:2], "little" if ask.order == "big" else "big")
        if ask.di not in (di, mirrored):
            if self._debts.owes(ask.address, (di,)):
                count.late += 1
                return None
            raise FrameError(f"asked for DI {ask.di:04X}, answered {di:04X}", raw, sort="di")
        return frame.data[3:] if self._is_now(ask, ser, frame.data[2], count) else None

    def _is_now(self, ask: CjtAsk, ser: int, found: int, count: MeterCount) -> bool:
        """Tell the answer to this question from one to an older question for the same data."""
        address = ask.address
        echoed = self._echoed.get(address)
        if found == ser:
            self._echoed[address] = min(_SURE, (echoed or 0) + 1)
            self._debts.settle(address)
            return True
        if echoed == _SURE or (echoed != 0 and self._debts.owes(address, (ask.di, found))):
            count.late += 1
            return False
        self._echoed[address] = 0
        self._debts.settle(address)
        return True

    def _refused(self, ask: CjtAsk, frame: cjt188.Frame, raw: bytes, count: MeterCount) -> None:
        if self._debts.owes_any(ask.address):
            count.late += 1  # a refusal names no DI: it may belong to an older question
            self._debts.settle(ask.address)
            return
        code = int.from_bytes(frame.data[-2:], "big") if frame.data else 0
        raise MeterError(f"the meter refuses: status {frame.data.hex(' ').upper() or 'none'}", raw, code=code)

    def _not_mine(self, frame: cjt188.Frame, count: MeterCount) -> None:
        """Count a frame that answers another question than this one."""
        if self._debts.owes_any(frame.address):
            self._counts.of(frame.address).late += 1
        else:
            count.foreign += 1


def _request(ask: CjtAsk, ser: int) -> cjt188.Frame:
    if ask.local_time is not None:
        return cjt188.set_time_request(ask.meter_type, ask.meter, ask.local_time(), ser=ser, order=ask.order)
    return cjt188.read_request(ask.meter_type, ask.meter, ask.di, ser=ser, order=ask.order)


def _same(asked: str, found: str) -> bool:
    return asked in (found, cjt188.WILDCARD)
