"""The policy that ships, and what is refused in one that somebody writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.orders.policy import KINDS, Case, explain, load_policy, parse_policy
from api.orders.words import Opens, OrderType, Priority
from metering.errors import SettingsError

LEAK = Case("leak", "leak_continuous", "major", "gas", "residential", "north")

ONE = """version = "1"
[[rule]]
id = "a"
kinds = ["leak"]
order = "leak_visit"
priority = "urgent"
opens = "itself"
deadline = "24 h"
"""


def decided(case: Case) -> tuple[OrderType, Priority, Opens, str] | None:
    rule = load_policy().decide(case)
    return None if rule is None else (rule.order, rule.priority, rule.opens, rule.deadline)


def test_a_gas_leak_sends_somebody_at_once() -> None:
    assert decided(LEAK) == (OrderType.LEAK_VISIT, Priority.URGENT, Opens.ITSELF, "24 h")


def test_a_small_leak_is_proposed() -> None:
    small = replace(LEAK, rule="micro_leak", severity="minor")
    assert decided(small) == (OrderType.LEAK_VISIT, Priority.SOON, Opens.PROPOSED, "24 h")


def test_more_than_the_limit_of_a_household_is_read_again() -> None:
    month = Case("high_use", "month_over_limit", "minor", "gas", "residential", "")
    assert decided(month) == (OrderType.READ_AGAIN, Priority.SOON, Opens.ITSELF, "5 working days")


def test_a_meter_that_stands_still_is_tested_within_five_working_days() -> None:
    stuck = Case("stuck", "stuck", "major", "gas", "industrial", "")
    assert decided(stuck) == (OrderType.METER_TEST, Priority.SOON, Opens.ITSELF, "5 working days")


def test_the_valve_of_a_place_long_at_rest_is_proposed_to_be_closed_and_never_closed_by_itself() -> None:
    rest = Case("info_long_zero", "long_zero", "info", "gas", "residential", "")
    assert decided(rest) == (OrderType.CLOSE_VALVE, Priority.WAIT, Opens.PROPOSED, "5 working days")
    assert all(rule.opens is Opens.PROPOSED for rule in load_policy().rule if rule.order is OrderType.CLOSE_VALVE)


def test_a_rollover_sends_nobody() -> None:
    assert decided(Case("info_rollover", "rollover", "info", "gas", "residential", "")) is None


def test_every_kind_that_is_no_mere_information_sends_or_proposes_somebody() -> None:
    missing = [
        kind
        for kind in sorted(KINDS)
        if not kind.startswith("info_")
        and load_policy().decide(Case(kind, "any", "major", "gas", "residential", "")) is None
    ]
    assert missing == []


def test_every_line_is_explained_in_one_sentence() -> None:
    lines = list(explain(load_policy()))
    assert len(lines) == len(load_policy().rule) + 1
    assert lines[1] == (
        "leak-urgent: leak of severity major or above with medium gas opens a work order leak visit 漏气抢修, "
        "urgent 加急安排, begun within 1 h, finished within 24 h."
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kinds = ["leak"]', 'kinds = ["leek"]', 'did you mean "leak"'),
        ('deadline = "24 h"', 'deadline = "24 hours"', "5 working days"),
        ('deadline = "24 h"', 'deadline = "24 h"\nrules = ["birst"]', 'did you mean "burst"'),
        ('order = "leak_visit"', 'order = "leak_visits"', "leak_visit"),
        ("id =", "ident =", 'did you mean "id"'),
        ('kinds = ["leak"]', "kinds = []", "at least 1"),
    ],
)
def test_a_mistake_is_answered_with_line_and_what_is_allowed(old: str, new: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_policy(ONE.replace(old, new), "policy.toml")
    assert says in str(refused.value)
    assert "policy.toml:" in str(refused.value)


def test_a_line_that_is_never_reached_is_refused() -> None:
    second = ONE.split("\n", 1)[1].replace('id = "a"', 'id = "b"\nmin_severity = "major"')
    with pytest.raises(SettingsError, match='"b" is never reached: "a"'):
        parse_policy(ONE + second)


def test_two_lines_with_one_name_are_refused() -> None:
    second = ONE.split("\n", 1)[1].replace('kinds = ["leak"]', 'kinds = ["stuck"]')
    with pytest.raises(SettingsError, match='two rules are called "a"'):
        parse_policy(ONE + second)
