"""Work orders over the API: who sees and does what, what is refused and why, and what comes back from the field."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import httpx
import pytest
import sqlalchemy as sa

from api.orders.lifecycle import State
from api.orders.photos import MAX_BYTES
from api.orders.service import Orders
from api.orders.settings import OrderSettings
from api.orders.words import OrderType, Priority
from api.routes.work_orders import PriorityWord, StateWord, TypeWord
from metering.errors import StoreError
from registry import audit, findings
from registry.audit_check import verify
from registry.models_access import AuditRecord
from registry.models_work_orders import Team, WorkOrder, WorkOrderStep
from registry.roles import Role
from tests.api.findings_world import leak
from tests.api.orders_world import png
from tests.api.world import HOUR, T0, World, at, client, make_key, make_world

NOW = T0 + 24 * HOUR
BASE = "/api/v1/work-orders"


def post(world: World, address: str, body: Any = None, *, key: str | None = None, **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(world.app, key) as caller:
            return await caller.post(address, json=body, headers=headers)

    return asyncio.run(once())


def get(world: World, address: str, key: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(world.app, key) as caller:
            return await caller.get(address)

    return asyncio.run(once())


def step(world: World, number: int, deed: str, body: Any = None, **more: Any) -> httpx.Response:
    return post(world, f"{BASE}/{number}/{deed}", body, **more)


def ids(world: World, query: str = "") -> list[int]:
    return [item["id"] for item in world.get(f"{BASE}?{query}").json()["items"]]


def worker_key(world: World, *teams: str) -> str:
    """A key of the role worker; it is a member of the teams by its own name."""
    key = make_key(world.database, Role.WORKER)
    name = key[:11]
    with world.database.begin() as connection:
        for team in teams:
            row = connection.execute(sa.select(Team).where(Team.id == team)).one()
            connection.execute(sa.update(Team).where(Team.id == team).values(members=[*row.members, name]))
    return key


def audits(world: World) -> list[str]:
    """What was changed; refusals are kept too, they are another sort of row."""
    changes = sa.select(AuditRecord.action).where(AuditRecord.action != "access.refused")
    with world.database.read() as connection:
        return list(connection.execute(changes.order_by(AuditRecord.number)).scalars())


GOOD = {
    "worker": "sun",
    "arrived_at": at(24),
    "started_at": at(24),
    "finished_at": at(24),
    "left_at": at(24),
    "result": "passed",
    "index_seen": {"volume_standard": "1012.5"},
    "materials": [{"name": "gasket 垫圈", "count": 2}],
    "amount": "35.50",
    "label": "true",
}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For tests that change nothing."""
    made = make_world(tmp_path_factory.mktemp("still"))
    yield made
    made.close()


# --- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1]),
        ("state=dispatched", [2]),
        ("type=meter_test", [1]),
        ("priority=urgent", []),
        ("district=south", [2]),
        ("assignee=zhao", [2]),
        ("place=UP-1", [1]),
        ("external_id=SR-1001", [1]),
        ("due_before=2026-03-01T00:00:00Z", []),
        ("overdue=true", []),
        ("open=true", [2, 1]),
        ("limit=1", [2]),
    ],
)
def test_filters_narrow_the_list(still: World, query: str, found: list[int]) -> None:
    assert ids(still, query) == found


def test_the_words_of_the_filters_are_those_of_the_orders() -> None:
    assert get_args(StateWord) == tuple(State)
    assert get_args(TypeWord) == tuple(OrderType)
    assert get_args(PriorityWord) == tuple(Priority)


def test_pages_follow_the_cursor_and_streams_give_all(still: World) -> None:
    first = still.get(f"{BASE}?limit=1").json()
    assert ids(still, f"limit=1&cursor={first['next_cursor']}") == [1]
    lines = still.get(f"{BASE}?format=ndjson").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [2, 1]
    rows = list(csv.DictReader(io.StringIO(still.get(f"{BASE}?format=csv").text)))
    assert [(row["id"], row["reason_en"]) for row in rows] == [
        ("2", "'=seal looks broken"),
        ("1", "customer asks for a test"),
    ]


