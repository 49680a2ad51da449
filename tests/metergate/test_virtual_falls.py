"""What can happen to the house itself: parts are killed in mid-work, disks and stores refuse, links end."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from metering.clock import parse_rfc3339
from tests.metergate.virtual_worlds import World, fleet, play_world

STORY = (
    """
title = "a bad day in the back room"
purpose = "everything that can happen to the house, one after the other"
seed = 5
start = "2026-02-19"
days = 1.0
gather_s = 600.0
"""
    + fleet("flats", 4, "gas", "fuxin-corrector")
    + fleet("pulses", 3, "water", "json-meter", protocol="mqtt")
    + fleet("taps", 3, "water", "usw-ultrasonic", gateway="gw-2")
)
EVENTS = """
[[event]]
kind = "gateway_kill"
day = 0.05
gateway = "gw-1"
[[event]]
kind = "gateway_kill"
day = 0.1
for_days = 0.03
gateway = "gw-1"
[[event]]
kind = "ingest_kill"
day = 0.15
[[event]]
kind = "ingest_kill"
day = 0.2
for_days = 0.05
[[event]]
kind = "anomaly_kill"
day = 0.3
[[event]]
kind = "store_off"
day = 0.35
for_days = 0.02
[[event]]
kind = "disk_full"
day = 0.5
for_days = 0.015
gateway = "gw-1"
[[event]]
kind = "link_cut"
day = 0.65
for_days = 0.05
gateway = "gw-2"
[[event]]
kind = "half_open"
day = 0.75
for_days = 0.05
gateway = "gw-2"
[[event]]
kind = "link_delay"
day = 0.85
for_days = 0.1
gateway = "gw-2"
seconds = 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("falls") / "run"


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return play_world(STORY + EVENTS, folder)


def test_nothing_is_lost_and_nothing_is_there_twice(world: World) -> None:
    assert world.problems == []
    stored = world.report["stored"]
    assert stored["lost"] == stored["invented"] == stored["worst_ms"] == 0
    assert stored["answers"] == stored["readings"] + stored["never_produced"]
    assert stored["readings"] > 400
    assert len({(row["meter"], row["read_at"]) for row in world.readings}) == stored["readings"]


def test_mqtt_meters_lose_nothing_while_their_gateway_is_dead(world: World) -> None:
    """The broker keeps what is not acknowledged; 48 messages a day and meter."""
    assert [world.outcomes(f"pulses-000{n}") for n in (1, 2, 3)] == [{"ok": 48}] * 3
    assert [len(world.stored(f"pulses-000{n}")) for n in (1, 2, 3)] == [48] * 3
    assert world.house.wires["mqtt"].seen > world.house.wires["mqtt"].sent == 144, (
        "some came twice, and are there once"
    )


def test_a_killed_gateway_starts_anew_from_its_files_and_polled_meters_miss_only_its_absence(world: World) -> None:
    starts = [row for row in world.events if row.kind == "gateway_started"]
    assert sorted(row.gateway for row in starts) == ["gw-1", "gw-1", "gw-1", "gw-2"]
    for n in (1, 2, 3, 4):
        days = [world.day(row["read_at"]) for row in world.stored(f"flats-000{n}")]
        gaps = [later - sooner for sooner, later in pairwise(days)]
        assert max(gaps) < 0.03 + 3 * 1800 / 86_400


def test_what_is_read_while_the_store_is_away_or_the_disk_full_arrives_later_with_its_own_time(world: World) -> None:
    for begin, end in ((0.35, 0.37), (0.5, 0.515)):
        waited = [
            row for row in world.readings if begin < world.day(row["read_at"]) < end and row["meter"] < "pulses"
        ]
        assert waited
        arrived = [world.day(row["received_at"]) for row in waited if "received_at" in row]
        assert max(arrived) >= end


@pytest.mark.parametrize(("begin", "end"), [(0.65, 0.7), (0.75, 0.8)])
def test_rows_wait_in_the_gateway_while_its_way_to_the_broker_is_cut_or_half_open(
    world: World, begin: float, end: float
) -> None:
    waited = [
        world.day(row["received_at"])
        for row in world.readings
        if begin + 0.01 < world.day(row["read_at"]) < end - 0.01 and row["meter"].startswith("taps")
    ]
    assert waited
    assert min(waited) >= end


def test_a_slow_way_delays_what_arrives(world: World) -> None:
    """20 s there; rows gather for at most 600 s before."""
    late = [
        parse_rfc3339(row["received_at"]) - parse_rfc3339(row["read_at"])
        for row in world.readings
        if 0.86 < world.day(row["read_at"]) < 0.94 and row["meter"].startswith("taps")
    ]
    assert late
    assert 20_000 <= min(late) <= max(late) <= 1_300_000


def test_the_outbox_is_whole_after_all_that(world: World, folder: Path) -> None:
    for gateway in ("gw-1", "gw-2"):
        with sqlite3.connect(folder / gateway / "outbox.db") as outbox:
            assert outbox.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert outbox.execute("SELECT count(*) FROM chunk").fetchone() == (0,), "all is acknowledged"
        outbox.close()
    assert world.report["frames"]["healthy_planned"] == 0, "no plan holds while its gateway is dead"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
def test_a_part_may_be_killed_at_any_point_of_its_work(tmp_path: Path, seed: int) -> None:
    """Each seed kills at other turns of the loop behind the message that woke the part up."""
    kills = "".join(
        f'[[event]]\nkind = "{kind}"\nday = {0.02 * place + 0.01 * shift + 0.02:.4f}\n{where}'
        for place in range(16)
        for shift, (kind, where) in enumerate((("gateway_kill", 'gateway = "gw-2"\n'), ("ingest_kill", "")))
    )
    world = play_world(STORY + kills, tmp_path / "run", seed=seed, days=0.5, gather_s=60.0)
    assert world.problems == []
    stored = world.report["stored"]
    assert stored["answers"] == stored["readings"] + stored["never_produced"]
    assert stored["readings"] > 150
