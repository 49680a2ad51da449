"""Rules of validation are versions with dates: what was judged is not judged anew, every change has a name."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from registry.database import Database
from registry.models_access import AuditRecord
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from registry.validation_rules import RULES, Rule, change_rule, clock_rules, in_force, rule_at, told

LI = Actor("user:li", frozenset({Role.SUPERVISOR}), areas=None)
NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
DAY = 86_400_000


def changed(database: Database, name: str = "clock_off", **more: Any) -> Rule:
    said = {"valid_from": NOW + DAY, "limits": {"most_s": 600}, "reason": "meters are set weekly", "now": NOW} | more
    with database.begin() as connection:
        return change_rule(connection, LI, name, **said)


def test_the_first_versions_judge_while_nobody_made_another(database: Database) -> None:
    with database.read() as connection:
        assert in_force(connection) == RULES
        assert {row["author"] for row in told(connection)} == {"built-in"}


def test_a_new_version_judges_from_its_date_on_and_is_audited(database: Database) -> None:
    assert changed(database) == Rule("clock_off", 2, NOW + DAY, {"most_s": 600})
    with database.read() as connection:
        rules = in_force(connection)
        (entry,) = connection.execute(sa.select(AuditRecord.__table__)).mappings()
    versions = [rule_at(rules, "clock_off", at) for at in (0, NOW + DAY - 1, NOW + DAY)]
    assert [rule.version for rule in versions if rule] == [1, 1, 2]
    assert (entry["action"], entry["actor"]) == ("validation.change", LI.name)
    assert "meters are set weekly" in entry["detail"]


def test_a_rule_rests_until_a_later_version_wakes_it_again(database: Database) -> None:
    changed(database, "step", limits={}, active=False)
    changed(database, "step", limits={}, valid_from=NOW + 2 * DAY)
    with database.read() as connection:
        rules = in_force(connection)
    found = [rule_at(rules, "step", NOW + days * DAY) for days in (0, 1, 2)]
    assert [None if rule is None else rule.version for rule in found] == [1, None, 3]


def test_ingest_gets_the_limits_of_each_moment(database: Database) -> None:
    changed(database)
    changed(database, "clock_frozen", limits={}, active=False, valid_from=NOW + 2 * DAY)
    with database.read() as connection:
        clock = clock_rules(in_force(connection))
    seen = [clock.at(NOW + days * DAY) for days in (0, 1, 2)]
    assert [(limits.off_ms, limits.frozen_ms) for limits in seen] == [
        (3_600_000, 3_600_000),
        (600_000, 3_600_000),
        (600_000, None),
    ]
    assert clock.never_doubted_ms == 600_000


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "clock_of"}, "did you mean"),
        ({"valid_from": NOW - 1}, "has passed"),
        ({"limits": {"least_s": 600}}, 'no limit "least_s"; its limits: most_s'),
        ({"limits": {"most_s": 5}}, "allowed are 60 to 2678400 s"),
        ({"reason": " "}, "needs a reason"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_with_what_is_allowed(
    database: Database, change: dict[str, Any], why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        changed(database, **change)
    with database.read() as connection:
        assert in_force(connection) == RULES


def test_the_same_again_is_no_new_version(database: Database) -> None:
    changed(database)
    with pytest.raises(RefusedError, match="version 2 of clock_off says already"):
        changed(database)
