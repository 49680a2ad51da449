"""What the rules find, written into the registry: opened, updated, cleared, withdrawn, suppressed by a parent.

    with database.begin() as connection:
        changes = findings.record(connection, facts, now_ms=clock.now_ms())

`record` is idempotent and takes thousands of facts at once; what people do is in `registry.findings_actions`, what
the clock does in `registry.maintenance.expire`. States: `registry.alarm_states`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import findings_store as store
from registry import maintenance
from registry.alarm_states import AlarmEvent
from registry.findings_settings import AlarmSettings
from registry.findings_store import FINDING, RULES, Case
from registry.findings_words import KEY_LENGTH, SEVERITIES, Change, FindingFacts, Sort
from registry.maintenance import Window

__all__ = ["Change", "FindingFacts", "cleared_at", "open_findings", "record"]

_FACTS: Final = tuple(FindingFacts.__slots__)
_DEFAULTS: Final = AlarmSettings()
_JSON: Final = json.JSONEncoder(allow_nan=False)


def record(
    connection: Connection,
    facts: Sequence[FindingFacts],
    *,
    now_ms: int,
    settings: AlarmSettings = _DEFAULTS,
    who: str = RULES,
) -> list[Change]:
    """Bring the registry to what the rules say, and return what changed; the same facts twice change nothing.

    Must run in a writing transaction. Several facts of one key: the last counts. The priority is set when a finding
    opens. A finding in an active maintenance window is OOSRV from the start.
    Raises: ValueError for a key that is too long, an unknown severity, evidence that is not JSON.
    """
    newest = {item.key: item for item in facts}
    cases = store.by_key(connection, list(newest))
    windows = maintenance.active(connection, now_ms) if newest else []
    changed: list[tuple[Case, Sort]] = []
    for key, item in newest.items():
        case = cases.get(key)
        sort = (
            _open(item, windows, now_ms, settings, who) if case is None else _follow(case, item, windows, now_ms, who)
        )
        if isinstance(sort, Case):
            changed.append((sort, "opened"))
        elif sort is not None and case is not None:
            changed.append((case, sort))
    store.save(connection, [case for case, _ in changed])
    return _told(connection, changed, now_ms)


def _told(connection: Connection, changed: Iterable[tuple[Case, Sort]], now_ms: int) -> list[Change]:
    changes = [
        case.change(sort, now_ms, case.values["withdrawn_why"] if sort == "withdrawn" else "")
        for case, sort in changed
    ]
    gone = [change.finding_id for change in changes if change.sort == "withdrawn"]
    if not gone:
        return changes
    people = store.people(connection, gone)
    return [replace(c, people=people.get(c.finding_id, ())) if c.sort == "withdrawn" else c for c in changes]


def _open(item: FindingFacts, windows: Sequence[Window], now_ms: int, settings: AlarmSettings, who: str) -> Case:
    if not 0 < len(item.key) <= KEY_LENGTH:
        raise ValueError(f"the key {item.key[:200]!r} must have 1 to {KEY_LENGTH} characters")
    if item.severity not in SEVERITIES:
        raise ValueError(f"severity {item.severity!r} of {item.key}: allowed: {', '.join(SEVERITIES)}")
    priority = settings.priority(item.kind, item.severity)
    values = _columns(item) | {
        "id": 0,
        "priority": priority,
        "alarm": priority != "none",
        "active": False,
        "acked": False,
        "told": False,
        "suppressed": False,
        "shelved_until": None,
        "out_until": None,
        "window_id": None,
        "version": 0,
    }
    case = Case(values, new=True)
    _occur(case, item, windows, now_ms, who)
    _end(case, item, now_ms, who)
    return case


def _follow(case: Case, item: FindingFacts, windows: Sequence[Window], now_ms: int, who: str) -> Sort | None:
    """Bring a known finding to what the rules say; return the sort of change, None when nothing did."""
    if _past(case, item):
        return None
    was = case.alarm
    again = item.repeats > case.values["repeats"] or was.withdrawn or (_holds(item) and not was.active)
    case.put(_columns(item) | {"updated_at": max(item.updated_at, case.values["updated_at"])})
    if again and item.withdrawn_at is None:
        _occur(case, item, windows, now_ms, who)
    elif _holds(item):
        _explain(case, item, now_ms, who)
    _end(case, item, now_ms, who)
    return _sort(case, was.active, was.suppressed, was.withdrawn)


def _past(case: Case, item: FindingFacts) -> bool:
    """True for facts that would bring back what is over already: a service that starts again repeats its past.

    A clearing counts whenever it comes: what the rules know by the time of readings may be older than a word of the
    flood control, which goes by the wall clock.
    """
    stored = case.values
    if item.updated_at >= stored["updated_at"] or item.repeats > stored["repeats"]:
        return False
    gone = case.alarm.withdrawn and item.withdrawn_at is None
    return item.repeats < stored["repeats"] or gone or (_holds(item) and not case.alarm.active)


def _sort(case: Case, active: bool, suppressed: bool, withdrawn: bool) -> Sort | None:
    now = case.alarm
    if now.withdrawn and not withdrawn:
        return "withdrawn"
    if active and not now.active:
        return "cleared"
    if any(line["event"] == AlarmEvent.RAISE for line in case.events):
        return "reopened"
    if suppressed != now.suppressed:
        return "suppressed" if now.suppressed else "released"
    return "updated" if case.touched else None


def _holds(item: FindingFacts) -> bool:
    return item.cleared_at is None and item.withdrawn_at is None


def _occur(case: Case, item: FindingFacts, windows: Sequence[Window], now_ms: int, who: str) -> None:
    """It began (again): mask it first, so that nobody is told of what is explained already."""
    if case.alarm.withdrawn:
        case.step(AlarmEvent.RAISE, at=now_ms, who=who, note="found again")
    elif case.alarm.active:
        case.step(AlarmEvent.CLEAR, at=now_ms, who=who, note="it had been over meanwhile")
    if case.alarm.alarm:
        window = maintenance.of(windows, case.values)
        if window is not None and case.alarm.out_until is None:
            maintenance.take_out(case, window, now_ms)
        if _holds(item):
            _explain(case, item, now_ms, who)
    if not case.alarm.active:
        case.step(AlarmEvent.RAISE, at=now_ms, who=who)


def _explain(case: Case, item: FindingFacts, now_ms: int, who: str) -> None:
    """Suppress or release by the parent that is named or no longer named."""
    if not case.alarm.alarm or bool(item.parent_key) == case.alarm.suppressed:
        return
    if item.parent_key:
        case.step(AlarmEvent.SUPPRESS, at=now_ms, who=who, note=f"explained by {item.parent_key}")
    else:
        case.step(AlarmEvent.RELEASE, at=now_ms, who=who, note="its own cause: the parent no longer explains it")


def _end(case: Case, item: FindingFacts, now_ms: int, who: str) -> None:
    """Clear or withdraw; a child whose condition is over needs its parent no longer."""
    if item.withdrawn_at is not None:
        if not case.alarm.withdrawn:
            case.step(AlarmEvent.WITHDRAW, at=now_ms, who=who, note=item.withdrawn_why)
    elif item.cleared_at is not None:
        if case.alarm.active:
            case.step(AlarmEvent.CLEAR, at=now_ms, who=who)
        if case.alarm.suppressed:
            case.step(AlarmEvent.RELEASE, at=now_ms, who=who, note="its condition is over")


def _columns(item: FindingFacts) -> dict[str, Any]:
    values = {name: getattr(item, name) for name in _FACTS}
    try:
        values["evidence"] = json.loads(_JSON.encode(item.evidence))
    except (TypeError, ValueError) as error:
        raise ValueError(f"evidence of {item.key} is not JSON: {error}") from error
    values["withdrawn_why"] = item.withdrawn_why[:500]
    return values


def cleared_at(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """Return when those of the named findings that are over were cleared [ms UTC]; withdrawn ones are left out."""
    found: dict[str, int] = {}
    for part in store.chunks(sorted(keys)):
        over = sa.select(FINDING.c.key, FINDING.c.cleared_at).where(
            FINDING.c.key.in_(part),
            FINDING.c.active.is_(False),
            FINDING.c.withdrawn_at.is_(None),
            FINDING.c.cleared_at.is_not(None),
        )
        found.update((row.key, row.cleared_at) for row in connection.execute(over))
    return found


def open_findings(
    connection: Connection, *, cleared_since_ms: int | None = None, kinds: Sequence[str] = ()
) -> list[FindingFacts]:
    """Return what the registry believes to hold, for a service that starts: by key.

    cleared_since_ms: [ms UTC] also those that were cleared since. kinds: only these, all when empty. Withdrawn ones
    are left out.
    """
    condition: sa.ColumnElement[bool] = FINDING.c.active.is_(True)
    if cleared_since_ms is not None:
        condition = condition | (FINDING.c.withdrawn_at.is_(None) & (FINDING.c.cleared_at >= cleared_since_ms))
    statement = sa.select(*(FINDING.c[name] for name in _FACTS)).where(condition).order_by(FINDING.c.key)
    if kinds:
        statement = statement.where(FINDING.c.kind.in_(kinds))
    return [FindingFacts(**row) for row in connection.execute(statement).mappings()]
