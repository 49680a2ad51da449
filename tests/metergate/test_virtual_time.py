"""The virtual clock moves only when nothing is in flight: no task, no thread, no byte."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from metergate.virtual_time import StuckError, VirtualClock, VirtualLoop
from metering.clock import SystemClock

START_MS = 1_772_323_200_000


def play(make: Any) -> Any:
    """Run `make(clock)` on a virtual loop and return what it returns."""
    clock = VirtualClock(START_MS)
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        work: Coroutine[Any, Any, Any] = make(clock)
        return runner.run(work)


def test_ninety_days_pass_at_once_and_to_the_millisecond() -> None:
    async def wait(clock: VirtualClock) -> tuple[int, float]:
        await clock.sleep(90 * 86_400.0)
        return clock.now_ms(), clock.monotonic()

    began = SystemClock().monotonic()
    assert play(wait) == (START_MS + 7_776_000_000, 7_776_000.0)
    assert SystemClock().monotonic() - began < 20


def test_sleepers_wake_in_the_order_of_their_moments_and_then_of_their_coming() -> None:
    async def wait(clock: VirtualClock) -> list[str]:
        order: list[str] = []

        async def one(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            order.append(f"{name}@{clock.monotonic():g}")

        await asyncio.gather(one("late", 3.0), one("first", 1.0), one("second", 1.0), one("none", 0.0))
        return order

    assert play(wait) == ["none@0", "first@1", "second@1", "late@3"]


def test_a_deadline_passes_in_virtual_time_and_cancels_what_was_awaited() -> None:
    async def wait(clock: VirtualClock) -> tuple[float, bool, int]:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await clock.timeout(never, 15.0)
        task = asyncio.current_task()
        assert task is not None
        return clock.monotonic(), never.cancelled(), task.cancelling()

    assert play(wait) == (15.0, True, 0)


def test_what_comes_before_its_deadline_is_returned_and_the_deadline_forgotten() -> None:
    async def wait(clock: VirtualClock) -> tuple[str, float]:
        async def answer() -> str:
            await clock.sleep(2.0)
            return "here"

        word = await clock.timeout(answer(), 15.0)
        await clock.sleep(1.0)
        return word, clock.monotonic()

    assert play(wait) == ("here", 3.0)


def test_a_cancelled_wait_is_cancelled_and_no_timeout() -> None:
    async def wait(clock: VirtualClock) -> str:
        async def work() -> None:
            await clock.timeout(asyncio.Event().wait(), 60.0)

        task = asyncio.create_task(work())
        await clock.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return f"{clock.monotonic():g}"

    assert play(wait) == "1"


def test_time_stands_while_a_thread_works() -> None:
    async def wait(clock: VirtualClock) -> float:
        may_end = threading.Event()
        loop = asyncio.get_running_loop()
        seen: list[float] = []

        def work() -> float:
            may_end.wait(20)
            return clock.monotonic()

        job = loop.run_in_executor(None, work)
        sleeper = asyncio.create_task(clock.sleep(5.0))
        # a real moment in which a clock that guesses would have gone on; the thread ends by itself afterwards
        threading.Timer(0.2, may_end.set).start()
        seen.append(await job)
        assert not sleeper.done()
        await sleeper
        return seen[0]

    assert play(wait) == 0.0


def test_a_thread_that_pauses_does_so_in_virtual_time() -> None:
    async def wait(clock: VirtualClock) -> tuple[float, float]:
        def work() -> float:
            clock.pause(3_600.0)
            return clock.monotonic()

        at = await asyncio.get_running_loop().run_in_executor(None, work)
        return at, clock.monotonic()

    assert play(wait) == (3_600.0, 3_600.0)


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def test_answers_over_real_sockets_take_no_virtual_time() -> None:
    async def wait(clock: VirtualClock) -> tuple[float, int, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        server = await loop.create_server(_Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sleeper = asyncio.create_task(clock.sleep(1e6))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for size in (1, 12, 70_000, 300_000):
            writer.write(b"x" * size)
            assert len(await clock.timeout(reader.readexactly(size), 5.0)) == size
        assert not sleeper.done()
        at, sent = clock.monotonic(), loop.wires.sent
        sleeper.cancel()
        writer.close()
        server.close()
        await clock.sleep(1.0)
        return at, sent, loop.wires.busy

    assert play(wait) == (0.0, 2 * 370_013, False)


def test_a_connection_that_ends_holds_nothing_up() -> None:
    class Hangup(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.abort()

    async def wait(clock: VirtualClock) -> tuple[bytes, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        server = await loop.create_server(Hangup, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"bye")
        rest = await clock.timeout(reader.read(), 5.0)
        writer.close()
        server.close()
        await clock.sleep(10.0)
        return rest, loop.wires.busy

    assert play(wait) == (b"", False)


def test_bytes_that_nobody_will_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    transports: list[Any] = []

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transports.append(transport)
            transport.pause_reading()

    async def wait(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Deaf, "127.0.0.1", 0)
        transports.append(server)
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        transports.append(writer)
        await clock.sleep(1.0)
        writer.write(b"hello")
        await clock.sleep(1.0)

    async def end(clock: VirtualClock) -> None:
        for each in transports:
            each.close()
        await clock.sleep(1.0)

    monkeypatch.setattr("metergate.virtual_time._STUCK_S", 0.2)
    clock = VirtualClock(START_MS)
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        with pytest.raises(StuckError, match="5 bytes"):
            runner.run(wait(clock))
        runner.run(end(clock))
