"""The shift log: what was open and done, two signatures, and nothing that changes afterwards; on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from registry import audit, findings, findings_actions, maintenance_book, shifts
from registry.alarm_states import AlarmEvent
from registry.database import Database
from registry.findings_words import FindingFacts
from registry.models import Gateway
from registry.models_work_orders import WorkOrder, WorkOrderStep
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from registry.shift_content import content_of
from registry.shifts import SHIFT, StaleShiftError

T0 = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR = 3_600_000
LI = Actor("user:li", frozenset({Role.OPERATOR}), areas=None)
WANG = Actor("user:wang", frozenset({Role.OPERATOR}), areas=None)
CHEN = Actor("user:chen", frozenset({Role.SUPERVISOR}), areas=None)
NORTH = Actor("user:zhao", frozenset({Role.OPERATOR}), areas=frozenset({"north"}))
LEAK = FindingFacts(
    "UP-1:leak:1", "UP-1", "G-1", "leak", "burst", "1", "critical", T0, T0, T0, None, None, "", 0, {}, "1",
    "gw-1", "b-1", "north",
)  # fmt: skip


def begin(database: Database, actor: Actor = LI, at: int = T0, **more: Any) -> int:
    with database.begin() as connection:
        return shifts.begin(connection, actor, desk="control-room", now_ms=at, **more)


def hand_over(database: Database, number: int, actor: Actor = LI, at: int = T0 + 8 * HOUR, **more: Any) -> None:
    with database.begin() as connection:
        shifts.hand_over(connection, actor, number, now_ms=at, **more)


def take_over(database: Database, number: int, actor: Actor = WANG, at: int = T0 + 9 * HOUR, **more: Any) -> int:
    with database.begin() as connection:
        return shifts.take_over(connection, actor, number, now_ms=at, **more)


def note(database: Database, number: int, text: str, actor: Actor = LI, at: int = T0 + HOUR) -> None:
    with database.begin() as connection:
        shifts.add_note(connection, actor, number, text, now_ms=at)


def row(database: Database, number: int, actor: Actor = CHEN) -> dict[str, Any]:
    with database.read() as connection:
        return shifts.row_of(connection, actor, number)


def alarms(database: Database) -> None:
    """A leak that is acknowledged, a reverse flow that is shelved, a spike that is over, all in the shift."""
    others = [replace(LEAK, key=f"UP-2:{kind}:1", kind=kind, severity="major") for kind in ("reverse_flow", "spike")]
    quiet = replace(LEAK, key="UP-3:leak:1", district="south")
    with database.begin() as connection:
        facts = [replace(fact, detected_at=T0 + HOUR) for fact in (LEAK, *others, quiet)]
        findings.record(connection, facts, now_ms=T0 + HOUR)
        over = [replace(facts[2], cleared_at=T0 + 2 * HOUR, updated_at=T0 + 2 * HOUR)]
        findings.record(connection, over, now_ms=T0 + 2 * HOUR)
        for number, event, more in (
            (1, AlarmEvent.ACKNOWLEDGE, {}),
            (2, AlarmEvent.SHELVE, {"until": T0 + 20 * HOUR}),
            (3, AlarmEvent.ACKNOWLEDGE, {}),
        ):
            findings_actions.act(connection, LI, number, event, now_ms=T0 + 3 * HOUR, note=f"deed {number}", **more)


def test_two_people_who_begin_at_once_get_one_shift_and_one_clear_no(database: Database) -> None:
    asked, answers = threading.Event(), list[str]()

    def second() -> None:
        asked.set()
        try:
            answers.append(str(begin(database, WANG)))
        except RefusedError as refused:
            answers.append(refused.sort)

    thread = threading.Thread(target=second)
    with database.begin() as connection:
        shifts.begin(connection, LI, desk="control-room", now_ms=T0)
        thread.start()
        assert asked.wait(60)
        thread.join(0.3)  # it waits for us: on PostgreSQL inside its INSERT, on SQLite before its BEGIN
    thread.join(60)
    assert answers == ["conflict"]
    with database.read() as connection:
        assert connection.execute(sa.select(SHIFT.c.on_duty)).scalars().all() == [LI.name]


def test_a_hand_over_holds_what_is_open_what_was_done_and_the_notes(database: Database) -> None:
    number = begin(database, note="quiet night")
    alarms(database)
    note(database, number, "Zhao looks for the key of station 4", WANG, T0 + 4 * HOUR)
    with database.begin() as connection:
        order = {"place": "UP-1", "type": "leak", "priority": "urgent", "state": "accepted", "opened_at": T0}
        order |= {"opened_by": "user:li", "reason_en": "", "reason_zh": "", "due_at": T0, "due_rule": "", "id": 1}
        order |= {"district": "north"}
        connection.execute(sa.insert(WorkOrder), [order])
        step = {"order_id": 1, "at": T0 + HOUR, "actor": "user:li", "before": "requested", "data": {}}
        steps = [step | {"number": 1, "deed": "accept", "after": "accepted"}]
        steps += [step | {"number": 2, "deed": "arrive", "after": "on_site", "at": T0 + 8 * HOUR}]
        connection.execute(sa.insert(WorkOrderStep), steps)
        connection.execute(sa.insert(Gateway), [{"id": "gw-1", "district": "north"}])
        maintenance_book.open_window(
            connection, CHEN, scope="gateway", target="gw-1", from_at=T0 + 7 * HOUR, to_at=T0 + 10 * HOUR,
            reason="modem", now_ms=T0 + 7 * HOUR, longest_h=24,
        )  # fmt: skip
    hand_over(database, number, note="watch station 4")
    content = row(database, number)["content"]
    states = [(line["id"], line["kind"], line["state"]) for line in content["open_alarms"]]
    assert states == [(1, "leak", "OOSRV"), (4, "leak", "OOSRV"), (2, "reverse_flow", "OOSRV")]
    done = [(line["finding"], line["event"], line["note"], line["who"]) for line in content["done"]]
    assert done == [
        (1, "acknowledge", "deed 1", "user:li"),
        (2, "shelve", "deed 2", "user:li"),
        (3, "acknowledge", "deed 3", "user:li"),
    ]
    assert [(line["order"], line["deed"]) for line in content["orders"]] == [(1, "accept")]  # the other is the next's
    assert [line["target"] for line in content["maintenance_windows"]] == ["gw-1"]
    assert [(line["who"], line["note"]) for line in content["notes"]] == [
        ("user:li", "quiet night"),
        ("user:wang", "Zhao looks for the key of station 4"),
    ]
    assert content["counts"] == {"came": 4, "over": 1, "withdrawn": 0, "open": 3, "done": 3}
    assert (content["handed_by"], content["handed_note"]) == ("user:li", "watch station 4")


def test_both_sign_and_the_next_shift_begins_where_this_one_was_handed_over(database: Database) -> None:
    first = begin(database)
    hand_over(database, first)
    second = take_over(database, first, note="seen")
    old, new = row(database, first), row(database, second)
    assert (old["state"], old["on_duty"], old["taken_by"], old["taken_note"]) == (
        "closed",
        "user:li",
        "user:wang",
        "seen",
    )
    assert (new["state"], new["on_duty"], new["previous_id"]) == ("open", "user:wang", first)
    assert new["started_at"] == old["handed_at"] == T0 + 8 * HOUR  # no minute between them
    with database.read() as connection:
        rows = audit.records(connection, object_kind="shift", limit=10)
    signed = {r["action"]: r["detail"]["after"]["sha256"] for r in rows if r["action"] != "shift.begin"}
    assert signed == {"shift.hand_over": old["sha256"], "shift.take_over": old["sha256"]}
    assert shifts.digest_of(old["content"]) == old["sha256"]


def test_what_is_signed_stays_as_it_is(database: Database) -> None:
    number = begin(database)
    hand_over(database, number)
    with pytest.raises(RefusedError, match="handed: what is signed stays"):
        note(database, number, "too late")
    first = row(database, number)["sha256"]
    hand_over(database, number, at=T0 + 8 * HOUR + 60_000, note="once more")  # nobody took it over yet
    assert row(database, number)["sha256"] != first
    take_over(database, number)
    for change in (hand_over, take_over, lambda d, n: note(d, n, "too late")):
        with pytest.raises(RefusedError, match="closed"):
            change(database, number)


def test_a_content_that_somebody_changed_is_not_taken_over(database: Database) -> None:
    number = begin(database)
    hand_over(database, number)
    with database.begin() as connection:
        content = shifts.row_of(connection, LI, number)["content"]
        forged = {**content, "open_alarms": [{"id": 1}]}
        connection.execute(sa.update(SHIFT).where(SHIFT.c.id == number).values(content=forged))
    with pytest.raises(RefusedError, match="not the one that was signed"):
        take_over(database, number)


def test_only_who_is_on_duty_hands_over_and_nobody_takes_over_from_himself(database: Database) -> None:
    number = begin(database)
    with pytest.raises(RefusedError, match="user:li is on duty"):
        hand_over(database, number, WANG)
    with pytest.raises(RefusedError, match="hand it over first"):
        take_over(database, number)
    hand_over(database, number, CHEN)  # a supervisor for somebody who had to leave
    for who in (LI, CHEN):
        with pytest.raises(RefusedError, match="nobody takes over from himself"):
            take_over(database, number, who)
    program = Actor("key:mg_12345678", frozenset({Role.OPERATOR, Role.SUPERVISOR}), areas=None)
    with pytest.raises(RefusedError, match="a key of a program cannot sign"):
        take_over(database, number, program)
    with pytest.raises(StaleShiftError, match="its version is 2"):
        take_over(database, number, version=1)
    take_over(database, number, version=2)


def test_one_shift_per_desk_at_a_time(database: Database) -> None:
    begin(database)
    with pytest.raises(RefusedError, match="take it over instead"):
        begin(database, WANG)


def test_a_desk_that_watches_the_north_is_silent_about_the_south(database: Database) -> None:
    alarms(database)
    number = begin(database, NORTH)
    with database.read() as connection:
        content = content_of(connection, shifts.row_of(connection, NORTH, number), NORTH.areas, T0 + 4 * HOUR)
        assert {line["district"] for line in content["open_alarms"]} == {"north"}
        south = replace(WANG, areas=frozenset({"south"}))
        with pytest.raises(RefusedError, match="there is no shift"):
            shifts.row_of(connection, south, number)
        everybody = {"desk": None, "state": None, "before": None, "limit": 9}
        assert [len(shifts.rows(connection, who, **everybody)) for who in (NORTH, south, CHEN)] == [1, 0, 1]  # type: ignore[arg-type]  # mixed keywords
