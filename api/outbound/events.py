"""What happened, as events that can be told: from the history of findings, the steps of orders, and heartbeats.

Names: finding.opened, .reopened, .cleared, .withdrawn, …; work_order.opened, .dispatched, .finished, …;
house.silent, house.returned. What nobody was shown (children of an outage, what a window covers) is no event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders.sentences import sentences
from metering.clock import rfc3339
from registry.findings_store import FINDING, HISTORY, chunks, people
from registry.models import UsagePoint
from registry.models_work_orders import WorkOrder, WorkOrderStep

MASKED: Final = frozenset({"SHLVD", "DSUPR", "OOSRV"})
SHOWN: Final = frozenset({"UNACK", "ACKED", "RTNUN"})
OPENING: Final = frozenset({"finding.opened", "finding.reopened", "house.silent"})
"""Events that somebody must answer; those that can be escalated."""

KINDS: Final = (
    "finding.opened",
    "finding.reopened",
    "finding.cleared",
    "finding.withdrawn",
    "finding.acknowledged",
    "finding.commented",
    "finding.shelved",
    "finding.unshelved",
    "finding.suppressed",
    "finding.out_of_service",
    "finding.returned",
    "work_order.opened",
    "work_order.accepted",
    "work_order.declined",
    "work_order.dispatched",
    "work_order.recalled",
    "work_order.arrived",
    "work_order.finished",
    "work_order.cancelled",
    "work_order.extended",
    "work_order.voided",
    "work_order.raised",
    "work_order.evidence_added",
    "work_order.escalated",
    "work_order.changed",
    "house.silent",
    "house.returned",
)
"""Every event there is; filters also take a beginning such as "finding.*", and "*"."""

_OF_HISTORY: Final = {
    "acknowledge": "finding.acknowledged",
    "comment": "finding.commented",
    "shelve": "finding.shelved",
    "unshelve": "finding.unshelved",
    "out_of_service": "finding.out_of_service",
    "return": "finding.returned",
    "expire": "finding.returned",
}
_COMES_OUT: Final = frozenset({"unshelve", "return", "expire"})
_OF_STEP: Final = {
    "open": "work_order.opened",
    "accept": "work_order.accepted",
    "decline": "work_order.declined",
    "dispatch": "work_order.dispatched",
    "recall": "work_order.recalled",
    "arrive": "work_order.arrived",
    "finish": "work_order.finished",
    "cancel": "work_order.cancelled",
    "extend": "work_order.extended",
    "void": "work_order.voided",
    "raise": "work_order.raised",
    "join": "work_order.evidence_added",
    "escalate": "work_order.escalated",
}
_OF_ORDER: Final = {"wait": "low", "appointment": "medium", "soon": "high", "urgent": "urgent"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event before it is kept. Fields as of `registry.models_outbound.OutboundEvent`; at: [ms UTC]."""

    source: str
    kind: str
    at: int
    district: str
    priority: str
    subject: str
    object_kind: str
    object_id: str
    data: dict[str, Any]


def wanted(kind: str, filters: Sequence[str]) -> bool:
    """True when a filter names the event: by its name, by "finding.*", or by "*"."""
    return any(word in ("*", kind) or (word.endswith(".*") and kind.startswith(word[:-1])) for word in filters)


# --- findings -----------------------------------------------------------------------------------------------------


def kind_of_line(event: str, number: int, from_state: str, to_state: str) -> str | None:
    """Return the event of one line of a finding's history, None for what nobody was shown."""
    if event == "raise":
        return None if to_state in MASKED else ("finding.opened" if number == 1 else "finding.reopened")
    if event == "release":
        return "finding.opened" if to_state == "UNACK" else None
    if event == "clear":
        return None if from_state in MASKED else "finding.cleared"
    if event == "withdraw":
        return None if from_state == "DSUPR" else "finding.withdrawn"
    if event == "suppress":
        return "finding.suppressed" if from_state in SHOWN else None
    return None if from_state == "DSUPR" else _OF_HISTORY.get(event)


