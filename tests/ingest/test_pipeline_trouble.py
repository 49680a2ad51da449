"""Ingest while store, registry or clock are away, after a start, and under odd messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from metering.errors import RegistryError, StoreError
from metering.messages import Up, encode
from metering.mqtt import Delivery
from metering.reading import Event, Reading, Row
from metering.store import ReadingStore
from tests.ingest.house import DAY, EPOCH, MINUTE, NOW, House, raw, reading, up


class Moody:
    """A store that cannot do what `away` says; its "count" tells how often it was asked to."""

    def __init__(self, store: ReadingStore, away: dict[str, int]) -> None:
        self._store, self._away = store, away

    def __getattr__(self, name: str) -> Any:
        if self._away.get(name):
            self._away["count"] += 1
            raise StoreError("the disk is away")
        return getattr(self._store, name)


def test_nothing_is_acknowledged_while_the_store_is_away_and_everything_afterwards(tmp_path: Path) -> None:
    away = {"get": False, "write": False, "count": 0}
    house = House(tmp_path, wrap=lambda store: Moody(store, away))

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW - 10, 3)])])
        house.sent.acks.clear()
        away["get"] = away["write"] = True
        deliveries = [up(2, [reading("M1", NOW, 5), reading("M1", NOW - 1, 4), reading("M1", NOW - 20, 2)])]
        work = asyncio.create_task(house.pipeline.cycle(deliveries))
        before = away["count"]
        while away["count"] < before + 8:
            await house.clock.advance(1.0)
        assert house.pipeline.problems["store"] == "the disk is away"
        assert house.sent.acks == []
        house.pipeline.announce()  # a reconnect in the middle of it tells what is committed, and no more
        house.pipeline.greet("gw-1", EPOCH)
        await house.clock.advance(0)
        assert [ack.upto for _, ack in house.sent.acks] == [1, 1]
        house.sent.acks.clear()
        assert not deliveries[0]._done
        away["get"] = False
        before = away["count"]
        while away["count"] < before + 4:
            await house.clock.advance(6.0)
        assert house.sent.acks == []
        away["write"] = False
        while not work.done():
            await house.clock.advance(6.0)
        await work
        assert house.pipeline.problems["store"] == ""
        assert house.sent.acks[-1][1].upto == 4
        assert len(house.stored()) == 4

    house.run(scenario)


@pytest.mark.parametrize("read_at", [NOW + 1, NOW - 5])
def test_a_differing_value_of_the_next_batch_never_overwrites_one_on_its_way(tmp_path: Path, read_at: int) -> None:
    """The first batch cannot be written yet while the second is checked: the store does not know the key so far."""
    away = {"write": True, "count": 0}
    house = House(tmp_path, wrap=lambda store: Moody(store, away))

    async def scenario() -> None:
        away["write"] = False
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 1)])])
        away["write"] = True
        first = asyncio.create_task(house.pipeline.cycle([up(2, [reading("M1", read_at, 5)])]))
        while not away["count"]:
            await house.clock.advance(0)
        second = asyncio.create_task(house.pipeline.cycle([up(3, [reading("M1", read_at, 6)])]))
        for _ in range(5):
            await house.clock.advance(1.0)
        away["write"] = False
        while not (first.done() and second.done()):
            await house.clock.advance(6.0)
        await asyncio.gather(first, second)
        assert house.stored() == {("M1", NOW): {"volume": 1}, ("M1", read_at): {"volume": 5}}
        assert house.quarantine() == [("gw-1", "conflict", 3)]

    house.run(scenario)


def test_nothing_is_acknowledged_while_the_registry_is_away(house: House) -> None:
    async def scenario() -> None:
        real, calls = house.database.begin, []

        def broken() -> Any:
            calls.append(1)
            raise RegistryError("no such server")

        house.database.begin = broken  # type: ignore[method-assign]  # the registry goes away
        delivery = up(1, [reading("M1", NOW, 5)])
        work = asyncio.create_task(house.pipeline.cycle([delivery]))
        while len(calls) < 5:
            await house.clock.advance(6.0)
        assert house.sent.acks == []
        assert not delivery._done
        assert house.pipeline.problems["registry"] == "no such server"
        house.database.begin = real  # type: ignore[method-assign]  # and comes back
        while not work.done():
            await house.clock.advance(6.0)
        await work
        assert house.position().stored == 1
        assert delivery._done

    house.run(scenario)


def test_what_the_store_refuses_is_quarantined_and_accounted_for(tmp_path: Path) -> None:
    class Choosy:
        def __init__(self, store: ReadingStore) -> None:
            self._store = store

        def write(self, readings: Sequence[Reading]) -> list[str | None]:
            self._store.write([r for r in readings if r.values.get("volume") != 13])
            return ["field type conflict" if r.values.get("volume") == 13 else None for r in readings]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    house = House(tmp_path, wrap=Choosy)

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 12), reading("M1", NOW + 1, 13)])])
        assert house.stored() == {("M1", NOW): {"volume": 12}}
        assert house.quarantine() == [("gw-1", "store_refused", None)]
        await house.pipeline.flush()
        assert house.latest()["M1"][0] == NOW
        assert house.sent.acks[-1][1].upto == 2

    house.run(scenario)


def test_a_host_in_1970_judges_nobody(house: House) -> None:
    async def scenario() -> None:
        house.clock.step_wall(-NOW)
        work = asyncio.create_task(house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])]))
        await house.clock.advance(5.0)
        assert "clock" in house.pipeline.problems["clock"]
        assert not work.done()
        house.clock.step_wall(NOW)
        await house.clock.advance(5.0)
        await work
        assert house.stored() == {("M1", NOW): {"volume": 5}}

    house.run(scenario)


def test_after_a_start_every_gateway_hears_where_it_stands(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        await house.pipeline.cycle([up(7, [reading("M3", NOW, 5)], gateway="gw-2")])
        await house.clock.advance(1)
        await house.pipeline.cycle([up(1, [reading("M1", NOW + 1, 6)], epoch="ee00ee00")])

    house.run(scenario)
    house.restart()

    async def after() -> None:
        house.pipeline.announce()
        found = {gateway: (ack.epoch, ack.upto, ack.missing) for gateway, ack in house.sent.acks}
        assert found == {"gw-1": ("ee00ee00", 1, []), "gw-2": (EPOCH, 7, [(1, 6)])}
        house.pipeline.greet("gw-1", EPOCH)
        assert house.sent.acks[-1][1].upto == 1
        house.pipeline.greet("gw-1", "0000000000")
        assert len(house.sent.acks) == 3

    house.run(after)


def test_promise_5_holds_after_a_start_even_if_the_registry_was_lost(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])

    house.run(scenario)
    with house.database.begin() as connection:
        for table in ("latest", "closing", "position", "state"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    house.restart()

    async def after() -> None:
        assert house.latest()["M1"] == (NOW, {"volume": 5})
        assert house.closings() == {("M1", "2026-03-01"): (NOW, 5)}
        await house.pipeline.cycle([up(2, [reading("M1", NOW, 6)])])
        assert house.stored() == {("M1", NOW): {"volume": 5}}
        assert house.quarantine() == [("gw-1", "conflict", 2)]

    house.run(after)


def hostile(chance: random.Random) -> Delivery:
    """A message that follows the schema and is as odd as the schema allows, or one with some bytes changed."""
    numbers = [0, 1, 2, 7, 2**31 - 1, 2**53 + 1, 2**62 - 600, NOW, NOW // 1000, NOW + 1, 253_402_300_799_999]
    texts = ["M1", "M3", "nobody", "a\nb", "' OR 1=1 --", "\u202e", "../..", "x" * 64, "=cmd|' /C calc'!A0"]

    def number() -> int:
        return chance.choice(numbers)

    def row() -> Row:
        if chance.random() < 0.3:
            return Event("security", number(), meter=chance.choice(texts), count=max(1, number() % 2**31))
        return Reading(
            chance.choice(texts),
            min(number(), 253_402_300_799_999),
            {"volume": number() - number(), "valve": number()} if chance.random() < 0.9 else {},
            meter_time=chance.choice([None, 0, NOW]),
            received_at=chance.choice([None, 0]),
            quality=chance.choice(["valid", "suspect", "edited", "estimated", "manual"]),
            source=chance.choice(["poll", "push", "import", "estimate"]),
            flags=number() % 2**31,
        )

    seqs = [max(1, number()) for _ in range(5)]
    gone = [(seqs[3], seqs[4])] if chance.random() < 0.5 else []
    epoch = chance.choice([EPOCH, "ee00ee00", "0" * 32])
    message = Up(1, "gw-1", epoch, seqs[0], seqs[1], seqs[2], NOW, [row() for _ in range(chance.randrange(4))], gone)
    payload = bytearray(encode(message))
    if chance.random() < 0.5:
        for _ in range(chance.randrange(1, 4)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
    return raw(bytes(payload))


def test_five_hundred_odd_messages_do_not_stop_the_pipeline(house: House) -> None:
    chance = random.Random(3)

    async def scenario() -> None:
        for _ in range(50):
            deliveries = [hostile(chance) for _ in range(10)]
            await house.pipeline.cycle(deliveries)
            assert all(delivery._done for delivery in deliveries)
            await house.pipeline.flush()
        await house.pipeline.cycle([up(900_000, [reading("M2", NOW, 5)])])
        assert house.stored()["M2", NOW] == {"volume": 5}
        assert all(meter in ("M1", "M2") for meter, _ in house.stored())
        assert all(NOW - 401 * DAY < at <= NOW + 5 * MINUTE for _, at in house.stored())
        results = house.pipeline.counters
        assert results["messages_total", 'result="ok"'] > 100
        assert results["messages_total", 'result="refused"'] > 50

    house.run(scenario)
    house.restart()
    house.run(house.pipeline.reload)
