"""Billing over HTTP: a clerk's month from computing to closing, a puller that resumes, approvals, rules, areas."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest
import sqlalchemy as sa

from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from registry.models_access import AuditRecord
from registry.models_billing import BillingDelta
from registry.roles import Role
from tests.api.billing.town import HOUR, M, add_place, at, deliver, readings
from tests.api.world import World, client, make_key, make_world

START = at("2026-02-10T00:00")
NOW = at("2026-03-25T09:00")
MARCH = "/api/v1/billing/periods/2026-03"


def total_of(point: str) -> str:
    return f"/api/v1/billing/usage-points/{point}/totals/2026-03"


def steady(rate: int = 10_000) -> list[int | None]:
    return [1000 * M + n * rate for n in range(24 * 43)]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    """March of three households: P1 uses 6.72 m³, P2 134.4 m³ (must be read again), P3 was never read."""
    world = make_world(tmp_path, filled=False)
    add_place(world.database, "P1", district="north", account_number="=A1")
    add_place(world.database, "P2", district="north")
    add_place(world.database, "P3", district="south")
    late = at("2026-03-19T18:00"), at("2026-03-20T05:00")
    rows = [r for r in readings("M-P1", START, steady()) if not late[0] < r.read_at < late[1]]
    write(world, rows + readings("M-P2", START, steady(200_000)))
    asyncio.run(world.clock.advance((NOW - world.clock.now_ms()) / 1000))
    world.key = key(world, *Role)
    world.app.state.test_key = world.key
    yield world
    world.close()


def write(world: World, rows: list[Reading]) -> None:
    """As ingest would: the one writer, who then goes away."""
    writer = SqliteStore(world.folder / "readings.db", mode="write")
    deliver(world.database, writer, rows)
    writer.close()


def key(world: World, *roles: Role, areas: frozenset[str] | None = None) -> str:
    return make_key(world.database, *roles, areas=areas, at=NOW, expires_at=NOW + 240 * HOUR)


def send(world: World, method: str, address: str, *, shown: str | None = None, **more: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(world.app, shown) as caller:
            return await caller.request(method, address, **more)

    return asyncio.run(ask())


def post(world: World, address: str, body: Any, *, shown: str | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send(world, "POST", address, shown=shown, json=body, headers=named)


def test_a_month_from_computing_to_a_delta_of_the_next(town: World) -> None:
    made = post(town, f"{MARCH}/refresh", {})
    assert made.json() == {
        "period": "2026-03",
        "changed": 3,
        "states": {"billed": 1, "doubtful": 1, "missing": 1},
    }
    seen = town.get(f"{MARCH}/checklist").json()
    assert (seen["missing"], seen["doubtful"], seen["closable"]) == (1, 1, True)
    assert seen["causes"] == {"large_use": 1, "not_commissioned": 1}
    # the clerk looks at P2, accepts it, and the old list may not be closed with
    accepted = post(town, f"{total_of('P2')}/decide", {"kind": "accept", "note": "a restaurant"})
    assert (accepted.status_code, accepted.json()["state"], accepted.json()["consumption"]) == (
        200,
        "billed",
        "134.4",
    )
    wrong = post(town, f"{MARCH}/close", {"missing": 1, "doubtful": 1})
    assert (wrong.status_code, "look at the list again" in wrong.json()["detail"]) == (409, True)
    closed = post(town, f"{MARCH}/close", {"missing": 1, "doubtful": 0}, Idempotency_Key="march")
    assert (closed.status_code, closed.json()["totals"], closed.json()["open_missing"]) == (201, 3, 1)
    again = post(town, f"{MARCH}/close", {"missing": 1, "doubtful": 0}, Idempotency_Key="march")
    assert (again.status_code, again.json()) == (201, closed.json())
    proof = town.get(f"/api/v1/billing/closes/{closed.json()['id']}/verify").json()
    assert (proof["unchanged"], proof["wrong"]) == (True, [])
    # a late reading: six hours more for P1, whose index of 18:00 had stood for midnight
    write(town, [Reading("M-P1", at("2026-03-20T00:00"), {"volume": 1_009_120_000}, received_at=NOW)])
    (number,) = post(town, f"{MARCH}/find-deltas", {}).json()["deltas"]
    assert post(town, f"{MARCH}/find-deltas", {}).json()["deltas"] == []
    delta = town.get(f"/api/v1/billing/deltas/{number}").json()
    assert (delta["in_period"], delta["before"], delta["after"], delta["amount"]) == (
        "2026-04",
        "6.66",
        "6.72",
        "0.06",
    )
    assert town.get(total_of("P1")).json()["total"]["consumption"] == "6.66"
    stale = post(
        town, f"/api/v1/billing/deltas/{number}/approve", {"word": "approved", "capacity": "admin"}, If_Match='"v1"'
    )
    assert stale.status_code == 412
    tag = f'"v{delta["version"]}"'
    done = post(
        town, f"/api/v1/billing/deltas/{number}/approve", {"word": "approved", "capacity": "admin"}, If_Match=tag
    )
    assert (done.json()["state"], done.json()["waits_for"]) == ("approved", [])
    with town.database.read() as connection:
        actions = set(connection.execute(sa.select(AuditRecord.action)).scalars())
    assert {"total.accept", "period.close", "delta.propose", "delta.approved"} <= actions


def test_a_puller_that_resumes_gets_every_change_once_and_nothing_twice(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    first = town.get("/api/v1/billing/totals?since=0&limit=2").json()
    assert (len(first["items"]), first["resume_since"]) == (2, None)
    rest = town.get(f"/api/v1/billing/totals?since=0&limit=2&cursor={first['next_cursor']}").json()
    assert {t["usage_point"] for t in [*first["items"], *rest["items"]]} == {"P1", "P2", "P3"}
    since = rest["resume_since"]
    assert town.get(f"/api/v1/billing/totals?since={since}").json()["items"] == []
    assert post(town, f"{MARCH}/refresh", {}).json()["changed"] == 0
    post(town, f"{total_of('P2')}/decide", {"kind": "reread"})
    (changed,) = town.get(f"/api/v1/billing/totals?since={since}").json()["items"]
    assert (changed["usage_point"], changed["cause"], changed["version"] > since) == ("P2", "reread", True)


def test_filters_and_pages_by_place(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    pages, cursor = [], ""
    while True:
        page = town.get(f"/api/v1/billing/totals?limit=1{cursor}").json()
        pages += [t["usage_point"] for t in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == ["P1", "P2", "P3"]
    for query, found in (
        ("state=missing", ["P3"]),
        ("cause=large_use", ["P2"]),
        ("account_number=%3DA1", ["P1"]),
        ("district=south", ["P3"]),
        ("closed=true", []),
        ("period=2026-02", []),
    ):
        got = town.get(f"/api/v1/billing/totals?{query}").json()["items"]
        assert [t["usage_point"] for t in got] == found, query
    assert town.get("/api/v1/billing/totals?cursor=abc").status_code == 422


def test_files_come_as_streams_with_names(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    answer = town.get("/api/v1/billing/totals?period=2026-03&format=csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="totals-2026-03.csv"'
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert [row[1:3] for row in rows[1:]] == [["P1", "'=A1"], ["P2", "A-P2"], ["P3", "A-P3"]]
    book = openpyxl.load_workbook(io.BytesIO(town.get("/api/v1/billing/totals?format=xlsx").content))
    assert [cell.value for cell in book["totals"]["B"]] == ["usage_point", "P1", "P2", "P3"]
    assert len(town.get("/api/v1/billing/totals", headers={"accept": "application/x-ndjson"}).text.splitlines()) == 3
    assert town.get("/api/v1/billing/totals?format=nem13").text.splitlines()[-1] == "900"
    assert town.get("/api/v1/billing/totals?format=parquet").content[:4] == b"PAR1"
    assert town.get("/api/v1/billing/totals?format=xlsx&limit=5").status_code == 422


def test_who_is_limited_to_an_area_sees_and_closes_that_area_alone(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    south = key(town, *Role, areas=frozenset({"south"}))
    both = key(town, *Role, areas=frozenset({"south", "east"}))
    seen = send(town, "GET", "/api/v1/billing/totals", shown=south).json()["items"]
    assert [t["usage_point"] for t in seen] == ["P3"]
    assert send(town, "GET", total_of("P1"), shown=south).status_code == 404
    assert send(town, "GET", f"{total_of('P1')}/why", shown=south).status_code == 404
    assert post(town, f"{total_of('P2')}/decide", {"kind": "accept"}, shown=south).status_code == 404
    assert post(town, f"{total_of('P2')}/refresh", {}, shown=south).status_code == 404
    assert post(town, f"{MARCH}/refresh", {"district": "north"}, shown=south).status_code == 403
    assert post(town, f"{MARCH}/close", {"missing": 1, "doubtful": 0}, shown=both).status_code == 403
    closed = post(town, f"{MARCH}/close", {"missing": 1, "doubtful": 0}, shown=south)
    assert (closed.status_code, closed.json()["district"], closed.json()["totals"]) == (201, "south", 1)
    rates = send(town, "GET", "/api/v1/billing/read-rates", shown=south).json()
    assert (rates["total"]["due"], rates["total"]["missing"]) == (1, 1)
    assert post(town, "/api/v1/billing/calendars", {"first_day": 5, "last_day": 5}, shown=south).status_code == 403


def test_an_adjustment_is_made_once_and_never_approved_by_who_proposed_it(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    post(town, f"{MARCH}/close", {"missing": 1, "doubtful": 1})
    body = {"usage_point": "P2", "period": "2026-03", "amount": "-600", "cause": "meter_test"}
    assert post(town, "/api/v1/billing/adjustments", body).status_code == 422  # above 500 m³: a written account
    body["account"] = "the meter ran 4 % fast"
    made = post(town, "/api/v1/billing/adjustments", body, Idempotency_Key="k1")
    assert (made.status_code, made.json()["needs"]) == (201, ["admin", "team_lead", "department_head"])
    assert post(town, "/api/v1/billing/adjustments", body, Idempotency_Key="k1").json() == made.json()
    other = post(town, "/api/v1/billing/adjustments", {**body, "amount": "-601"}, Idempotency_Key="k1")
    assert other.status_code == 409
    with town.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(BillingDelta)).scalar() == 1
    place = f"/api/v1/billing/deltas/{made.json()['id']}/approve"
    own = post(town, place, {"word": "approved", "capacity": "admin"})
    assert (own.status_code, own.json()["detail"]) == (403, "nobody approves his own proposal")
    admin = key(town, Role.ADMIN)
    half = post(town, place, {"word": "approved", "capacity": "admin"}, shown=admin).json()
    assert (half["state"], half["waits_for"]) == ("proposed", ["team_lead", "department_head"])
    rankless = post(town, place, {"word": "approved", "capacity": "team_lead"}, shown=key(town, Role.APPROVER))
    assert (rankless.status_code, rankless.json()["type"].rpartition(":")[2]) == (403, "not-permitted-here")
    changed = town.get("/api/v1/billing/deltas?since=0&state=proposed").json()["items"]
    assert [d["id"] for d in changed] == [half["id"]]


def test_a_decision_names_the_total_that_it_was_made_from(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    seen = town.get(total_of("P2"))
    other = post(town, f"{total_of('P2')}/decide", {"kind": "reread"}, If_Match=seen.headers["etag"])
    assert (other.status_code, other.headers["etag"] != seen.headers["etag"]) == (200, True)
    stale = post(town, f"{total_of('P2')}/decide", {"kind": "accept"}, If_Match=seen.headers["etag"])
    assert (stale.status_code, stale.json()["type"].rpartition(":")[2]) == (412, "changed-meanwhile")
    assert post(town, f"{total_of('P1')}/decide", {"kind": "accept"}).status_code == 409
    said = town.get(total_of("P2")).json()["decisions"]
    assert [d["kind"] for d in said] == ["reread"]


def test_rules_are_refused_with_what_is_allowed(town: World) -> None:
    calendars = "/api/v1/billing/calendars"
    assert post(town, calendars, {"first_day": 31, "last_day": 31}).status_code == 422
    rule = {"customer_class": "residential", "first_day": 5, "last_day": 5}
    made = post(town, calendars, rule, Idempotency_Key="a")
    assert (made.status_code, post(town, calendars, rule, Idempotency_Key="a").json()) == (201, made.json())
    overlap = post(town, calendars, {**rule, "first_day": 6, "last_day": 6})
    assert (overlap.status_code, "overlaps" in overlap.json()["detail"]) == (422, True)
    ended = post(town, f"{calendars}/{made.json()['id']}/end", {"last_period": "2026-06"}, If_Match='"v1"')
    assert ended.json()["items"][0]["to_period"] == "2026-06"
    assert post(town, f"{calendars}/1/end", {"last_period": "2026-07"}, If_Match='"v1"').status_code == 412
    assert post(town, f"{calendars}/99/end", {"last_period": "2026-07"}).status_code == 404
    assert post(town, "/api/v1/billing/extra-days", {"day": "2026-02-30"}).status_code == 422
    assert post(town, "/api/v1/billing/extra-days", {"day": "2026-03-01", "reason": "price"}).status_code == 201
    assert (
        post(town, "/api/v1/billing/calorific-values", {"from_day": "2026-03-01", "value": "11.2"}).status_code == 201
    )
    assert town.get("/api/v1/billing/calorific-values").json()["items"][0]["value"] == "11.2"
    post(town, f"{MARCH}/refresh", {})
    assert len(town.get("/api/v1/billing/extra-days").json()["items"]) == 1


def test_a_correction_stands_beside_the_reading_and_can_be_withdrawn(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    body = {
        "meter": "M-P1",
        "read_at": "2026-03-19T10:00:00Z",
        "quantity": "volume",
        "becomes": "1010",
        "reason": "x",
    }
    made = post(town, "/api/v1/billing/corrections", body)
    assert (made.status_code, made.json()["was"], made.json()["becomes"]) == (201, "1009.06", "1010")
    post(town, f"{total_of('P1')}/refresh", {})
    total = town.get(total_of("P1")).json()["total"]
    assert (total["closing"]["index"], total["edited"]) == ("1010", True)
    done = post(town, f"/api/v1/billing/corrections/{made.json()['id']}/withdraw", {"note": "wrong meter"})
    assert done.json()["withdrawn_at"] is not None
    assert post(town, f"/api/v1/billing/corrections/{made.json()['id']}/withdraw", {"note": "x"}).status_code == 409
    nowhere = post(town, "/api/v1/billing/corrections", {**body, "read_at": "2026-03-19T10:00:01Z"})
    assert nowhere.status_code == 404


def test_a_manual_reading_finds_the_meter_that_hung_there(town: World) -> None:
    body = {"read_at": "2026-03-20T10:00:00Z", "values": {"volume": "12.5"}, "person": "zhang"}
    made = post(town, f"{total_of('P3')}/readings", body)
    assert (made.status_code, made.json()["state"]) == (202, "waiting")
    other = post(town, f"{total_of('P3')}/readings", {**body, "meter": "M-P1"})
    assert (other.status_code, "M-P3" in other.json()["detail"]) == (409, True)


def test_why_and_the_report_over_http(town: World) -> None:
    post(town, f"{MARCH}/refresh", {})
    why = town.get(f"{total_of('P3')}/why").json()
    assert (why["counts"]["missing"], why["stretches"][0]["meter"]) == (28 * 24, "M-P3")
    rates = town.get("/api/v1/billing/read-rates?by=district").json()
    assert [(r["group"], r["due"], r["read"], r["rate"]) for r in rates["items"]] == [
        ("north", 2, 2, "100.00"),
        ("south", 1, 0, "0.00"),
    ]
    report = town.get("/api/v1/billing/reading-report?format=html")
    assert report.headers["content-type"].startswith("text/html")
    assert "style-src 'self'" in report.headers["content-security-policy"]
    assert "<td>66.66</td><td>98</td><td>no</td>" in report.text
    assert town.get("/api/v1/billing/reading-report?format=csv").text.count("\r\n") == 3
    assert town.get("/api/v1/billing/periods").json()["items"][0]["open"] == {
        "billed": 1,
        "doubtful": 1,
        "missing": 1,
    }


def test_a_rule_of_validation_changes_from_a_date_on_and_says_who_and_why(town: World) -> None:
    rules = "/api/v1/billing/validation-rules"
    change = {
        "rule": "clock_off",
        "valid_from": "2099-01-01T00:00:00Z",
        "limits": {"most_s": 600},
        "reason": "weekly",
    }
    made = post(town, rules, change, Idempotency_Key="rule")
    assert made.status_code == 201, made.text
    assert post(town, rules, change, Idempotency_Key="rule").json() == made.json()
    seen = [rule for rule in town.get(rules).json()["items"] if rule["rule"] == "clock_off"]
    assert [(rule["version"], rule["limits"], rule["reason"]) for rule in seen] == [
        (1, {"most_s": 3600}, ""),
        (2, {"most_s": 600}, "weekly"),
    ]
    assert (seen[0]["valid_from"], seen[1]["valid_from"]) == (None, "2099-01-01T00:00:00.000Z")
    for wrong in ({"rule": "clock"}, {"limits": {"most_s": 1}}, {"valid_from": "2020-01-01T00:00:00Z"}):
        assert post(town, rules, change | wrong).status_code in (404, 422), wrong
    assert post(town, rules, change | {"limits": {}}).status_code == 409
    north = key(town, Role.SUPERVISOR, areas=frozenset({"north"}))
    assert post(town, rules, change, shown=north).status_code == 403
    assert post(town, rules, change, shown=key(town, Role.BILLING)).status_code == 403
