"""Reconciliation over HTTP: a file of purchases, a run, the list, an exchange; areas, roles, refusals."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from registry import ledger
from registry.models import UsagePoint
from registry.models_access import AuditRecord
from registry.models_work_orders import WorkOrder
from registry.roles import Role
from tests.api.billing.town import DAY, HOUR, M, at
from tests.api.world import World, client, make_key, make_world

ADDRESS = "/api/v1/billing/reconciliation"
START, END = at("2026-01-20T00:00") + 8 * HOUR, at("2026-02-20T00:00") + 8 * HOUR  # UP-2 lives in UTC
PURCHASES = "usage_point,at,volume,reference\nUP-2,2026-01-25,40,R1\n"


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """W-0001 at UP-2 in the south uses 1 m³ a day; its credit falls by 2."""
    world = make_world(tmp_path)
    store = SqliteStore(tmp_path / "more.db", mode="write")
    rows = [
        Reading("W-0001", when, {"volume": 500 * M + n * M, "credit": 100 * M - 2 * n * M + (n > 10) * 40 * M},
                received_at=when)
        for n, when in enumerate(range(START - DAY, END + 3 * DAY, DAY))
    ]  # fmt: skip
    assert not any(store.write(rows))
    last, shown = rows[-1], {"volume": rows[-1].values["volume"], "credit": rows[-1].values["credit"]}
    with world.database.begin() as connection:
        row = ledger.LatestRow("W-0001", last.read_at, last.read_at, None, "valid", "", "poll", 0, shown)
        ledger.replace_latest(connection, [row])
    world.app.state.house.store = store
    yield world
    store.close()
    world.close()


def ask(world: World, key: str, method: str, address: str, **more: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(world.app, key) as caller:
            return await caller.request(method, address, **more)

    return asyncio.run(once())


def bring(world: World, text: str, kind: str = "purchases") -> int:
    made = world.request("POST", f"/api/v1/imports?kind={kind}", content=text.encode())
    assert made.status_code == 201, made.text
    return int(made.json()["batch"])


def test_from_a_file_of_purchases_to_an_urgent_exchange(world: World) -> None:
    batch = bring(world, PURCHASES)
    posted = world.request("POST", f"/api/v1/imports/{batch}/post", json={})
    assert (posted.status_code, posted.json()["rows"]) == (200, 1)
    run = world.request("POST", f"{ADDRESS}/prepaid", json={"period": "2026-02"})
    assert (run.status_code, run.json()["verdicts"]) == (200, {"mismatch": 1})
    (item,) = world.get(f"{ADDRESS}/prepaid?period=2026-02&verdict=mismatch").json()["items"]
    # 98 before, 40 bought, 31 used, 76 left: 31 m³ of credit went that no index shows
    assert (item["usage_point"], item["cause"], item["difference"]) == ("UP-2", "credit_short", "31")
    facts = item["facts"]
    assert [facts[n] for n in ("credit_before", "bought", "used", "credit_after")] == ["98", "40", "31", "76"]
    for _ in range(2):
        asked = world.request("POST", f"{ADDRESS}/prepaid/exchanges", json={"period": "2026-02"})
        assert asked.status_code == 200, asked.text
    assert asked.json()["work_orders"] == []
    one = world.get(f"{ADDRESS}/prepaid/usage-points/UP-2/2026-02").json()
    with world.database.read() as connection:
        (order,) = connection.execute(sa.select(WorkOrder).where(WorkOrder.type == "meter_exchange")).all()
        deeds = set(connection.execute(sa.select(AuditRecord.action)).scalars())
    assert (one["work_order"], order.type, order.priority) == (order.id, "meter_exchange", "urgent")
    assert {"import.post", "reconciliation.run", "work_order.open"} <= deeds
    back = world.request("POST", f"/api/v1/imports/{batch}/reverse", json={"note": "another town"})
    assert back.json()["rows"] == 1
    run = world.request("POST", f"{ADDRESS}/prepaid", json={"period": "2026-02"})
    assert run.json()["verdicts"] == {"not_knowable": 1}


def test_the_list_as_pages_and_as_streams(world: World) -> None:
    world.request("POST", f"{ADDRESS}/prepaid", json={"period": "2026-02"})
    lines = world.get(f"{ADDRESS}/prepaid?period=2026-02&format=ndjson").text.splitlines()
    assert [json.loads(line)["cause"] for line in lines] == ["no_purchases"]
    assert world.get(f"{ADDRESS}/prepaid?format=ndjson").text.splitlines() == lines
    table = world.get(f"{ADDRESS}/prepaid?period=2026-02&format=csv").text.splitlines()
    assert table[0].startswith("usage_point,period,district,verdict,cause,difference")
    assert table[1].startswith("UP-2,2026-02,south,not_knowable,no_purchases,,")
    page = world.get(f"{ADDRESS}/prepaid?period=2026-02&limit=1").json()
    assert (len(page["items"]), page["next_cursor"]) == (1, None)


def test_another_area_sees_and_runs_nothing_here(world: World) -> None:
    world.request("POST", f"{ADDRESS}/prepaid", json={"period": "2026-02"})
    north = make_key(world.database, Role.BILLING, areas=frozenset({"north"}))
    assert ask(world, north, "GET", f"{ADDRESS}/prepaid?period=2026-02").json()["items"] == []
    assert ask(world, north, "GET", f"{ADDRESS}/prepaid/usage-points/UP-2/2026-02").status_code == 404
    assert ask(world, north, "GET", f"{ADDRESS}/links/UP-2").status_code == 404
    body = {"period": "2026-02", "district": "south"}
    assert ask(world, north, "POST", f"{ADDRESS}/prepaid", json=body).status_code == 403
    own = ask(world, north, "POST", f"{ADDRESS}/prepaid", json={"period": "2026-02"})
    assert (own.status_code, own.json()["verdicts"]) == (200, {})


def test_links_are_shown_from_both_ends(world: World) -> None:
    batch = bring(world, "parent,child,from,parent_class\nUP-1,UP-2,2026-01-01,1\n", "parents")
    rows = world.get(f"/api/v1/imports/{batch}/rows").json()["items"]
    assert [row["detail"] for row in rows] == ["gas does not supply water"]
    with world.database.begin() as connection:
        connection.execute(sa.insert(UsagePoint).values(id="UP-9", medium="gas", district="north", tz="UTC"))
    batch = bring(world, "parent,child,from,parent_class\nUP-1,UP-9,2026-01-01,1\n", "parents")
    assert world.request("POST", f"/api/v1/imports/{batch}/post", json={}).status_code == 200
    link = {
        "parent": "UP-1",
        "child": "UP-9",
        "from": "2026-01-01T00:00:00.000Z",
        "parent_class": "1",
        "child_class": "",
    }
    for end in ("UP-1", "UP-9"):
        assert world.get(f"{ADDRESS}/links/{end}").json() == {"items": [link]}


@pytest.mark.parametrize(
    ("method", "address", "body", "status"),
    [
        ("GET", "/prepaid?period=2026-13", None, 422),
        ("GET", "/metering?period=2026-02", None, 422),
        ("GET", "/prepaid?period=2026-02&format=csv&limit=3", None, 422),
        ("GET", "/prepaid/usage-points/UP-1/2026-02", None, 404),
        ("POST", "/scada", {"period": "2026-2"}, 422),
        ("POST", "/scada", {"period": "2026-02", "more": 1}, 422),
    ],
)
def test_what_is_not_understood_is_refused(world: World, method: str, address: str, body: Any, status: int) -> None:
    answer = world.request(method, ADDRESS + address, **({"json": body} if body else {}))
    assert answer.status_code == status, answer.text
