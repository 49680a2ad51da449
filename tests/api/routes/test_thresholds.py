"""Thresholds, back-tests as jobs, and shifts over the API."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from anomaly import changes
from anomaly.thresholds import load_thresholds
from api.app import close, create_app
from api.jobs.runner import JobRunner, result_file
from api.jobs.settings import JobSettings
from api.jobs.words import Materials
from api.jobs.workshop import Workshop
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from registry.roles import Role, console
from tests.api.access.test_logins import settled
from tests.api.world import World, client, make_key, make_user, make_world

NAME = "zero_use.min_days"


def post(world: World, address: str, body: Any = None, **headers: str) -> httpx.Response:
    return world.request("POST", f"/api/v1/{address}", json=body, headers=headers)


def sort_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def proposal(**more: Any) -> dict[str, Any]:
    return {"effective": "2026-04-01", "values": {NAME: 3}, "reason": "spring", **more}


def test_thresholds_say_what_counts_where_and_why(world: World) -> None:
    answer = world.get("/api/v1/thresholds?class=restaurant").json()
    items = {item["name"]: item for item in answer["items"]}
    assert set(items) == set(load_thresholds().defaults)
    assert (answer["on"], answer["version"]) == ("2026-03-02", "1")
    assert (items[NAME]["value"], items[NAME]["origin"]) == (5.0, "built-in: override 5")
    assert items["engine.late_h"]["one_for_all"] is True
    meter = world.get("/api/v1/thresholds?meter=G-0001&on=2026-01-01").json()
    assert (meter["medium"], meter["meter"], meter["on"]) == ("gas", "G-0001", "2026-01-01")


def test_a_district_does_not_hear_of_meters_elsewhere(world: World) -> None:
    south = {"authorization": f"Bearer {make_key(world.database, Role.ENGINEER, areas=frozenset({'south'}))}"}
    answer = world.get("/api/v1/thresholds?meter=G-0001", headers=south)
    assert sort_of(answer) == (422, "invalid-parameter")
    assert post(world, "threshold-changes", proposal(scope={"meter": "G-0001"})).status_code == 201
    listed = world.get("/api/v1/threshold-changes", headers=south).json()["items"]
    assert [item["id"] for item in listed] == [1]
    assert world.get("/api/v1/threshold-changes/2", headers=south).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (proposal(values={"zero_use.min_day": 3}), "did you mean 'zero_use.min_days'"),
        (proposal(values={NAME: "3"}), "number"),
        (proposal(values={NAME: True}), "values"),
        (proposal(values={}), "values"),
        (proposal(effective="2026-02-30"), "must be a date"),
        (proposal(effective=20260401), "must be a date"),
        (proposal(effective="2026-03-01"), "has begun"),
        (proposal(scope={"city": "x"}), "scope"),
        (proposal(reason=""), "reason"),
        (proposal(state="confirmed"), "state"),
    ],
)
def test_a_proposal_that_makes_no_sense_is_a_clear_problem(world: World, body: Any, words: str) -> None:
    answer = post(world, "threshold-changes", body)
    assert answer.status_code == 422, answer.text
    assert words in answer.text


def test_the_list_has_pages_and_states(world: World) -> None:
    for _ in range(2):
        assert post(world, "threshold-changes", proposal()).status_code == 201
    first = world.get("/api/v1/threshold-changes?limit=2").json()
    assert [item["id"] for item in first["items"]] == [3, 2]
    rest = world.get(f"/api/v1/threshold-changes?limit=2&cursor={first['next_cursor']}").json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == ([1], None)
    cancelled = post(world, "threshold-changes/2/cancel", {"note": "no"}, **{"if-match": '"v1"'})
    assert (cancelled.json()["state"], cancelled.headers["etag"]) == ("cancelled", '"v2"')
    assert sort_of(post(world, "threshold-changes/2/cancel")) == (409, "conflict")
    assert sort_of(post(world, "threshold-changes/3/cancel", None, **{"if-match": '"v7"'})) == (
        412,
        "changed-meanwhile",
    )
    assert [i["id"] for i in world.get("/api/v1/threshold-changes?state=cancelled").json()["items"]] == [2]


@pytest.fixture
def working(tmp_path: Path) -> Iterator[World]:
    """A world whose application knows where results lie."""
    world = make_world(tmp_path)
    workshop = Workshop(JobSettings(folder=tmp_path / "jobs"))
    close(world.app)
    world.app = create_app(
        world.app.state.house.settings,
        database=world.database,
        store=world.store,
        clock=world.clock,
        workshop=workshop,
    )
    world.app.state.test_key = world.key
    yield world
    world.close()


def work_off(world: World, folder: Path, number: int) -> dict[str, Any]:
    """Let a runner do what waits, as `metergate api` does beside serving."""
    clock = SystemClock()
    url = world.database.url.render_as_string(hide_password=False)
    store = partial(SqliteStore, folder / "readings.db", mode="read")
    runner = JobRunner(JobSettings(folder=folder / "jobs", poll_s=0.05), world.database, Materials(url, store), clock)

    async def inside() -> dict[str, Any]:
        task = asyncio.create_task(runner.run())
        try:
            end = clock.monotonic() + 60
            async with client(world.app) as caller:
                while True:
                    row: dict[str, Any] = (await caller.get(f"/api/v1/jobs/{number}")).json()
                    if row["state"] not in ("queued", "running") or clock.monotonic() > end:
                        return row
                    await clock.sleep(0.05)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return asyncio.run(inside())


def test_a_change_is_tried_in_the_background_and_confirmed_by_somebody_else(working: World, tmp_path: Path) -> None:
    assert post(working, "jobs/1/cancel").json()["state"] == "cancelled"
    answer = post(working, "threshold-changes/1/backtest", {"from": "2026-03-01T00:00:00Z"})
    assert (answer.status_code, answer.headers["location"]) == (202, "/api/v1/jobs/2")
    assert sort_of(working.get("/api/v1/jobs/2/result")) == (404, "no-result")
    row = work_off(working, tmp_path, 2)
    assert (row["state"], row["problem"], row["progress"]) == ("done", "", 100)
    # three meters are in the books and none of them is residential gas: nobody is flagged, now or then
    assert row["outcome"] == {"change": 1, "would_flag": 0, "flagged_now": 0, "meters": 3}
    result = working.get("/api/v1/jobs/2/result")
    assert result.headers["content-disposition"] == 'attachment; filename="threshold-change-1.json"'
    assert hashlib.sha256(result.content).hexdigest() == row["result_sha256"]
    kept = working.get("/api/v1/threshold-changes/1").json()
    assert kept["state"] == "tested"
    assert kept["backtest"] == json.loads(result.content) | {"job": 2}
    confirmed = post(working, "threshold-changes/1/confirm", {"note": "good"}).json()
    assert (confirmed["state"], confirmed["in_force"]) == ("confirmed", False)
    after = working.get("/api/v1/thresholds?class=residential&on=2026-04-01").json()
    item = next(item for item in after["items"] if item["name"] == NAME)
    assert (item["value"], item["origin"], item["since"]) == (10.0, "change 1", "2026-04-01")
    assert after["version"] == "1+change-1"
    assert working.get("/api/v1/thresholds?class=residential&on=2026-03-31").json()["version"] == "1"
    actions = [row["action"] for row in working.get("/api/v1/audit?object_kind=job").json()["items"]]
    assert actions[:3] == ["job.download", "job.done", "job.submit"]
    result_file(JobSettings(folder=tmp_path / "jobs"), 2).unlink()
    assert sort_of(working.get("/api/v1/jobs/2/result")) == (410, "gone")


def test_what_would_flag_too_many_is_refused_with_the_number(world: World) -> None:
    with world.database.begin() as connection:
        found = {"would_flag": 2, "flagged_now": 0, "meters": 3, "from": "", "to": ""}
        changes.keep_test(connection, console("test"), 1, found, now_ms=world.clock.now_ms())
    answer = post(world, "threshold-changes/1/confirm")
    assert sort_of(answer) == (409, "would-flag-too-many")
    assert "2 of 3 meters (67%)" in answer.json()["detail"]
    assert post(world, "threshold-changes/1/confirm", {"accept_flagged": 2}).json()["accepted_flagged"] == 2


def test_periods_that_cannot_be_tried_are_refused(world: World) -> None:
    for body in (
        {"to": "2027-01-01T00:00:00Z"},
        {"from": "2020-01-01T00:00:00Z"},
        {"from": "2026-03-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"},
        {"most_meters": 1},
    ):
        assert sort_of(post(world, "threshold-changes/1/backtest", body)) == (422, "invalid-parameter")


def test_two_people_hand_over_a_shift_by_their_logins(world: World) -> None:
    people = {name: make_user(world.database, name, Role.OPERATOR, areas=None) for name in ("liu", "wang")}

    async def scenario() -> None:
        async with client(world.app, "") as liu, client(world.app, "") as wang:
            tokens = [
                {"x-csrf-token": await settled(browser, name, people[name])}
                for browser, name in ((liu, "liu"), (wang, "wang"))
            ]
            begun = await liu.post("/api/v1/shifts", json={"desk": "north"}, headers=tokens[0])
            assert (begun.status_code, begun.json()["on_duty"], begun.json()["sha256"]) == (201, "user:liu", "")
            shown = begun.json()["content"]["open_alarms"]
            assert [(a["kind"], a["priority"]) for a in shown] == [
                ("leak", "urgent"),
                ("info_outage", "high"),
                ("high_use", "low"),
            ]
            note = await wang.post("/api/v1/shifts/2/notes", json={"note": "modem"}, headers=tokens[1])
            assert note.json()["content"]["notes"][0]["who"] == "user:wang"
            early = await wang.post("/api/v1/shifts/2/take-over", headers=tokens[1])
            assert early.status_code == 409
            signed = await liu.post("/api/v1/shifts/2/hand-over", json={"note": "bye"}, headers=tokens[0])
            assert (signed.json()["state"], signed.json()["intact"]) == ("handed", True)
            taken = await wang.post(
                "/api/v1/shifts/2/take-over", headers={**tokens[1], "if-match": signed.headers["etag"]}
            )
            assert (taken.status_code, taken.headers["location"]) == (201, "/api/v1/shifts/3")
            old = (await liu.get("/api/v1/shifts/2")).json()
            assert (old["state"], old["taken_by"], old["intact"]) == ("closed", "user:wang", True)
            assert (
                await liu.post("/api/v1/shifts/2/notes", json={"note": "x"}, headers=tokens[0])
            ).status_code == 409
            listed = (await liu.get("/api/v1/shifts?desk=north")).json()["items"]
            assert [item["id"] for item in listed] == [3, 2]

    asyncio.run(scenario())
