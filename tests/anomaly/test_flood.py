"""Flood control: silence of many is one alarm; its meters are explained by it and return by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from anomaly import flood_memory
from anomaly.flood import Judgement, judge
from anomaly.flood_memory import Limits, Memory
from anomaly.topology import Topology, Wired
from registry import findings
from registry.database import Database
from registry.findings_words import Change, FindingFacts
from registry.models_findings import FindingRecord

MINUTE = 60_000
HOUR = 60 * MINUTE
START = 1_772_323_200_000  # 2026-03-01T00:00:00Z
LOSS_MS = 2 * HOUR
"""Silence after which the test's own rule finds a communication loss."""


def loss(wired: Wired, since_ms: int, now_ms: int) -> FindingFacts:
    return FindingFacts(
        f"{wired.meter}:comms_loss:{since_ms}",
        wired.meter,
        wired.meter,
        "comms_loss",
        "comms_loss",
        "1",
        "major",
        since_ms,
        now_ms,
        now_ms,
        None,
        None,
        "",
        0,
        {"silent_h": (now_ms - since_ms) / HOUR},
        "t1",
        wired.gateway,
        wired.bus,
        wired.district,
    )


class City:
    """Meters that are read every 15 minutes, each at a second of its own; a plain loop plays rules and service.

    outage: from, to [ms UTC] per gateway. dead: rows of meters that are not read again after the outage.
    """

    def __init__(self, topology: Topology, database: Database, limits: Limits | None = None) -> None:
        self.topology, self.database, self.limits = topology, database, limits or Limits()
        size = len(topology.meters)
        self.offset = (np.arange(size, dtype=np.int64) * 7919) % topology.interval_ms
        self.newest = START - topology.interval_ms + self.offset
        self.away: dict[str, tuple[int, int]] = {}
        self.dead: dict[int, int] = {}
        self.memory = Memory()
        self.open: dict[int, FindingFacts] = {}
        self.heard: dict[int, int] = {}
        self.changes: list[Change] = []
        self.last: Judgement | None = None
        self.lag_ms = 0
        """How long the rules keep a loss open after its meter is read again."""

    def read(self, now_ms: int) -> None:
        """Let every meter be read that can be read."""
        slot = now_ms - (now_ms - START - self.offset) % self.topology.interval_ms
        can = np.ones(slot.size, bool)
        for name, (t0, t1) in self.away.items():
            mine = self.topology.gateway == self.topology.gateways.index(name)
            can &= ~(mine & (slot >= t0) & (slot < t1))
        for row, t0 in self.dead.items():
            can[row] &= bool(slot[row] < t0)
        self.newest = np.where(can, np.maximum(self.newest, slot), self.newest)

    def step(self, now_ms: int, *, will_s: int = 45) -> None:
        """One round of the service: read, find, judge, record in one transaction."""
        self.read(now_ms)
        down = {g: t0 + will_s * 1000 for g, (t0, t1) in self.away.items() if t0 + will_s * 1000 <= now_ms < t1}
        losses = np.zeros(self.newest.size, bool)
        losses[list(self.open)] = True
        judgement = judge(
            self.topology,
            self.memory,
            newest_at=self.newest,
            down_at=down,
            now_ms=now_ms,
            losses=losses,
            limits=self.limits,
        )
        facts = judgement.facts(now_ms)
        silent = now_ms - self.newest >= LOSS_MS
        for row in np.flatnonzero(silent & ~judgement.held).tolist():
            item, parent = self.open.get(row), judgement.parent_of(row)
            if item is None or item.parent_key != parent:
                item = item or loss(self.topology.meters[row], int(self.newest[row]), now_ms)
                self.open[row] = replace(item, parent_key=parent)
                facts.append(self.open[row])
        for row in [row for row in self.open if not silent[row]]:
            if now_ms < self.heard.setdefault(row, now_ms) + self.lag_ms:
                continue
            del self.heard[row]
            facts.append(replace(self.open.pop(row), cleared_at=now_ms, updated_at=now_ms))
        with self.database.begin() as connection:
            self.changes += findings.record(connection, facts, now_ms=now_ms)
        self.memory, self.last = judgement.memory, judgement

    def shown(self, kind: str) -> int:
        """How many alarms of a kind stand in the operators' list."""
        table = FindingRecord.__table__
        visible = sa.and_(table.c.kind == kind, table.c.state.in_(["UNACK", "ACKED", "RTNUN"]))
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table).where(visible)).scalar_one()

    def count(self, **equal: object) -> int:
        """How many findings have these columns."""
        table = FindingRecord.__table__
        statement = sa.select(sa.func.count()).select_from(table)
        for name, value in equal.items():
            statement = statement.where(table.c[name] == value)
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()


