"""Work orders over the API: who sees and does what, what is refused and why, and what comes back from the field."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any, get_args

import httpx
import pytest
import sqlalchemy as sa

from api.orders.lifecycle import State
from api.orders.words import OrderType, Priority
from api.routes.work_orders import PriorityWord, StateWord, TypeWord
from metering.errors import StoreError
from registry import audit
from registry.audit_check import verify
from registry.models_work_orders import WorkOrder, WorkOrderStep
from registry.roles import Role
from tests.api.routes.order_calls import BASE, CALL, GOOD, audits, get, ids, post, step, worker_key
from tests.api.world import World, at, client, make_key

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