def test_one_order_has_evidence_steps_and_what_can_be_done(still: World) -> None:
    answer = still.get(f"{BASE}/1")
    body = answer.json()
    assert answer.headers["etag"] == '"v2"'
    assert (body["type"], body["state"], body["due_rule"]) == ("meter_test", "accepted", "5 working days")
    # accepted on Sunday 2026-03-01 in UTC: the fifth working day is Friday the 6th, over at its end
    assert body["due_at"] == "2026-03-07T00:00:00.000Z"
    assert [line["deed"] for line in body["steps"]] == ["open", "external_id"]
    assert body["allowed"] == ["dispatch", "cancel", "extend", "void"]
    evidence = body["evidence"]
    assert evidence["sentence_en"] == "customer asks for a test"
    assert (evidence["meter"]["serial"], evidence["meter"]["year"]) == ("SN100%", 2026)
    assert evidence["meter"]["index"] == "1011.5"
    assert len(evidence["readings"]) == 10
    assert evidence["readings"][0]["values"]["volume_standard"] == {"value": "1011.5", "unit": "m3"}
    hours = evidence["series"]["hours"]
    assert len(hours) == 24
    assert {point["consumption"] for point in hours[1:]} == {"0.5"}
    assert hours[0]["consumption"] is None
    assert evidence["missing"] == ["raw frames: none are kept; `metergate command tap` records them from now on"]
    assert body["photos"][0]["media_type"] == "image/png"
    assert still.get(f"{BASE}/99").status_code == 404


def test_days_of_the_chart_come_from_closings_and_a_gap_is_no_zero(still: World) -> None:
    days = still.get(f"{BASE}/1").json()["evidence"]["series"]["days"]
    assert [day["at"] for day in days] == ["2026-03-01", "2026-03-02"]
    assert days[0]["consumption"] is None
    assert days[1]["consumption"] is not None


# --- opening by hand -----------------------------------------------------------------------------------------------

CALL = {"usage_point": "UP-1", "type": "leak_visit", "priority": "urgent", "reason": "smell of gas on the stairs"}


def test_a_customers_call_opens_an_order_and_a_retry_opens_no_second(world: World) -> None:
    made = post(world, BASE, CALL, **{"idempotency-key": "call-1"})
    assert (made.status_code, made.json()["id"]) == (201, 3)
    assert made.json()["respond_by"] == at(25)
    assert made.json()["due_at"] == at(48)
    again = post(world, BASE, CALL, **{"idempotency-key": "call-1"})
    assert (again.status_code, again.json()["id"], again.json()["version"]) == (200, 3, 1)
    other = post(world, BASE, {**CALL, "reason": "x"}, **{"idempotency-key": "call-1"})
    assert (other.status_code, other.json()["type"]) == (409, "urn:metergate:problem:key-used")


