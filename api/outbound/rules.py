"""Who is told of what, and when: pure decisions over one rule and one event. No database, no clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from api.outbound.events import wanted
from registry.findings_words import PRIORITIES

DEFAULT_EVENTS: Final = ("finding.opened", "finding.reopened", "house.silent", "house.returned")
URGENT: Final = "urgent"
_QUIET: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Step:
    """Whom to tell `after_min` minutes after the event; the first step has 0. to: "mail:…" or "webhook:3"."""

    after_min: int
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it decides. Fields as of `registry.models_outbound.NotificationRule`."""

    id: int
    name: str
    events: tuple[str, ...]
    kinds: frozenset[str]
    order_types: frozenset[str]
    districts: frozenset[str]
    min_priority: str
    steps: tuple[Step, ...]
    quiet: str
    tz: str
    bundle_s: int
    digest_above: int

    @classmethod
    def of(cls, row: Any) -> Rule:
        """Make a rule of its row."""
        return cls(
            row.id,
            row.name,
            tuple(row.events),
            frozenset(row.kinds),
            frozenset(row.order_types),
            frozenset(row.districts),
            row.min_priority,
            tuple(Step(int(step["after_min"]), tuple(step["to"])) for step in row.steps),
            row.quiet,
            row.tz,
            row.bundle_s,
            row.digest_above,
        )

    def targets(self, step: int) -> tuple[str, ...]:
        """Whom one step tells; nobody for a step that the rule no longer has."""
        return self.steps[step].to if step < len(self.steps) else ()


def matches(rule: Rule, event: Any) -> bool:
    """True when the rule tells an event (a row or an `Event`). An empty list of words stands for all."""
    if not wanted(event.kind, rule.events) or not concerns(rule, event):
        return False
    if event.object_kind == "finding" and rule.kinds and event.subject not in rule.kinds:
        return False
    if event.object_kind == "work_order" and rule.order_types and event.subject not in rule.order_types:
        return False
    return PRIORITIES.index(event.priority) >= PRIORITIES.index(rule.min_priority)


def concerns(rule: Rule, event: Any) -> bool:
    """True when the event lies in the rule's districts; what has no district concerns everybody."""
    return not rule.districts or not event.district or event.district in rule.districts


def due_at(rule: Rule, event: Any, at_ms: int, *, crowded: bool, bundle_ends: int | None) -> int:
    """Return when a step that may begin at `at_ms` is told [ms UTC].

    Urgent ones at once, in quiet hours too; only in a flood (crowded) they are gathered like the others. bundle_ends:
    [ms UTC] when the present bundle of the rule goes out, None when there is none.
    """
    urgent = event.priority == URGENT
    if urgent and not crowded:
        return at_ms
    gathered = at_ms + rule.bundle_s * 1000
    if bundle_ends is not None and at_ms <= bundle_ends < gathered:
        gathered = bundle_ends
    return gathered if urgent else after_quiet(rule.quiet, rule.tz, gathered)


def parse_quiet(text: str) -> tuple[time, time] | None:
    """Return (from, to) of "22:00-07:00", None for "". Raises: ValueError."""
    if not text:
        return None
    found = _QUIET.fullmatch(text)
    if found is None or text[:5] == text[6:]:
        raise ValueError(f"{text!r}: write 22:00-07:00, or nothing for no quiet hours")
    return time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))


def after_quiet(quiet: str, tz: str, at_ms: int) -> int:
    """Return `at_ms`, or the end of the quiet hours that it lies in [ms UTC]. begin <= t < end, local time."""
    hours = parse_quiet(quiet)
    if hours is None:
        return at_ms
    begin, end = hours
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(tz))
    now = local.time()
    inside = begin <= now < end if begin < end else now >= begin or now < end
    if not inside:
        return at_ms
    day = local.date() + timedelta(days=1 if begin > end and now >= begin else 0)
    return round(datetime.combine(day, end, ZoneInfo(tz)).timestamp() * 1000)


def escalations(rule: Rule, at_ms: int) -> Sequence[tuple[int, int]]:
    """Return (step, due) of the steps behind the first; `at_ms`: when the event was."""
    return [(number, at_ms + step.after_min * 60_000) for number, step in enumerate(rule.steps) if number]