def city(meters: int, gateways: int, district: Callable[[int], str]) -> Topology:
    return Topology(
        [
            Wired(f"M{i:05}", f"gw-{i % gateways:02}", f"line{i // gateways % 2}", district(i % gateways))
            for i in range(meters)
        ]
    )


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.upgrade()
    return database


def rounds(c: City, t0: int, t1: int, every_ms: int, *, check: bool = True) -> None:
    for now in range(t0, t1, every_ms):
        c.step(now)
        if check:
            assert c.shown("comms_loss") == 0, now


@pytest.mark.parametrize(("districts", "parents"), [(1, 1), (20, 20)])
def test_ten_thousand_meters_without_power_are_few_alarms_that_return_by_themselves(
    database: Database, districts: int, parents: int
) -> None:
    c = City(city(10_000, 20, lambda gateway: f"d{gateway % districts}"), database)
    rounds(c, START, START + 10 * MINUTE, 5 * MINUTE)
    cut = START + 10 * MINUTE
    for number in range(20):
        c.away[f"gw-{number:02}"] = (cut + 3000 * number, cut + 3 * HOUR + 15_000 * number)
    rounds(c, cut, cut + 5 * MINUTE, 10_000)
    assert c.count(kind="info_outage") == parents
    assert c.shown("info_outage") == parents
    rounds(c, cut + 5 * MINUTE, cut + 3 * HOUR, 5 * MINUTE)
    assert c.count(kind="comms_loss", state="DSUPR") == 10_000
    c.lag_ms = 70 * MINUTE
    rounds(c, cut + 3 * HOUR, cut + 3 * HOUR + 20 * MINUTE, MINUTE)
    assert c.count(kind="comms_loss", state="DSUPR") == 10_000
    rounds(c, cut + 3 * HOUR + 20 * MINUTE, cut + 5 * HOUR, 5 * MINUTE)
    assert c.count(kind="comms_loss", state="NORM", active=False) == 10_000
    assert c.count(kind="info_outage") == c.count(kind="info_outage", active=False) == parents
    opened = [change for change in c.changes if change.sort == "opened" and change.new_state == "UNACK"]
    assert len(opened) == parents
    assert not c.memory.watches


def test_a_meter_that_stays_silent_becomes_its_own_alarm_after_the_grace(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: ""), database, Limits(grace_ms=HOUR))
    cut, back = START + 10 * MINUTE, START + 3 * HOUR
    c.away["gw-00"] = (cut, back)
    c.dead[4] = cut
    rounds(c, START, back + HOUR - MINUTE, 5 * MINUTE)
    assert c.count(kind="comms_loss", state="DSUPR") == 1
    rounds(c, back + HOUR, back + HOUR + 20 * MINUTE, 5 * MINUTE, check=False)
    assert c.shown("comms_loss") == 1
    assert c.count(kind="info_outage", active=True) == 0
    last = [change for change in c.changes if change.key.startswith("M00004:")]
    assert [(x.sort, x.old_state, x.new_state) for x in last] == [
        ("opened", "", "DSUPR"),
        ("released", "DSUPR", "UNACK"),
    ]


def test_a_meter_dead_before_the_outage_keeps_its_own_alarm(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: ""), database)
    c.dead[4] = START
    c.away["gw-00"] = (START + 10 * HOUR, START + 14 * HOUR)
    rounds(c, START, START + 14 * HOUR + 30 * MINUTE, 10 * MINUTE, check=False)
    mine = [change.sort for change in c.changes if change.key.startswith("M00004:")]
    assert mine == ["opened"]
    assert c.shown("comms_loss") == 1


def test_a_single_silent_meter_has_no_parent(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: "d"), database)
    c.dead[7] = START + 5 * MINUTE
    rounds(c, START, START + 3 * HOUR, 10 * MINUTE, check=False)
    assert (c.shown("comms_loss"), c.count(kind="info_outage")) == (1, 0)


