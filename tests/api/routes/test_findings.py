"""Findings over the API: lists, the proof, and what people do, with who may and when it is refused."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.house import House
from metering.clock import rfc3339
from registry import findings, maintenance
from registry.models_access import AuditRecord
from registry.roles import Role
from tests.api.findings_world import HOUR, OUTAGE, leak
from tests.api.world import World, at, make_key

NOW = 24  # [h] at which the world's clock stands


def post(world: World, address: str, body: Any = None, **headers: str) -> httpx.Response:
    return world.request("POST", f"/api/v1/findings/{address}", json=body, headers=headers)


def ids(world: World, query: str = "") -> list[int]:
    return [item["id"] for item in world.get(f"/api/v1/findings?{query}").json()["items"]]


def test_the_list_shows_what_somebody_must_see_newest_first(world: World) -> None:
    items = world.get("/api/v1/findings").json()["items"]
    assert [(i["id"], i["kind"], i["state"], i["priority"], i["open"]) for i in items] == [
        (4, "high_use", "RTNUN", "low", False),
        (2, "info_outage", "UNACK", "high", True),
        (1, "leak", "UNACK", "urgent", True),
    ]
    assert (items[2]["meter"], items[2]["started_at"], items[2]["detected_at"]) == ("G-0001", at(21), at(22))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("suppressed=true", [4, 3, 2, 1]),
        ("state=DSUPR", [3]),
        ("state=UNACK", [2, 1]),
        ("kind=leak", [1]),
        ("priority=urgent", [1]),
        ("severity=major&suppressed=true", [3, 2]),
        ("district=south", [4]),
        ("gateway=gw-2", [2]),
        ("meter=W-0001", [4]),
        ("usage_point=UP-1", [1]),
        ("open=true", [2, 1]),
        ("parents=true", [2]),
        ("unacknowledged=true", [4, 2, 1]),
        (f"parent={OUTAGE}", [3]),
        (f"from={at(23)}", []),
        (f"to={at(23)}", [4, 2, 1]),
        ("limit=2", [4, 2]),
    ],
)
def test_filters_narrow_the_list(world: World, query: str, found: list[int]) -> None:
    assert ids(world, query) == found


def test_pages_follow_the_cursor(world: World) -> None:
    first = world.get("/api/v1/findings?limit=2").json()
    assert ids(world, f"limit=2&cursor={first['next_cursor']}") == [1]


def test_streams_give_all_and_no_cell_is_a_formula(world: World) -> None:
    lines = world.get("/api/v1/findings?format=ndjson&suppressed=true").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [4, 3, 2, 1]
    rows = list(csv.DictReader(io.StringIO(world.get("/api/v1/findings?format=csv").text)))
    assert [(row["id"], row["rule"], row["cleared_at"]) for row in rows] == [
        ("4", "'=high_use", at(23)),
        ("2", "outage_gateway", ""),
        ("1", "burst", ""),
    ]


def test_one_finding_has_its_proof_its_history_and_what_can_be_done(world: World) -> None:
    answer = world.get("/api/v1/findings/1")
    body = answer.json()
    assert answer.headers["etag"] == '"v1"'
    assert body["evidence"] == {"held_per_h": 4.25, "held_before_per_h": 0.6, "share_of_qmax": 0.708333}
    assert body["allowed"] == ["acknowledge", "shelve", "out_of_service"]
    assert body["history"] == [
        {
            "number": 1,
            "at": at(23),
            "who": "service:anomaly",
            "event": "raise",
            "from_state": "NORM",
            "to_state": "UNACK",
            "until": None,
            "note": "",
        }
    ]
    child, parent = world.get("/api/v1/findings/3").json(), world.get("/api/v1/findings/2").json()
    assert (child["parent"], child["parent_id"], parent["children"]) == (OUTAGE, 2, 1)
    assert world.get("/api/v1/findings/99").status_code == 404


def test_who_acknowledges_second_with_the_same_version_gets_412(world: World) -> None:
    first = post(world, "1/acknowledge", {"note": "Zhao is on the way"}, **{"if-match": '"v1"'})
    assert (first.status_code, first.json()["state"], first.headers["etag"]) == (200, "ACKED", '"v2"')
    second = post(world, "1/acknowledge", None, **{"if-match": '"v1"'})
    assert (second.status_code, second.headers["etag"]) == (412, '"v2"')
    assert second.json()["detail"] == "finding 1 was changed meanwhile: it is ACKED now, version 2"
    assert len(world.get("/api/v1/findings/1").json()["history"]) == 2


@pytest.mark.parametrize(("deed", "body"), [("acknowledge", None), ("comment", {"note": "seen"})])
def test_a_deed_that_waits_for_the_registry_bears_the_time_at_which_it_was_done(
    world: World, monkeypatch: pytest.MonkeyPatch, deed: str, body: Any
) -> None:
    """A shift that was handed over meanwhile does not hold it, so that it must stand in the next one."""
    write = House.write

    async def late(house: House, work: Any) -> Any:
        world.clock.pause(5)
        return await write(house, work)

    monkeypatch.setattr(House, "write", late)  # the real one, after somebody else has held the registry for 5 s
    before = world.clock.now_ms()
    assert post(world, f"1/{deed}", body).status_code == 200
    assert world.get("/api/v1/findings/1").json()["history"][-1]["at"] == rfc3339(before + 5000)


def test_what_is_not_permitted_now_is_a_409_that_says_what_is(world: World) -> None:
    refused = post(world, "3/acknowledge")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:metergate:problem:not-permitted-now")
    assert refused.json()["detail"] == (
        "acknowledge is not possible in state DSUPR; now a person can: out_of_service"
    )


def test_shelving_needs_an_end_that_is_near_enough(world: World) -> None:
    none = post(world, "1/shelve", {"note": "x"})
    assert (none.status_code, none.json()["errors"][0]["problem"]) == (422, "is missing")
    far = post(world, "1/shelve", {"until": "2026-03-05T00:00:01Z"})
    assert (far.status_code, far.json()["errors"][0]["problem"]) == (422, "may lie at most 72 h ahead")
    past = post(world, "1/shelve", {"until": at(1)})
    assert (past.status_code, past.json()["errors"][0]["problem"]) == (422, "must lie in the future")
    done = post(world, "1/shelve", {"until": at(30), "note": "part ordered"})
    assert (done.json()["state"], done.json()["shelved_until"]) == ("SHLVD", at(30))
    assert ids(world) == [4, 2]
    assert post(world, "1/unshelve").json()["state"] == "UNACK"


def test_out_of_service_and_back(world: World) -> None:
    assert post(world, "1/out-of-service", {"until": at(48)}).json()["out_of_service_until"] == at(48)
    assert post(world, "1/return-to-service", {"note": "meter changed"}).json()["state"] == "UNACK"
    assert [line["event"] for line in world.get("/api/v1/findings/1").json()["history"]] == [
        "raise",
        "out_of_service",
        "return",
    ]


def test_a_comment_is_a_line_of_history_and_needs_words(world: World) -> None:
    assert post(world, "3/comment", {"note": ""}).status_code == 422
    assert post(world, "3/comment", {"note": "a\x00b"}).status_code == 422
    said = post(world, "3/comment", {"note": "客户说停电"}).json()
    assert (said["state"], said["history"][-1]["note"], said["history"][-1]["event"]) == (
        "DSUPR",
        "客户说停电",
        "comment",
    )


def test_many_are_acknowledged_each_by_itself(world: World) -> None:
    answer = post(world, "acknowledge", {"ids": [1, 3, 99, 4]})
    assert [(i["id"], i["status"], i["state"]) for i in answer.json()["items"]] == [
        (1, 200, "ACKED"),
        (3, 409, "DSUPR"),
        (99, 404, None),
        (4, 200, "NORM"),
    ]
    for bad in ([], ["1"], [True], [1.0], [0], [10**30], None):
        assert post(world, "acknowledge", {"ids": bad}).status_code == 422, bad
    assert post(world, "acknowledge", {"ids": [1], "more": 1}).status_code == 422
    assert post(world, "acknowledge", {"ids": list(range(1, 502))}).status_code == 422


def test_every_act_stands_in_the_audit(world: World) -> None:
    post(world, "1/acknowledge", {"note": "seen"})
    post(world, "1/acknowledge")
    with world.database.read() as connection:
        rows = connection.execute(sa.select(AuditRecord).where(AuditRecord.object_kind == "finding")).all()
    assert [(row.action, row.object_id) for row in rows] == [("finding.acknowledge", "1")]


def test_other_districts_and_lookers_on_may_not_act(world: World) -> None:
    south = make_key(world.database, Role.OPERATOR, areas=frozenset({"south"}))
    looker = make_key(world.database, Role.VIEWER)
    for key, address, status in (
        (south, "1/acknowledge", 404),
        (south, "4/acknowledge", 200),
        (looker, "1/acknowledge", 403),
    ):
        answer = post(world, address, None, authorization=f"Bearer {key}")
        assert answer.status_code == status, (address, answer.text)
    mine = world.get("/api/v1/findings?suppressed=true", headers={"authorization": f"Bearer {south}"}).json()
    assert [item["id"] for item in mine["items"]] == [4]
    assert world.get("/api/v1/findings/1", headers={"authorization": f"Bearer {south}"}).status_code == 404


def test_a_withdrawn_finding_is_still_there_with_its_reason(world: World) -> None:
    now = world.clock.now_ms()
    gone = leak(now).__class__(
        **{name: getattr(leak(now), name) for name in leak(now).__slots__}
        | {"withdrawn_at": now, "updated_at": now, "withdrawn_why": "backfill"}
    )
    with world.database.begin() as connection:
        findings.record(connection, [gone], now_ms=now)
    body = world.get("/api/v1/findings/1").json()
    assert (body["state"], body["withdrawn_why"], body["allowed"]) == ("NORM", "backfill", [])
    assert post(world, "1/acknowledge").status_code == 409


def windows(world: World, address: str = "", body: Any = None, **headers: str) -> httpx.Response:
    return world.request("POST", f"/api/v1/maintenance-windows{address}", json=body, headers=headers)


def test_a_window_takes_alarms_out_at_once_and_lets_go_when_it_is_ended(world: World) -> None:
    made = windows(world, "", {"scope": "district", "target": "north", "to": at(30), "reason": "pipe works"})
    assert (made.status_code, made.headers["location"]) == (201, "/api/v1/maintenance-windows/2")
    assert (made.json()["active"], made.json()["from"], made.json()["created_by"][:4]) == (True, at(NOW), "key:")
    assert world.get("/api/v1/findings/1").json()["maintenance_window"] == 2
    assert ids(world, "state=OOSRV") == [3, 2, 1]
    back = post(world, "1/return-to-service")
    assert (back.status_code, "maintenance window 2 lasts until" in back.json()["detail"]) == (409, True)
    assert windows(world, "/2/end", None, **{"if-match": '"v7"'}).status_code == 412
    ended = windows(world, "/2/end", None, **{"if-match": '"v1"'})
    assert (ended.status_code, ended.json()["active"]) == (200, False)
    assert ids(world) == [4, 2, 1]
    assert windows(world, "/2/end").status_code == 409


def test_windows_are_listed_and_begin_by_the_clock(world: World) -> None:
    assert [w["id"] for w in world.get("/api/v1/maintenance-windows").json()["items"]] == [1]
    assert world.get("/api/v1/maintenance-windows?active=true").json()["items"] == []
    with world.database.begin() as connection:
        maintenance.expire(connection, world.clock.now_ms() + HOUR)
    assert world.get("/api/v1/findings/1").json()["out_of_service_until"] == at(26)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"target": "G-9"}, "there is no meter 'G-9'"),
        ({"to": at(24)}, "a window must end after its beginning, and in the future"),
        ({"to": "2027-03-01T00:00:00Z"}, "a window may last 744 h; write a second one when it takes longer"),
        ({"to": None}, "must be a time"),
        ({"to": 1_772_500_000_000}, "must be a time"),
        ({"from": 5}, "must be a time"),
        ({"reason": ""}, "must have 1 characters or more"),
        ({"scope": "city"}, "allowed: meter, bus, gateway, district"),
    ],
)
def test_windows_that_make_no_sense_are_refused_in_words(world: World, change: dict[str, Any], problem: str) -> None:
    body = {"scope": "meter", "target": "G-0001", "to": at(30), "reason": "x", **change}
    answer = windows(world, "", body)
    assert answer.status_code == 422
    assert problem in answer.json()["errors"][0]["problem"]


def test_the_page_of_metrics_has_the_rate_of_alarms(world: World) -> None:
    text = world.get("/metrics").text
    assert "metergate_alarms_per_10min 0.0" in text
    assert "metergate_alarm_flood 0.0" in text
    assert 'metergate_alarms{state="UNACK"} 2.0' in text
    with world.database.begin() as connection:
        for number in range(12):
            fact = leak(world.clock.now_ms())
            names = {name: getattr(fact, name) for name in fact.__slots__}
            findings.record(
                connection, [type(fact)(**names | {"key": f"k{number}"})], now_ms=world.clock.now_ms() - 1
            )
    text = world.get("/metrics").text
    assert "metergate_alarms_per_10min 12.0" in text
    assert "metergate_alarm_flood 1.0" in text
