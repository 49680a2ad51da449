"""One serial link: send a frame into silence, cut what comes back into frames, notice damage without waiting.

Bytes come in pieces of any size. A codec's splitter says where frames begin and end; where it is still waiting and
the line has fallen silent (`idle_gap_s`), what is there is broken and is said to be broken at once. A half-duplex
adapter hears itself: its echo is taken off. Whoever asks judges each frame and goes on listening until the deadline,
so that a late answer of another meter costs nothing but itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeVar

from gateway.drivers.serial_counts import BusCounts, MeterCount
from gateway.drivers.serial_port import Line, Transport
from gateway.protocols.framing import Cut, Damaged
from metering.clock import Clock
from metering.errors import ChecksumError, ConnectError, FrameError, NoAnswerError, ProtocolError, TransportError

T = TypeVar("T")
Echo = Literal["auto", "on", "off"]
Tap = Callable[[str, bytes], None]
"""Gets "tx" or "rx" and the raw bytes."""

_MOST_STRAY: Final = 4096
_LOUD_S: Final = 1.0
"""A line that is not silent for this long while we want to send is unusable."""
_LEAST_FRAME: Final = 5
"""Dropped bytes of at least this many may have been an answer."""


class Splitter(Protocol):
    """Cuts bytes into frames (`framing.StreamSplitter`)."""

    @property
    def limit(self) -> int:
        """[bytes] longest possible frame."""

    @property
    def waiting(self) -> int:
        """[bytes] kept for an unfinished frame."""

    def feed(self, data: bytes) -> list[Cut | Damaged]:
        """Add bytes; return what is now certain."""

    def flush(self) -> list[Cut | Damaged]:
        """The line fell silent; return what is left."""


class SerialLink:
    """See the module. `open` it, then one task at a time may `ask`; `close` is harmless at any time.

    idle_gap_s: silence after which an unfinished frame will not be finished. on_stray: gets bytes that came while
    nobody was asked. tap: sees all raw bytes.
    """

    def __init__(
        self,
        transport: Transport,
        line: Line,
        *,
        clock: Clock,
        counts: BusCounts,
        echo: Echo = "auto",
        idle_gap_s: float = 0.1,
        on_lost: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.line = line
        self.up = False
        self.on_stray: Callable[[bytes], None] = lambda data: None
        self.tap: Tap | None = None
        self._transport = transport
        self._clock = clock
        self._counts = counts
        self._echo_mode = echo
        self._idle_gap_s = idle_gap_s
        self._on_lost = on_lost
        self._last_at = 0.0
        self._stray = bytearray()
        self._ear: _Ear | None = None

    @property
    def name(self) -> str:
        """Port or host:port."""
        return self._transport.name

    @property
    def idle_gap_s(self) -> float:
        """Silence that ends an unfinished frame: the setting, or 5 characters where those are longer."""
        return max(self._idle_gap_s, 5 * self.line.char_s)

    async def open(self) -> None:
        """Open the port; harmless when it is open. Raises: ConnectError."""
        if self.up:
            return
        self._stray.clear()
        await self._transport.open(self.line, self._received, self._lost)
        self.up = True
        self._last_at = self._clock.monotonic()
        self._counts.opened += 1

    def close(self) -> None:
        """Close, and fail whoever is waiting."""
        self._transport.close()
        if self.up:
            self._lost("closed", tell=False)

    def set_line(self, line: Line) -> None:
        """Change speed and format (IEC 62056-21 does it in mid-talk)."""
        if line != self.line:
            self._transport.set_line(line)
            self.line = line

    async def ask(
        self,
        request: bytes,
        splitter: Splitter,
        judge: Callable[[bytes], T | None],
        *,
        timeout_s: float,
        count: MeterCount,
    ) -> T:
        """Send a request into silence and return what `judge` makes of the first frame that it accepts.

        request: b"" only listens.
        judge: gets each checked frame; None: not the answer, listen on. It may raise ProtocolError or MeterError.
        timeout_s: from the end of the request to the first byte of the answer.
        Raises: NoAnswerError, ProtocolError (their bytes), TransportError (the line), what `judge` raises.
        """
        if request:
            await self.quiet()
        self._ear = ear = _Ear(splitter, request if self._echo_mode != "off" else b"")
        try:
            if request:
                self.send(request)
            else:  # only listening: what has come already belongs to it
                ear.feed(bytes(self._stray), self._counts)
                self._stray.clear()
            deadline = self._clock.monotonic() + self.line.wire_s(len(request)) + timeout_s
            return await self._listen(ear, judge, deadline, timeout_s, count)
        finally:
            self._ear = None
            if rest := ear.rest():
                self._keep_stray(rest)

    def send(self, data: bytes) -> None:
        """Write bytes as they are. Raises: TransportError."""
        if not self.up:
            raise ConnectError("not open", port=self.name)
        if self.tap is not None:
            self.tap("tx", data)
        self._transport.write(data)

    async def drain(self, seconds: float) -> None:
        """Wait that long for what may still come, then for silence; it is let go. Raises: as `quiet`."""
        await self._clock.sleep(seconds)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until the line has been silent as long as its rules ask, and let go what came unasked.

        Raises: TransportError when it does not fall silent, ConnectError when the port is lost.
        """
        wanted = self.line.silence_s
        give_up = self._clock.monotonic() + wanted + _LOUD_S
        while self.up and (rest := self._last_at + wanted - self._clock.monotonic()) > 0:
            await self._clock.sleep(rest)
            if self._clock.monotonic() > give_up and self._last_at + wanted > self._clock.monotonic():
                self._let_go()
                raise TransportError("the line is never silent: something talks all the time", port=self.name)
        self._let_go()
        if not self.up:
            raise ConnectError("the port was lost", port=self.name)

    async def _listen(
        self, ear: _Ear, judge: Callable[[bytes], T | None], deadline: float, timeout_s: float, count: MeterCount
    ) -> T:
        hard = deadline + self.line.wire_s(ear.splitter_limit) + self.idle_gap_s
        broken: ProtocolError | None = None
        while True:
            piece = await self._piece(ear, deadline)
            now = self._clock.monotonic()
            if piece is None or now > hard:
                if broken is None:
                    raise NoAnswerError(f"no answer in {timeout_s:g} s", port=self.name)
                raise broken
            if isinstance(piece, Cut):
                accepted = judge(piece.raw)
                if accepted is not None:
                    return accepted
            elif error := self._damage(piece, count):
                # what looks like a broken answer ends the waiting early: nothing better is to be expected
                broken = error
                deadline = min(deadline, now + self.idle_gap_s)

    def _damage(self, piece: Damaged, count: MeterCount) -> ProtocolError | None:
        """Count dropped bytes; return the error when they may have been the answer."""
        count.damage(piece.sort)
        if piece.sort == "noise" and len(piece.raw) < _LEAST_FRAME:
            return None
        if piece.sort in ("checksum", "crc", "bcc"):
            return ChecksumError("the answer came damaged", piece.raw, sort=piece.sort, port=self.name)
        if piece.sort == "length":
            return FrameError("the answer came cut", piece.raw, sort="length", port=self.name)
        return FrameError("bytes that are no answer", piece.raw, sort=piece.sort, port=self.name)

    async def _piece(self, ear: _Ear, deadline: float) -> Cut | Damaged | None:
        """Return the next piece of the stream; None when nothing has begun until the deadline."""
        while True:
            if ear.found:
                return ear.found.popleft()
            if not self.up:
                raise TransportError("the port was lost while waiting for an answer", port=self.name)
            now = self._clock.monotonic()
            until = self._last_at + self.idle_gap_s if ear.unfinished else deadline
            if now >= until:
                if not ear.unfinished:
                    return None
                ear.flush()
                continue
            ear.waiter = asyncio.get_running_loop().create_future()
            try:
                await self._clock.timeout(ear.waiter, until - now)
            except TimeoutError:
                continue
            finally:
                ear.waiter = None

    def _received(self, data: bytes) -> None:
        self._last_at = self._clock.monotonic()
        if self.tap is not None:
            self.tap("rx", data)
        if self._ear is None:
            self._keep_stray(data)
        elif self._ear.feed(data, self._counts):
            self._ear.wake()

    def _lost(self, why: str, *, tell: bool = True) -> None:
        self.up = False
        if self._ear is not None:
            self._ear.wake()
        if tell:
            self._on_lost(why)

    def _keep_stray(self, data: bytes) -> None:
        self._counts.unasked += len(data)
        self._stray += data
        if len(self._stray) > _MOST_STRAY:
            del self._stray[:-_MOST_STRAY]

    def _let_go(self) -> None:
        if self._stray:
            stray = bytes(self._stray)
            self._stray.clear()
            self.on_stray(stray)


