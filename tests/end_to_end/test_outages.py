"""Thirty seconds without store, thirty seconds without broker: nothing acknowledged, nothing lost, live first."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from tests.end_to_end.town import CLOCK, Town, town, until

OUTAGE_S = 30.0
PACED = "backlog_rows_s = 400\n"


def acknowledged(place: Town) -> int:
    return int(place.health().get("acknowledged", 0))


def flowing(place: Town) -> None:
    place.start("broker", "meters", "ingest", "gateway")
    until(lambda: place.stored() > 100, lambda: f"readings flow\n{place.words()}")


def settle_and_judge(place: Town, back_at: int) -> None:
    """Wait for the backlog, then look at what came when."""
    until(lambda: place.health()["waiting"] < 100, lambda: f"the backlog is worked off; {place.health()}")
    place.drain()
    assert place.verdict().clean, place.verdict()
    readings = place.readings()
    backlog = [r for r in readings if back_at - 25_000 < r.read_at < back_at - 2_000]
    arrivals = sorted(r.received_at or 0 for r in backlog)
    assert arrivals[0] > back_at - 500, "something of the outage was stored during the outage"
    live = [r for r in readings if arrivals[0] + 1_000 < r.read_at < arrivals[-1]]
    assert len(live) > 100, "the backlog was too short to see live readings pass it"
    waits = sorted((r.received_at or 0) - r.read_at for r in live)
    took = arrivals[-1] - arrivals[0]
    print(f"\nbacklog of {len(backlog)} rows in {took} ms; live meanwhile: median {waits[len(waits) // 2]} ms")
    # in the order of their reading they would wait for half of the backlog
    assert waits[len(waits) // 2] < max(1_000, took // 4), (
        f"live readings waited {waits[len(waits) // 2]} ms behind the backlog"
    )


@pytest.mark.timeout(900)
def test_a_store_that_is_away_for_30_s_costs_nothing(tmp_path: Path) -> None:
    with town(tmp_path / "town", "mosquitto", gateway=PACED) as place:
        flowing(place)
        lock = sqlite3.connect(place.house.store, isolation_level=None, timeout=30)
        lock.execute("BEGIN IMMEDIATE")  # the store's one writer finds its file busy
        time.sleep(3.0)
        before, produced = acknowledged(place), place.health()["produced"]
        time.sleep(OUTAGE_S - 3.0)
        assert acknowledged(place) == before, "rows were acknowledged while nothing could be stored"
        assert place.health()["produced"] > produced + 1000, "meters were not read while the store was away"
        back_at = CLOCK.now_ms()
        lock.execute("ROLLBACK")
        lock.close()
        settle_and_judge(place, back_at)


@pytest.mark.timeout(900)
def test_a_broker_that_is_away_for_30_s_costs_nothing(tmp_path: Path) -> None:
    with town(tmp_path / "town", "mosquitto", gateway=PACED) as place:
        flowing(place)
        place.kill("broker")
        time.sleep(2.0)
        before, produced = acknowledged(place), place.health()["produced"]
        time.sleep(OUTAGE_S - 2.0)
        assert acknowledged(place) == before
        assert place.health()["produced"] > produced + 1000
        back_at = CLOCK.now_ms()
        place.start("broker")
        settle_and_judge(place, back_at)
