"""The Modbus TCP driver: every fault of a frame becomes an error of its kind, none ever becomes a value."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from gateway.drivers.modbus_tcp import Ask, ModbusTcpLink, make_ask
from metering.clock import ManualClock
from metering.errors import (
    ConnectError,
    FrameError,
    MeterError,
    MetergateError,
    NoAnswerError,
    TransportError,
)
from tests.gateway.drivers.raw_server import RawServer, good, raw_server, until

DATA = bytes(range(1, 41))
ASK = make_ask(17, 3, 0x0010, 20)
OTHER = make_ask(17, 3, 0x0100, 20)


class _Bench:
    """A link on a clock that a test moves."""

    def __init__(self, server: RawServer, *, in_flight: int = 1) -> None:
        self.clock = ManualClock()
        self.counters: dict[str, int] = {}
        self.server = server
        self.link = ModbusTcpLink(
            "127.0.0.1",
            server.port,
            clock=self.clock,
            rng=random.Random(1),
            counters=self.counters,
            in_flight=in_flight,
        )

    def start(self, ask: Ask = ASK, timeout_s: float = 1.0) -> asyncio.Task[bytes | MetergateError]:
        async def read() -> bytes | MetergateError:
            try:
                return await self.link.read(ask, timeout_s)
            except MetergateError as error:
                return error

        return asyncio.ensure_future(read())

    async def read(self, ask: Ask = ASK, *, partial: int = 0) -> bytes | MetergateError:
        """Read; when the server has had its say and there is no result, let the timeout come.

        partial: so many bytes of an unfinished answer are waited for first.
        """
        asked = len(self.server.requests)
        task = self.start(ask)
        await until(lambda: task.done() or len(self.server.requests) > asked)
        await until(lambda: task.done() or len(self.link._buffer) >= partial)
        for _ in range(0 if partial else 100):
            if task.done():
                return task.result()
            await asyncio.sleep(0.0005)
        await self.clock.advance(2.0)
        return await task


def _scene(answer: Callable[[bytes], list[bytes] | None], act: Callable[[_Bench], object]) -> None:
    """Run an async `act` against a server that answers so."""

    async def scenario() -> None:
        async with raw_server(answer) as server:
            bench = _Bench(server)
            try:
                await act(bench)  # type: ignore[misc]  # act is an async function
            finally:
                bench.link.close()

    asyncio.run(scenario())


def test_a_request_has_the_bytes_of_the_specification_and_its_answer_becomes_register_bytes() -> None:
    async def act(bench: _Bench) -> None:
        assert await bench.read() == DATA
        request = bench.server.requests[0]
        assert request[2:] == bytes.fromhex("0000 0006 11 03 0010 0014")
        assert await bench.read(make_ask(17, 4, 0, 2)) == DATA[:4]
        assert bench.server.requests[1][7] == 4
        assert bench.server.connections == 1, "one connection for all"
        assert request[:2] != bench.server.requests[1][:2], "every request has its own transaction id"

    _scene(lambda r: [good(r, DATA[: 2 * int.from_bytes(r[10:12], "big")])], act)


def test_an_answer_cut_at_any_byte_is_no_answer_and_the_connection_is_given_up() -> None:
    async def act(bench: _Bench) -> None:
        whole = len(good(bytes(12), DATA))
        for length in range(whole):
            bench.server.answer = lambda r, n=length: [good(r, DATA)[:n]]  # type: ignore[misc]
            answer = await bench.read(partial=length)
            assert isinstance(answer, NoAnswerError), (length, answer)
            assert bench.counters.get("frame_cut", 0) == length, "noticed when the time is over"
            bench.server.answer = lambda r: [good(r, DATA)]
            await bench.clock.advance(60.0)  # the pause before the next connection
            assert await bench.read() == DATA, "and the next answer is read on a clean connection"

    _scene(lambda r: [], act)


def test_an_answer_in_single_bytes_is_put_together() -> None:
    async def act(bench: _Bench) -> None:
        assert await bench.read() == DATA

    _scene(lambda r: [bytes((byte,)) for byte in good(r, DATA)], act)


def _with(position: int, value: int) -> Callable[[bytes], list[bytes]]:
    def answer(request: bytes) -> list[bytes]:
        frame = bytearray(good(request, DATA))
        frame[position] = value
        return [bytes(frame)]

    return answer


def _body(request: bytes, body: bytes) -> bytes:
    return request[:2] + b"\x00\x00" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("answer", "kind", "error"),
    [
        (_with(6, 18), "frame_unit", FrameError),
        (_with(7, 4), "frame_function", FrameError),
        (_with(7, 0x2B), "frame_function", FrameError),
        (_with(8, 38), "frame_length", FrameError),
        (_with(8, 42), "frame_length", FrameError),
        (_with(8, 0), "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 3, 38)) + DATA[:38])], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 3, 42)) + DATA + b"ab")], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 3, 39)) + DATA[:39])], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 3, 40)) + DATA + b"!")], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 3)))], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 0x83)))], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 0x83, 2, 0)))], "frame_length", FrameError),
        (lambda r: [_body(r, bytes((17, 0x84, 2)))], "frame_function", FrameError),
        (lambda r: [_body(r, bytes((17, 6, 0, 16, 0, 20)))], "frame_function", FrameError),
        (_with(3, 1), "frame_garbage", TransportError),
        (_with(4, 0xFF), "frame_length", TransportError),
        (lambda r: [r[:4] + b"\xff\xff" + DATA], "frame_length", TransportError),
        (lambda r: [r[:4] + b"\x00\x00" + DATA], "frame_length", TransportError),
        (lambda r: [r[:4] + b"\x00\x01\x11" + DATA], "frame_length", TransportError),
        (lambda r: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "frame_garbage", TransportError),
        (lambda r: [b"\xff" * 300], "frame_garbage", TransportError),
        (lambda r: None, "disconnects", TransportError),
    ],
)
def test_a_wrong_answer_is_an_error_at_once_counted_by_kind_and_never_a_value(
    answer: Callable[[bytes], list[bytes] | None], kind: str, error: type[MetergateError]
) -> None:
    async def act(bench: _Bench) -> None:
        task = bench.start()
        result = await asyncio.wait_for(task, 10)  # no clock is moved: bad bytes do not wait for a timeout
        assert isinstance(result, error), result
        assert bench.counters[kind] == 1, bench.counters
        bench.server.answer = lambda r: [good(r, DATA)]
        await bench.clock.advance(60.0)
        assert await bench.read() == DATA, "and the bus goes on"

    _scene(answer, act)


def test_an_exception_answer_is_the_meters_no_with_its_code() -> None:
    async def act(bench: _Bench) -> None:
        answer = await bench.read()
        assert isinstance(answer, MeterError)
        assert answer.code == 2
        assert "illegal data address" in answer.message

    _scene(lambda r: [_body(r, bytes((17, 0x83, 2)))], act)


def test_every_flipped_bit_of_the_header_is_refused_or_ignored() -> None:
    async def act(bench: _Bench) -> None:
        for bit in range(9 * 8):
            bench.server.answer = lambda r, b=bit: [_flip(good(r, DATA), b)]  # type: ignore[misc]
            assert isinstance(await bench.read(), MetergateError), bit
            await bench.clock.advance(60.0)

    _scene(lambda r: [], act)


def _flip(frame: bytes, bit: int) -> bytes:
    return bytes(b ^ (1 << bit % 8) if i == bit // 8 else b for i, b in enumerate(frame))


def test_an_answer_with_a_foreign_transaction_id_is_counted_and_waited_past() -> None:
    def answer(request: bytes) -> list[bytes]:
        foreign = bytes((request[0] ^ 0x55,)) + request[1:]
        return [good(foreign, bytes(40)), good(request, DATA)]

    async def act(bench: _Bench) -> None:
        assert await bench.read() == DATA
        assert bench.counters["frame_foreign"] == 1

    _scene(answer, act)


def test_two_frames_in_one_segment_give_the_first_to_the_request_and_count_the_second() -> None:
    async def act(bench: _Bench) -> None:
        assert await bench.read() == DATA
        await until(lambda: bench.counters.get("frame_foreign") == 1)
        assert await bench.read() == DATA

    _scene(lambda r: [good(r, DATA) + good(r, bytes(40))], act)


def test_a_late_answer_never_answers_the_next_request() -> None:
    held: list[bytes] = []

    def answer(request: bytes) -> list[bytes]:
        if not held:
            held.append(request)
            return []
        return [good(held[0], bytes(40)) + good(request, DATA)]

    async def act(bench: _Bench) -> None:
        assert isinstance(await bench.read(), NoAnswerError)
        assert await bench.read(OTHER) == DATA
        assert bench.counters["frame_late"] == 1
        assert bench.counters["timeout"] == 1

    _scene(answer, act)


def test_a_stream_of_frames_that_nobody_asked_for_ends_the_connection() -> None:
    async def act(bench: _Bench) -> None:
        assert isinstance(await bench.read(), TransportError)
        assert 100 <= bench.counters["frame_foreign"] <= 102
        assert not bench.link.up

    _scene(lambda r: [good(b"\x00\x00" + r[2:], bytes(40)) * 10_000], act)


def test_silence_is_a_timeout_and_three_in_a_row_make_a_new_connection() -> None:
    async def act(bench: _Bench) -> None:
        for _ in range(3):
            assert isinstance(await bench.read(), NoAnswerError)
        assert not bench.link.up, "a dead connection looks like this"
        bench.server.answer = lambda r: [good(r, DATA)]
        await bench.clock.advance(60.0)
        assert await bench.read() == DATA
        assert bench.server.connections == 2

    _scene(lambda r: [], act)


def test_nobody_there_is_a_connect_error() -> None:
    async def scenario() -> None:
        async with raw_server(lambda r: []) as server:
            bench = _Bench(server)
        result = await bench.start()
        assert isinstance(result, ConnectError)
        assert bench.counters["connect_failed"] == 1
        assert not bench.link.dial(1.0), "it pauses before it tries again"
        await bench.clock.advance(2.0)
        assert bench.link.dial(1.0)
        bench.link.close()
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_answers_out_of_order_find_their_requests_when_several_are_under_way() -> None:
    waiting: list[bytes] = []

    def answer(request: bytes) -> list[bytes]:
        waiting.append(request)
        if len(waiting) < 4:
            return []
        return [b"".join(good(r, r[8:10] * 20) for r in reversed(waiting))]

    async def scenario() -> None:
        async with raw_server(answer) as server:
            bench = _Bench(server, in_flight=4)
            bench.link.dial(1.0)
            await until(lambda: bench.link.up)
            found: dict[int, bytes | MetergateError] = {}
            for start in range(4):
                assert bench.link.free
                bench.link.ask(make_ask(1, 3, start, 20), 1.0, lambda result, at=start: found.update({at: result}))  # type: ignore[misc]
            assert not bench.link.free
            await until(lambda: len(found) == 4)
            assert found == {start: start.to_bytes(2, "big") * 20 for start in range(4)}
            bench.link.close()

    asyncio.run(scenario())


def test_starting_twice_and_closing_twice_is_harmless() -> None:
    async def act(bench: _Bench) -> None:
        assert bench.link.dial(1.0)
        assert bench.link.dial(1.0)
        await until(lambda: bench.link.up)
        bench.link.close()
        bench.link.close()
        await bench.clock.advance(60.0)
        assert await bench.read() == DATA
        assert bench.server.connections == 2

    _scene(lambda r: [good(r, DATA)], act)
