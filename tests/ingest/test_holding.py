"""What a pipeline may touch when the city is shared: its own parts, and nothing for a part that moved on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.holding import Holding
from ingest.pipeline import Pipeline
from metering.messages import part_of
from registry import leases
from registry.leases import LeaseLostError
from tests.ingest.house import NOW, House, Sent, failed, reading, up

ONE, TWO = part_of("gw-1"), part_of("gw-2")


class Shared(House):
    """The small house with a leased pipeline, and a second worker that can take parts away."""

    def open(self) -> None:
        super().open()
        assert self.pipeline.close(10)
        self.sent = Sent()
        self.pipeline = Pipeline(
            self.sent,
            self.store,
            self.database,
            clock=self.clock,
            holding=Holding(()),
            fault=lambda step: self.fault(step),
        )

    def take(self, worker: str, *parts: int) -> dict[int, int]:
        """Give leases to a worker, whoever held them."""
        with self.database.begin() as connection:
            for part in parts:
                row = connection.execute(_row(part)).one()
                connection.execute(_lease(part, worker, row.token + 1))
            return {part: connection.execute(_row(part)).one().token for part in parts}

    async def begin(self, *parts: int) -> None:
        await self.pipeline.take_over(self.take("me", *parts))


def _row(part: int) -> Any:
    return leases._LEASE.select().where(leases._LEASE.c.part == part)


def _lease(part: int, worker: str, token: int) -> Any:
    table = leases._LEASE
    return table.update().where(table.c.part == part).values(holder=worker, token=token, expires_at=NOW + 10_000)


def play(folder: Path, scenario: Callable[[Shared], Any]) -> Shared:
    house = Shared(folder)
    house.run(lambda: scenario(house))
    return house


def test_only_deliveries_of_our_parts_are_worked_on(tmp_path: Path) -> None:
    async def live(house: Shared) -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        assert house.stored() == {}
        await house.begin(ONE)
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)]), up(1, [reading("M3", NOW, 7)], gateway="gw-2")])
        assert house.stored() == {("M1", NOW): {"volume": 5}}
        assert [gateway for gateway, _ in house.sent.acks] == ["gw-1"]
        assert house.quarantine() == []
        assert house.pipeline.counters["messages_total", 'result="not_ours"'] == 2

    play(tmp_path, live)


def test_a_ghost_neither_acknowledges_nor_overwrites(tmp_path: Path) -> None:
    """The lease is lost between the store and the registry: the worst moment."""

    async def live(house: Shared) -> None:
        await house.begin(ONE, TWO)
        await house.pipeline.cycle([up(1, [reading("M1", NOW - 5000, 1)])])
        await house.pipeline.flush()

        def stolen(step: str) -> None:
            if step == "stored":
                house.take("other", ONE)

        house.fault = stolen
        house.sent.acks.clear()
        await house.pipeline.cycle(
            [
                up(2, [reading("M1", NOW, 9), failed("M1", NOW)]),
                up(1, [reading("M3", NOW, 7)], gateway="gw-2"),
            ]
        )
        house.fault = lambda step: None
        assert [gateway for gateway, _ in house.sent.acks] == ["gw-2"]
        assert house.position().spans == [(1, 1)]
        assert house.position("gw-2").spans == [(1, 1)]
        await house.pipeline.flush()
        assert house.latest()["M1"] == (NOW - 5000, {"volume": 1}), "latest belongs to the new holder"
        assert house.latest()["M3"] == (NOW, {"volume": 7})
        house.sent.acks.clear()
        await house.pipeline.cycle([up(3, [reading("M1", NOW + 1, 10)])])
        house.pipeline.announce()
        assert [gateway for gateway, _ in house.sent.acks] == ["gw-2"]

    play(tmp_path, live)


def test_a_new_holder_rebuilds_what_the_old_one_had_only_in_memory(tmp_path: Path) -> None:
    async def live(house: Shared) -> None:
        await house.begin(ONE)
        await house.pipeline.cycle([up(1, [reading("M1", NOW - 1000, 5)]), up(2, [reading("M2", NOW, 6)])])
        assert house.latest() == {}  # not flushed: its holder dies now
        house.pipeline._forget({ONE})
        house.sent.acks.clear()
        await house.begin(ONE)
        assert house.latest() == {"M1": (NOW - 1000, {"volume": 5}), "M2": (NOW, {"volume": 6})}
        assert house.closings() == {
            ("M1", "2026-03-01"): (NOW - 1000, 5),
            ("M2", "2026-03-01"): (NOW, 6),
        }
        assert [(gateway, ack.upto) for gateway, ack in house.sent.acks] == [("gw-1", 2)]
        await house.pipeline.cycle([up(1, [reading("M1", NOW - 1000, 77)])])
        assert house.stored()["M1", NOW - 1000] == {"volume": 5}, "its newest key is known, so it looks first"
        assert house.quarantine() == [("gw-1", "conflict", 1)]

    play(tmp_path, live)


def test_what_is_let_go_is_written_first_and_then_forgotten(tmp_path: Path) -> None:
    async def live(house: Shared) -> None:
        await house.begin(ONE, TWO)
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        await house.pipeline.let_go([ONE])
        assert house.latest() == {"M1": (NOW, {"volume": 5})}
        assert set(house.pipeline.meters.states) == {"M3"}
        await house.pipeline.reload()
        assert set(house.pipeline.meters.states) == {"M3"}
        house.sent.acks.clear()
        house.pipeline.greet("gw-1", "00ff00ff")
        assert house.sent.acks == []

    play(tmp_path, live)


def test_a_lease_that_is_lost_while_it_is_taken_over_comes_to_nothing(tmp_path: Path) -> None:
    async def live(house: Shared) -> None:
        tokens = house.take("me", ONE, TWO)
        house.take("other", ONE)
        await house.pipeline.take_over(tokens)
        assert house.pipeline.holding.ready == {TWO}
        assert set(house.pipeline.meters.states) == {"M3"}

    play(tmp_path, live)


def test_a_recovery_floor_is_never_above_what_a_part_has_in_memory(tmp_path: Path) -> None:
    """A part that comes later gets the floor of the worker, also when its own was higher."""

    async def live(house: Shared) -> None:
        await house.begin(ONE)
        house.clock.step_wall(3_600_000)
        await house.clock.advance(60)
        await house.pipeline.flush()
        high = house.pipeline._floor
        assert high > NOW
        with house.database.begin() as connection:
            leases.set_floor(connection, [TWO], high + 999_999)
        await house.begin(TWO)
        with house.database.read() as connection:
            assert leases.floor_of(connection, [TWO]) == high
        await house.pipeline.cycle([up(1, [reading("M3", high - 5, 1)], gateway="gw-2")])
        with house.database.read() as connection:
            assert leases.floor_of(connection, [TWO]) < high - 5
            assert leases.floor_of(connection, [ONE]) < high - 5

    play(tmp_path, live)


def test_leases_that_may_have_run_out_stop_the_work_before_anybody_else_begins(tmp_path: Path) -> None:
    async def live(house: Shared) -> None:
        await house.begin(ONE)
        house.pipeline.holding.valid = lambda: False
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        assert house.stored() == {}
        house.pipeline.holding.valid = lambda: True
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        assert house.stored() == {("M1", NOW): {"volume": 5}}

    play(tmp_path, live)


def test_parts_of_the_settings_need_no_lease(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.database.begin() as connection:
        Holding([1, 2]).fence(connection, [1])
        with pytest.raises(LeaseLostError, match="parts 1 was lost"):
            Holding(()).fence(connection, [1])
    house.close()


def test_two_batches_at_once_are_stored_accounted_for_and_answered_in_order(tmp_path: Path) -> None:
    """The second is checked against what the first will have committed."""

    async def live(house: Shared) -> None:
        await house.begin(ONE)
        house.sent.acks.clear()
        first = up(1, [reading("M1", NOW, 5), reading("M2", NOW, 6)])
        second = up(3, [reading("M1", NOW, 99), reading("M1", NOW + 1, 7)])
        await asyncio.gather(house.pipeline.cycle([first]), house.pipeline.cycle([second]))
        assert [ack.upto for _, ack in house.sent.acks] == [2, 4]
        assert house.stored() == {
            ("M1", NOW): {"volume": 5},
            ("M1", NOW + 1): {"volume": 7},
            ("M2", NOW): {"volume": 6},
        }
        assert house.quarantine() == [("gw-1", "conflict", 3)]
        position = house.position()
        assert (position.spans, position.stored, position.quarantined) == ([(1, 4)], 3, 1)

    play(tmp_path, live)
