"""Findings in the registry: idempotent, complete history, one winner, withdrawn ones keep their story."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from registry import audit, findings, findings_actions, maintenance, maintenance_book
from registry.alarm_states import Alarm, AlarmEvent, TransitionError, allowed, apply
from registry.database import Database
from registry.findings_settings import AlarmSettings
from registry.findings_store import FINDING, HISTORY
from registry.findings_words import Change, FindingFacts
from registry.models import Gateway
from registry.models_access import AuditRecord
from registry.roles import Actor, Role

HOUR = 3_600_000
LI = Actor("user:li", frozenset({Role.OPERATOR}), areas=None)
WANG = Actor("user:wang", frozenset({Role.OPERATOR}), areas=frozenset({"south"}))
LEAK = FindingFacts(
    "UP-1:leak:burst:1000",
    "UP-1",
    "G-0001",
    "leak",
    "burst",
    "1",
    "critical",
    1000,
    2000,
    2000,
    None,
    None,
    "",
    0,
    {"held_m3_h": 4.25, "hours": [1, 2]},
    "t1",
    "gw-1",
    "tcp-1",
    "north",
)


def put(database: Database, *facts: FindingFacts, now: int = 3000) -> list[Change]:
    with database.begin() as connection:
        return findings.record(connection, facts, now_ms=now)


def act(database: Database, event: AlarmEvent, actor: Actor = LI, *, number: int = 1, **more: Any) -> Change:
    with database.begin() as connection:
        return findings_actions.act(connection, actor, number, event, **{"now_ms": 4000, **more})


def tick(database: Database, now: int) -> list[Change]:
    with database.begin() as connection:
        return maintenance.expire(connection, now)


def finding(database: Database, number: int = 1) -> dict[str, Any]:
    with database.read() as connection:
        return dict(connection.execute(sa.select(FINDING).where(FINDING.c.id == number)).mappings().one())


def history(database: Database, number: int = 1) -> list[dict[str, Any]]:
    statement = sa.select(HISTORY).where(HISTORY.c.finding_id == number).order_by(HISTORY.c.number)
    with database.read() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def told(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [(change.sort, change.old_state, change.new_state) for change in changes]


def test_a_finding_opens_is_acknowledged_and_returns_to_normal(database: Database) -> None:
    (opened,) = put(database, LEAK)
    assert (opened.sort, opened.old_state, opened.new_state, opened.priority) == ("opened", "", "UNACK", "urgent")
    assert told([act(database, AlarmEvent.ACKNOWLEDGE, note="seen")]) == [("acknowledged", "UNACK", "ACKED")]
    (cleared,) = put(database, replace(LEAK, cleared_at=9000, updated_at=9000), now=9100)
    assert told([cleared]) == [("cleared", "ACKED", "NORM")]
    row = finding(database)
    assert (row["state"], row["active"], row["cleared_at"], row["evidence"]) == ("NORM", False, 9000, LEAK.evidence)
    assert [(line["number"], line["who"], line["event"], line["to_state"]) for line in history(database)] == [
        (1, "service:anomaly", "raise", "UNACK"),
        (2, "user:li", "acknowledge", "ACKED"),
        (3, "service:anomaly", "clear", "NORM"),
    ]


def test_the_same_facts_twice_change_nothing(database: Database) -> None:
    assert len(put(database, LEAK)) == 1
    before = finding(database), history(database)
    assert put(database, LEAK, now=99_000) == []
    assert (finding(database), history(database)) == before


def test_facts_from_the_past_are_ignored(database: Database) -> None:
    cleared = replace(LEAK, cleared_at=9000, updated_at=9000)
    put(database, LEAK)
    put(database, cleared)
    assert put(database, LEAK) == []  # a service that starts again repeats what it said before
    assert put(database, cleared) == []
    assert [line["event"] for line in history(database)] == ["raise", "clear"]


def test_a_clearing_counts_though_the_flood_control_spoke_later(database: Database) -> None:
    put(database, LEAK)
    put(database, replace(LEAK, parent_key="outage:1", updated_at=20_000))  # by the wall clock
    late = replace(LEAK, cleared_at=9000, updated_at=9000, parent_key="outage:1")  # by the time of readings
    assert told(put(database, late)) == [("cleared", "DSUPR", "RTNUN")]
    assert put(database, late) == []
    assert put(database, LEAK) == []
    again = replace(LEAK, repeats=1, updated_at=9500)
    assert told(put(database, again)) == [("reopened", "RTNUN", "UNACK")]
    assert put(database, late) == []
    assert finding(database)["updated_at"] == 20_000


def test_new_evidence_is_an_update_without_a_line_of_history(database: Database) -> None:
    put(database, LEAK)
    version = finding(database)["version"]
    (change,) = put(database, replace(LEAK, updated_at=5000, evidence={"held_m3_h": 5.0}))
    assert told([change]) == [("updated", "UNACK", "UNACK")]
    assert (finding(database)["version"], finding(database)["evidence"]) == (version, {"held_m3_h": 5.0})


def test_what_comes_back_within_one_finding_must_be_acknowledged_again(database: Database) -> None:
    put(database, LEAK)
    act(database, AlarmEvent.ACKNOWLEDGE)
    put(database, replace(LEAK, cleared_at=9000, updated_at=9000))
    assert told(put(database, replace(LEAK, repeats=1, updated_at=9500))) == [("reopened", "NORM", "UNACK")]
    again = put(database, replace(LEAK, repeats=2, updated_at=9900))  # over and back between two looks
    assert told(again) == [("reopened", "UNACK", "UNACK")]


def test_an_event_is_opened_and_over_at_once_and_waits_for_somebody(database: Database) -> None:
    spike = replace(LEAK, key="s", kind="spike", severity="minor", cleared_at=2000)
    assert told(put(database, spike)) == [("opened", "", "RTNUN")]
    act(database, AlarmEvent.ACKNOWLEDGE)
    assert told(put(database, replace(spike, repeats=1, updated_at=5000))) == [("reopened", "NORM", "RTNUN")]


def test_information_needs_nobody(database: Database) -> None:
    info = replace(LEAK, kind="info_rollover", severity="info")
    assert told(put(database, info)) == [("opened", "", "NORM")]
    with pytest.raises(TransitionError, match="nothing that a person must do"):
        act(database, AlarmEvent.ACKNOWLEDGE)


def test_priorities_come_from_the_table_and_kinds_have_their_own(database: Database) -> None:
    settings = AlarmSettings(priorities_by_kind=["leak=low"])
    with database.begin() as connection:
        (change,) = findings.record(connection, [LEAK], now_ms=1, settings=settings)
    assert change.priority == "low"
    assert [AlarmSettings().priority("leak", s) for s in ("info", "minor", "major", "critical")] == [
        "none",
        "low",
        "high",
        "urgent",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "k" * 161}, "1 to 160 characters"),
        ({"key": ""}, "1 to 160 characters"),
        ({"severity": "bad"}, "allowed: info, minor, major, critical"),
        ({"evidence": {"x": float("nan")}}, "is not JSON"),
        ({"evidence": {"x": object()}}, "is not JSON"),
    ],
)
def test_facts_that_cannot_be_kept_are_refused(database: Database, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        put(database, replace(LEAK, **change))
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(FINDING)).scalar_one() == 0


def test_children_are_suppressed_by_their_parent_and_return_by_themselves(database: Database) -> None:
    child = replace(LEAK, key="c", kind="comms_loss", severity="major", parent_key="outage:gateway:gw-1:1")
    assert told(put(database, child)) == [("opened", "", "DSUPR")]
    assert told(put(database, replace(child, cleared_at=9000, updated_at=9000))) == [("cleared", "DSUPR", "NORM")]
    stays = replace(child, key="d")
    put(database, stays)
    assert told(put(database, replace(stays, parent_key=""))) == [("released", "DSUPR", "UNACK")]
    assert told(put(database, stays)) == [("suppressed", "UNACK", "DSUPR")]


def test_nothing_stays_suppressed_by_a_parent_that_is_gone(database: Database) -> None:
    parent = replace(LEAK, key="outage:gateway:gw-1:1", kind="info_outage", severity="major")
    put(database, parent, replace(LEAK, key="child", parent_key=parent.key))
    put(database, replace(parent, cleared_at=9000, updated_at=9000), now=9000)
    assert tick(database, 9000 + maintenance.ORPHAN_MS - 1) == []
    assert told(tick(database, 9000 + maintenance.ORPHAN_MS)) == [("released", "DSUPR", "UNACK")]
    assert tick(database, 10_000 + maintenance.ORPHAN_MS) == []


def test_a_late_withdrawal_keeps_the_story_and_says_who_knew(database: Database) -> None:
    put(database, LEAK)
    act(database, AlarmEvent.ACKNOWLEDGE, note="sent Zhao")
    with database.begin() as connection:
        findings_actions.comment(
            connection, replace(WANG, areas=frozenset({"north"})), 1, "customer called", now_ms=4100
        )
    late = replace(LEAK, withdrawn_at=9000, updated_at=9000, withdrawn_why="backfill of 3 h shows no flow")
    (change,) = put(database, late, now=9100)
    assert told([change]) == [("withdrawn", "ACKED", "NORM")]
    assert (change.people, change.note) == (("user:li", "user:wang"), "backfill of 3 h shows no flow")
    assert put(database, late) == []
    lines = history(database)
    assert [line["event"] for line in lines] == ["raise", "acknowledge", "comment", "withdraw"]
    assert [line["note"] for line in lines[1:]] == ["sent Zhao", "customer called", "backfill of 3 h shows no flow"]
    assert finding(database)["withdrawn_why"] == "backfill of 3 h shows no flow"
    found_again = replace(late, withdrawn_at=None, withdrawn_why="", updated_at=9900)
    assert told(put(database, found_again)) == [("reopened", "NORM", "UNACK")]


def test_of_two_who_acknowledge_one_wins(database: Database) -> None:
    put(database, LEAK)
    seen = finding(database)["version"]
    act(database, AlarmEvent.ACKNOWLEDGE, version=seen)
    with pytest.raises(findings_actions.StaleFindingError, match="it is ACKED now, version 2"):
        act(database, AlarmEvent.ACKNOWLEDGE, WANG_EVERYWHERE, version=seen)
    assert [line["who"] for line in history(database)] == ["service:anomaly", "user:li"]


WANG_EVERYWHERE = replace(WANG, areas=None)


def test_two_at_the_same_moment_are_told_apart(database: Database) -> None:
    put(database, *(replace(LEAK, key=f"k{i}") for i in range(5)))
    start = threading.Barrier(2)

    def hurry(actor: Actor) -> list[str]:
        start.wait(timeout=60)
        done: list[str] = []
        for number in range(1, 6):
            try:
                done.append(act(database, AlarmEvent.ACKNOWLEDGE, actor, number=number, version=1).sort)
            except findings_actions.StaleFindingError:
                done.append("stale")
        return done

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(hurry, (LI, WANG_EVERYWHERE)))
    assert [sorted(pair) for pair in zip(*both, strict=True)] == [["acknowledged", "stale"]] * 5
    assert [len(history(database, number)) for number in range(1, 6)] == [2] * 5


def test_other_districts_do_not_exist_for_an_operator(database: Database) -> None:
    put(database, LEAK)
    for number in (1, 99):
        with pytest.raises(findings_actions.UnknownFindingError, match=f"there is no finding {number}"):
            act(database, AlarmEvent.ACKNOWLEDGE, WANG, number=number)


def test_each_act_is_audited_in_the_same_transaction(database: Database) -> None:
    put(database, LEAK)
    act(database, AlarmEvent.SHELVE, until=50_000, note="valve is being changed")
    with pytest.raises(TransitionError):
        act(database, AlarmEvent.ACKNOWLEDGE)
    with database.read() as connection:
        rows = connection.execute(sa.select(AuditRecord).order_by(AuditRecord.number)).all()
    assert [(row.actor, row.action, row.object_id) for row in rows] == [("user:li", "finding.shelve", "1")]
    assert rows[0].detail == audit.canonical(
        {
            "before": {"state": "UNACK"},
            "after": {"state": "SHLVD", "until": "1970-01-01T00:00:50.000Z"},
            "note": "valve is being changed",
        }
    )


def test_shelving_ends_by_the_clock_however_late_it_is_called(database: Database) -> None:
    put(database, LEAK)
    act(database, AlarmEvent.SHELVE, until=50_000)
    assert tick(database, 49_999) == []
    assert told(tick(database, 900_000)) == [("unshelved", "SHLVD", "UNACK")]
    assert tick(database, 900_000) == []
    assert history(database)[-1]["event"] == "expire"


def _window(database: Database, scope: Any = "gateway", target: str = "gw-1", t0: int = 5000, t1: int = 9000) -> int:
    with database.begin() as connection:
        if not connection.execute(sa.select(Gateway.id)).first():
            connection.execute(sa.insert(Gateway).values(id="gw-1", district="north"))
        number, _ = maintenance_book.open_window(
            connection,
            LI,
            scope=scope,
            target=target,
            from_at=t0,
            to_at=t1,
            reason="new modem",
            now_ms=4000,
            longest_h=24,
        )
        return number


def test_a_maintenance_window_takes_alarms_out_of_service_while_it_lasts(database: Database) -> None:
    put(database, LEAK, replace(LEAK, key="other", gateway="gw-2"))
    _window(database)
    assert tick(database, 4999) == []
    assert told(tick(database, 5000)) == [("out_of_service", "UNACK", "OOSRV")]
    during = replace(LEAK, key="new", started_at=6000)
    assert told(put(database, during, now=6000)) == [("opened", "", "OOSRV")]
    with pytest.raises(TransitionError, match="maintenance window 1 lasts until"):
        act(database, AlarmEvent.RETURN, now_ms=6000)
    put(database, replace(during, cleared_at=7000, updated_at=7000), now=7000)
    assert sorted(told(tick(database, 9000))) == [("returned", "OOSRV", "NORM"), ("returned", "OOSRV", "UNACK")]
    assert tick(database, 9001) == []


def test_a_window_that_is_ended_early_lets_go_at_once(database: Database) -> None:
    put(database, LEAK)
    number = _window(database, t0=4000, t1=90_000)
    assert finding(database)["state"] == "OOSRV"
    with database.begin() as connection:
        changes = maintenance_book.end_window(connection, LI, number, now_ms=6000, version=1)
    assert told(changes) == [("returned", "OOSRV", "UNACK")]
    assert finding(database)["window_id"] is None
    with database.begin() as connection, pytest.raises(maintenance_book.WindowError, match="is over since"):
        maintenance_book.end_window(connection, LI, number, now_ms=7000)


@pytest.mark.parametrize("early", [False, True])
def test_from_one_window_into_the_next_nobody_is_shown_the_alarm(database: Database, early: bool) -> None:
    first = _window(database, t0=4000, t1=9000)
    during = replace(LEAK, key="new", started_at=5000)
    put(database, during, now=5000)
    _window(database, scope="district", target="north", t0=6000, t1=20_000)
    tick(database, 6000)
    if early:
        with database.begin() as connection:
            maintenance_book.end_window(connection, LI, first, now_ms=8000)
    else:
        assert told(tick(database, 9000)) == [("out_of_service", "OOSRV", "OOSRV")]
    assert tick(database, 9001) == []
    assert {line["to_state"] for line in history(database)} == {"OOSRV"}
    put(database, replace(during, cleared_at=15_000, updated_at=15_000), now=15_000)
    assert told(tick(database, 20_000)) == [("returned", "OOSRV", "NORM")]  # it came and went unseen


@pytest.mark.parametrize(
    ("scope", "target", "inside"),
    [("gateway", "gw-1", True), ("district", "north", True), ("gateway", "gw-x", None), ("district", "west", None)],
)
def test_windows_need_a_target_that_exists(database: Database, scope: str, target: str, inside: bool | None) -> None:
    put(database, LEAK)
    if inside is None:
        with pytest.raises(maintenance_book.UnknownWindowError, match=f"there is no {scope} '{target}'"):
            _window(database, scope, target)
    else:
        _window(database, scope, target, t0=4000)
        assert finding(database)["state"] == "OOSRV"


@pytest.mark.parametrize(("t0", "t1"), [(9000, 9000), (1000, 4000), (5000, 5000 + 25 * HOUR)])
def test_windows_that_make_no_sense_are_refused(database: Database, t0: int, t1: int) -> None:
    with pytest.raises(maintenance_book.WindowError):
        _window(database, t0=t0, t1=t1)


def test_a_service_that_starts_gets_back_what_it_said(database: Database) -> None:
    gone = replace(LEAK, key="gone", cleared_at=7000, updated_at=7000)
    wrong = replace(LEAK, key="wrong", withdrawn_at=7000)
    put(database, LEAK, gone, wrong)
    with database.read() as connection:
        assert findings.open_findings(connection) == [LEAK]
        assert findings.open_findings(connection, cleared_since_ms=7000) == [LEAK, gone]
        assert findings.open_findings(connection, kinds=["spike"]) == []


def test_ten_thousand_findings_are_recorded_in_a_moment(database: Database) -> None:
    many = [replace(LEAK, key=f"k{i}", usage_point=f"UP{i}", parent_key="outage:1") for i in range(10_000)]
    started = time.process_time()
    assert len(put(database, *many)) == 10_000
    taken = time.process_time() - started
    assert taken < 5, "measured 0.6 s on an idle machine"
    assert put(database, *many) == []


def _replay(lines: list[dict[str, Any]]) -> Alarm:
    alarm = Alarm()
    for number, line in enumerate(lines, 1):
        assert line["number"] == number
        assert line["from_state"] == alarm.state.value
        if line["event"] != "comment":
            alarm = apply(alarm, AlarmEvent(line["event"]), at=line["at"], until=line["until"])
        assert line["to_state"] == alarm.state.value
    return alarm


class Walk:
    """Random rules, people and clock on one finding; the expected state is kept by its own few lines."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database, self.chance, self.now = database, random.Random(seed), 10_000
        self.facts = LEAK
        self.steps: list[Callable[[], None]] = [self.rules, self.rules, self.people, self.people, self.clock]
        put(database, LEAK, now=self.now)

    def step(self) -> None:
        self.now += self.chance.randrange(1, 2000)
        self.chance.choice(self.steps)()

    def rules(self) -> None:
        self.facts = self.chance.choice(
            [
                replace(self.facts, updated_at=self.now, cleared_at=None, withdrawn_at=None),
                replace(self.facts, updated_at=self.now, cleared_at=self.now),
                replace(self.facts, updated_at=self.now, parent_key=self.chance.choice(["", "outage:1"])),
                replace(self.facts, updated_at=self.now, repeats=self.facts.repeats + 1),
                replace(self.facts, updated_at=self.now, withdrawn_at=self.chance.choice([None, self.now])),
            ]
        )
        put(self.database, self.facts, now=self.now)
        row = finding(self.database)
        holds = self.facts.cleared_at is None and self.facts.withdrawn_at is None
        assert row["active"] == holds
        assert row["suppressed"] == (holds and self.facts.parent_key != "")
        assert put(self.database, self.facts, now=self.now) == []

    def people(self) -> None:
        event = self.chance.choice(
            [
                AlarmEvent.ACKNOWLEDGE,
                AlarmEvent.SHELVE,
                AlarmEvent.UNSHELVE,
                AlarmEvent.OUT_OF_SERVICE,
                AlarmEvent.RETURN,
            ]
        )
        permitted = event in allowed(_replay(history(self.database)))
        try:
            act(self.database, event, now_ms=self.now, until=self.now + self.chance.randrange(1, 5000))
        except TransitionError:
            assert not permitted
        else:
            assert permitted

    def clock(self) -> None:
        tick(self.database, self.now)
        row = finding(self.database)
        assert all(row[name] is None or row[name] > self.now for name in ("shelved_until", "out_until"))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_random_life_can_be_replayed_from_its_history(database: Database, seed: int) -> None:
    walk = Walk(database, seed)
    for _ in range(200):
        walk.step()
    row, lines = finding(database), history(database)
    alarm = _replay(lines)
    assert alarm.state.value == row["state"]
    assert {name: row[name] for name in ("active", "acked", "suppressed", "shelved_until", "out_until")} == {
        name: getattr(alarm, name) for name in ("active", "acked", "suppressed", "shelved_until", "out_until")
    }
    assert row["version"] == len(lines) > 50
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
