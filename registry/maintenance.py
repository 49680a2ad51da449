"""Maintenance windows, and everything that happens to alarms because of the clock.

Windows take alarms out of service (OOSRV) while they last. `expire` is called every few seconds: it is idempotent,
and whatever was missed while nobody called it happens at the next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import findings_store as store
from registry.alarm_states import AlarmEvent
from registry.findings_store import FINDING, RULES, Case
from registry.findings_words import Change, Sort
from registry.models_findings import MaintenanceWindow

Scope = Literal["meter", "bus", "gateway", "district"]
ORPHAN_MS: Final = 300_000
"""How long a parent must be over before its children are let go without a word of the rules."""
WINDOW: Final = cast(sa.Table, MaintenanceWindow.__table__)


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which alarms of `target` are out of service. target of a bus: "gateway/bus". Times [ms UTC]."""

    id: int
    scope: str
    target: str
    to_at: int
    reason: str

    def covers(self, finding: Mapping[str, Any]) -> bool:
        """True when the finding (its row) lies in it."""
        if self.scope == "bus":
            return bool(finding["bus"]) and f"{finding['gateway']}/{finding['bus']}" == self.target
        return bool(finding[self.scope] == self.target)


def active(connection: Connection, now_ms: int) -> list[Window]:
    """Return the windows that last now; the one that ends last comes first."""
    columns = (WINDOW.c[name] for name in Window.__slots__)
    statement = sa.select(*columns).where(
        WINDOW.c.from_at <= now_ms, WINDOW.c.to_at > now_ms, WINDOW.c.ended_at.is_(None)
    )
    rows = connection.execute(statement.order_by(WINDOW.c.to_at.desc(), WINDOW.c.id)).mappings()
    return [Window(**row) for row in rows]


def of(windows: Sequence[Window], finding: Mapping[str, Any]) -> Window | None:
    """Return the window that a finding lies in (the one that ends last), None when there is none."""
    return next((window for window in windows if window.covers(finding)), None)


def take_out(case: Case, window: Window, now_ms: int) -> None:
    """Take one alarm out of service until the window ends."""
    note = f"maintenance window {window.id}: {window.reason}"
    case.step(AlarmEvent.OUT_OF_SERVICE, at=now_ms, who=RULES, note=note, until=window.to_at)
    case.values["window_id"] = window.id


def expire(connection: Connection, now_ms: int) -> list[Change]:
    """Let everything happen that is due: shelvings and times out of service end, windows begin and end.

    Also lets go of alarms whose parent has been over for minutes: nothing stays suppressed by what is gone.

    Must run in a writing transaction. On PostgreSQL rows that somebody else is changing wait for the next call.
    """
    found: list[tuple[Case, Sort]] = []
    for look in (_ended_windows, _reached_ends, _orphans):
        due = look(connection, now_ms)
        store.save(connection, [case for case, _ in due])
        found += due
    for window in active(connection, now_ms):
        found += [(case, "out_of_service") for case in _begin(connection, window, now_ms)]
    return [case.change(sort, now_ms) for case, sort in found]


def _ended_windows(connection: Connection, now_ms: int) -> list[tuple[Case, Sort]]:
    """Alarms whose window was ended early."""
    ended = sa.select(WINDOW.c.id).where(WINDOW.c.ended_at.is_not(None))
    windows, done = active(connection, now_ms), list[tuple[Case, Sort]]()
    for case in store.where(connection, FINDING.c.window_id.in_(ended) & (FINDING.c.out_until > now_ms)):
        if not _handed_on(case, windows, now_ms):
            case.step(AlarmEvent.RETURN, at=now_ms, who=RULES, note="the maintenance window was ended")
        done.append((case, "returned" if case.alarm.out_until is None else "out_of_service"))
    return done


def _reached_ends(connection: Connection, now_ms: int) -> list[tuple[Case, Sort]]:
    windows, done = active(connection, now_ms), list[tuple[Case, Sort]]()
    for case in store.where(connection, (FINDING.c.shelved_until <= now_ms) | (FINDING.c.out_until <= now_ms)):
        out = case.alarm.out_until is not None and case.alarm.out_until <= now_ms
        if out and _handed_on(case, windows, now_ms):
            done.append((case, "out_of_service"))
            continue
        case.step(AlarmEvent.EXPIRE, at=now_ms, who=RULES, note="its time is over")
        done.append((case, "returned" if out else "unshelved"))
    return done


def _handed_on(case: Case, windows: Sequence[Window], now_ms: int) -> bool:
    """True for an alarm that another window keeps out of service: nobody is shown it in between."""
    window = of(windows, case.values) if case.alarm.active else None
    if window is not None:
        take_out(case, window, now_ms)
    return window is not None


def _orphans(connection: Connection, now_ms: int) -> list[tuple[Case, Sort]]:
    """Alarms still suppressed by a parent that has been over for a while; the rules should have said so."""
    parent = FINDING.alias("parent")
    over = sa.exists().where(
        parent.c.key == FINDING.c.parent_key,
        parent.c.active.is_(False),
        sa.func.coalesce(parent.c.cleared_at, parent.c.withdrawn_at) <= now_ms - ORPHAN_MS,
    )
    cases = store.where(connection, sa.and_(FINDING.c.parent_key != "", FINDING.c.suppressed, over))
    for case in cases:
        case.step(AlarmEvent.RELEASE, at=now_ms, who=RULES, note=f"{case.values['parent_key']} is over"[:200])
        case.put({"parent_key": ""})
    return [(case, "released") for case in cases]


def _begin(connection: Connection, window: Window, now_ms: int) -> list[Case]:
    """Take out of service what lies in the window and is not out yet."""
    inside = sa.and_(FINDING.c.alarm, FINDING.c.active, FINDING.c.out_until.is_(None), _inside(window))
    cases = store.where(connection, inside)
    for case in cases:
        take_out(case, window, now_ms)
    store.save(connection, cases)
    return cases


def _inside(window: Window) -> sa.ColumnElement[bool]:
    if window.scope == "bus":
        gateway, _, bus = window.target.partition("/")
        return sa.and_(FINDING.c.gateway == gateway, FINDING.c.bus == bus, FINDING.c.bus != "")
    return sa.and_(FINDING.c[window.scope] == window.target)