def finding_events(connection: Connection, lines: Sequence[sa.RowMapping]) -> list[Event]:
    """Return the events of lines of `finding_history`, in their order."""
    kinds = _kinds(connection, lines)
    told = [line for line in lines if line["id"] in kinds]
    numbers = sorted({line["finding_id"] for line in told})
    rows = _findings(connection, numbers)
    media = _media(connection, {row["usage_point"] for row in rows.values()})
    gone = [line["finding_id"] for line in told if kinds[line["id"]] == "finding.withdrawn"]
    acted = people(connection, gone) if gone else {}
    return [
        _finding_event(kinds[line["id"]], line, row, media.get(row["usage_point"], ""), acted)
        for line in told
        if (row := rows.get(line["finding_id"])) is not None
    ]


def _kinds(connection: Connection, lines: Sequence[sa.RowMapping]) -> dict[int, str]:
    """Return the event of each line that has one, by the line's id.

    Two kinds of lines need what was before: an alarm that comes out of a window or a shelf and that nobody was shown
    since it was raised is opened only now; one that was shown before an outage explained it is withdrawn aloud.
    """
    kinds = {
        line["id"]: kind
        for line in lines
        if (kind := kind_of_line(line["event"], line["number"], line["from_state"], line["to_state"]))
    }
    out = [line for line in lines if line["event"] in _COMES_OUT and line["to_state"] == "UNACK"]
    gone = [line for line in lines if line["event"] == "withdraw" and line["from_state"] == "DSUPR"]
    past = _past(connection, sorted({line["finding_id"] for line in [*out, *gone]})) if out or gone else {}
    for line in out:
        before = [old for old in past[line["finding_id"]] if old["number"] < line["number"]]
        raised = max((old["number"] for old in before if old["event"] == "raise"), default=0)
        if not any(old["to_state"] in SHOWN and old["number"] >= raised for old in before):
            kinds[line["id"]] = "finding.opened"
    for line in gone:
        before = [old for old in past[line["finding_id"]] if old["number"] < line["number"]]
        if any(old["to_state"] in SHOWN for old in before):
            kinds[line["id"]] = "finding.withdrawn"
    return kinds


def _past(connection: Connection, numbers: Sequence[int]) -> dict[int, list[sa.RowMapping]]:
    """Return the history of some findings, by finding."""
    found: dict[int, list[sa.RowMapping]] = {number: [] for number in numbers}
    for part in chunks(numbers):
        for row in connection.execute(sa.select(HISTORY).where(HISTORY.c.finding_id.in_(part))).mappings():
            found[row["finding_id"]].append(row)
    return found


def _findings(connection: Connection, numbers: Sequence[int]) -> dict[int, sa.RowMapping]:
    found: dict[int, sa.RowMapping] = {}
    for part in chunks(numbers):
        for row in connection.execute(sa.select(FINDING).where(FINDING.c.id.in_(part))).mappings():
            found[row["id"]] = row
    return found