def test_a_bus_is_named_when_its_gateway_still_answers(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: "d"), database)
    for row in [row for row, m in enumerate(c.topology.meters) if (m.gateway, m.bus) == ("gw-01", "line0")]:
        c.dead[row] = START + 10 * MINUTE
    rounds(c, START, START + 4 * HOUR, 5 * MINUTE)
    with database.read() as connection:
        parent = connection.execute(sa.select(FindingRecord.__table__).filter_by(kind="info_outage")).mappings().one()
    assert (parent["gateway"], parent["bus"], parent["rule"]) == ("gw-01", "line0", "outage_bus")
    assert parent["evidence"] == {"scope": "bus", "meters": 15, "silent": 15}
    assert c.count(parent_key=parent["key"], state="DSUPR") == 15


def test_a_bus_alarm_and_its_meters_stay_when_the_gateway_falls_silent_later(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: ""), database)
    for row in [row for row, m in enumerate(c.topology.meters) if (m.gateway, m.bus) == ("gw-01", "line0")]:
        c.dead[row] = START + 10 * MINUTE
    c.away["gw-01"] = (START + 6 * HOUR, START + 9 * HOUR)
    rounds(c, START, START + 10 * HOUR, 10 * MINUTE)
    rules = sorted(change.key.split(":")[1] for change in c.changes if change.key.startswith("outage:"))
    assert rules.count("bus") >= 1
    assert c.count(rule="outage_gateway", active=False) == 1
    assert c.count(rule="outage_bus", active=True) == 1


def test_one_gateway_that_stays_down_is_named_when_its_district_is_back(database: Database) -> None:
    c = City(city(200, 5, lambda gateway: "east"), database, Limits(grace_ms=HOUR))
    cut = START + 10 * MINUTE
    for number in range(5):
        c.away[f"gw-{number:02}"] = (cut, cut + (24 if number == 3 else 3) * HOUR)
    rounds(c, START, cut + 5 * HOUR, 5 * MINUTE)
    assert c.count(rule="outage_district", active=False) == 1
    with database.read() as connection:
        table = FindingRecord.__table__
        rows = connection.execute(sa.select(table).where(table.c.rule == "outage_gateway")).mappings().all()
    assert [(row["gateway"], row["state"]) for row in rows] == [("gw-03", "UNACK")]
    assert c.count(kind="comms_loss", active=True, parent_key=rows[0]["key"]) == 40


def test_a_short_hiccup_of_a_gateway_is_no_alarm(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: ""), database)
    c.away["gw-00"] = (START + 10 * MINUTE, START + 12 * MINUTE)
    rounds(c, START, START + 30 * MINUTE, 10_000)
    assert not c.changes
    assert not c.memory.watches


def test_a_loss_waits_until_its_gateway_is_judged(database: Database) -> None:
    c = City(city(60, 2, lambda gateway: ""), database)
    c.step(START)
    c.away["gw-00"] = (START, START + 24 * HOUR)
    c.read(START + 3 * HOUR)
    c.step(START + 3 * HOUR)  # the service slept: losses and a bad gateway show up in the same round
    assert c.last is not None
    assert np.count_nonzero(c.last.held) == 30
    assert c.count() == 0
    c.step(START + 3 * HOUR + 91_000)
    assert (c.count(kind="info_outage"), c.count(kind="comms_loss", state="DSUPR")) == (1, 30)


def test_a_restart_in_the_middle_changes_nothing(database: Database) -> None:
    c = City(city(200, 5, lambda gateway: "east"), database)
    cut = START + 10 * MINUTE
    for number in range(5):
        c.away[f"gw-{number:02}"] = (cut, cut + 3 * HOUR)
    rounds(c, START, cut + 2 * HOUR + 30 * MINUTE, 5 * MINUTE)
    before = len(c.changes)
    now = cut + 3 * HOUR + 2 * MINUTE  # the gateways are back already, most meters are not read yet
    with database.read() as connection:
        c.memory = flood_memory.resume(c.topology, findings.open_findings(connection), now)
    rounds(c, now, now + 30 * MINUTE, MINUTE)
    assert {change.sort for change in c.changes[before:]} <= {"cleared", "updated"}
    assert c.count(active=True) == 0


def test_a_hundred_thousand_meters_are_judged_quickly() -> None:
    topology = city(100_000, 1000, lambda gateway: f"d{gateway % 40}")
    newest = np.full(100_000, START, np.int64)
    judgement = judge(topology, Memory(), newest_at=newest, down_at={}, now_ms=START + HOUR)
    assert [place for place, _ in judgement.parents] == [("district", f"d{n}") for n in sorted(range(40), key=str)]
    assert (judgement.explained >= 0).all()