def test_a_second_call_joins_the_open_order_and_is_kept_in_its_words(world: World) -> None:
    post(world, BASE, {**CALL, "priority": "soon"})
    joined = post(world, BASE, {**CALL, "reason": "the neighbour smells it too"})
    assert (joined.status_code, joined.json()["id"], joined.json()["priority"]) == (200, 3, "urgent")
    assert joined.json()["steps"][-1]["note"] == "the neighbour smells it too"


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"usage_point": "UP-404"}, 422, "there is no usage point"),
        ({"type": "leek_visit"}, 422, "type"),
        ({"deadline": "5 days"}, 422, 'must be hours such as "6 h"'),
        ({"deadline": "0 h"}, 422, "must be hours"),
        ({"reason": ""}, 422, "reason"),
        ({"reason": "a\x00b"}, 422, "reason"),
        ({"priority": 3}, 422, "priority"),
        ({"colour": "red"}, 422, "colour"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_and_nothing_changes(
    still: World, change: dict[str, Any], status: int, says: str
) -> None:
    before = audits(still)
    answer = post(still, BASE, {**CALL, **change})
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert audits(still) == before
    assert ids(still) == [2, 1]


# --- the life ------------------------------------------------------------------------------------------------------


def test_the_whole_life_of_an_order(world: World) -> None:
    assert step(world, 1, "dispatch", {"assignee": "crew-1"}).json()["assignee"] == "crew-1"
    assert step(world, 1, "arrive").json()["state"] == "arrived"
    done = step(world, 1, "receipts", GOOD)
    assert (done.status_code, done.json()["state"], done.json()["result"]) == (201, "finished", "passed")
    receipt = done.json()["receipts"][0]
    assert (receipt["worker"], receipt["amount"], receipt["label"]) == ("sun", "35.50", "true")
    assert receipt["index_seen"] == {"volume_standard": {"value": "1012.5", "unit": "m3"}}
    assert [line["deed"] for line in done.json()["steps"]] == ["open", "external_id", "dispatch", "arrive", "finish"]
    faults = verify(world.database, world.folder / "none")
    assert [fault.sort for fault in faults] == ["anchors"]  # this house keeps none; the chain itself holds


def test_unfinished_is_dispatched_anew_and_needs_a_note(world: World) -> None:
    step(world, 1, "dispatch", {"assignee": "crew-1"})
    refused = step(world, 1, "receipts", {**GOOD, "result": "unfinished", "label": ""})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:metergate:problem:incomplete")
    assert refused.json()["detail"] == "the result unfinished needs a note with the reason"
    assert world.get(f"{BASE}/1").json()["state"] == "dispatched"  # the arrival was not kept either
    back = step(world, 1, "receipts", {**GOOD, "result": "unfinished", "label": "", "note": "no parts"})
    assert (back.json()["state"], back.json()["assignee"], back.json()["visits"]) == ("accepted", "", 1)


@pytest.mark.parametrize(
    ("number", "deed", "body", "status", "says"),
    [
        (1, "arrive", None, 409, "possible now: dispatch, cancel, extend, void"),
        (1, "accept", None, 409, "an order that is accepted cannot accept"),
        (1, "cancel", {}, 422, "needs a note"),
        (1, "void", {"note": " "}, 422, "needs a note"),
        (1, "extend", {"appointment_at": "2026-02-01T00:00:00Z", "note": "x"}, 422, "appointment in the future"),
        (1, "dispatch", {"assignee": "nobody"}, 409, "free now: crew-1, qian, sun, zhao"),
        (1, "dispatch", {}, 422, "assignee"),
        (2, "recall", {}, 422, "needs a note"),
        (2, "cancel", {"note": "away", "not_reached": True}, 409, "go on trying"),
        (2, "receipts", {**GOOD, "arrived_at": at(22)}, 422, "the arrival lies before the acceptance"),
        (2, "receipts", {**GOOD, "left_at": at(23)}, 422, "the leaving lies before the finish"),
        (2, "receipts", {**GOOD, "left_at": at(30)}, 422, "lies in the future"),
        (2, "receipts", {**GOOD, "result": "fine"}, 422, "result"),
        (2, "receipts", {**GOOD, "label": "maybe"}, 422, "label"),
        (2, "receipts", {**GOOD, "amount": "-1"}, 422, "amount"),
        (2, "receipts", {**GOOD, "index_seen": {"volume": 5}}, 422, "decimal number as text"),
        (99, "arrive", None, 404, "there is no work order"),
    ],
)
def test_what_is_not_possible_says_what_is_and_changes_nothing(
    still: World, number: int, deed: str, body: Any, status: int, says: str
) -> None:
    before = audits(still)
    answer = step(still, number, deed, body)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert audits(still) == before


def test_of_two_dispatchers_one_wins_and_the_other_sees_who(world: World) -> None:
    async def both() -> list[httpx.Response]:
        async with client(world.app, make_key(world.database, Role.DISPATCHER)) as first, client(world.app) as second:
            seen = (await first.get(f"{BASE}/1")).headers["etag"]
            wanted = {"json": {"assignee": "crew-1"}, "headers": {"if-match": seen}}
            return list(
                await asyncio.gather(*(one.post(f"{BASE}/1/dispatch", **wanted) for one in (first, second)))  # type: ignore[arg-type]  # plain keywords
            )

    won, lost = sorted(asyncio.run(both()), key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (200, 412)
    assert lost.headers["etag"] == won.headers["etag"] == '"v3"'
    assert won.json()["steps"][-1]["actor"] in lost.json()["detail"]
    assert "did dispatch; its version is 3" in lost.json()["detail"]


def test_extension_moves_the_promise_and_voiding_takes_a_supervisor(world: World) -> None:
    later = step(world, 1, "extend", {"appointment_at": "2026-03-20T02:00:00Z", "note": "the customer travels"})
    assert later.json()["due_at"] == "2026-03-20T02:00:00.000Z"
    dispatcher = make_key(world.database, Role.DISPATCHER)
    assert step(world, 1, "void", {"note": "typed twice"}, key=dispatcher).status_code == 403
    assert step(world, 1, "void", {"note": "typed twice"}).json()["state"] == "voided"


# --- who -----------------------------------------------------------------------------------------------------------


def test_a_worker_sees_and_does_only_what_his_team_was_sent_for(world: World) -> None:
    key = worker_key(world, "crew-1")
    assert get(world, BASE, key).json()["items"] == []
    assert get(world, f"{BASE}/1", key).status_code == 404
    assert step(world, 1, "arrive", key=key).status_code == 404
    step(world, 1, "dispatch", {"assignee": "crew-1"})
    assert [item["id"] for item in get(world, BASE, key).json()["items"]] == [1]
    assert get(world, f"{BASE}/1", key).json()["allowed"] == ["arrive"]
    assert step(world, 1, "cancel", {"note": "x"}, key=key).status_code == 403
    assert step(world, 2, "arrive", key=key).status_code == 404
    assert step(world, 1, "arrive", key=key).status_code == 200
    stranger = step(world, 1, "receipts", {**GOOD, "worker": "zhao"}, key=key)
    assert (stranger.status_code, stranger.json()["type"]) == (403, "urn:metergate:problem:not-yours-to-do")
    done = step(world, 1, "receipts", {**GOOD, "result": "unfinished", "note": "rain", "label": ""}, key=key)
    assert (done.status_code, done.json()["state"]) == (201, "accepted")
    assert get(world, BASE, key).json()["items"] == []


def test_a_receipt_that_is_sent_again_is_one(world: World) -> None:
    key = worker_key(world, "crew-1")
    step(world, 1, "dispatch", {"assignee": "crew-1"})
    for _ in range(2):
        answer = step(world, 1, "receipts", GOOD, key=key, **{"idempotency-key": "r-1"})
        assert (answer.status_code, len(answer.json()["receipts"])) == (201, 1)
    assert len(world.get(f"{BASE}/1").json()["receipts"]) == 1


def test_a_refusal_stands_in_the_audit_with_its_reason(world: World) -> None:
    step(world, 1, "cancel", {})
    with world.database.read() as connection:
        row = audit.records(connection, action="access.refused", limit=1)[0]
    assert (row["object_id"], row["detail"]["after"]) == (f"POST {BASE}/1/cancel", {"reason": "incomplete"})
    assert row["detail"]["note"] == "to cancel an order needs a note that says why"


def test_an_outside_status_that_is_sent_again_with_its_key_files_one_receipt(world: World) -> None:
    told, said = f"{BASE}/by-external-id/SR-1001/status", {"status": "finished", "result": "unfinished", "note": "x"}
    for _ in range(2):
        answer = post(world, told, {**said, "assignee": "sun"}, **{"idempotency-key": "s-1"})
        assert (answer.status_code, answer.json()["state"], answer.json()["visits"]) == (200, "accepted", 1)


def test_an_area_ends_at_its_border(still: World) -> None:
    north = make_key(still.database, *Role, areas=frozenset({"north"}))
    assert [item["id"] for item in get(still, BASE, north).json()["items"]] == [1]
    unseen, none = get(still, f"{BASE}/2", north), get(still, f"{BASE}/99", north)
    assert (unseen.status_code, none.status_code) == (404, 404)
    assert step(still, 2, "void", {"note": "x"}, key=north).status_code == 404
    assert post(still, BASE, {**CALL, "usage_point": "UP-2"}, key=north).status_code == 422
    assert get(still, f"{BASE}/2/photos", north).status_code == 404
    assert [team["id"] for team in get(still, "/api/v1/teams", north).json()["items"]] == [
        "crew-1",
        "qian",
        "sun",
        "zhao",
    ]


def test_a_viewer_reads_and_changes_nothing(still: World) -> None:
    viewer = make_key(still.database, Role.VIEWER)
    assert get(still, f"{BASE}/1", viewer).json()["allowed"] == []
    for deed in ("accept", "dispatch", "arrive", "receipts", "photos"):
        assert step(still, 1, deed, {}, key=viewer).status_code == 403


# --- photos --------------------------------------------------------------------------------------------------------


def photo(world: World, data: bytes, number: int = 2, query: str = "") -> httpx.Response:
    return world.request("POST", f"{BASE}/{number}/photos{query}", content=data)


def test_a_photo_is_kept_once_and_comes_back_as_it_was(world: World) -> None:
    made = photo(world, png(7))
    assert (made.status_code, made.json()["media_type"], made.json()["visit"]) == (201, "image/png", 1)
    assert photo(world, png(7)).json()["id"] == made.json()["id"]
    back = world.get(f"{BASE}/2/photos/{made.json()['id']}")
    assert (back.content, back.headers["content-type"]) == (png(7), "image/png")
    assert "sandbox" in back.headers["content-security-policy"]
    assert world.get(f"{BASE}/1/photos/{made.json()['id']}").status_code == 404
    assert len(world.get(f"{BASE}/2/photos").json()["items"]) == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"<svg onload=alert(1)>", 422),
        (b"GIF89a" + bytes(50), 422),
        (png()[:40], 422),
        (b"", 422),
        (b"\xff\xd8\xff", 422),
        (png() + bytes(MAX_BYTES), 413),
    ],
)
def test_what_is_no_photo_or_too_large_is_refused(still: World, data: bytes, status: int) -> None:
    before = audits(still)
    assert photo(still, data).status_code == status
    assert audits(still) == before


