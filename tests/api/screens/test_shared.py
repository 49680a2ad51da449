"""Answers that pages share: worked out once, kept for a moment, and nobody waits twice for a slow one."""

from __future__ import annotations

import asyncio

import pytest

from api.screens.shared import Shared
from metering.clock import ManualClock


class Asked:
    """Counts how often it is asked; takes `takes_s` of the clock's time."""

    def __init__(self, clock: ManualClock, takes_s: float = 0.0) -> None:
        self.times, self._clock, self._takes_s = 0, clock, takes_s

    async def __call__(self) -> int:
        self.times += 1
        number = self.times
        if self._takes_s:
            await self._clock.advance(self._takes_s)
        return number


def test_many_who_ask_at_once_get_one_answer_and_a_second_later_a_new_one() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        shared, asked = Shared(clock), Asked(clock)
        assert await asyncio.gather(*(shared.get("a", asked, keep_s=1) for _ in range(5))) == [1] * 5
        assert await shared.get("a", asked, keep_s=1) == 1
        await clock.advance(1.1)
        assert await shared.get("a", asked, keep_s=1) == 2

    asyncio.run(scenario())


def test_a_slow_answer_is_kept_longer_and_given_while_the_next_is_worked_out() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        shared, asked = Shared(clock), Asked(clock, takes_s=0.5)

        async def get() -> int:
            return await shared.get("a", asked, keep_s=1, ease=20)

        assert await get() == 1
        await clock.advance(9)  # 20 x 0.5 s are not over
        assert (await get(), asked.times) == (1, 1)
        await clock.advance(2)
        assert await get() == 1  # and the next one is under way
        while asked.times < 2 or await get() == 1:
            await asyncio.sleep(0)
        await clock.advance(60)  # nobody looked for long: too old to be given
        assert await get() == 3

    asyncio.run(scenario())


def test_an_error_is_told_and_not_kept() -> None:
    async def fails() -> int:
        raise ValueError("away")

    async def scenario() -> None:
        clock = ManualClock()
        shared = Shared(clock)
        with pytest.raises(ValueError, match="away"):
            await shared.get("a", fails, keep_s=1)
        assert await shared.get("a", Asked(clock), keep_s=1) == 1

    asyncio.run(scenario())
