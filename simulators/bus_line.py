"""One pair of wires: requests cut out of what arrives, answers paced to the baud rate, faults, and what it measures.

A pseudo-terminal or TCP connection has no speed: a request's bytes arrive at once and are taken to need their time on
the wire; an answer leaves in pieces as a UART hands them over, its last byte at the moment the wire would have it.
Meters that answer at the same time collide: a 0 wins over a 1, as on RS-485 pairs with a weak bias.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.protocols.framing import Cut, StreamSplitter
from metering.clock import Clock
from simulators.bus_meter import BusMeter, Spoken
from simulators.bus_settings import BusFaultSettings, SimulatedBusSettings
from simulators.simulated_meter import Log

_PIECE_S: Final = 0.008
"""A UART with a FIFO hands bytes over about this often."""
_STALE_S: Final = 0.1


class Speaker(Protocol):
    """One protocol on a line, with its meters."""

    meters: list[BusMeter]
    splitter: StreamSplitter

    def find(self, raw: bytes) -> list[BusMeter]:
        """Return the meters that feel addressed by a request."""

    def answer(self, meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
        """Return a meter's good answer; None when it has none."""

    def other_address(self, raw: bytes) -> bytes:
        """Return an answer as if another meter had given it."""


@dataclass
class LineStats:
    """What the slave side measures. All in seconds but the counts.

    waited: from the end of an answer to the first byte of the next request. overshoot: by which our own last byte
    left later than the wire would have had it. ideal: requests, turnarounds, answers and the silence between frames.
    began, ended: monotonic time of the first request and of the last answer's end.
    """

    requests: int = 0
    answers: int = 0
    waited: float = 0.0
    waits: int = 0
    overshoot: float = 0.0
    ideal: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    late_ends: list[float] = field(default_factory=list)


