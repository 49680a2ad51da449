"""From findings to work orders: each look takes the findings that hold and that no order answers yet.

Nothing is remembered between two looks but the orders themselves, so that a service that dies anywhere goes on where
the database stands. A finding wants an order when it holds, is shown (not suppressed by its gateway's outage, not
shelved, not out of service), and its last occurrence has no order. Withdrawn ones cancel what nobody has begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.orders.book import DEFAULT_TZ, Evidence, Request, cancel_withdrawn, open_or_join
from api.orders.deadlines import Deadline
from api.orders.policy import Case, Policy, PolicyRule
from api.orders.sentences import sentences
from api.orders.words import Opens, Priority
from api.orders.working_days import WorkCalendar
from registry.models import Installation, Meter, UsagePoint
from registry.models_findings import FindingRecord
from registry.models_work_orders import WorkOrder, WorkOrderFinding
from registry.roles import Actor, service

ACTOR: Final = service("orders")
SHOWN: Final = ("UNACK", "ACKED", "NORM")
"""Alarm states in which a finding that holds is in front of people (NORM: information without alarm)."""

_HOUR_MS: Final = 3_600_000
_MOST_AT_ONCE: Final = 2_000


@dataclass(slots=True)
class Look:
    """What one look did. held_back: findings that wait because their district has enough for this hour.

    last: where the next look of this round goes on; None when this one saw everything.
    """

    opened: list[int] = field(default_factory=list)
    joined: int = 0
    cancelled: list[int] = field(default_factory=list)
    held_back: int = 0
    without: int = 0
    last: tuple[int, int] | None = None


def look(
    connection: Connection,
    policy: Policy,
    *,
    now_ms: int,
    calendar: WorkCalendar,
    max_per_hour: int,
    actor: Actor = ACTOR,
    most: int = _MOST_AT_ONCE,
    after: tuple[int, int] | None = None,
) -> Look:
    """Open, join and cancel what the findings ask for now. Must run in a writing transaction.

    most: findings that one look takes, so that nobody waits long for the database; after: `last` of the one before.
    """
    done = Look()
    for gone in _withdrawn(connection):
        reason = f"the finding was withdrawn: {gone.withdrawn_why or 'late readings disproved it'}"
        done.cancelled += cancel_withdrawn(connection, actor, gone.id, reason=reason, now_ms=now_ms)
    used = _opened_this_hour(connection, actor, now_ms)
    waiting = _waiting(connection, policy, most, after)
    if len(waiting) == most:
        done.last = (waiting[-1].urgency, waiting[-1].id)
    for finding in waiting:
        case = Case(
            finding.kind,
            finding.rule,
            finding.severity,
            finding.medium or "",
            finding.customer_class or "",
            finding.district,
        )
        rule = policy.decide(case)
        if rule is None:
            done.without += 1
            continue
        if _is_capped(rule, finding) and used[finding.district] >= max_per_hour:
            done.held_back += 1
            continue
        request = _request(finding, rule, policy)
        made = open_or_join(connection, actor, request, now_ms=now_ms, calendar=calendar)
        if made.new:
            done.opened.append(made.order_id)
            used[finding.district] += _is_capped(rule, finding)
        done.joined += made.joined if not made.new else 0
    return done


def _is_capped(rule: PolicyRule, finding: Row[Any]) -> bool:
    return rule.priority is not Priority.URGENT and bool(finding.usage_point)


def _withdrawn(connection: Connection) -> Sequence[Any]:
    """Findings that were withdrawn after they had joined an order."""
    return connection.execute(
        sa.select(FindingRecord.id, FindingRecord.withdrawn_why)
        .join(WorkOrderFinding, WorkOrderFinding.finding_id == FindingRecord.id)
        .where(FindingRecord.withdrawn_at.is_not(None), WorkOrderFinding.withdrawn_at.is_(None))
        .distinct()
        .order_by(FindingRecord.id)
    ).all()


def has_work(connection: Connection, policy: Policy) -> bool:
    """True when a look would find something to think about; needs no writing transaction."""
    return bool(_withdrawn(connection)) or bool(_waiting(connection, policy, 1, None))


def _waiting(connection: Connection, policy: Policy, most: int, after: tuple[int, int] | None) -> Sequence[Row[Any]]:
    """Findings that hold, are shown, and whose last occurrence has no order; the most severe first."""
    kinds = sorted({kind for rule in policy.rule for kind in rule.kinds})
    answered = (
        sa.select(WorkOrderFinding.finding_id)
        .join(WorkOrder, WorkOrder.id == WorkOrderFinding.order_id)
        .where(
            WorkOrderFinding.finding_id == FindingRecord.id,
            sa.or_(WorkOrder.open_key.is_not(None), WorkOrderFinding.repeats >= FindingRecord.repeats),
        )
    )
    urgency = sa.case({"critical": 0, "major": 1, "minor": 2}, value=FindingRecord.severity, else_=3)
    behind = sa.true() if after is None else sa.tuple_(urgency, FindingRecord.id) > sa.tuple_(*map(sa.literal, after))
    return connection.execute(
        sa.select(FindingRecord, urgency.label("urgency"), *_place_columns())
        .outerjoin(UsagePoint, UsagePoint.id == FindingRecord.usage_point)
        .where(
            FindingRecord.active,
            FindingRecord.withdrawn_at.is_(None),
            FindingRecord.kind.in_(kinds),
            FindingRecord.state.in_(SHOWN),
            ~answered.exists(),
            behind,
        )
        .order_by(urgency, FindingRecord.id)
        .limit(most)
    ).all()


def _place_columns() -> tuple[Any, ...]:
    return (
        UsagePoint.medium.label("medium"),
        UsagePoint.customer_class.label("customer_class"),
        UsagePoint.tz.label("tz"),
        UsagePoint.id.label("known_point"),
    )


def _opened_this_hour(connection: Connection, actor: Actor, now_ms: int) -> Counter[str]:
    rows = connection.execute(
        sa.select(WorkOrder.district, sa.func.count())
        .where(
            WorkOrder.opened_at > now_ms - _HOUR_MS,
            WorkOrder.opened_by == actor.name,
            WorkOrder.usage_point_id.is_not(None),
            WorkOrder.priority != Priority.URGENT.value,
        )
        .group_by(WorkOrder.district)
    )
    return Counter({row[0]: int(row[1]) for row in rows})


def _request(finding: Row[Any], rule: PolicyRule, policy: Policy) -> Request:
    english, chinese = sentences(
        finding.kind, finding.evidence, medium=finding.medium or "", started_at=finding.started_at
    )
    return Request(
        place=place_of(finding),
        usage_point_id=finding.known_point,
        meter=finding.meter,
        district=finding.district,
        type=rule.order,
        priority=rule.priority,
        opens=Opens(rule.opens),
        deadline=Deadline.parse(rule.deadline),
        respond=Deadline.parse(rule.respond) if rule.respond else None,
        reason_en=english,
        reason_zh=chinese,
        tz=finding.tz or DEFAULT_TZ,
        policy=f"{policy.version}/{rule.id}",
        evidence=[Evidence(finding.id, facts_of(finding), finding.repeats)],
    )


def place_of(finding: Row[Any]) -> str:
    """Return where to go: the usage point, or the bus, gateway or district that a parent alarm speaks of."""
    if finding.usage_point:
        return str(finding.usage_point)
    if finding.bus:
        return f"bus:{finding.gateway}/{finding.bus}"
    return f"gateway:{finding.gateway}" if finding.gateway else f"district:{finding.district}"


def facts_of(finding: Row[Any]) -> dict[str, Any]:
    """Return what an order keeps of a finding: rule, version, parameters, and the numbers that prove it."""
    names = ("key", "kind", "rule", "rule_version", "thresholds_version", "severity", "started_at", "detected_at")
    return {name: getattr(finding, name) for name in names} | {"evidence": finding.evidence}


def meter_facts(connection: Connection, usage_point: str, meter: str) -> dict[str, Any]:
    """Return the meter facts that matter at the door: serial, type, inlet, year of installation, start index."""
    row = connection.execute(
        sa.select(Meter, Installation.installed_at, Installation.start_index)
        .outerjoin(
            Installation,
            sa.and_(Installation.meter_id == Meter.id, Installation.usage_point_id == usage_point),
        )
        .where(Meter.id == meter)
        .order_by(Installation.installed_at.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return {}
    names = ("id", "serial", "medium", "profile", "quantity", "inlet", "state", "installed_at", "start_index")
    return {name: getattr(row, name) for name in names}
