"""Whoever is limited to an area gets 404 for the objects of another one; one test per kind of object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from registry import ledger
from registry.models import Gateway, Installation, UsagePoint
from registry.roles import Role
from tests.api.world import HOUR, T0, World, client, make_key, make_world

NOW = T0 + 24 * HOUR
Get = Callable[[str], httpx.Response]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """G-0001 and gw-1 are in the north, W-0001 and gw-2 in the south; a message of nobody stands in quarantine."""
    made = make_world(tmp_path_factory.mktemp("areas"))
    with made.database.begin() as connection:
        for gateway, district in (("gw-1", "north"), ("gw-2", "south")):
            connection.execute(sa.update(Gateway).where(Gateway.id == gateway).values(district=district))
        refused = [
            ledger.QuarantineRow("gw-1", "q3", NOW - 900, "conflict", "differs", b"north", meter="G-0001"),
            ledger.QuarantineRow("gw-1", "q4", NOW - 800, "conflict", "differs", b"south", meter="W-0001"),
        ]
        ledger.add_quarantine(connection, refused)
        facts = ("", 1, "e1", T0, T0 + 1, "read_failed")
        ledger.add_events(
            connection,
            [
                ledger.EventRow("gw-1", *facts, "G-0001", "timeout"),
                ledger.EventRow("gw-2", *facts, "", "bus"),
            ],
        )
        ledger.save_closings(
            connection, [ledger.ClosingRow("W-0001", "2026-03-01", "volume", T0 + 1, 1_000_000, "valid")]
        )
    yield made
    made.close()


def asker(world: World, *areas: str) -> Get:
    key = make_key(world.database, *Role, areas=frozenset(areas))

    def get(address: str) -> httpx.Response:
        async def once() -> httpx.Response:
            async with client(world.app, key) as caller:
                return await caller.get(address)

        return asyncio.run(once())

    return get


@pytest.fixture(scope="module")
def north(world: World) -> Get:
    return asker(world, "north")


def items(answer: httpx.Response, name: str) -> set[Any]:
    assert answer.status_code == 200
    return {item[name] for item in answer.json()["items"]}


def assert_unseen(answer: httpx.Response, unknown: httpx.Response) -> None:
    """404, in the very words that an object gets that does not exist: its existence is not told either."""
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert {**answer.json(), "detail": "", "instance": ""} == {**unknown.json(), "detail": "", "instance": ""}


def test_meters(north: Get) -> None:
    assert items(north("/api/v1/meters"), "id") == {"G-0001", "E-0001"}
    assert items(north("/api/v1/meters?search=UP-"), "id") == {"G-0001", "E-0001"}
    assert items(north("/api/v1/meters?district=south"), "id") == set()
    assert north("/api/v1/meters/G-0001").status_code == 200
    assert_unseen(north("/api/v1/meters/W-0001"), north("/api/v1/meters/NONE"))


def test_latest_readings(north: Get) -> None:
    assert items(north("/api/v1/latest"), "meter") == {"G-0001"}
    assert items(north("/api/v1/latest?district=south"), "meter") == set()
    assert "W-0001" not in north("/api/v1/latest?format=csv").text
    assert "W-0001" not in north("/api/v1/latest?format=ndjson").text
    assert north("/api/v1/meters/G-0001/latest").status_code == 200
    assert_unseen(north("/api/v1/meters/W-0001/latest"), north("/api/v1/meters/NONE/latest"))


@pytest.mark.parametrize("what", ["readings", "readings?format=csv", "readings?format=ndjson", "closings"])
def test_readings_and_closings(north: Get, what: str) -> None:
    assert north(f"/api/v1/meters/G-0001/{what}").status_code == 200
    assert_unseen(north(f"/api/v1/meters/W-0001/{what}"), north(f"/api/v1/meters/NONE/{what}"))


def test_gateways_with_their_ledger(north: Get) -> None:
    assert items(north("/api/v1/gateways"), "id") == {"gw-1"}
    assert north("/api/v1/gateways/gw-1").status_code == 200
    assert_unseen(north("/api/v1/gateways/gw-2"), north("/api/v1/gateways/NONE"))
    assert_unseen(north("/api/v1/gateways/gw-9"), north("/api/v1/gateways/NONE"))  # it only sends; it is nobody's


def test_events(world: World, north: Get) -> None:
    assert len(world.get("/api/v1/events").json()["items"]) == 6
    assert items(north("/api/v1/events"), "meter") == {"G-0001"}
    assert items(north("/api/v1/events?meter=W-0001"), "id") == set()
    assert items(asker(world, "south")("/api/v1/events"), "gateway") == {"gw-1", "gw-2"}  # W-0001, and gw-2 itself


def test_quarantine(world: World, north: Get) -> None:
    numbers = {item["meter"]: item["id"] for item in world.get("/api/v1/quarantine").json()["items"]}
    assert set(numbers) == {"X", "", "G-0001", "W-0001"}
    assert items(north("/api/v1/quarantine"), "meter") == {"G-0001"}
    for raw in ("", "/raw"):
        assert north(f"/api/v1/quarantine/{numbers['G-0001']}{raw}").status_code == 200
        for foreign in ("W-0001", "X", ""):
            assert_unseen(north(f"/api/v1/quarantine/{numbers[foreign]}{raw}"), north(f"/api/v1/quarantine/999{raw}"))


def test_the_pages_speak_of_the_area_alone(world: World, north: Get) -> None:
    assert "小时内 2 块应抄，1 块实抄" in north("/").text
    for page in ("/", "/meters", "/field", "/alarms"):
        assert "W-0001" not in north(page).text
        assert "gw-9" not in north(page).text
    assert "W-0001" in world.get("/meters").text
    assert "gw-9" in world.get("/field").text
    assert_unseen(north("/meters/W-0001"), north("/meters/X-9999"))


def test_somebody_of_nowhere_sees_nothing(world: World) -> None:
    get = asker(world, "west")
    for address in ("/api/v1/meters", "/api/v1/latest", "/api/v1/gateways", "/api/v1/events", "/api/v1/quarantine"):
        assert get(address).json()["items"] == []


def test_a_meter_that_moved_keeps_its_past_to_those_of_the_place_before(world: World) -> None:
    """G-0001 stood in the north until T0 + 10 h and then went to the east."""
    moved = T0 + 10 * HOUR
    with world.database.begin() as connection:
        connection.execute(sa.insert(UsagePoint).values(id="UP-9", medium="gas", district="east", tz="UTC"))
        connection.execute(sa.update(Installation).where(Installation.meter_id == "G-0001").values(removed_at=moved))
        connection.execute(
            sa.insert(Installation).values(meter_id="G-0001", usage_point_id="UP-9", installed_at=moved)
        )
    east = asker(world, "east")
    shown = [item["read_at"] for item in east("/api/v1/meters/G-0001/readings").json()["items"]]
    assert (len(shown), shown[0]) == (14, "2026-03-01T10:00:00.000Z")  # hours 10 … 23 of 24
    places = [line["usage_point"]["id"] for line in east("/api/v1/meters/G-0001").json()["installations"]]
    assert places == ["UP-9"]
    north = asker(world, "north")
    assert north("/api/v1/meters/G-0001").status_code == 404
