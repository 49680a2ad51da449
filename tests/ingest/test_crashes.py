"""The pipeline dies between any two steps, at every step it has, and after a new start nothing is lost, doubled or
acknowledged too early.

A crash is an exception that nobody catches, thrown by the hook that the pipeline calls at each step. What was in
memory is thrown away and a new pipeline opens the same files, as after `kill -9` (the store's own survival of that is
shown in `test_store_sqlite.py`, the whole programs' in the ledger test). A small broker keeps what was not
acknowledged and delivers it again, and a small gateway sends again what no acknowledgement covers.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import pytest

from ingest import ledger
from metering.mqtt import Delivery
from metering.reading import Event, Reading, Row
from tests.ingest.house import EPOCH, NOW, House, failed, reading, up

STEPS = (
    "checked",
    "floored",
    "stored",
    "recording",
    "recorded",
    "answered",
    "acknowledged",
    "flushing",
    "flushed",
)
DAY = 86_400_000


class Crash(BaseException):
    """kill -9, as far as this process can play it."""


class Dying:
    """Dies at the n-th time of a step, and checks at every answer that only committed rows are acknowledged."""

    def __init__(self, house: House, step: str, countdown: int) -> None:
        self.house = house
        self.step = step
        self.countdown = countdown
        self.deaths = 0

    def __call__(self, step: str) -> None:
        if step == "answered":
            self.check_acknowledgements()
        if step == self.step:
            self.countdown -= 1
            if self.countdown == 0:
                self.deaths += 1
                raise Crash(step)

    def check_acknowledgements(self) -> None:
        for gateway, ack in self.house.sent.acks:
            spans = self.house.position(gateway, ack.epoch).spans
            accounted = ledger.committed(spans, 1, ack.upto)
            assert accounted == ack.upto - sum(end - start + 1 for start, end in ack.missing)


class World:
    """A gateway with an outbox, and a broker with a queue, around the house."""

    def __init__(self, house: House, rows: list[Row], chance: random.Random) -> None:
        self.house = house
        self.outbox = dict(enumerate(rows, 1))
        self.chance = chance
        self.queue: list[Delivery] = []

    def send(self) -> None:
        """Publish some of what is waiting: live rows first, in pieces, as the uplink may."""
        waiting = sorted(self.outbox)
        size = self.chance.randrange(3, 9)
        start = self.chance.choice([0, max(0, len(waiting) - size)])
        piece = waiting[start : start + size]
        whole = [seq for offset, seq in enumerate(piece) if seq == piece[0] + offset]
        rows = [self.outbox[seq] for seq in whole]
        self.queue.append(up(whole[0], rows, oldest=waiting[0]))

    async def deliver(self) -> None:
        """Hand everything that is not acknowledged to ingest; take its acknowledgements to the gateway."""
        again = [Delivery(d.topic, d.payload, d.qos, d.retain) for d in self.queue]
        await self.house.pipeline.cycle(again)
        self.queue = [delivery for delivery in again if not delivery._done]
        self.hear()

    def hear(self) -> None:
        for _, ack in self.house.sent.acks:
            missing = {seq for start, end in ack.missing for seq in range(start, end + 1)}
            for seq in list(self.outbox):
                if seq <= ack.upto and seq not in missing:
                    del self.outbox[seq]
        self.house.sent.acks.clear()


def workload(chance: random.Random) -> list[Row]:
    """Live rows, backlog of three days, failed reads, an unknown meter, a conflict, a repeated key."""
    rows: list[Row] = []
    for i in range(60):
        at = NOW - chance.choice([0, 0, 0, 1, 2, 3]) * DAY - 60_000 + i * 500
        rows.append(reading(chance.choice(["M1", "M2"]), at, i))
        if i % 9 == 0:
            rows.append(failed("M1", at))
        if i % 13 == 0:
            rows.append(reading("nobody", at, i))
    first = next(row for row in rows if isinstance(row, Reading) and row.meter == "M1")
    rows.append(reading("M1", first.read_at, first.values["volume"]))
    rows.append(reading("M1", first.read_at, 999_999))
    return rows


@pytest.mark.parametrize("countdown", [1, 2, 5])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_loses_and_invents_nothing(tmp_path: Path, step: str, countdown: int) -> None:
    house = House(tmp_path)
    chance = random.Random(f"{step}{countdown}")
    rows = workload(chance)
    world = World(house, rows, chance)
    dying = Dying(house, step, countdown)
    house.fault = dying

    async def live() -> None:
        await house.pipeline.start()
        while world.outbox:
            world.send()
            await world.deliver()
            if chance.random() < 0.4:
                await house.pipeline.flush()
        await house.pipeline.flush()

    for _ in range(3):
        try:
            asyncio.run(live())
            break
        except Crash:
            world.hear()  # what was published before the crash may still arrive
            house.restart()
    assert dying.deaths == 1, "the step was never reached: this test proves nothing"
    judge(house, rows)
    house.close()


def judge(house: House, rows: list[Row]) -> None:
    readings = [row for row in rows if isinstance(row, Reading) and row.meter != "nobody"]
    stored = house.stored()
    expected: dict[tuple[str, int], set[int]] = defaultdict(set)
    for row in readings:
        expected[row.meter, row.read_at].add(row.values["volume"])
    assert set(stored) == set(expected)
    for key, values in stored.items():
        assert values["volume"] in expected[key]
        assert values["volume"] != 999_999 or len(expected[key]) == 2
    reasons = [reason for _, reason, _ in house.quarantine()]
    strangers = {(row.meter, row.read_at) for row in rows if isinstance(row, Reading)} - set(expected)
    assert reasons.count("unknown_meter") == len(strangers)
    assert reasons.count("conflict") == sum(len(values) - 1 for values in expected.values())
    assert len(house.events("read_failed")) == len([row for row in rows if isinstance(row, Event)])
    position = house.position(epoch=EPOCH)
    assert position.spans == [(1, len(rows))]
    assert position.stored + position.quarantined + position.events == len(rows)
    newest = {meter: max(at for name, at in stored if name == meter) for meter in ("M1", "M2")}
    assert house.latest() == {meter: (at, stored[meter, at]) for meter, at in newest.items()}
    closings: dict[tuple[str, str], tuple[int, int]] = {}
    for (meter, at), values in sorted(stored.items()):
        closings[meter, local_day(at)] = at, values["volume"]
    assert house.closings() == closings


def local_day(at: int) -> str:
    """Shanghai is 8 h ahead all year; midnight itself closes the day before."""
    return str(date(1970, 1, 1) + timedelta(days=(at - 1 + 8 * 3_600_000) // DAY))


def test_the_recovery_floor_is_lowered_before_the_store_is_written(tmp_path: Path) -> None:
    """Dies between the store write and the flush of a row that is older than anything the floor covered."""
    house = House(tmp_path)

    async def live() -> None:
        await house.pipeline.start()
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 100)])])
        await house.pipeline.flush()
        house.fault = Dying(house, "stored", 1)
        await house.pipeline.cycle([up(2, [reading("M1", NOW - 30 * DAY, 7)])])

    with pytest.raises(Crash):
        asyncio.run(live())
    house.fault = lambda step: None
    house.restart()

    async def after() -> None:
        assert house.closings() == {("M1", "2026-01-30"): (NOW - 30 * DAY, 7), ("M1", "2026-03-01"): (NOW, 100)}
        assert house.latest()["M1"][0] == NOW

    house.run(after)


def test_the_recovery_floor_rises_again_so_that_a_start_reads_little(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def live() -> None:
        def floor() -> int:
            return house.pipeline._floor

        assert floor() == NOW - 600_000
        await house.pipeline.cycle([up(1, [reading("M1", NOW - DAY, 1)])])
        assert floor() == NOW - DAY - 3_600_000
        await house.clock.advance(29)
        await house.pipeline.flush()
        assert floor() == NOW - DAY - 3_600_000  # more backlog may come
        await house.clock.advance(2)
        await house.pipeline.flush()
        assert floor() == NOW + 31_000 - 600_000

    house.run(live)
