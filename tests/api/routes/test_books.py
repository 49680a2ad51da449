"""The books over HTTP: changes with their entries, manual readings, files; areas and refusals in words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from registry import ledger, office
from registry.models import Quarantine
from registry.models_access import AuditRecord
from registry.roles import Role
from tests.api.world import T0, World, client, make_key, make_world

FEB = "2026-02-01T00:00:00Z"
EXCHANGE = {"old_meter": "G-0001", "new_meter": "G-0002", "at": FEB, "final_index": "990.5", "start_index": "0"}


@pytest.fixture
def world(tmp_path: Path) -> Any:
    world = make_world(tmp_path)
    yield world
    world.close()


def send(world: World, key: str, address: str, body: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(world.app, key) as caller:
            return await caller.post(address, json=body)

    return asyncio.run(ask())


def post(world: World, address: str, body: Any) -> httpx.Response:
    return world.request("POST", address, json=body)


def test_an_exchange_is_recorded_seen_and_struck_out(world: World) -> None:
    made = post(world, "/api/v1/usage-points/UP-1/exchanges", EXCHANGE)
    assert made.status_code == 201, made.text
    entry = made.json()["entry"]
    seen = world.get("/api/v1/usage-points/UP-1/history").json()
    assert [(s["meter"], s["start_index"], s["final_index"]) for s in seen["installations"]] == [
        ("G-0001", "10.5", "990.5"),
        ("G-0002", "0", None),
    ]
    again = post(world, "/api/v1/usage-points/UP-1/exchanges", EXCHANGE)
    assert (again.status_code, again.json()["detail"]) == (409, "meter G-0001 is not at usage point UP-1")
    undone = post(world, f"/api/v1/book-entries/{entry}/undo", {"note": "wrong house"})
    assert undone.status_code == 201
    seen = world.get("/api/v1/usage-points/UP-1/history?limit=1").json()
    assert [s["meter"] for s in seen["installations"]] == ["G-0001"]
    assert seen["entries"][0]["undoes"] == entry
    rest = world.get(f"/api/v1/usage-points/UP-1/history?limit=1&cursor={seen['next_cursor']}").json()
    assert rest["entries"][0]["struck_by"] == undone.json()["entry"]


def test_the_other_changes_have_routes_of_their_own(world: World) -> None:
    place = "/api/v1/usage-points/UP-1"
    for leaf, body in (
        ("seals", {"meter": "G-0001", "at": FEB, "index": "900"}),
        ("seals", {"meter": "G-0001", "at": FEB, "open_again": True}),
        ("openings", {"meter": "G-0001", "at": FEB, "index": "901"}),
        ("customers", {"account_number": "A-2", "at": "2026-02-10T00:00:00Z", "indexes": {"G-0001": "950"}}),
        ("classes", {"customer_class": "commercial", "at": "2026-02-15T00:00:00Z"}),
        ("removals", {"meter": "G-0001", "at": "2026-02-20T00:00:00Z", "final_index": "990"}),
        ("installs", {"meter": "G-0001", "at": "2026-02-21T00:00:00Z", "start_index": "990"}),
    ):
        answer = post(world, f"{place}/{leaf}", body)
        assert answer.status_code == 201, (leaf, answer.text)
    seen = world.get(f"{place}/history").json()
    assert len(seen["installations"]) == 3
    assert seen["customers"][-1]["start_indexes"] == {"G-0001": "950"}
    assert [c["customer_class"] for c in seen["classes"]] == ["", "commercial"]
    assert len(seen["entries"]) == 7


def test_a_manual_reading_is_safe_with_the_answer_and_said_twice_it_is_one(world: World) -> None:
    body = {"read_at": FEB, "values": {"volume_standard": "999.5"}, "person": "wang"}
    first = post(world, "/api/v1/meters/G-0001/manual-readings", body)
    assert (first.status_code, first.json()["state"]) == (202, "waiting")
    assert post(world, "/api/v1/meters/G-0001/manual-readings", body).json() == first.json()
    other = post(world, "/api/v1/meters/G-0001/manual-readings", body | {"values": {"volume_standard": "1"}})
    assert other.status_code == 409
    with world.database.read() as connection:
        ((_, reading),) = office.waiting(connection, 10)
        assert (reading.meter, reading.values, reading.quality) == (
            "G-0001",
            {"volume_standard": 999_500_000},
            "manual",
        )
        actions = connection.execute(sa.select(AuditRecord.action)).scalars().all()
    assert list(actions).count("reading.post") == 1
    assert world.get(first.headers["location"]).json()["state"] == "waiting"


@pytest.mark.parametrize(
    "change",
    [{"read_at": 5}, {"values": {}}, {"values": {"volume_standard": 1.5}}, {"values": {"gold": "1"}}, {"person": ""},
     {"extra": 1}, {"values": {"volume_standard": "NaN"}}, {"reason": "Because!"}],
)  # fmt: skip
def test_a_body_that_is_not_understood_is_refused(world: World, change: dict[str, Any]) -> None:
    body = {"read_at": FEB, "values": {"volume_standard": "999.5"}, "person": "wang"} | change
    assert post(world, "/api/v1/meters/G-0001/manual-readings", body).status_code == 422


def test_what_belongs_to_another_area_is_not_there(world: World) -> None:
    north = make_key(world.database, Role.BILLING, areas=frozenset({"north"}))
    south = {"meter": "W-0001", "at": FEB, "final_index": "1"}
    assert send(world, north, "/api/v1/usage-points/UP-2/removals", south).status_code == 404
    reading = {"read_at": FEB, "values": {"volume": "1"}, "person": "wang"}
    assert send(world, north, "/api/v1/meters/W-0001/manual-readings", reading).status_code == 404
    assert send(world, north, "/api/v1/usage-points/UP-1/exchanges", EXCHANGE).status_code == 201
    made = post(world, "/api/v1/usage-points/UP-2/removals", south)
    assert send(world, north, f"/api/v1/book-entries/{made.json()['entry']}/undo", {"note": "x"}).status_code == 404
    assert send(world, north, "/api/v1/imports/1/post", {}).status_code == 403


def test_a_quarantined_reading_is_adopted_or_discarded_once(world: World) -> None:
    raw = b'{"type":"reading","meter":"G-0001","read_at":%d,"values":{"volume_standard":5}}' % (T0 - 1)
    rows = [
        ledger.QuarantineRow("gw-1", digest, T0, reason, "", raw, meter="G-0001")
        for digest, reason in (("d-old", "time_past"), ("d-conflict", "conflict"))
    ]
    with world.database.begin() as connection:
        ledger.add_quarantine(connection, rows)
        found = dict(iter(connection.execute(sa.select(Quarantine.digest, Quarantine.id)).all()))
    old, conflict = (f"/api/v1/quarantine/{found[digest]}" for digest in ("d-old", "d-conflict"))
    assert post(world, f"{conflict}/adopt", {"reason": "why not"}).status_code == 409
    assert post(world, f"{conflict}/discard", {"reason": "the first one is right"}).status_code == 204
    assert post(world, f"{old}/adopt", {"reason": "drawer"}).status_code == 202
    assert post(world, f"{old}/discard", {"reason": "no"}).status_code == 409


def test_a_file_is_looked_at_and_then_posted(world: World) -> None:
    csv = "meter,read_at,index\nG-0001,2026-02-20,980\nX-1,2026-02-20,1\n".encode("gbk")
    made = world.request("POST", "/api/v1/imports?kind=readings&name=feb.csv", content=csv)
    assert made.status_code == 201, made.text
    assert made.json()["counts"] == {"ok": 1, "bad": 1}
    batch = made.headers["location"]
    assert [row["line"] for row in world.get(f"{batch}/rows").json()["items"]] == [3]
    assert post(world, f"{batch}/post", {}).status_code == 409
    assert post(world, f"{batch}/post", {"leave_bad": True}).json()["rows"] == 1
    assert world.request("POST", "/api/v1/imports?kind=readings", content=csv).status_code == 409
    assert world.request("POST", "/api/v1/imports?kind=readings", content=b"\xff\xfe\x00").status_code == 422
