"""What every master on a serial link must do, whatever its protocol: one suite, run over one `Case` each.

A case brings two questions to one meter (or to two), the conversation that answers them, and how the one answer that
carries data is recognised: faults are applied to that one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.drivers.serial_bus import MakeMaster
from gateway.drivers.serial_link import Echo
from gateway.drivers.serial_port import Line
from metering.errors import MeterError, MetergateError, NoAnswerError, ProtocolError, TransportError
from tests.gateway.drivers.scripted import Bench, Chunk

TIMEOUT_S = 0.5
TURNAROUND_S = 0.02


@dataclass(frozen=True)
class Case:
    """One master. reply: the conversation; b"" for what nobody answers. has_data: this request asks for the data.

    foreign: a good frame of another meter. refusal: the frame with which the meter says no, b"" when it has none.
    checked: a flipped bit is always found. line: speed of the port.
    """

    name: str
    masters: dict[type, MakeMaster]
    first: Any
    first_bytes: bytes
    second: Any
    second_bytes: bytes
    reply: Callable[[bytes], bytes]
    has_data: Callable[[bytes], bool]
    foreign: bytes
    refusal: bytes = b""
    line: Line = field(default_factory=Line)

    def bench(self, spoil: Callable[[bytes], Sequence[Chunk]] | None = None, *, echo: Echo = "auto") -> Bench:
        """Return a bus whose answers with data go through `spoil`."""

        def respond(request: bytes) -> Sequence[Chunk]:
            answer = self.reply(request)
            if not answer:
                return ()
            if spoil is not None and self.has_data(request):
                return spoil(answer)
            return ((TURNAROUND_S, answer),)

        return Bench(self.masters, respond, line=self.line, echo=echo)


def whole(answer: bytes) -> Sequence[Chunk]:
    return ((TURNAROUND_S, answer),)


def assert_it_reads(case: Case) -> None:
    """Both questions are answered, in any order, many times over."""

    async def scenario() -> None:
        bench = case.bench()
        for _ in range(3):
            assert await bench.read(case.first) == case.first_bytes
            assert await bench.read(case.second) == case.second_bytes
        assert bench.bus.counts.of(case.first.address).damages == 0

    asyncio.run(scenario())


def assert_pieces_do_not_matter(case: Case) -> None:
    """An answer that comes byte by byte is the same answer."""

    async def scenario() -> None:
        bench = case.bench(
            lambda answer: [(TURNAROUND_S, b""), *((0.001, answer[i : i + 1]) for i in range(len(answer)))]
        )
        assert await bench.read(case.first) == case.first_bytes

    asyncio.run(scenario())


def assert_noise_and_echo_are_harmless(case: Case) -> None:
    """Noise right before and behind the answer, and the local echo of a half-duplex adapter."""

    async def scenario() -> None:
        rng = random.Random(5)
        for _ in range(20):
            noise, after = rng.randbytes(rng.randrange(1, 9)), rng.randbytes(rng.randrange(0, 5))
            bench = case.bench(lambda answer, n=noise, a=after: whole(n + answer + a))  # type: ignore[misc]  # defaults bind the loop's values
            assert await bench.outcome(case.first) == case.first_bytes, (noise.hex(), after.hex())
        for echo in ("auto", "on"):
            bench = case.bench(echo=echo)
            plain = bench.port.respond
            bench.port.respond = lambda request, p=plain: [(0.001, request), *p(request)]  # type: ignore[misc]  # as above
            for _ in range(2):
                assert await bench.read(case.first) == case.first_bytes
            assert bench.bus.counts.echoes >= 2

    asyncio.run(scenario())


def assert_cut_answers_fail_at_once(case: Case) -> None:
    """Cut at every byte: never a value, and noticed long before the timeout would have passed."""

    async def scenario() -> None:
        size = len(await _data_answer(case))
        for end in range(1, size, 1 if size < 60 else 7):
            bench = case.bench(lambda answer, e=end: whole(answer[:e]))  # type: ignore[misc]  # as above
            begin = bench.clock.monotonic()
            result = await bench.outcome(case.first, 5.0)
            assert isinstance(result, MetergateError), f"cut at {end} was taken for {result!r}"
            if end >= 5 and isinstance(result, ProtocolError):
                assert bench.clock.monotonic() - begin < 4.0

    asyncio.run(scenario())


def assert_flipped_bits_are_harmless(case: Case) -> None:
    """Every single-bit flip: refused, or the same value."""

    async def scenario() -> None:
        size = len(await _data_answer(case)) * 8
        for bit in range(0, size, 1 if size < 400 else 11):
            bench = case.bench(lambda answer, b=bit: whole(_flip(answer, b)))  # type: ignore[misc]  # as above
            result = await bench.outcome(case.first, 0.1)
            assert isinstance(result, MetergateError) or result == case.first_bytes, f"bit {bit}: {result!r}"

    asyncio.run(scenario())


def assert_silence_costs_one_timeout(case: Case) -> None:
    """Silence is NoAnswerError after its timeout; the next question is answered; counts tell it."""

    async def scenario() -> None:
        silent = [True]
        bench = case.bench(lambda answer: () if silent[0] else whole(answer))
        result = await bench.outcome(case.first, TIMEOUT_S)
        assert isinstance(result, NoAnswerError)
        silent[0] = False
        assert await bench.read(case.second) == case.second_bytes
        assert await bench.read(case.first) == case.first_bytes
        count = bench.bus.counts.of(case.first.address)
        assert count.silent == 1
        assert count.busy_s > TIMEOUT_S

    asyncio.run(scenario())


def assert_late_answers_are_never_taken(case: Case) -> None:
    """One answer in seven comes after its timeout: no value is ever another question's."""

    async def scenario() -> None:
        rng = random.Random(11)
        bench = case.bench(lambda answer: ((rng.choice([0.6, 0.8, 1.4]) if rng.random() < 0.15 else 0.01, answer),))
        good = 0
        for _ in range(150):
            ask, wanted = rng.choice([(case.first, case.first_bytes), (case.second, case.second_bytes)])
            result = await bench.outcome(ask, TIMEOUT_S)
            if isinstance(result, bytes):
                assert result == wanted
                good += 1
            else:
                assert isinstance(result, NoAnswerError | ProtocolError), result
        assert good > 75

    asyncio.run(scenario())