def test_a_photo_may_be_larger_than_other_bodies(world: World) -> None:
    large = png()[:-12] + b"\x00\x1f\x00\x00tEXt" + bytes(0x1F0000) + bytes(4) + png()[-12:]
    assert len(large) > 1 << 20
    assert photo(world, large).status_code == 201
    assert world.request("POST", BASE, content=large).status_code == 413


def test_a_photo_of_a_visit_that_never_was_is_refused(world: World) -> None:
    assert photo(world, png(), query="?visit=3").status_code == 422


# --- crews ---------------------------------------------------------------------------------------------------------


def test_who_is_away_is_not_sent_and_his_orders_go_to_another(world: World) -> None:
    away = {"assignee": "zhao", "to": at(48), "note": "sick", "reassign_to": "sun"}
    made = post(world, "/api/v1/absences", away)
    assert (made.status_code, made.json()["moved"], made.json()["stranded"]) == (201, [2], [])
    assert world.get(f"{BASE}/2").json()["assignee"] == "sun"
    refused = step(world, 1, "dispatch", {"assignee": "zhao"})
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        f"zhao is away until {at(48)}; free now: crew-1, qian, sun",
    )
    ended = post(world, f"/api/v1/absences/{made.json()['id']}/end")
    assert ended.json()["items"][0]["to"] == at(24)
    assert step(world, 1, "dispatch", {"assignee": "zhao"}).status_code == 200