def _media(connection: Connection, points: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in chunks(sorted(points - {""})):
        rows = connection.execute(sa.select(UsagePoint.id, UsagePoint.medium).where(UsagePoint.id.in_(part)))
        found.update((point, medium) for point, medium in rows)
    return found


def _finding_event(
    kind: str, line: sa.RowMapping, row: sa.RowMapping, medium: str, acted: Mapping[int, tuple[str, ...]]
) -> Event:
    english, chinese = sentences(row["kind"], row["evidence"], medium=medium, started_at=row["started_at"])
    data = {
        "id": row["id"],
        **{name: row[name] for name in ("key", "kind", "rule", "rule_version", "severity", "priority")},
        "state": line["to_state"],
        **{name: row[name] for name in ("usage_point", "meter", "gateway", "bus", "district")},
        "started_at": rfc3339(row["started_at"]),
        "detected_at": rfc3339(row["detected_at"]),
        "sentence_en": english,
        "sentence_zh": chinese,
        "evidence": row["evidence"],
        "who": line["who"],
        "note": line["note"],
    }
    if kind == "finding.withdrawn":
        data |= {"why": row["withdrawn_why"] or line["note"], "people": list(acted.get(row["id"], ()))}
    return Event(
        f"finding_history:{line['id']}",
        kind,
        line["at"],
        row["district"],
        row["priority"],
        row["kind"],
        "finding",
        str(row["id"]),
        data,
    )


def lines_behind(connection: Connection, number: int, seen: set[int], most: int) -> list[sa.RowMapping]:
    """Return lines of the history behind `number` that were not seen, in order, at most `most`."""
    numbers = connection.execute(
        sa.select(HISTORY.c.id).where(HISTORY.c.id > number).order_by(HISTORY.c.id)
    ).scalars()
    fresh = [n for n in numbers if n not in seen][:most]
    found: list[sa.RowMapping] = []
    for part in chunks(fresh):
        statement = sa.select(HISTORY).where(HISTORY.c.id.in_(part)).order_by(HISTORY.c.id)
        found += connection.execute(statement).mappings().all()
    return found


# --- work orders --------------------------------------------------------------------------------------------------


def order_events(connection: Connection, keys: Sequence[tuple[int, int]]) -> list[Event]:
    """Return the events of steps, given as (order, number), in that order."""
    orders = {row.id: row for row in _rows(connection, WorkOrder, WorkOrder.id, sorted({order for order, _ in keys}))}
    steps = {
        (row.order_id, row.number): row
        for row in _rows(connection, WorkOrderStep, WorkOrderStep.order_id, sorted(orders))
    }
    return [_order_event(orders[key[0]], steps[key]) for key in keys if key in steps]


def _rows(connection: Connection, table: Any, column: Any, numbers: Sequence[int]) -> list[sa.Row[Any]]:
    found: list[sa.Row[Any]] = []
    for part in chunks(numbers):
        found += connection.execute(sa.select(table).where(column.in_(part))).all()
    return found


def _order_event(order: sa.Row[Any], step: sa.Row[Any]) -> Event:
    data = {
        "id": order.id,
        "place": order.place,
        "usage_point": order.usage_point_id or "",
        "meter": order.meter,
        "district": order.district,
        "type": order.type,
        "priority": order.priority,
        "state": step.after,
        "result": order.result if step.after == "finished" else "",
        "assignee": order.assignee,
        "opened_at": rfc3339(order.opened_at),
        "due_at": rfc3339(order.due_at),
        "appointment_at": None if order.appointment_at is None else rfc3339(order.appointment_at),
        "label": order.label,
        "external_id": order.external_id or "",
        "reason_en": order.reason_en,
        "reason_zh": order.reason_zh,
        "step": step.number,
        "deed": step.deed,
        "who": step.actor,
        "note": step.note,
        "facts": step.data,
    }
    kind = _OF_STEP.get(step.deed, "work_order.changed")
    source = f"work_order_step:{order.id}:{step.number}"
    priority = _OF_ORDER.get(order.priority, "medium")
    return Event(source, kind, step.at, order.district, priority, order.type, "work_order", str(order.id), data)


def steps_since(connection: Connection, at: int, seen: Mapping[tuple[int, int], int], most: int) -> list[
    tuple[int, int, int]
]:  # fmt: skip
    """Return (at, order, number) of steps since `at` [ms UTC] that were not seen, oldest first, at most `most`."""
    statement = (
        sa.select(WorkOrderStep.at, WorkOrderStep.order_id, WorkOrderStep.number)
        .where(WorkOrderStep.at >= at)
        .order_by(WorkOrderStep.at, WorkOrderStep.order_id, WorkOrderStep.number)
    )
    rows = connection.execute(statement)
    return [(row.at, row.order_id, row.number) for row in rows if (row.order_id, row.number) not in seen][:most]