def assert_foreign_frames_are_skipped(case: Case) -> None:
    """A good frame of somebody else before the answer is counted and left out."""

    async def scenario() -> None:
        bench = case.bench(lambda answer: [(0.01, case.foreign), (0.03, answer)])
        assert await bench.read(case.first) == case.first_bytes
        assert sum(count.foreign + count.late for count in bench.bus.counts.meters.values()) >= 1
        bench = case.bench(lambda answer: [(0.01, case.foreign)])
        assert isinstance(await bench.outcome(case.first), MetergateError)

    asyncio.run(scenario())


def assert_streams_do_not_hold_the_bus(case: Case) -> None:
    """An endless stream, and one byte a second: an error in bounded time, no memory, and the bus goes on."""

    async def scenario() -> None:
        rng = random.Random(3)
        for spoil in (
            lambda answer: [(0.001, rng.randbytes(16)) for _ in range(4000)],
            lambda answer: [(1.0, b"\x68") for _ in range(30)],
            lambda answer: [(0.01, b"\x00" * 64) for _ in range(400)],
        ):
            sick = [True]
            bench = case.bench(lambda answer, s=spoil, sick=sick: s(answer) if sick[0] else whole(answer))  # type: ignore[misc]  # as above
            begin = bench.clock.monotonic()
            assert isinstance(await bench.outcome(case.first), MetergateError)
            assert bench.clock.monotonic() - begin < 60
            sick[0] = False
            await bench.clock.advance(40.0)
            assert await bench.read(case.first) == case.first_bytes

    asyncio.run(scenario())


def assert_a_refusal_is_told(case: Case) -> None:
    """The meter's own no is a MeterError, not damage."""

    async def scenario() -> None:
        bench = case.bench(lambda answer: whole(case.refusal))
        assert isinstance(await bench.outcome(case.first), MeterError)
        assert bench.bus.counts.of(case.first.address).refused == 1

    asyncio.run(scenario())


def assert_a_lost_port_comes_back(case: Case) -> None:
    """Unplugged while waiting: the question fails at once; plugged in again, reading goes on without help."""

    async def scenario() -> None:
        bench = case.bench(lambda answer: ())
        work = asyncio.ensure_future(bench.outcome(case.first, 30.0))
        await bench.clock.advance(0.2)
        bench.port.unplug()
        assert isinstance(await work, TransportError)
        bench.port.refuse = True
        assert isinstance(await bench.outcome(case.first), MetergateError)
        bench.port.refuse = False
        bench.port.respond = case.bench().port.respond
        await bench.clock.advance(40.0)
        assert await bench.read(case.first) == case.first_bytes
        assert bench.port.openings == 2
        bench.bus.close()
        bench.bus.close()

    asyncio.run(scenario())


SUITE = (
    assert_it_reads,
    assert_pieces_do_not_matter,
    assert_noise_and_echo_are_harmless,
    assert_cut_answers_fail_at_once,
    assert_flipped_bits_are_harmless,
    assert_silence_costs_one_timeout,
    assert_late_answers_are_never_taken,
    assert_foreign_frames_are_skipped,
    assert_streams_do_not_hold_the_bus,
    assert_a_refusal_is_told,
    assert_a_lost_port_comes_back,
)


def _flip(raw: bytes, bit: int) -> bytes:
    spoiled = bytearray(raw)
    spoiled[bit // 8] ^= 1 << bit % 8
    return bytes(spoiled)


async def _data_answer(case: Case) -> bytes:
    """Return the bytes of the answer with data to the first question."""
    found: list[bytes] = []

    def keep(answer: bytes) -> Sequence[Chunk]:
        found.append(answer)
        return whole(answer)

    await case.bench(keep).read(case.first)
    return found[0]
