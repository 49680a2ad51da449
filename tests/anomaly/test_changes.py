"""Thresholds change by proposal, trial on the past and a second person's word, and count from their date on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from anomaly import changes
from anomaly.books import with_changes
from anomaly.change_trial import fitting, sample, try_change, worst
from anomaly.changes import FloodError, StaleChangeError
from anomaly.findings import Finding
from anomaly.meters import Meter, MeterTable
from anomaly.thresholds import Override, load_thresholds
from metering.reading import Reading
from registry.models_access import AuditRecord
from registry.refusals import RefusedError
from registry.roles import Actor, Role, console
from tests.anomaly.site import HOUR, Site, WallClock

START = 1_772_294_400  # 2026-02-28T16:00:00Z, midnight of 2026-03-01 in Shanghai
DAY = 24
FIRST = date(2026, 3, 1)
LI = Actor("user:li", frozenset({Role.ENGINEER}), areas=None)
CHEN = Actor("user:chen", frozenset({Role.SUPERVISOR}), areas=None)
NAMES = [f"M{number}" for number in range(10)]
RESTING = NAMES[:5]
"""They use nothing on days 50 to 53."""


def use(hour: int, *, rests: tuple[int, int] = (0, 0)) -> int:
    """[10⁻⁶ m³] A household: four times 0.1 m³ a day, still at night, nothing on days rests[0] <= day < rests[1]."""
    day, clock = divmod(hour, DAY)
    lived = day - max(0, min(day, rests[1]) - rests[0])
    return 400_000 * lived + 100_000 * sum(clock > at for at in (7, 12, 18, 19)) * (not rests[0] <= day < rests[1])


def reading(meter: str, hour: int, micro: int) -> Reading:
    at = (START + hour * HOUR) * 1000
    return Reading(meter, at, {"volume": micro}, received_at=at)


def now_at(site: Site, day: float) -> int:
    """Put the clock at a day and return it in [ms UTC]."""
    site.clock.now_s = START + day * 86_400
    return site.clock.now_ms()


@dataclass
class Town:
    """Ten homes, of which five rested four days; days 0 to 59 are stored."""

    site: Site

    def propose(self, values: dict[str, float], *, day: int = 62, actor: Actor = LI, **scope: str) -> int:
        with self.site.database.begin() as connection:
            return changes.propose(
                connection, actor, thresholds=load_thresholds(), effective=FIRST + timedelta(days=day), scope=scope,
                values=values, reason="winter is over", now_ms=self.site.clock.now_ms(),
            )  # fmt: skip

    def try_it(self, number: int, **more: Any) -> dict[str, Any]:
        with self.site.database.read() as connection:
            change = changes.row_of(connection, LI, number)
        t0, t1 = (START + 45 * 86_400) * 1000, (START + 60 * 86_400) * 1000
        found = try_change(self.site.database, self.site.store, change, base=load_thresholds(), t0=t0, t1=t1, **more)
        with self.site.database.begin() as connection:
            changes.keep_test(connection, LI, number, found, now_ms=self.site.clock.now_ms())
        return found

    def tested(self, number: int) -> None:
        """Keep a result that nobody has to object to, for tests of what comes after."""
        found = {"would_flag": 1, "flagged_now": 1, "meters": 10, "from": "", "to": ""}
        with self.site.database.begin() as connection:
            changes.keep_test(connection, LI, number, found, now_ms=self.site.clock.now_ms())

    def confirm(self, number: int, actor: Actor = CHEN, **more: Any) -> None:
        with self.site.database.begin() as connection:
            changes.confirm(
                connection, actor, number, now_ms=self.site.clock.now_ms(), most_share=0.2, note="agreed", **more
            )

    def cancel(self, number: int, actor: Actor = CHEN, **more: Any) -> None:
        with self.site.database.begin() as connection:
            changes.cancel(connection, actor, number, now_ms=self.site.clock.now_ms(), **more)

    def row(self, number: int) -> dict[str, Any]:
        with self.site.database.read() as connection:
            return changes.row_of(connection, CHEN, number)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    site = Site(tmp_path, WallClock(START))
    site.add([Meter(name, district="north" if name == "M9" else "south") for name in NAMES])
    now_at(site, 60)
    for name in NAMES:
        rests = (50, 54) if name in RESTING else (0, 0)
        site.take([reading(name, hour, use(hour, rests=rests)) for hour in range(60 * DAY)])
    yield Town(site)
    site.close()


def test_a_change_that_would_flag_half_the_city_needs_the_number_said(town: Town) -> None:
    number = town.propose({"zero_use.min_days": 3})
    steps: list[int] = []
    found = town.try_it(number, progress=lambda percent, _: steps.append(percent))
    # four days of rest: below the 7 days in force, above the 3 of the change
    assert (found["meters"], found["in_scope"], found["tested"]) == (10, 10, 10)
    assert (found["flagged_now"], found["would_flag"]) == (0, 5)
    assert (found["alarms_now"], found["alarms_then"]) == ({}, {"zero_use": 5})
    assert (found["new"], found["gone"]) == (5, 0)
    assert found["new_examples"] == [[name, "zero_use"] for name in RESTING]
    assert steps == sorted(steps)
    assert 0 < steps[0] < steps[-1] == 100
    assert town.row(number)["backtest"] == found
    with pytest.raises(FloodError, match=r"5 of 10 meters \(50%\) would have an open alarm; 0 have one now"):
        town.confirm(number)
    with pytest.raises(FloodError, match="4 is not that number"):
        town.confirm(number, accept=4)
    town.confirm(number, accept=5)
    row = town.row(number)
    assert (row["state"], row["decided_by"], row["accepted"]) == ("confirmed", "user:chen", 5)
    with town.site.database.read() as connection:
        done = connection.execute(sa.select(AuditRecord.action, AuditRecord.actor).order_by(AuditRecord.number)).all()
    assert done == [
        ("threshold_change.propose", "user:li"),
        ("threshold_change.tested", "user:li"),
        ("threshold_change.confirm", "user:chen"),
    ]


def test_one_meter_is_no_city_and_others_are_not_touched(town: Town) -> None:
    number = town.propose({"zero_use.min_days": 3}, meter="M0")
    found = town.try_it(number)
    assert (found["in_scope"], found["flagged_now"], found["would_flag"]) == (1, 0, 1)
    assert found["new_examples"] == [["M0", "zero_use"]]
    town.confirm(number)
    assert town.row(number)["accepted"] is None


def test_the_service_takes_a_change_at_its_date_and_findings_carry_the_version_of_their_day(town: Town) -> None:
    site = town.site
    number = town.propose({"zero_use.min_days": 3}, meter="M6")
    town.tested(number)
    city = site.city()  # before anybody has confirmed it
    town.confirm(number)
    city.reload()
    for hour in range(60 * DAY, 63 * DAY + 8):
        site.clock.now_s = START + hour * HOUR + 1
        resting = {name: use(hour, rests=(60, 70)) for name in ("M6", "M7")}
        micro = resting | {"M8": use(hour)}
        if hour == 61 * DAY + 3:
            micro["M8"] -= 200_000  # twenty counts back
        if hour > 61 * DAY + 3:
            micro["M8"] -= 200_000
        site.take([reading(name, hour, value) for name, value in micro.items()])
        city.look()
    zero = site.of("zero_use")
    # at rest since day 60; at the end of day 62, the change's first day, three days are long enough: for M6 alone
    assert [(row["meter"], row["thresholds_version"]) for row in zero] == [("M6", f"1+change-{number}")]
    found_s = zero[0]["detected_at"] // 1000 - START
    assert 63 * 86_400 < found_s < 63 * 86_400 + 6 * HOUR
    assert [(row["meter"], row["thresholds_version"]) for row in site.of("reverse_flow")] == [("M8", "1")]


def test_nobody_confirms_his_own_nor_what_nobody_has_tried(town: Town) -> None:
    number = town.propose({"zero_use.min_days": 6})
    with pytest.raises(RefusedError, match="try it on the past first"):
        town.confirm(number)
    town.tested(number)
    with pytest.raises(RefusedError, match="nobody confirms a change that he proposed himself") as caught:
        town.confirm(number, LI)
    assert caught.value.sort == "forbidden"
    with pytest.raises(StaleChangeError, match="its version is 2"):
        town.confirm(number, version=1)
    now_at(town.site, 62)
    with pytest.raises(RefusedError, match="its date has passed"):
        town.confirm(number)
    assert town.row(number)["state"] == "tested"


def test_a_confirmed_change_is_cancelled_before_its_date_and_not_after(town: Town) -> None:
    first, second = town.propose({"zero_use.min_days": 6}), town.propose({"zero_use.min_days": 6}, day=61)
    for number in (first, second):
        town.tested(number)
        town.confirm(number)
    now_at(town.site, 61.5)
    with pytest.raises(RefusedError, match="in force already"):
        town.cancel(second)
    town.cancel(first)
    with pytest.raises(RefusedError, match="is cancelled cannot be cancelled"):
        town.cancel(first)
    with town.site.database.read() as connection:
        laid = with_changes(connection, load_thresholds())
    assert [item.origin for item in laid.overrides if item.origin.startswith("change")] == [f"change {second}"]


@pytest.mark.parametrize(
    ("values", "scope", "day", "words"),
    [
        ({"zero_use.min_day": 3}, {}, 62, "did you mean 'zero_use.min_days'"),
        ({"zero_use.min_days": -1}, {}, 62, "must be 0 or more"),
        ({"zero_use.min_days": float("nan")}, {}, 62, "is not a number"),
        ({"engine.late_h": 5}, {}, 62, "one for all meters and all dates"),
        ({}, {}, 62, "name at least one threshold"),
        ({"zero_use.min_days": 3}, {"medium": "steam"}, 62, "allowed: gas, water, electricity"),
        ({"zero_use.min_days": 3}, {"class": "castle"}, 62, "scope.class = castle"),
        ({"zero_use.min_days": 3}, {"meter": "M99"}, 62, "there is no such meter"),
        ({"zero_use.min_days": 3}, {}, 60, "has begun"),
    ],
)
def test_a_proposal_that_makes_no_sense_is_refused_with_words(
    town: Town, values: dict[str, float], scope: dict[str, Any], day: int, words: str
) -> None:
    with pytest.raises(RefusedError, match=words):
        town.propose(values, day=day, **scope)


def test_thresholds_of_the_city_are_for_those_who_see_all_of_it(town: Town) -> None:
    north = replace(LI, areas=frozenset({"north"}))
    with pytest.raises(RefusedError, match="for all districts"):
        town.propose({"zero_use.min_days": 3}, actor=north)
    with pytest.raises(RefusedError, match="there is no meter"):
        town.propose({"zero_use.min_days": 3}, actor=north, meter="M0")
    assert town.propose({"zero_use.min_days": 3}, actor=north, meter="M9") == 1
    with pytest.raises(RefusedError, match="for all districts"):
        town.cancel(town.propose({"zero_use.min_days": 3}), north)


def test_a_value_knows_where_it_comes_from(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[override]]\nclass = "restaurant"\nset = { "zero_use.min_days" = 4 }\n', "utf-8")
    number = town.propose({"zero_use.min_days": 6})
    town.tested(number)
    town.confirm(number)
    with town.site.database.read() as connection:
        laid = with_changes(connection, load_thresholds(path))
    before, after = FIRST + timedelta(days=61), FIRST + timedelta(days=62)
    name = "zero_use.min_days"
    assert (laid.source(name, before).value, laid.source(name, before).origin) == (7.0, "built-in")
    inn = laid.source(name, before, customer_class="restaurant")
    assert (inn.value, inn.origin) == (4.0, "mine.toml: override 1")
    assert (laid.source(name, after).value, laid.source(name, after).origin) == (6.0, f"change {number}")
    midnight = START + 62 * 86_400
    assert (laid.version_at(midnight), laid.version_at(midnight + 1)) == ("1+mine", f"1+mine+change-{number}")


def test_the_worst_moment_counts_meters_not_findings() -> None:
    def of(meter: str, start: int, end: int | None) -> Finding:
        return Finding(0, meter, "leak", "burst", "critical", start, start, start, start, cleared_s=end)

    found = [of("A", 0, 10), of("A", 5, 20), of("B", 10, None), of("C", 20, 30), of("D", 90, None)]
    # at 10 A (its second finding) and B; at 20 A's ends before C's begins; at 90 B and D
    assert worst(found, 0, 100) == 2
    assert worst(found, 95, 100) == 2
    assert worst(found[:1], 10, 100) == 0


def test_a_sample_of_a_large_city_holds_those_meant_and_peers_of_theirs() -> None:
    homes = [Meter(f"H{n}") for n in range(100)]
    inns = [Meter(f"R{n}", customer_class="restaurant") for n in range(30)]
    table = MeterTable([*homes, *inns])
    fits = fitting(table, Override({}, customer_class="restaurant"))
    assert fits.tolist() == [False] * 100 + [True] * 30
    rows = sample(table, fits, 20)
    assert rows.size == 20
    assert set(rows.tolist()) <= set(range(100, 130))  # all of the class are meant: nobody else is their peer
    one = fitting(table, Override({}, meter="H7"))
    rows = sample(table, one, 20)
    assert 7 in rows.tolist()
    assert set(rows.tolist()) <= set(range(100))
    assert sample(table, one, 20).tolist() == rows.tolist()
    assert sample(table, one, 1000).size == 130


def test_the_console_may_do_all_but_not_both(town: Town) -> None:
    number = town.propose({"zero_use.min_days": 6}, actor=console("root"))
    town.tested(number)
    with pytest.raises(RefusedError, match="himself"):
        town.confirm(number, console("root"))