def test_orders_of_who_is_away_stand_in_the_list_until_somebody_goes(world: World) -> None:
    made = post(world, "/api/v1/absences", {"assignee": "zhao", "to": at(48)})
    assert (made.json()["moved"], made.json()["stranded"]) == ([], [2])
    assert world.get("/api/v1/absences").json()["stranded"] == [2]
    step(world, 2, "dispatch", {"assignee": "sun"})
    assert world.get("/api/v1/absences").json()["stranded"] == []


def test_a_disabled_team_and_one_of_another_district_get_nothing(world: World) -> None:
    assert "does not work in south" in step(world, 2, "dispatch", {"assignee": "crew-1"}).json()["detail"]
    body = {"name": "First crew", "members": ["sun"], "districts": ["north"], "enabled": False}
    changed = world.request("PUT", "/api/v1/teams/crew-1", json=body)
    assert (changed.status_code, changed.json()["items"][0]["enabled"]) == (200, False)
    assert "crew-1 is disabled" in step(world, 1, "dispatch", {"assignee": "crew-1"}).json()["detail"]
    assert world.request("PUT", "/api/v1/teams/zhao", json={}).status_code == 422
    assert world.request("PUT", "/api/v1/teams/new", json={"members": ["ghost"]}).status_code == 422


# --- follow-up calls, inspections ----------------------------------------------------------------------------------


