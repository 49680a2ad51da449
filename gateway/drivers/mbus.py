"""Wired M-Bus master: reset the link, ask for data, go on while the meter announces further telegrams.

By primary address (1 to 250), or by secondary address: the meter is selected first and then answers as FD. E5, the
acknowledgement, names nobody; an answer with data names its meter, and is only taken when that is the right one.
Source: EN 13757-2, EN 13757-3; public M-Bus documentation 4.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_debts import Debts
from gateway.drivers.serial_link import SerialLink
from gateway.protocols import mbus
from gateway.protocols.framing import Cut, StreamSplitter
from gateway.protocols.mbus import Ack, ApplicationError, Collector, FixedTelegram, LongFrame, Telegram
from gateway.protocols.mbus.link import ACK_BYTE, LONG_START, MAX_FRAME, SELECTED, SHORT_START, measure
from metering.clock import Clock
from metering.errors import FrameError, MeterError, MetergateError, NoAnswerError

_LEAST_PATIENCE_S: Final = 0.2
_ACK_TRIES: Final = 2
_MOST_PRIMARY: Final = 250
_LEAST_LONG: Final = 9


@dataclass(frozen=True, slots=True)
class MbusAsk:
    """Read a meter's data. primary: 1 to 250, None: by secondary. secondary: 8 digits, F for any.

    With both, the meter behind the primary address must have this secondary one. key: AES-128, None: unencrypted.
    """

    primary: int | None
    secondary: str = ""
    key: bytes | None = None

    @property
    def address(self) -> str:
        """What counts and logs call the meter on its bus."""
        return self.secondary if self.primary is None else str(self.primary)


class MbusMaster:
    """See the module. `read` returns the meter's telegrams (68 … 16) one behind the other."""

    def __init__(self, link: SerialLink, counts: BusCounts, clock: Clock) -> None:
        self._link = link
        self._counts = counts
        self._debts = Debts(clock)

    async def read(self, ask: MbusAsk, timeout_s: float) -> bytes:
        """Return the telegrams. Raises: MetergateError."""
        if patience := self._debts.patience_s(ask.address):
            await self._link.drain(patience)
        try:
            found = await self._read(ask, timeout_s)
        except MeterError:
            raise
        except MetergateError:
            self._debts.owe(ask.address, "data", max(_LEAST_PATIENCE_S, timeout_s))
            raise
        self._debts.settle(ask.address)
        return found

    def stray(self, data: bytes) -> None:
        """Sort out bytes that came while nobody was asked."""
        splitter = mbus.splitter()
        for piece in splitter.feed(data) + splitter.flush():
            if isinstance(piece, Cut) and isinstance(frame := mbus.decode_frame(piece.raw), LongFrame):
                self._not_mine(str(frame.address), self._counts.of(str(frame.address)))

    async def _read(self, ask: MbusAsk, timeout_s: float) -> bytes:
        count = self._counts.of(ask.address)
        to = SELECTED if ask.primary is None else ask.primary
        if ask.primary is None:
            await self._acknowledged(mbus.snd_nke(SELECTED), self._reaction_s(timeout_s), count, needed=False)
            await self._acknowledged(mbus.select(ask.secondary), timeout_s, count)
        else:
            await self._acknowledged(mbus.snd_nke(to), timeout_s, count)
        collector, frames, fcb = Collector(), [], True
        more = True
        while more:
            raw = await self._telegram(ask, to, fcb, timeout_s, count)
            frames.append(raw)
            answer = mbus.decode(raw, ask.key)
            if isinstance(answer, ApplicationError):
                raise MeterError(f"the meter refuses: {answer.text}", raw, code=answer.code)
            more = isinstance(answer, Telegram) and collector.add(answer)
            fcb = not fcb
        return b"".join(frames)

    async def _acknowledged(
        self, request: bytes, timeout_s: float, count: MeterCount, *, needed: bool = True
    ) -> None:
        """Send until E5 comes. needed: False when nobody may be there to answer (deselecting)."""

        def judge(raw: bytes) -> bool | None:
            frame = mbus.decode_frame(raw)
            if isinstance(frame, LongFrame):
                self._not_mine(str(frame.address), count)
            return True if isinstance(frame, Ack) else None

        for left in reversed(range(_ACK_TRIES if needed else 1)):
            try:
                await self._link.ask(request, _splitter(), judge, timeout_s=timeout_s, count=count)
            except NoAnswerError:
                if needed and not left:
                    raise
            else:
                return

    def _reaction_s(self, timeout_s: float) -> float:
        """Return how long a meter may think by the standard (330 bit times + 50 ms), with room for a box on TCP."""
        return min(timeout_s, 330 / self._link.line.baud + 0.05 + self._link.idle_gap_s)

    async def _telegram(self, ask: MbusAsk, to: int, fcb: bool, timeout_s: float, count: MeterCount) -> bytes:
        judge: Callable[[bytes], bytes | None] = _Judge(self, ask, count)
        return await self._link.ask(mbus.req_ud2(to, fcb), _splitter(), judge, timeout_s=timeout_s, count=count)

    def _not_mine(self, address: str, count: MeterCount) -> None:
        if self._debts.paid(address, "data"):
            self._counts.of(address).late += 1
        else:
            count.foreign += 1


class _Judge:
    """Accepts the data of the meter that was asked."""

    def __init__(self, master: MbusMaster, ask: MbusAsk, count: MeterCount) -> None:
        self._master, self._ask, self._count = master, ask, count

    def __call__(self, raw: bytes) -> bytes | None:
        frame = mbus.decode_frame(raw)
        if not isinstance(frame, LongFrame) or frame.name != "RSP_UD":
            return None  # an acknowledgement that came late, or our echo
        ask = self._ask
        if ask.primary is not None and ask.primary <= _MOST_PRIMARY and frame.address != ask.primary:
            self._master._not_mine(str(frame.address), self._count)
            return None
        if ask.secondary and (found := _id_of(raw, ask.key)) is not None and not _fits(ask.secondary, found):
            raise FrameError(f"asked meter {ask.secondary}, meter {found} answered", raw, sort="foreign")
        return raw


def _splitter() -> StreamSplitter:
    """Return a splitter in which nothing shorter than a long frame overtakes one: values may look like a request."""
    starts = bytes((ACK_BYTE, SHORT_START, LONG_START))
    return StreamSplitter(measure, MAX_FRAME, starts=starts, overtake=_LEAST_LONG)


def _id_of(raw: bytes, key: bytes | None) -> str | None:
    answer = mbus.decode(raw, key)
    if isinstance(answer, Telegram):
        return answer.header.id if answer.header is not None else None
    return answer.data.id if isinstance(answer, FixedTelegram) else None


def _fits(asked: str, found: str) -> bool:
    return all(a.upper() in ("F", f.upper()) for a, f in zip(asked, found, strict=False))
