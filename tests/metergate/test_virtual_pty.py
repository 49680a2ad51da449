"""Bytes through a pseudo-terminal are counted at both ends, and virtual time waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.drivers.serial_port import Line
from metergate.virtual_pty import CountedPort
from metergate.virtual_time import VirtualClock, VirtualLoop
from simulators.bus_ports import PtyPort


def play(scene: Any) -> Any:
    clock = VirtualClock(0)
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(scene(clock))


async def _both(meters: list[bytes], gateway: list[bytes]) -> tuple[VirtualLoop, PtyPort, CountedPort]:
    """Return an open pseudo-terminal with both ends; what each end gets is added to its list."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    there = PtyPort(None, meters.append)
    await there.open()
    loop.wires.count_pty(there)
    here = CountedPort(there.path, loop.wires)
    await here.open(Line(), gateway.append, lambda why: None)
    return loop, there, here


def test_time_stands_until_the_other_end_has_read() -> None:
    async def scene(clock: VirtualClock) -> tuple[bytes, bytes, float, bool]:
        asked, answered = list[bytes](), list[bytes]()
        loop, there, here = await _both(asked, answered)
        here.write(b"request")
        assert loop.wires.busy
        await clock.sleep(0.001)
        there.write(b"a long answer" * 100)
        await clock.sleep(0.001)
        found = b"".join(asked), b"".join(answered), clock.monotonic(), loop.wires.busy
        here.close()
        there.close()
        return found

    assert play(scene) == (b"request", b"a long answer" * 100, 0.002, False)


def test_what_nobody_will_read_holds_nothing_up() -> None:
    async def scene(clock: VirtualClock) -> bool:
        loop, there, here = await _both([], [])
        here.close()
        there.write(b"to nobody")
        await clock.sleep(60.0)
        there.close()
        return loop.wires.busy

    assert play(scene) is False


def test_a_line_that_is_pulled_out_is_noticed_and_found_again() -> None:
    async def scene(clock: VirtualClock) -> tuple[list[str], list[bytes]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        heard, lost = list[bytes](), list[str]()
        there = PtyPort(None, heard.append)
        await there.open()
        loop.wires.count_pty(there)
        here = CountedPort(there.path, loop.wires)
        await here.open(Line(), lambda data: None, lost.append)
        there.close()
        await clock.sleep(1.0)
        await there.open()
        again = CountedPort(there.path, loop.wires)
        loop.wires.count_pty(there)
        await again.open(Line(), lambda data: None, lost.append)
        again.write(b"here I am")
        await clock.sleep(1.0)
        again.close()
        there.close()
        return lost, heard

    lost, heard = play(scene)
    assert len(lost) == 1
    assert heard == [b"here I am"]