class BusLine:
    """See the module. write: sends bytes to the other side.

    echo: the adapter hears what it sends. delay_s: [s] that the master's bytes need to get here.
    """

    def __init__(
        self,
        settings: SimulatedBusSettings,
        speakers: Sequence[Speaker],
        *,
        clock: Clock,
        log: Log,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.echo = settings.echo
        self.delay_s = 0.0
        self.stats = LineStats()
        self.write: Callable[[bytes], None] = lambda data: None
        self._speakers = speakers
        self._clock = clock
        self._log = log
        self._rng = rng
        self._char_s = settings.char_s if settings.pace else 0.0
        self._heard_until = 0.0
        self._heard_at = 0.0
        self._heard_bytes = 0
        self._answer_end = 0.0
        self._wire = asyncio.Lock()
        self._busy: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def received(self, data: bytes) -> None:
        """Take in bytes of the master."""
        if self.delay_s:
            self._start(self._take_later(data))
        else:
            self._take(data)

    async def _take_later(self, data: bytes) -> None:
        await self._clock.sleep(self.delay_s)
        self._take(data)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, data: bytes) -> None:
        now = self._clock.monotonic()
        if now - self._heard_at > _STALE_S:
            for speaker in self._speakers:
                speaker.splitter.flush()
        self._note_request(now)
        self._heard_at = now
        self._heard_bytes += len(data)
        self._heard_until = max(now, self._heard_until) + len(data) * self._char_s
        if self.echo:
            self.write(data)
        for speaker in self._speakers:
            for piece in speaker.splitter.feed(data):
                if isinstance(piece, Cut):
                    self._request(speaker, piece.raw)

    def close(self) -> None:
        """Forget what is still to be answered."""
        for task in tuple(self._tasks):
            task.cancel()

    def _request(self, speaker: Speaker, raw: bytes) -> None:
        meters = speaker.find(raw)
        if not meters:
            return
        self.stats.requests += 1
        self._start(self._collide(speaker, meters, raw) if len(meters) > 1 else self._answer(speaker, meters[0], raw))

    async def _answer(self, speaker: Speaker, meter: BusMeter, raw: bytes) -> None:
        """Let one meter answer, in the order in which it was asked."""
        heard_until, fault = self._heard_until, meter.hit()
        if fault is not None and fault.kind == "silent":
            return
        async with self._busy.setdefault(meter.settings.meter, asyncio.Lock()):
            extra = fault.seconds if fault is not None and fault.kind == "late" else 0.0
            begin = max(heard_until, self._clock.monotonic() if extra else 0.0) + self.settings.turnaround_s + extra
            await self._until(begin)
            now_ms = self._clock.now_ms()
            spoken = speaker.answer(meter, raw, now_ms)
            if spoken is None:
                return
            frame, outcome = self._spoil(speaker, spoken, fault)
            index = spoken.index if outcome in ("ok", "late") else None
            await self._send(frame, begin)
            # noted when its last byte has left: an answer that our own end cuts off was none
            self._log.add(self._clock.now_ms(), spoken.asked, index, outcome)

    async def _collide(self, speaker: Speaker, meters: Sequence[BusMeter], raw: bytes) -> None:
        """Meters with one address talk at once."""
        begin = self._heard_until + self.settings.turnaround_s
        await self._until(begin)
        now_ms = self._clock.now_ms()
        spoken = [said for meter in meters if (said := speaker.answer(meter, raw, now_ms)) is not None]
        if spoken:
            await self._send(_mixed([said.frame for said in spoken]), begin)
        for said in spoken:
            self._log.add(self._clock.now_ms(), said.asked, None, "collision")

    async def _send(self, frame: bytes, begin: float) -> None:
        """Put bytes on the wire at its speed."""
        async with self._wire:
            start = max(begin, self._answer_end)
            end = start + len(frame) * self._char_s
            self._answer_end = end
            piece = max(1, int(_PIECE_S / self._char_s)) if self._char_s else max(1, len(frame))
            first = len(frame) % piece or piece
            for stop in range(first, len(frame) + 1, piece):
                await self._until(start + stop * self._char_s)
                self.write(frame[max(0, stop - piece) if stop > first else 0 : stop])
            self._note_answer(len(frame), end)

    def _spoil(self, speaker: Speaker, spoken: Spoken, fault: BusFaultSettings | None) -> tuple[bytes, str]:
        """Return what goes over the wire, and what the log calls it; noise before a good frame is no excuse."""
        frame = spoken.frame
        if fault is None:
            return frame, "ok"
        if fault.kind == "cut":
            return frame[: fault.keep], "cut"
        if fault.kind == "flip":
            bit = self._rng.randrange(len(frame) * 8)
            spoiled = bytearray(frame)
            spoiled[bit // 8] ^= 1 << bit % 8
            return bytes(spoiled), "flip"
        if fault.kind == "wrong_address":
            return speaker.other_address(frame), "wrong_address"
        if fault.kind == "noise":
            return self._rng.randbytes(fault.size) + frame, "ok"
        return frame, "late"

    async def _until(self, moment: float) -> None:
        rest = moment - self._clock.monotonic()
        if rest > 0:
            await self._clock.sleep(rest)

    def _note_request(self, now: float) -> None:
        stats = self.stats
        if not stats.began:
            stats.began = now
        if self._answer_end and self._answer_end > self._heard_at:
            stats.waited += now - stats.ended
            stats.waits += 1

    def _note_answer(self, size: int, planned_end: float) -> None:
        stats, now = self.stats, self._clock.monotonic()
        stats.answers += 1
        stats.ended = now
        stats.overshoot += max(0.0, now - planned_end)
        asked, self._heard_bytes = self._heard_bytes, 0  # with preambles, and what was asked in vain
        stats.ideal += (asked + size + 3.5) * self._char_s + self.settings.turnaround_s


def _mixed(frames: Sequence[bytes]) -> bytes:
    """Return what a receiver sees of frames that are sent at the same time."""
    length = max(len(frame) for frame in frames)
    mixed = bytearray(b"\xff" * length)
    for frame in frames:
        for place, byte in enumerate(frame):
            mixed[place] &= byte
    return bytes(mixed)
