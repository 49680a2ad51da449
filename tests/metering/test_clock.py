"""The injected clock: virtual time is moved by hand and wakes sleepers in order."""

from __future__ import annotations

import asyncio

import pytest

from metering.clock import ManualClock, SystemClock, parse_day, parse_rfc3339, rfc3339


def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    async def scenario() -> list[tuple[str, float]]:
        clock, woken = ManualClock(), list[tuple[str, float]]()

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((name, clock.monotonic()))

        tasks = [asyncio.create_task(sleeper(*who)) for who in (("late", 30.0), ("early", 10.0), ("never", 99.0))]
        await clock.advance(60)
        tasks[2].cancel()
        return woken

    assert asyncio.run(scenario()) == [("early", 10.0), ("late", 30.0)]


def test_wall_time_follows_and_can_be_stepped_without_moving_monotonic_time() -> None:
    clock = ManualClock(1_000)
    asyncio.run(clock.advance(2.5))
    assert (clock.now_ms(), clock.monotonic()) == (3_500, 2.5)
    clock.step_wall(-3_000)
    assert (clock.now_ms(), clock.monotonic()) == (500, 2.5)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
def test_a_deadline_cancels_the_work(clock: SystemClock | ManualClock) -> None:
    async def scenario() -> bool:
        work = asyncio.ensure_future(asyncio.Event().wait())
        deadline = asyncio.ensure_future(clock.timeout(work, 0.01))
        if isinstance(clock, ManualClock):
            await clock.advance(1)
        with pytest.raises(TimeoutError):
            await deadline
        return work.cancelled()

    assert asyncio.run(scenario())


def test_work_that_is_done_in_time_gives_its_result() -> None:
    async def scenario() -> int:
        async def work() -> int:
            return 7

        return await ManualClock().timeout(work(), 5)

    assert asyncio.run(scenario()) == 7


def test_times_are_written_and_read_exactly() -> None:
    assert rfc3339(1_772_323_200_123) == "2026-03-01T00:00:00.123Z"
    assert parse_rfc3339("2026-03-01T08:00:00.123+08:00") == 1_772_323_200_123
    assert parse_day("2026-03-01", "Asia/Shanghai") == 1_772_294_400_000
    with pytest.raises(ValueError, match="without offset"):
        parse_rfc3339("2026-03-01T08:00:00")
