"""The same readings in SQLite and in InfluxDB: the same answers, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from tests.api.world import HOUR, T0, World, at, gas_reading, make_world
from tests.databases import influxd, serving

Worlds = dict[str, World]


def readings() -> list[Reading]:
    """A day of three meters with every peculiarity that a store has to bring back."""
    chance = random.Random(20260301)
    found = [gas_reading(hour) for hour in range(24)]
    for minute in range(0, 1440, 5):
        when = T0 + minute * 60_000
        values = {"volume": chance.randrange(10**15), "flow": -minute, "battery": 3_600_000}
        found.append(Reading("W-0001", when, values, received_at=when + 7))  # type: ignore[arg-type]
    found.append(
        Reading(
            "W-0001",
            T0 + 1,
            {"volume": 999_999_999_999_999},
            meter_time=T0 - HOUR,
            received_at=T0 + 2,
            quality="suspect",
            reason="index_step_back",
            source="push",
            flags=2**31 - 1,
        )
    )
    found.append(Reading("E-0001", T0 + 3, {"energy_import": 1, "power": -1}, received_at=T0 + 4, quality="manual"))
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    folder: Path = tmp_path_factory.mktemp("stores")
    with serving(influxd(folder / "influxd")) as server:
        made: Worlds = {}
        for name in ("sqlite", "influxdb"):
            (folder / name).mkdir()
            world = make_world(folder / name)
            if name == "sqlite":
                writer: SqliteStore | InfluxStore = SqliteStore(folder / name / "readings.db", mode="write")
            else:
                world.close()
                facts = InfluxSettings(url=server.url)
                writer = InfluxStore(facts, mode="write", clock=world.clock)
                world = make_world(folder / name, store=InfluxStore(facts, mode="read", clock=world.clock))
            assert set(writer.write(readings())) == {None}
            writer.close()
            made[name] = world
        yield made
        for world in made.values():
            world.close()


ADDRESSES = [
    f"/api/v1/meters/G-0001/readings?from={at(0)}&to={at(24)}",
    f"/api/v1/meters/G-0001/readings?from={at(3)}&to={at(7)}&quantity=pressure",
    f"/api/v1/meters/W-0001/readings?from={at(0)}&to={at(24)}&limit=1000",
    f"/api/v1/meters/W-0001/readings?from={at(0)}&to={at(24)}&quantity=battery&limit=7",
    f"/api/v1/meters/E-0001/readings?from={at(0)}&to={at(1)}",
    f"/api/v1/meters/E-0001/readings?from={at(5)}&to={at(6)}",
    "/api/v1/meters/W-0001",
    "/api/v1/latest",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
def test_both_stores_give_the_same_answer(worlds: Worlds, address: str, accept: str) -> None:
    first, second = (worlds[name].get(address, headers={"Accept": accept}) for name in ("sqlite", "influxdb"))
    assert first.status_code == second.status_code
    assert first.content == second.content
    if address.startswith("/api/v1/meters/G-0001/readings") and accept == "application/json":
        assert first.status_code == 200
        assert len(first.json()["items"]) in (4, 24)


def test_both_stores_give_the_same_pages(worlds: Worlds) -> None:
    address = f"/api/v1/meters/W-0001/readings?from={at(0)}&to={at(24)}&limit=50"
    pages: dict[str, list[bytes]] = {}
    for name, world in worlds.items():
        cursor, pages[name] = "", []
        while True:
            answer = world.get(address + (f"&cursor={cursor}" if cursor else ""))
            pages[name].append(answer.content)
            cursor = answer.json()["next_cursor"] or ""
            if not cursor:
                break
    assert pages["sqlite"] == pages["influxdb"]
    assert len(pages["sqlite"]) == 6  # 289 readings