def test_a_call_is_answered_once_and_not_by_whoever_did_the_work(world: World) -> None:
    assert [call["order"] for call in world.get("/api/v1/follow-ups").json()["items"]] == [1]
    key = make_key(world.database, Role.DISPATCHER)
    step(world, 1, "dispatch", {"assignee": "crew-1"})
    step(world, 1, "receipts", {**GOOD, "worker": key[:11]})
    own = post(world, "/api/v1/follow-ups/1/answer", {"satisfied": True}, key=key)
    assert (own.status_code, own.json()["detail"]) == (403, "whoever did the work does not make the follow-up call")
    asked = post(world, "/api/v1/follow-ups/1/answer", {"satisfied": False, "note": "still smells"})
    assert (asked.status_code, asked.json()["satisfied"]) == (200, False)
    assert post(world, "/api/v1/follow-ups/1/answer", {"satisfied": True}).status_code == 409
    assert post(world, "/api/v1/follow-ups/2/answer", {"satisfied": True}).status_code == 409
    assert [call["order"] for call in world.get("/api/v1/follow-ups?due=done").json()["items"]] == [1]


def test_a_year_of_inspections_is_planned_and_its_progress_told(world: World) -> None:
    made = post(world, "/api/v1/inspection-plans", {"year": 2026})
    again = post(world, "/api/v1/inspection-plans", {"year": 2026})
    assert (made.status_code, made.json()) == (201, again.json())
    assert made.json()["planned"] == 1  # one gas place, of an unknown class: yearly
    assert world.get("/api/v1/inspection-plans/2026").json()["districts"] == [
        {"district": "north", "planned": 1, "opened": 0, "finished": 0}
    ]
    assert post(world, "/api/v1/inspection-plans", {"year": 2025}).status_code == 404
    north = make_key(world.database, *Role, areas=frozenset({"north"}))
    assert post(world, "/api/v1/inspection-plans", {"year": 2026}, key=north).status_code == 404


def test_a_hazard_found_by_an_inspection_opens_a_rectification(world: World) -> None:
    made = post(world, BASE, {"usage_point": "UP-1", "type": "safety_inspection", "reason": "yearly"}).json()["id"]
    step(world, made, "dispatch", {"assignee": "crew-1"})
    hazard = {**GOOD, "result": "not_passed", "note": "hose cracked", "label": "", "amount": ""}
    assert step(world, made, "receipts", hazard).json()["result"] == "not_passed"
    opened = world.get(f"{BASE}?type=rectification").json()["items"][0]
    assert (opened["parent_id"], opened["place"]) == (made, "UP-1")
    assert opened["reason_en"] == f"hazard found by safety inspection {made}: hose cracked"


