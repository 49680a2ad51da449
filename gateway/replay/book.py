"""What was answered to which request in a recording: the book from which a replayed meter answers.

A request finds its answers by its bytes, the number that it carries left out (transaction of Modbus TCP, SER of
CJ/T 188); that number is put into the answers, so that a late or foreign answer stays what it was. Each request is
answered as often as it was recorded, in that order: silence, damage and lateness come back as they happened.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.protocols import cjt188
from metering.errors import ProtocolError
from metering.recording import Frame, RecordedBus

_SER: Final = 13
"""Place of SER behind the 68 of a CJ/T 188 frame."""
_MBAP: Final = 6
_FILLER: Final = b"\xfe"


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes that came. delay_s: after the request was sent. pieces: [s] after the first byte, and [bytes]."""

    delay_s: float
    data: bytes
    pieces: tuple[tuple[float, int], ...] = ()


@dataclass(slots=True)
class Exchange:
    """One request and all that came until the next. number: the one that the request carried."""

    key: bytes
    number: int | None
    meter: str
    t: float
    at: int
    said: list[Said] = field(default_factory=list)
    used: bool = False


class Book:
    """All exchanges of one bus. again: begin anew when a request was answered as often as it was recorded.

    asked, unknown, over: requests answered from the book; never recorded; recorded, but more often asked.
    """

    def __init__(self, frames: Iterable[Frame], bus: RecordedBus, *, again: bool = False) -> None:
        self.bus = bus
        self.order: list[Exchange] = []
        self.before: list[Frame] = []
        self.asked = self.unknown = self.over = 0
        self._again = again
        self._tcp = bus.kind == "modbus-tcp"
        self._numbers: dict[int, int] = {}
        self._fill(frames)
        self._waiting: dict[bytes, deque[Exchange]] = defaultdict(deque)
        self._all: dict[bytes, list[Exchange]] = defaultdict(list)
        for exchange in self.order:
            self._all[exchange.key].append(exchange)
            self._waiting[exchange.key].append(exchange)

    @property
    def unused(self) -> int:
        """Exchanges that nobody asked for yet."""
        return sum(not exchange.used for exchange in self.order)

    def knows(self, request: bytes) -> bool:
        """True when such a request was recorded."""
        return self.key_of(request)[0] in self._all

    def key_of(self, request: bytes) -> tuple[bytes, int | None]:
        """Return the request without its number, and the number."""
        if self._tcp:
            return request[2:], int.from_bytes(request[:2], "big")
        try:
            frame = cjt188.decode(request.lstrip(_FILLER))
        except ProtocolError:
            return request, None
        if len(frame.data) < 3:
            return request, None
        head = bytes((frame.meter_type, frame.control)) + frame.address.encode()
        return head + frame.data[:2], frame.data[2]

    def take(self, request: bytes) -> list[Said]:
        """Return what is said to a request now; nothing for silence, also when it was never recorded."""
        key, number = self.key_of(request)
        waiting = self._waiting[key]
        if not waiting and self._again:
            waiting.extend(self._all[key])
        if not waiting:
            self.over += key in self._all
            self.unknown += key not in self._all
            return []
        exchange = waiting.popleft()
        exchange.used = True
        self.asked += 1
        if number is not None and exchange.number is not None:
            self._numbers[exchange.number] = number
        return [Said(said.delay_s, self._renumber(said.data), said.pieces) for said in exchange.said]

    def skip(self, exchange: Exchange) -> None:
        """Leave an exchange out."""
        exchange.used = True
        if exchange in (waiting := self._waiting[exchange.key]):
            waiting.remove(exchange)

    def _fill(self, frames: Iterable[Frame]) -> None:
        by_number: dict[int, Exchange] = {}
        for frame in frames:
            data = frame.data
            if frame.dir == "tx":
                exchange = Exchange(*self.key_of(data), frame.meter, frame.t, frame.at)
                self.order.append(exchange)
                if self._tcp and exchange.number is not None:
                    by_number[exchange.number] = exchange
                continue
            if not self.order:
                self.before.append(frame)
                continue
            mine = by_number.get(int.from_bytes(data[:2], "big")) if self._tcp else None
            to = mine or self.order[-1]
            to.said.append(Said(max(0.0, frame.t - to.t), data, tuple(frame.pieces)))

    def _renumber(self, data: bytes) -> bytes:
        return self._renumber_tcp(data) if self._tcp else self._renumber_cjt(data)

    def _renumber_tcp(self, data: bytes) -> bytes:
        changed, begin = bytearray(data), 0
        while begin + _MBAP <= len(data):
            number = self._numbers.get(int.from_bytes(data[begin : begin + 2], "big"))
            if number is not None:
                changed[begin : begin + 2] = number.to_bytes(2, "big")
            begin += _MBAP + int.from_bytes(data[begin + 4 : begin + 6], "big")
        return bytes(changed)

    def _renumber_cjt(self, data: bytes) -> bytes:
        """Change SER, and the checksum by as much: a damaged frame stays exactly as damaged."""
        begin = data.find(b"\x68")
        place = begin + _SER
        if not self._numbers or begin < 0 or place >= len(data) or (number := self._numbers.get(data[place])) is None:
            return data
        changed = bytearray(data)
        change = number - changed[place]
        changed[place] = number
        check = begin + 11 + data[begin + 10]
        if check < len(data) and check > place:
            changed[check] = (changed[check] + change) & 0xFF
        return bytes(changed)
