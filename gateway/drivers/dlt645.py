"""DL/T 645 master, both editions: matched on address and identifier; following frames are fetched and joined.

Answers carry no number, but always their identifier: a late one can only be taken for a newer question of the same
identifier to the same meter, and is waited out. A refusal carries no identifier; while an answer is owed it proves
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_debts import Debts
from gateway.drivers.serial_link import SerialLink
from gateway.protocols import dlt645
from gateway.protocols.dlt645 import CODES, EVERYBODY, Edition, Frame
from gateway.protocols.framing import Cut
from metering.clock import Clock
from metering.errors import FrameError, MeterError, MetergateError

_MOST_FRAMES: Final = 32
_LEAST_PATIENCE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class DltTime:
    """Set every clock on the line by broadcast (C=08): nobody answers, so the meters are read afterwards.

    local_time: called when the frame is made, "2026-01-31T23:59:58" in the meters' zone. Meters take it only within
    5 minutes of their own time and once a day (DL/T 645-2007, broadcast time correction).
    """

    local_time: Callable[[], str]

    @property
    def address(self) -> str:
        """What counts and logs call all meters of a bus."""
        return EVERYBODY


@dataclass(frozen=True, slots=True)
class DltAsk:
    """Read one identifier. meter: 12 digits; A for "any" (all A: the only meter on the line)."""

    meter: str
    di: int
    edition: Edition = "2007"

    @property
    def address(self) -> str:
        """What counts and logs call the meter on its bus."""
        return self.meter


class DltMaster:
    """See the module. `read` returns the data behind the identifier, without the 33H of the wire."""

    def __init__(self, link: SerialLink, counts: BusCounts, clock: Clock) -> None:
        self._link = link
        self._counts = counts
        self._debts = Debts(clock)

    async def read(self, ask: DltAsk | DltTime, timeout_s: float) -> bytes:
        """Return the data; b"" after a broadcast. Raises: MetergateError."""
        if isinstance(ask, DltTime):
            return await self._broadcast(ask)
        if patience := self._debts.patience_s(ask.address):
            await self._link.drain(patience)
        codes = CODES[ask.edition]
        first = await self._exchange(ask, dlt645.read_request(ask.meter, ask.di, ask.edition), codes.read, timeout_s)
        frames = [first]
        while frames[-1].more:
            if len(frames) == _MOST_FRAMES:
                raise FrameError(f"more than {_MOST_FRAMES} frames in one answer", sort="length")
            number = len(frames)
            request = dlt645.follow_request(first.address, ask.di, number, ask.edition)
            frames.append(await self._exchange(ask, request, codes.follow, timeout_s, number))
        self._debts.settle(ask.address)
        whole = dlt645.join(frames, ask.edition) if len(frames) > 1 else first
        return whole.data[codes.identifier :]

    async def _broadcast(self, ask: DltTime) -> bytes:
        await self._link.quiet()
        frame = dlt645.PREAMBLE + dlt645.encode(dlt645.set_time_request(ask.local_time()))
        self._link.send(frame)
        await self._link.drain(self._link.line.wire_s(len(frame)))  # an echo is let go with it
        return b""

    def stray(self, data: bytes) -> None:
        """Sort out bytes that came while nobody was asked."""
        splitter = dlt645.splitter()
        for piece in splitter.feed(data) + splitter.flush():
            if isinstance(piece, Cut):
                frame = dlt645.decode(piece.raw)
                if frame.from_meter:
                    self._not_mine(frame, self._counts.of(frame.address))

    async def _exchange(
        self, ask: DltAsk, frame: Frame, function: int, timeout_s: float, sequence: int | None = None
    ) -> Frame:
        count = self._counts.of(ask.address)

        def judge(raw: bytes) -> Frame | None:
            return self._judge(ask, raw, function, sequence, count)

        try:
            return await self._link.ask(
                dlt645.PREAMBLE + dlt645.encode(frame), dlt645.splitter(), judge, timeout_s=timeout_s, count=count
            )
        except MeterError:
            raise
        except MetergateError:
            self._debts.owe(ask.address, ask.di, max(_LEAST_PATIENCE_S, timeout_s))
            raise

    def _judge(self, ask: DltAsk, raw: bytes, function: int, sequence: int | None, count: MeterCount) -> Frame | None:
        frame = dlt645.decode(raw)
        if not frame.from_meter:
            return None  # our own echo, or another master's question
        if not _same(ask.meter, frame.address):
            self._not_mine(frame, count)
            return None
        if frame.abnormal:
            self._refused(ask, frame, raw, count)
            return None
        size = CODES[ask.edition].identifier
        di = int.from_bytes(frame.data[:size], "little")
        if frame.function != function or len(frame.data) < size or di != ask.di:
            if self._debts.owes(ask.address, di):
                count.late += 1
                return None
            sort = "function" if frame.function != function else "di"
            raise FrameError(f"asked for {ask.di:0{2 * size}X}, got something else", raw, sort=sort)
        if sequence is not None and ask.edition == "2007" and frame.data[-1] != sequence:
            count.late += 1
            return None
        return frame

    def _refused(self, ask: DltAsk, frame: Frame, raw: bytes, count: MeterCount) -> None:
        if self._debts.owes_any(ask.address):
            count.late += 1
            self._debts.settle(ask.address)
            return
        reasons = ", ".join(dlt645.Refusal(frame.data).reasons) or frame.data.hex().upper() or "no reason"
        code = int.from_bytes(frame.data[:2], "little")
        raise MeterError(f"the meter refuses: {reasons}", raw, code=code)

    def _not_mine(self, frame: Frame, count: MeterCount) -> None:
        if self._debts.owes_any(frame.address):
            self._counts.of(frame.address).late += 1
        else:
            count.foreign += 1


def _same(asked: str, found: str) -> bool:
    """Compare addresses; A stands for any digit, and shortened addresses come back whole."""
    return len(asked) == len(found) and all(a in ("A", f) for a, f in zip(asked.upper(), found, strict=True))