# --- the outside system --------------------------------------------------------------------------------------------


def test_an_outside_system_finds_its_order_and_tells_its_status(world: World) -> None:
    told = f"{BASE}/by-external-id/SR-1001/status"
    assert post(world, told, {"status": "arrived"}).json()["detail"] == "to dispatch needs a worker or a team"
    assert post(world, told, {"status": "dispatched", "assignee": "sun"}).json()["assignee"] == "sun"
    version = post(world, told, {"status": "dispatched", "assignee": "sun"}).json()["version"]
    assert post(world, told, {"status": "arrived"}).json()["version"] == version + 1
    assert post(world, told, {"status": "finished"}).status_code == 422
    done = post(world, told, {"status": "finished", "result": "passed", "label": "false"}).json()
    assert (done["state"], done["label"], done["receipts"][0]["worker"]) == ("finished", "false", "sun")
    assert post(world, told, {"status": "finished", "result": "passed"}).json()["version"] == done["version"]
    assert post(world, f"{BASE}/by-external-id/NONE/status", {"status": "arrived"}).status_code == 404


def test_two_orders_do_not_share_an_external_id(world: World) -> None:
    taken = step(world, 2, "external-id", {"external_id": "SR-1001"})
    assert (taken.status_code, taken.json()["type"]) == (409, "urn:metergate:problem:taken")
    assert step(world, 2, "external-id", {"external_id": "WO-7"}, **{"if-match": '"v1"'}).status_code == 412
    assert step(world, 2, "external-id", {"external_id": "WO-7"}).json()["external_id"] == "WO-7"
    assert ids(world, "external_id=WO-7") == [2]
    assert step(world, 2, "external-id", {"external_id": None}).json()["external_id"] is None


# --- back to the rules ---------------------------------------------------------------------------------------------


def clerk(world: World) -> Orders:
    return Orders(OrderSettings(inspections="off"), world.database, world.clock)


def test_a_leak_found_true_and_repaired_is_cleared_and_counts_for_its_rule(world: World) -> None:
    clerk(world).turn()
    order = world.get(f"{BASE}?type=leak_visit").json()["items"][0]
    assert (order["priority"], order["state"], order["place"]) == ("urgent", "accepted", "UP-1")
    assert world.get(f"{BASE}/{order['id']}").json()["evidence"]["findings"][0]["numbers"] == {
        "held_m3_h": 4.25,
        "qmax_m3_h": 6.0,
    }
    step(world, order["id"], "dispatch", {"assignee": "crew-1"})
    step(world, order["id"], "receipts", GOOD)
    finding = world.get("/api/v1/findings/1").json()
    assert (finding["state"], finding["open"], finding["cleared_at"]) == ("NORM", False, at(24))
    assert finding["history"][-1]["note"] == f"work order {order['id']}: found and repaired"
    (line,) = world.get("/api/v1/rules/precision").json()["items"]
    assert (line["rule"], line["month"], line["precision"], line["true"]) == ("burst", "2026-03", 1.0, 1)
    # the rules repeat their past: nothing comes back; a newer word of theirs does
    with world.database.begin() as connection:
        findings.record(connection, [leak(NOW)], now_ms=NOW + HOUR)
    assert not world.get("/api/v1/findings/1").json()["open"]
    with world.database.begin() as connection:
        findings.record(connection, [replace(leak(NOW), updated_at=NOW + HOUR)], now_ms=NOW + HOUR)
    assert world.get("/api/v1/findings/1").json()["open"]


