"""Rules: who, when, quiet hours by local time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from api.outbound.events import KINDS, kind_of_line, wanted
from api.outbound.rules import Rule, Step, after_quiet, due_at, matches, parse_quiet
from metering.clock import parse_rfc3339, rfc3339

RULE = Rule(
    1, "r", ("finding.*",), frozenset(), frozenset(), frozenset(), "medium", (Step(0, ("mail:a@b.cn",)),),
    "22:00-07:00", "Asia/Shanghai", 60, 5,
)  # fmt: skip


def event(**changes: Any) -> Any:
    facts = {"kind": "finding.opened", "subject": "leak", "priority": "urgent", "district": "north"}
    return SimpleNamespace(**(facts | {"object_kind": "finding", **changes}))


def with_(**changes: Any) -> Rule:
    return Rule(**{name: changes.get(name, getattr(RULE, name)) for name in Rule.__slots__})


@pytest.mark.parametrize(
    ("rule", "happened", "told"),
    [
        (RULE, event(), True),
        (RULE, event(priority="low"), False),
        (RULE, event(priority="medium"), True),
        (RULE, event(kind="work_order.opened", object_kind="work_order"), False),
        (with_(kinds=frozenset({"burst"})), event(), False),
        (with_(kinds=frozenset({"leak"})), event(), True),
        (with_(districts=frozenset({"south"})), event(), False),
        (with_(districts=frozenset({"south"})), event(district=""), True),
        (
            with_(events=("*",), order_types=frozenset({"leak_visit"})),
            event(kind="work_order.opened", object_kind="work_order", subject="seal"),
            False,
        ),
        (with_(events=("*",), order_types=frozenset({"leak_visit"})), event(), True),
    ],
)
def test_a_rule_tells_what_its_words_name(rule: Rule, happened: Any, told: bool) -> None:
    assert matches(rule, happened) is told


@pytest.mark.parametrize(
    ("at", "told_at"),
    [  # Shanghai is UTC+8
        ("2026-03-01T13:59:59Z", "2026-03-01T13:59:59.000Z"),  # 21:59:59
        ("2026-03-01T14:00:00Z", "2026-03-01T23:00:00.000Z"),  # 22:00 -> 07:00 of the next day
        ("2026-03-01T22:59:59Z", "2026-03-01T23:00:00.000Z"),  # 06:59:59 -> 07:00 of the same day
        ("2026-03-01T23:00:00Z", "2026-03-01T23:00:00.000Z"),  # 07:00
    ],
)
def test_quiet_hours_end_at_seven_local_time(at: str, told_at: str) -> None:
    assert rfc3339(after_quiet("22:00-07:00", "Asia/Shanghai", parse_rfc3339(at))) == told_at


def test_quiet_hours_within_a_day() -> None:
    noon = parse_rfc3339("2026-03-01T12:30:00Z")
    assert rfc3339(after_quiet("12:00-13:00", "UTC", noon)) == "2026-03-01T13:00:00.000Z"
    assert after_quiet("", "UTC", noon) == noon


@pytest.mark.parametrize("text", ["22-7", "24:00-07:00", "22:00-22:00", "22:00-07:60", "x"])
def test_quiet_hours_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write 22:00-07:00"):
        parse_quiet(text)


def test_urgent_breaks_through_and_only_a_flood_gathers_it() -> None:
    night = parse_rfc3339("2026-03-01T16:00:00Z")
    morning = parse_rfc3339("2026-03-01T23:00:00Z")
    assert due_at(RULE, event(), night, crowded=False, bundle_ends=None) == night
    assert due_at(RULE, event(), night, crowded=True, bundle_ends=None) == night + 60_000
    assert due_at(RULE, event(priority="high"), night, crowded=False, bundle_ends=None) == morning


def test_a_bundle_does_not_slide() -> None:
    day = parse_rfc3339("2026-03-01T04:00:00Z")
    assert due_at(RULE, event(priority="high"), day, crowded=False, bundle_ends=day + 5_000) == day + 5_000
    assert due_at(RULE, event(priority="high"), day, crowded=False, bundle_ends=None) == day + 60_000


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (("raise", 1, "NORM", "UNACK"), "finding.opened"),
        (("raise", 4, "NORM", "UNACK"), "finding.reopened"),
        (("raise", 1, "DSUPR", "DSUPR"), None),
        (("raise", 1, "OOSRV", "OOSRV"), None),
        (("release", 3, "DSUPR", "UNACK"), "finding.opened"),
        (("release", 3, "DSUPR", "NORM"), None),
        (("suppress", 2, "UNACK", "DSUPR"), "finding.suppressed"),
        (("suppress", 1, "NORM", "DSUPR"), None),
        (("clear", 2, "UNACK", "RTNUN"), "finding.cleared"),
        (("clear", 2, "DSUPR", "DSUPR"), None),
        (("withdraw", 2, "ACKED", "NORM"), "finding.withdrawn"),
        (("withdraw", 2, "DSUPR", "NORM"), None),
        (("acknowledge", 2, "UNACK", "ACKED"), "finding.acknowledged"),
        (("expire", 2, "SHLVD", "UNACK"), "finding.returned"),
    ],
)
def test_what_nobody_was_shown_is_no_event(line: tuple[str, int, str, str], kind: str | None) -> None:
    assert kind_of_line(*line) == kind
    assert kind is None or kind in KINDS


def test_filters_name_events_or_their_beginning() -> None:
    assert wanted("finding.opened", ["finding.*"])
    assert wanted("finding.opened", ["*"])
    assert not wanted("finding.opened", ["finding.open", "work_order.*"])
    assert not wanted("finding.opened", [])