class _Ear:
    """What one asker hears: echo taken off, the rest cut by the splitter."""

    def __init__(self, splitter: Splitter, echo: bytes) -> None:
        self.found: deque[Cut | Damaged] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.splitter_limit = splitter.limit
        self._splitter = splitter
        self._echo = echo
        self._held = b""

    def feed(self, data: bytes, counts: BusCounts) -> bool:
        """Take bytes in; True when the asker should look."""
        before = self.unfinished
        if self._echo:
            data = self._strip(data, counts)
        if data:
            self.found += self._splitter.feed(data)
        return bool(self.found) or not before

    def flush(self) -> None:
        """The line fell silent: what is unfinished is broken."""
        held, self._held, self._echo = self._held, b"", b""
        if held:
            self.found += self._splitter.feed(held)
        self.found += self._splitter.flush()

    def rest(self) -> bytes:
        """Return the bytes of what was not taken."""
        self.flush()
        return b"".join(piece.raw for piece in self.found)

    @property
    def unfinished(self) -> bool:
        """True while a frame (or an echo) has begun and not ended."""
        return bool(self._held) or self._splitter.waiting > 0

    def wake(self) -> None:
        """Let the asker look."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _strip(self, data: bytes, counts: BusCounts) -> bytes:
        """Hold bytes back while they repeat what was sent; a whole repetition is an echo and is dropped."""
        held = self._held + data
        echo, size = self._echo, min(len(held), len(self._echo))
        if held[:size] == echo[:size]:
            if size < len(echo):
                self._held = held
                return b""
            counts.echoes += 1
            held = held[size:]
        self._held = self._echo = b""
        return held