def test_false_labels_and_what_nobody_looked_at(world: World) -> None:
    clerk(world).turn()
    number = world.get(f"{BASE}?type=leak_visit").json()["items"][0]["id"]
    step(world, number, "dispatch", {"assignee": "crew-1"})
    step(world, number, "receipts", {**GOOD, "label": "false"})
    assert world.get("/api/v1/findings/1").json()["open"]  # what was wrong, the rules must let go of
    (line,) = world.get("/api/v1/rules/precision?rule=burst").json()["items"]
    assert (line["precision"], line["false"]) == (0.0, 1)
    south = make_key(world.database, *Role, areas=frozenset({"south"}))
    assert get(world, "/api/v1/rules/precision", south).json()["items"] == []


def test_a_city_wide_power_cut_is_one_order_per_cause(world: World) -> None:
    """10,000 meters behind 20 gateways fall silent in one minute: 20 orders, and the one that stood there before."""
    base = replace(leak(NOW), severity="major", evidence={})
    facts = []
    for gateway in range(20):
        parent = f"outage:gateway:g-{gateway}:1"
        where: dict[str, Any] = {"gateway": f"g-{gateway}", "bus": "", "detected_at": NOW, "updated_at": NOW}
        facts.append(
            replace(base, key=parent, usage_point="", meter="", kind="info_outage", rule="outage_gateway", **where)
        )
        facts += [
            replace(
                base, key=f"{gateway}-{n}:comms_loss", usage_point=f"P-{gateway}-{n}", meter=f"M-{gateway}-{n}",
                kind="comms_loss", rule="comms_loss", parent_key=parent, **where,
            )
            for n in range(500)
        ]  # fmt: skip
    assert len(facts) == 10_020
    with world.database.begin() as connection:
        findings.record(connection, facts, now_ms=NOW)
    done = clerk(world).turn()
    orders = world.get(f"{BASE}?type=communication_repair&format=ndjson").text.splitlines()
    assert sorted(json.loads(line)["place"] for line in orders) == sorted(
        ["gateway:gw-2", *(f"gateway:g-{n}" for n in range(20))]
    )
    assert done.opened == 22  # with the leak at UP-1
    assert clerk(world).turn().opened == 0


def test_the_order_for_a_gateway_says_what_it_cannot_show(world: World) -> None:
    clerk(world).turn()
    (order,) = world.get(f"{BASE}?place=gateway:gw-2").json()["items"]
    evidence = world.get(f"{BASE}/{order['id']}").json()["evidence"]
    assert (order["usage_point"], evidence["series"], evidence["readings"]) == (None, None, [])
    assert "readings: this order is about no single meter" in evidence["missing"]
    assert evidence["findings"][0]["rule"] == "outage_gateway"


def test_a_store_that_is_away_leaves_the_rest_of_the_evidence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StoreError("away")

    monkeypatch.setattr(world.store, "at_or_before", away)
    answer = world.get(f"{BASE}/1")
    assert answer.status_code == 200
    evidence = answer.json()["evidence"]
    assert evidence["missing"][1] == "readings: the store cannot be read now (away)"
    assert (evidence["meter"]["serial"], len(evidence["series"]["days"])) == ("SN100%", 2)


def test_earlier_orders_at_the_place_are_shown(world: World) -> None:
    made = post(world, BASE, CALL).json()["id"]
    earlier = world.get(f"{BASE}/{made}").json()["evidence"]["earlier"]
    assert [(order["id"], order["type"]) for order in earlier] == [(1, "meter_test")]


def test_every_step_is_audited_with_who_did_it(world: World) -> None:
    step(world, 1, "dispatch", {"assignee": "crew-1"})
    with world.database.read() as connection:
        last = audit.records(connection, limit=1)[0]
        steps = connection.execute(
            sa.select(WorkOrderStep.actor).where(WorkOrderStep.order_id == 1).order_by(WorkOrderStep.number.desc())
        ).scalars()
        assert last["action"] == "work_order.dispatch"
        assert last["actor"] == next(iter(steps))
        assert connection.execute(sa.select(WorkOrder.version).where(WorkOrder.id == 1)).scalar_one() == 3
