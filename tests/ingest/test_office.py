"""Rows of the office: of any meter, far in the past, never over what is there and never under what comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.messages import OFFICE
from metering.reading import Reading
from tests.ingest.house import NOW, House, reading, up

DAY = 86_400_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def manual(meter: str, at: int, volume: int) -> Reading:
    return reading(meter, at, volume, quality="manual", source="manual", reason="manual")


def test_the_office_may_bring_what_no_gateway_may(house: House) -> None:
    old = NOW - 900 * DAY

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [manual("M1", old, 5), manual("M3", old, 6)], gateway=OFFICE)])
        await house.pipeline.cycle([up(1, [reading("M1", old + 1, 5), reading("M3", NOW, 5)])])
        assert house.stored() == {("M1", old): {"volume": 5}, ("M3", old): {"volume": 6}}
        assert house.quarantine() == [("gw-1", "time_past", 1), ("gw-1", "foreign_meter", 2)]

    house.run(scenario)


def test_neither_the_future_nor_an_unknown_meter_comes_in_by_the_office(house: House) -> None:
    async def scenario() -> None:
        rows = [manual("M1", NOW + DAY, 5), manual("X9", NOW - DAY, 5), manual("M1", NOW - 3661 * DAY, 5)]
        await house.pipeline.cycle([up(1, rows, gateway=OFFICE)])
        assert sorted(house.quarantine(), key=lambda row: row[2] or 0) == [
            (OFFICE, "time_future", 1),
            (OFFICE, "unknown_meter", 2),
            (OFFICE, "time_past", 3),
        ]
        assert [(gateway, ack.upto) for gateway, ack in house.sent.acks] == [(OFFICE, 3)]

    house.run(scenario)


def test_whoever_speaks_second_for_a_key_does_not_overwrite_the_first(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 10)])])
        await house.pipeline.cycle([up(1, [manual("M1", NOW, 11), manual("M1", NOW + 1000, 20)], gateway=OFFICE)])
        await house.pipeline.cycle([up(2, [reading("M1", NOW + 1000, 21), reading("M1", NOW + 2000, 22)])])
        assert house.stored() == {
            ("M1", NOW): {"volume": 10},
            ("M1", NOW + 1000): {"volume": 20},
            ("M1", NOW + 2000): {"volume": 22},
        }
        assert house.quarantine() == [(OFFICE, "conflict", 1), ("gw-1", "conflict", 2)]

    house.run(scenario)


def test_an_old_manual_reading_never_becomes_the_latest(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 10)])])
        await house.pipeline.cycle([up(1, [manual("M1", NOW - 40 * DAY, 5)], gateway=OFFICE)])
        await house.pipeline.flush()
        assert house.latest()["M1"] == (NOW, {"volume": 10})

    house.run(scenario)
