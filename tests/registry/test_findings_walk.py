"""Ten thousand random steps of rules, people and clock on a finding in the registry, beside a plain model."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import findings, findings_actions, maintenance
from registry.alarm_states import Alarm, AlarmEvent, TransitionError, apply
from registry.database import Database
from registry.findings_store import FINDING, HISTORY
from tests.registry.plain_alarm import Plain
from tests.registry.test_findings import LEAK, LI

PEOPLE = ("acknowledge", "shelve", "unshelve", "out_of_service", "return")
PARENT = "outage:gateway:gw-1:1"


class Walk:
    """One finding, what the rules say of it, and the plain model of what it must be."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection, self.chance, self.now = connection, random.Random(seed), 1_000_000
        self.plain, self.facts, self.seen = Plain(), LEAK, set[str]()
        self.plain.do("raise", self.now, 0)
        self.tell()

    def tell(self) -> None:
        """Record what the rules say; twice, and the second time nothing may change."""
        self.facts = replace(self.facts, updated_at=self.now)
        findings.record(self.connection, [self.facts], now_ms=self.now)
        assert findings.record(self.connection, [self.facts], now_ms=self.now) == []

    def step(self) -> None:
        self.now += self.chance.randrange(1, 500)
        self.chance.choice((self.begin, self.end, self.parent, self.person, self.person, self.clock, self.rarely))()
        state = self.connection.execute(sa.select(FINDING.c.state)).scalar_one()
        assert state == self.plain.word()
        self.seen.add(state)

    def begin(self) -> None:
        if self.plain.may("raise"):
            was_gone = self.plain.gone
            named = PARENT if self.chance.random() < 0.3 else ""
            self.facts = replace(self.facts, cleared_at=None, withdrawn_at=None, parent_key=named)
            steps = ["raise", "suppress"] if was_gone else ["suppress", "raise"]
            for event in steps if named else ["raise"]:
                self.plain.do(event, self.now, 0)
            self.tell()

    def end(self) -> None:
        if self.plain.may("clear"):
            self.facts = replace(self.facts, cleared_at=self.now)
            self.plain.do("clear", self.now, 0)
            if "parent" in self.plain.covers:
                self.plain.do("release", self.now, 0)
            self.tell()

    def parent(self) -> None:
        if self.plain.condition == "present":
            covered = "parent" in self.plain.covers
            self.facts = replace(self.facts, parent_key="" if covered else PARENT)
            self.plain.do("release" if covered else "suppress", self.now, 0)
            self.tell()

    def person(self) -> None:
        event, until = self.chance.choice(PEOPLE), self.now + self.chance.randrange(1, 3000)
        permitted = self.plain.may(event)
        try:
            findings_actions.act(self.connection, LI, 1, AlarmEvent(event), now_ms=self.now, until=until)
        except TransitionError:
            assert not permitted, event
        else:
            assert permitted, event
            self.plain.do(event, self.now, until)

    def clock(self) -> None:
        maintenance.expire(self.connection, self.now)
        assert maintenance.expire(self.connection, self.now) == []
        self.plain.do("expire", self.now, 0)

    def rarely(self) -> None:
        if self.chance.random() < 0.2 and self.plain.may("withdraw"):
            self.facts = replace(self.facts, withdrawn_at=self.now, withdrawn_why="late data")
            self.plain.do("withdraw", self.now, 0)
            self.tell()


@pytest.mark.parametrize("seed", [7])
def test_ten_thousand_steps_agree_with_the_plain_model_and_can_be_replayed(database: Database, seed: int) -> None:
    with database.begin() as connection:
        walk = Walk(connection, seed)
        for _ in range(10_000 if database.is_sqlite else 1_500):
            walk.step()
        assert walk.seen == {"NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"}
        lines = connection.execute(sa.select(HISTORY).order_by(HISTORY.c.number)).mappings().all()
        state = connection.execute(sa.select(FINDING.c.state)).scalar_one()
    alarm = Alarm()
    for number, line in enumerate(lines, 1):
        assert (line["number"], line["from_state"]) == (number, alarm.state.value)
        alarm = apply(alarm, AlarmEvent(line["event"]), at=line["at"], until=line["until"])
        assert line["to_state"] == alarm.state.value
    assert alarm.state.value == state == walk.plain.word()
