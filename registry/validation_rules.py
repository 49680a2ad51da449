"""The rules of validation as data: versions, and the moment from which on each judges readings, by their own time.

The first version of every rule is here; a later one is a row of `validation_rule`, made by a person with a reason.
No version is ever changed or deleted, so that a reading of last year is judged by the rules of last year.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.admission import ClockLimits, ClockRules
from metering.clock import rfc3339
from metering.settings import nearest
from registry import audit
from registry.models_books import ValidationRule
from registry.refusals import RefusedError
from registry.roles import Actor


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of a rule. effective_from: [ms UTC] of the first reading it judges. limits: its numbers [s].

    active: False lets the rule rest from then on.
    """

    id: str
    version: int
    effective_from: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    active: bool = True


RULES: Final = (
    Rule("unknown_meter", 1),
    Rule("outside_installation", 1),
    Rule("duplicate_key", 1),
    Rule("sent_as_doubtful", 1),
    Rule("step", 1),
    Rule("clock_off", 1, limits={"most_s": 3600}),
    Rule("clock_frozen", 1, limits={"least_s": 3600}),
)
"""The first version of each rule, in force while the registry holds no later one."""

_ALLOWED: Final = {"most_s": (60, 31 * 86_400), "least_s": (60, 31 * 86_400)}
"""Limit -> smallest and largest value [s]."""


def in_force(connection: Connection) -> tuple[Rule, ...]:
    """Return every version of every rule, oldest first."""
    return (*RULES, *(_rule(row) for row in connection.execute(_rows())))


def told(connection: Connection) -> list[dict[str, Any]]:
    """Return every version with who made it and why; the first ones are built in."""
    first = [_facts(rule) | {"author": "built-in", "made_at": None, "reason": ""} for rule in RULES]
    rows = connection.execute(_rows())
    return first + [_facts(_rule(r)) | {"author": r.author, "made_at": r.made_at, "reason": r.reason} for r in rows]


def _facts(rule: Rule) -> dict[str, Any]:
    return {"rule": rule.id, "version": rule.version, "valid_from": rule.effective_from,
            "active": rule.active, "limits": dict(rule.limits)}  # fmt: skip


def _rows() -> Any:
    return sa.select(ValidationRule.__table__).order_by(ValidationRule.id)


def _rule(row: Any) -> Rule:
    return Rule(row.rule, row.version, row.valid_from, dict(row.limits), row.active)


def rule_at(rules: Sequence[Rule], name: str, at: int) -> Rule | None:
    """Return the version of a rule that judges a reading of this moment [ms UTC], None when none does."""
    found: Rule | None = None
    for rule in rules:
        newer = found is None or (rule.effective_from, rule.version) > (found.effective_from, found.version)
        if rule.id == name and rule.effective_from <= at and newer:
            found = rule
    return found if found is not None and found.active else None


def change_rule(
    connection: Connection,
    actor: Actor,
    name: str,
    *,
    valid_from: int,
    limits: Mapping[str, int],
    reason: str,
    now: int,
    active: bool = True,
) -> Rule:
    """Add a version of a rule and return it. limits: those that change; the others stay as they were before.

    valid_from: [ms UTC] not before now: what was judged stays judged. Raises: RefusedError that says what is allowed.
    """
    audit.lock(connection)
    versions = [rule for rule in in_force(connection) if rule.id == name]
    if not versions:
        raise RefusedError("unknown", f'no rule is called "{name}"; {nearest(name, [rule.id for rule in RULES])}')
    if valid_from < now:
        raise RefusedError("invalid", f"{rfc3339(valid_from)} has passed; a rule changes from now on, not before")
    if not reason.strip():
        raise RefusedError("invalid", "a changed rule needs a reason")
    before = max(versions, key=lambda rule: rule.version)
    new = Rule(name, before.version + 1, valid_from, _limits(before, limits), active)
    if (new.limits, new.active, new.effective_from) == (before.limits, before.active, before.effective_from):
        raise RefusedError("conflict", f"that is what version {before.version} of {name} says already")
    row = {"rule": name, "version": new.version, "valid_from": valid_from, "active": active,
           "limits": dict(new.limits), "reason": reason[:500], "author": actor.name[:80], "made_at": now}  # fmt: skip
    connection.execute(sa.insert(ValidationRule).values(row))
    after = _facts(new) | {"valid_from": rfc3339(valid_from)}
    audit.append(
        connection, actor, "validation.change", "validation_rule", name, at=now,
        before=_facts(before) | {"valid_from": rfc3339(before.effective_from)}, after=after, note=reason,
    )  # fmt: skip
    return new


def _limits(before: Rule, changed: Mapping[str, int]) -> dict[str, int]:
    for name, value in changed.items():
        if name not in before.limits:
            known = ", ".join(before.limits) or "it has none"
            raise RefusedError("invalid", f'rule {before.id} has no limit "{name[:40]}"; its limits: {known}')
        least, most = _ALLOWED[name]
        if not least <= value <= most:
            raise RefusedError("invalid", f"{name} = {value}: allowed are {least} to {most} s")
    return {**before.limits, **changed}


def clock_rules(rules: Sequence[Rule]) -> ClockRules:
    """Return what `metering.admission` needs of the rules to judge clocks when a reading comes."""
    moments = sorted({rule.effective_from for rule in rules if rule.id in ("clock_off", "clock_frozen")})
    return ClockRules(tuple((at, clock_limits(rules, at)) for at in moments))


def clock_limits(rules: Sequence[Rule], at: int) -> ClockLimits:
    """Return the limits of a moment [ms UTC]."""
    off, frozen = rule_at(rules, "clock_off", at), rule_at(rules, "clock_frozen", at)
    return ClockLimits(
        None if off is None else off.limits["most_s"] * 1000,
        None if frozen is None else frozen.limits["least_s"] * 1000,
    )
