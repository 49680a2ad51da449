"""Modbus TCP: one connection per address, shared by all units behind it; strict about what counts as an answer.

pymodbus builds the requests; its client is not used (docs/decisions/0005-modbus-tcp.md: it costs about as much as the
whole rest of a poll, keeps one request in flight, and its framer waits for ever behind a wrong protocol id).
Here a request's expected answer header is known before it is sent, so that a good answer is proved by one comparison
of 7 bytes (protocol, length, unit, function, byte count) beside its transaction id; everything else goes the slow way
and is told apart there: late, foreign, damaged, refused. Nothing but a proved answer is ever handed on as data.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from gateway.protocols.framing import NotYet, Whole
from gateway.protocols.modbus import ReadAnswer, ReadRequest, check, decode_answer
from gateway.protocols.modbus.framing import measure_tcp
from metering.clock import Clock
from metering.errors import ConnectError, FrameError, MetergateError, NoAnswerError, ProtocolError, TransportError

_REQUESTS: Final = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}
_FRAMER: Final = FramerSocket(DecodePDU(False))
_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 30.0
_STEADY_S: Final = 5.0
_MOST_JUNK: Final = 100
"""Frames in a row that nobody asked for, until the connection is given up."""
_MOST_TIMEOUTS: Final = 3
"""Timeouts in a row without a single byte, until the connection is taken for dead."""
_MOST_EXPIRED: Final = 512

Done = Callable[[bytes | MetergateError], None]
Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Connects a protocol that a factory makes."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One read of one unit. tail: the request without its transaction id. head: bytes 2 … 8 of a good answer."""

    request: ReadRequest
    unit: int
    tail: bytes
    head: bytes
    size: int


def make_ask(unit: int, function: int, start: int, count: int) -> Ask:
    """Prepare a read once; it may be sent any number of times."""
    pdu = _REQUESTS[function](dev_id=unit, address=start, count=count)
    size = 9 + 2 * count
    head = b"\x00\x00" + (size - 6).to_bytes(2, "big") + bytes((unit, function, 2 * count))
    return Ask(ReadRequest(function, start, count), unit, _FRAMER.buildFrame(pdu)[2:], head, size)


@dataclass(slots=True)
class _Waiting:
    ask: Ask
    deadline: float
    done: Done


