"""Findings and maintenance windows as lists and one by one, newest first, within the caller's areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import Areas, in_areas
from api.paging import Page
from api.problems import not_found
from api.schemas_findings import FindingDetail, FindingOut, HistoryOut, WindowOut
from metering.clock import rfc3339
from registry.alarm_states import BY_PEOPLE, Alarm, allowed
from registry.findings_store import FINDING, HISTORY
from registry.findings_words import OUTAGE
from registry.maintenance import WINDOW

MASKED: Final = ("SHLVD", "DSUPR", "OOSRV")
_LONGEST_HISTORY: Final = 1000
_LINE: Final = tuple(c for c in FINDING.c if c.name not in ("evidence", "rule_version", "thresholds_version"))


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of findings is narrowed to; None and False narrow nothing. t0, t1: of detected_at [ms UTC].

    shown_only: only those that stand in an operator's list: UNACK, RTNUN, ACKED.
    suppressed: also those that are shelved, suppressed by a parent or out of service; naming such a state, a parent
    or a usage point does that too.
    """

    state: str | None = None
    kind: str | None = None
    priority: str | None = None
    severity: str | None = None
    district: str | None = None
    gateway: str | None = None
    meter: str | None = None
    usage_point: str | None = None
    parent: str | None = None
    t0: int | None = None
    t1: int | None = None
    open_only: bool = False
    parents_only: bool = False
    unacknowledged: bool = False
    suppressed: bool = False
    shown_only: bool = False


_EQUAL: Final = ("state", "kind", "priority", "severity", "district", "gateway", "meter", "usage_point")


def _conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    found = [FINDING.c[name] == value for name in _EQUAL if (value := getattr(filters, name)) is not None]
    if filters.parent is not None:
        found += [FINDING.c.parent_key == filters.parent, FINDING.c.parent_key != ""]  # as its partial index says
    if filters.t0 is not None:
        found.append(FINDING.c.detected_at >= filters.t0)
    if filters.t1 is not None:
        found.append(FINDING.c.detected_at < filters.t1)
    if filters.open_only:
        found.append(FINDING.c.active)
    if filters.parents_only:
        found.append(FINDING.c.kind == OUTAGE)
    if filters.unacknowledged:
        found.append(FINDING.c.state.in_(("UNACK", "RTNUN")))
    if filters.shown_only:
        found.append(FINDING.c.state.in_(("UNACK", "RTNUN", "ACKED")))
    if not filters.suppressed and filters.state is None and filters.parent is None:
        found.append(FINDING.c.state.not_in(MASKED))
    return found


def list_findings(
    connection: Connection, *, areas: Areas, filters: Filters, limit: int, cursor: str | None = None
) -> Page[FindingOut]:
    """Return one page of findings, the newest first."""
    before = paging.number_key("findings", cursor)
    statement = sa.select(*_LINE).where(in_areas(areas, FINDING.c.district), *_conditions(filters))
    if before is not None:
        statement = statement.where(FINDING.c.id < before)
    statement = statement.order_by(FINDING.c.id.desc()).limit(limit + 1)
    rows = [FindingOut(**_line(row)) for row in connection.execute(statement).mappings()]
    return paging.page_of(rows, limit, "findings", lambda row: row.id)


def one_finding(connection: Connection, number: int, *, areas: Areas) -> FindingDetail:
    """Return one finding with evidence and history. Raises: ProblemError 404, also outside `areas`."""
    statement = sa.select(FINDING).where(FINDING.c.id == number, in_areas(areas, FINDING.c.district))
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise not_found("finding", number)
    parent = sa.select(FINDING.c.id).where(FINDING.c.key == row["parent_key"])
    children = sa.select(sa.func.count()).select_from(FINDING)
    children = children.where(FINDING.c.parent_key == row["key"], FINDING.c.parent_key != "")
    return FindingDetail(
        **_line(row),
        rule_version=row["rule_version"],
        thresholds_version=row["thresholds_version"],
        evidence=row["evidence"],
        children=connection.execute(children).scalar_one(),
        parent_id=connection.execute(parent).scalar() if row["parent_key"] else None,
        allowed=[event.value for event in BY_PEOPLE if event in allowed(_alarm(row))],
        history=_history(connection, number),
    )


def _alarm(row: Any) -> Alarm:
    names = ("alarm", "active", "acked", "told", "suppressed", "shelved_until", "out_until")
    return Alarm(**{name: row[name] for name in names}, withdrawn=row["withdrawn_at"] is not None)


def _history(connection: Connection, number: int) -> list[HistoryOut]:
    statement = sa.select(HISTORY).where(HISTORY.c.finding_id == number).order_by(HISTORY.c.number.desc())
    lines = connection.execute(statement.limit(_LONGEST_HISTORY)).mappings().all()
    return [
        HistoryOut(
            number=line["number"],
            at=rfc3339(line["at"]),
            who=line["who"],
            event=line["event"],
            from_state=line["from_state"],
            to_state=line["to_state"],
            until=words.moment(line["until"]),
            note=line["note"],
        )
        for line in reversed(lines)
    ]


_SAME: Final = (
    "id",
    "key",
    "kind",
    "rule",
    "severity",
    "priority",
    "state",
    "usage_point",
    "meter",
    "gateway",
    "bus",
    "district",
    "withdrawn_why",
    "repeats",
    "version",
)


def _line(row: Any) -> dict[str, Any]:
    times = ("started_at", "detected_at", "updated_at", "cleared_at", "withdrawn_at", "shelved_until")
    return {
        **{name: row[name] for name in _SAME},
        **{name: words.moment(row[name]) for name in times},
        "open": row["active"],
        "parent": row["parent_key"],
        "out_of_service_until": words.moment(row["out_until"]),
        "maintenance_window": row["window_id"],
    }


def list_windows(
    connection: Connection, *, areas: Areas, now_ms: int, active_only: bool, limit: int, cursor: str | None = None
) -> Page[WindowOut]:
    """Return one page of maintenance windows, the newest first."""
    before = paging.number_key("windows", cursor)
    statement = sa.select(WINDOW).where(in_areas(areas, WINDOW.c.district)).order_by(WINDOW.c.id.desc())
    if before is not None:
        statement = statement.where(WINDOW.c.id < before)
    if active_only:
        lasts = sa.and_(WINDOW.c.from_at <= now_ms, WINDOW.c.to_at > now_ms, WINDOW.c.ended_at.is_(None))
        statement = statement.where(lasts)
    rows = [_window(row, now_ms) for row in connection.execute(statement.limit(limit + 1)).mappings()]
    return paging.page_of(rows, limit, "windows", lambda row: row.id)


def one_window(connection: Connection, number: int, *, areas: Areas, now_ms: int) -> WindowOut:
    """Return one maintenance window. Raises: ProblemError 404, also outside `areas`."""
    statement = sa.select(WINDOW).where(WINDOW.c.id == number, in_areas(areas, WINDOW.c.district))
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise not_found("maintenance window", number)
    return _window(row, now_ms)


def _window(row: Any, now_ms: int) -> WindowOut:
    return WindowOut(
        id=row["id"],
        scope=row["scope"],
        target=row["target"],
        district=row["district"],
        from_=rfc3339(row["from_at"]),
        to=rfc3339(row["to_at"]),
        reason=row["reason"],
        created_by=row["created_by"],
        created_at=rfc3339(row["created_at"]),
        ended_by=row["ended_by"],
        ended_at=words.moment(row["ended_at"]),
        active=row["from_at"] <= now_ms < row["to_at"] and row["ended_at"] is None,
        version=row["version"],
    )
