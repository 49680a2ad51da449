"""What belongs into a hand-over 交接: alarms that are open, what people did in the shift, notes.

Plain facts as JSON types, times as RFC 3339, so that the signed content reads the same in twenty years.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from registry.findings_store import FINDING, RULES
from registry.models_findings import FindingHistory, MaintenanceWindow
from registry.models_jobs import ShiftNote
from registry.models_work_orders import WorkOrder, WorkOrderStep

MOST: Final = 2000
"""Most lines of one list; how many more there are is said."""
_HISTORY: Final = cast(sa.Table, FindingHistory.__table__)
_NOTE: Final = cast(sa.Table, ShiftNote.__table__)
_WINDOW: Final = cast(sa.Table, MaintenanceWindow.__table__)
_ORDER: Final = cast(sa.Table, WorkOrder.__table__)
_STEP: Final = cast(sa.Table, WorkOrderStep.__table__)
_SHOWN: Final = ("id", "kind", "priority", "state", "usage_point", "meter", "gateway", "bus", "district")
Areas = frozenset[str] | None


def content_of(connection: Connection, shift: Mapping[str, Any], areas: Areas, until: int) -> dict[str, Any]:
    """Return everything of a shift up to `until` [ms UTC]. areas: districts that its desk watches, None for all."""
    since = shift["started_at"]
    open_, more = _cut(_open_alarms(connection, areas))
    done, more_done = _cut(_done(connection, areas, since, until))
    orders, more_orders = _cut(_orders(connection, areas, since, until))
    return {
        "desk": shift["desk"],
        "from": rfc3339(since),
        "to": rfc3339(until),
        "on_duty": shift["on_duty"],
        "counts": _counts(connection, areas, since, until)
        | {"open": len(open_) + more, "done": len(done) + more_done},
        "open_alarms": open_,
        "done": done,
        "orders": orders,
        "maintenance_windows": list(_windows(connection, areas, until)),
        "notes": list(_notes(connection, shift["id"])),
        "left_out": {"open_alarms": more, "done": more_done, "orders": more_orders},
    }


def _cut(lines: Iterator[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    kept: list[dict[str, Any]] = []
    more = 0
    for line in lines:
        if len(kept) < MOST:
            kept.append(line)
        else:
            more += 1
    return kept, more


def _within(areas: Areas, column: Any) -> sa.ColumnElement[bool]:
    return sa.true() if areas is None else column.in_(sorted(areas))


def _open_alarms(connection: Connection, areas: Areas) -> Iterator[dict[str, Any]]:
    """What asks for a person, or was put aside by one, urgent first; children are left to their parent."""
    c = FINDING.c
    rank = sa.case({"urgent": 0, "high": 1, "medium": 2, "low": 3}, value=c.priority, else_=4)
    wanted = sa.select(FINDING).where(c.alarm, c.state.not_in(("NORM", "DSUPR")), _within(areas, c.district))
    for row in connection.execute(wanted.order_by(rank, c.detected_at, c.id)).mappings():
        line = {name: row[name] for name in _SHOWN} | {"since": rfc3339(row["detected_at"])}
        ends = {"shelved_until": row["shelved_until"], "out_of_service_until": row["out_until"]}
        yield line | {name: rfc3339(at) for name, at in ends.items() if at is not None}


def _done(connection: Connection, areas: Areas, since: int, until: int) -> Iterator[dict[str, Any]]:
    """What people did with alarms: acknowledged, shelved, taken out of service, commented."""
    h, c = _HISTORY.c, FINDING.c
    wanted = (
        sa.select(h.at, h.who, h.event, h.to_state, h.until, h.note, c.id, c.kind, c.meter, c.gateway, c.district)
        .join(FINDING, c.id == h.finding_id)
        .where(h.at >= since, h.at < until, h.who != RULES, _within(areas, c.district))
        .order_by(h.at, h.id)
    )
    for row in connection.execute(wanted).mappings():
        line = {"at": rfc3339(row["at"]), "who": row["who"], "event": row["event"], "finding": row["id"]}
        line |= {name: row[name] for name in ("kind", "meter", "gateway", "district", "note")}
        yield line | ({} if row["until"] is None else {"until": rfc3339(row["until"])})


def _orders(connection: Connection, areas: Areas, since: int, until: int) -> Iterator[dict[str, Any]]:
    """Steps of work orders 派工单 in the shift."""
    s, o = _STEP.c, _ORDER.c
    wanted = (
        sa.select(s.at, s.actor, s.deed, s.after, o.id, o.type, o.priority, o.place, o.district)
        .join(_ORDER, o.id == s.order_id)
        .where(s.at >= since, s.at < until, _within(areas, o.district))
        .order_by(s.at, o.id, s.number)
    )
    for row in connection.execute(wanted).mappings():
        line = {"at": rfc3339(row["at"]), "who": row["actor"], "deed": row["deed"], "state": row["after"]}
        yield line | {"order": row["id"], **{name: row[name] for name in ("type", "priority", "place", "district")}}


def _windows(connection: Connection, areas: Areas, until: int) -> Iterator[dict[str, Any]]:
    """Maintenance windows that last at the hand-over."""
    c = _WINDOW.c
    wanted = sa.select(_WINDOW).where(c.from_at <= until, c.to_at > until, c.ended_at.is_(None))
    for row in connection.execute(wanted.where(_within(areas, c.district)).order_by(c.id)).mappings():
        line = {name: row[name] for name in ("id", "scope", "target", "reason")}
        yield line | {"from": rfc3339(row["from_at"]), "to": rfc3339(row["to_at"])}


def _notes(connection: Connection, shift: int) -> Iterator[dict[str, Any]]:
    wanted = sa.select(_NOTE).where(_NOTE.c.shift_id == shift).order_by(_NOTE.c.number)
    for row in connection.execute(wanted).mappings():
        yield {"number": row["number"], "at": rfc3339(row["at"]), "who": row["who"], "note": row["note"]}


def _counts(connection: Connection, areas: Areas, since: int, until: int) -> dict[str, int]:
    """How many alarms came, were over and were withdrawn in the shift."""
    c = FINDING.c
    counts = {}
    for name, column in (("came", c.detected_at), ("over", c.cleared_at), ("withdrawn", c.withdrawn_at)):
        inside = (column >= since) & (column < until) & c.alarm & _within(areas, c.district)
        counts[name] = connection.execute(sa.select(sa.func.count()).where(inside)).scalar_one()
    return counts