class ModbusTcpLink:
    """One connection. `dial` it, `ask` while `free`, call `expire` now and then; `close` is harmless at any time.

    counters: by kind, shared with whoever reports them. on_up, on_down: the connection came or went. connect: makes
    the connection instead of TCP (a replay). tap: sees all raw bytes ("tx" or "rx") while it is set.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        clock: Clock,
        rng: random.Random,
        counters: dict[str, int],
        in_flight: int = 1,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[MetergateError], None] = lambda error: None,
        connect: Connect | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.up = False
        self.error: MetergateError = ConnectError("not connected yet", port=f"{host}:{port}")
        self.counters = counters
        self.tap: Callable[[str, bytes], None] | None = None
        self._clock = clock
        self._rng = rng
        self._limit = in_flight
        self._make_connection = connect or self._to_host
        self._on_up = on_up
        self._on_down = on_down
        self._wire: _Wire | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._retry_s = 0.0
        self._retry_at = 0.0
        self._up_at = 0.0
        self._table: dict[int, _Waiting] = {}
        self._expired: dict[int, None] = {}
        self._buffer = b""
        self._tid = rng.randrange(1, 0x10000)
        self._junk = 0
        self._timeouts = 0

    @property
    def free(self) -> bool:
        """True when one more request may be sent now."""
        return self.up and len(self._table) < self._limit

    @property
    def busy(self) -> bool:
        """True while an answer is awaited."""
        return bool(self._table)

    @property
    def name(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    def dial(self, timeout_s: float) -> bool:
        """Begin to connect unless it is under way; False while a pause after a failure lasts."""
        if self.up or self._dialling is not None:
            return True
        if self._clock.monotonic() < self._retry_at:
            return False
        self._dialling = asyncio.get_running_loop().create_task(self._connect(timeout_s))
        return True

    def close(self) -> None:
        """Close, and fail what waits."""
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        self._drop(ConnectError("closed", port=self.name))

    def ask(self, ask: Ask, timeout_s: float, done: Done) -> None:
        """Send a request; `done` gets the register bytes or the error, once. Only while `free`."""
        wire = self._wire
        if wire is None or wire.transport is None:
            raise ConnectError("not connected", port=self.name)
        tid = (self._tid + 1) & 0xFFFF
        while tid in self._expired or tid in self._table or not tid:
            tid = (tid + 1) & 0xFFFF
        self._tid = tid
        self._table[tid] = _Waiting(ask, self._clock.monotonic() + timeout_s, done)
        frame = tid.to_bytes(2, "big") + ask.tail
        if self.tap is not None:
            self.tap("tx", frame)
        wire.transport.write(frame)

    async def read(self, ask: Ask, timeout_s: float) -> bytes:
        """Connect if need be, send one request and return its register bytes. Raises: MetergateError."""
        if not self.up:
            await self._connect(timeout_s)
        if not self.up:
            raise self.error
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(result: bytes | MetergateError) -> None:
            if answer.done():
                return
            if isinstance(result, MetergateError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.ask(ask, timeout_s, done)
        try:
            return await self._clock.timeout(answer, timeout_s)
        except TimeoutError:
            self.expire(self._clock.monotonic() + timeout_s)
            raise self._silence(timeout_s) from None

    def expire(self, now: float) -> None:
        """Fail what has waited too long; its answer, should it still come, is counted as late."""
        late = [tid for tid, waiting in self._table.items() if now >= waiting.deadline]
        if not late:
            return
        done = [self._table.pop(tid).done for tid in late]
        self._expired.update(dict.fromkeys(late))
        while len(self._expired) > _MOST_EXPIRED:
            del self._expired[next(iter(self._expired))]
        self._timeouts += len(late)
        self._count("timeout", len(late))
        if self._buffer:
            self._count("frame_cut")
            self._drop(FrameError("an answer that stopped in the middle; connection given up", port=self.name))
        elif self._timeouts >= _MOST_TIMEOUTS:
            self._drop(ConnectError(f"{self._timeouts} requests in a row without a byte", port=self.name))
        for tell in done:
            tell(self._silence(None))

    def received(self, data: bytes) -> None:
        """Take in bytes of the connection."""
        self._timeouts = 0
        if self.tap is not None:
            self.tap("rx", data)
        if not self._buffer and len(data) > 8:
            waiting = self._table.get(data[0] << 8 | data[1])
            if waiting is not None and len(data) == waiting.ask.size and data[2:9] == waiting.ask.head:
                del self._table[data[0] << 8 | data[1]]
                self._junk = 0
                waiting.done(data[9:])
                return
        self._sort_out(data)

    def lost(self, exc: Exception | None) -> None:
        """The other side or the system ended the connection."""
        why = f"connection lost: {exc}" if exc else "the other side closed the connection"
        self._drop(ConnectError(why, port=self.name))

    async def _connect(self, timeout_s: float) -> None:
        wire = _Wire(self)
        try:
            await self._clock.timeout(self._make_connection(lambda: wire), timeout_s)
        except (OSError, TimeoutError) as error:
            reason = "no connection in time" if isinstance(error, TimeoutError) else str(error)
            self.error = ConnectError(reason, port=self.name)
            self._count("connect_failed")
            self._wait_longer()
            self._dialling = None
            self._on_down(self.error)
            return
        finally:
            self._dialling = None
        if wire.transport is None:  # gone again already
            return
        self._wire = wire
        self.up = True
        self._up_at = self._clock.monotonic()
        self._buffer, self._junk, self._timeouts = b"", 0, 0
        self._expired.clear()
        self._count("connects")
        self._on_up()

    def _to_host(self, make: Callable[[], asyncio.Protocol]) -> Awaitable[object]:
        return asyncio.get_running_loop().create_connection(make, self.host, self.port)

    def _sort_out(self, data: bytes) -> None:
        """The slow way: pieces, several frames at once, everything that is not simply the answer."""
        data = self._buffer + data
        begin = 0
        while self.up and begin < len(data):
            piece = data[begin : begin + 260]
            look = measure_tcp(piece)
            if isinstance(look, NotYet):
                break
            if not isinstance(look, Whole):
                sort = "length" if piece[2:4] == b"\x00\x00" else "garbage"
                self._count(f"frame_{sort}")
                self._drop(FrameError("bytes that are not Modbus TCP; connection given up", piece, port=self.name))
                return
            begin += look.length
            self._take(piece[: look.length])
        self._buffer = data[begin:] if self.up else b""

    def _take(self, frame: bytes) -> None:
        tid = frame[0] << 8 | frame[1]
        waiting = self._table.pop(tid, None)
        if waiting is None:
            self._count("frame_late" if tid in self._expired else "frame_foreign")
            self._expired.pop(tid, None)
            self._junk += 1
            if self._junk > _MOST_JUNK:
                self._drop(FrameError("a stream of frames that nobody asked for", frame, port=self.name))
            return
        self._junk = 0
        try:
            waiting.done(_registers(waiting.ask, frame))
        except MetergateError as error:
            error.port = self.name
            if isinstance(error, ProtocolError):
                self._count(f"frame_{error.sort}")
            waiting.done(error)

    def _drop(self, error: MetergateError) -> None:
        """Give the connection up; what waits fails."""
        was_up, self.up = self.up, False
        self.error = error
        self._buffer = b""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.cut()
        table, self._table = self._table, {}
        for waiting in table.values():
            lost = TransportError(f"connection lost while waiting: {error.message}", port=self.name)
            waiting.done(lost)
        if was_up:
            self._count("disconnects")
            if self._clock.monotonic() - self._up_at < _STEADY_S:
                self._wait_longer()
            else:
                self._retry_s = 0.0
            self._on_down(error)

    def _wait_longer(self) -> None:
        self._retry_s = min(_LAST_RETRY_S, max(_FIRST_RETRY_S, self._retry_s * 2))
        self._retry_at = self._clock.monotonic() + self._retry_s * self._rng.uniform(0.75, 1.25)

    def _silence(self, timeout_s: float | None) -> NoAnswerError:
        return NoAnswerError(f"no answer{f' in {timeout_s:g} s' if timeout_s else ' in time'}", port=self.name)

    def _count(self, kind: str, number: int = 1) -> None:
        self.counters[kind] = self.counters.get(kind, 0) + number


class _Wire(asyncio.Protocol):
    """One TCP connection; once cut it is silent, so that its late goodbye cannot hit its successor."""

    def __init__(self, link: ModbusTcpLink) -> None:
        self._link: ModbusTcpLink | None = link
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        if self._link is not None:
            self._link.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone."""
        self.transport = None
        if self._link is not None:
            self._link.lost(exc)

    def cut(self) -> None:
        """Close at once."""
        self._link = None
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def _registers(ask: Ask, frame: bytes) -> bytes:
    """Return the register bytes of a whole MBAP frame with our transaction id. Raises: FrameError, MeterError."""
    if frame[6] != ask.unit:
        raise FrameError(f"asked unit {ask.unit}, unit {frame[6]} answered", frame, sort="unit")
    answer: Any = check(ask.request, decode_answer(frame[7:]))
    if not isinstance(answer, ReadAnswer):
        raise FrameError("an answer without registers", frame, sort="function")
    return answer.data
