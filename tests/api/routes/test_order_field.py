"""Work orders in the field: photos, who is away, follow-up calls, inspections, and the outside system."""

from __future__ import annotations

import httpx
import pytest

from api.orders.photos import MAX_BYTES
from registry.roles import Role
from tests.api.orders_world import png
from tests.api.routes.order_calls import BASE, GOOD, audits, ids, post, step
from tests.api.world import World, at, make_key

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
