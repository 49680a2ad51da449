"""Work orders as lists and one by one, within the caller's areas; a worker sees what is dispatched to him."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api import paging, words
from api.access.areas import in_areas
from api.orders.escalation import Level
from api.orders.lifecycle import MAY, STEPS, Deed, State
from api.orders.receipts import photos_of, receipts_of
from api.orders.teams import own_of
from api.paging import Page
from api.problems import not_found
from api.schemas_work_orders import OrderOut, PhotoOut, ReceiptOut, StepOut
from metering.clock import rfc3339
from registry.models_work_orders import WorkOrder, WorkOrderStep
from registry.roles import Actor, Role

DESK: Final = frozenset(Role) - {Role.WORKER}
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of orders is narrowed to; None and False narrow nothing. due_before [ms UTC]."""

    state: str | None = None
    type: str | None = None
    priority: str | None = None
    district: str | None = None
    assignee: str | None = None
    place: str | None = None
    external_id: str | None = None
    due_before: int | None = None
    overdue: bool = False
    open_only: bool = False


_EQUAL: Final = ("state", "type", "priority", "district", "assignee", "place", "external_id")


def seen_by(connection: Connection, caller: Actor) -> sa.ColumnElement[bool]:
    """True for the orders that a caller may see: of his areas, and as a mere worker only his own."""
    here = in_areas(caller.areas, WorkOrder.district)
    if caller.has(*DESK):
        return here
    return sa.and_(here, WorkOrder.assignee.in_(sorted(own_of(connection, caller) - {""})))


def list_orders(
    connection: Connection, caller: Actor, *, filters: Filters, now_ms: int, limit: int, cursor: str | None = None
) -> Page[OrderOut]:
    """Return one page of orders, the newest first."""
    before = paging.number_key("work-orders", cursor)
    statement = sa.select(WorkOrder).where(seen_by(connection, caller), *_conditions(filters, now_ms))
    if before is not None:
        statement = statement.where(WorkOrder.id < before)
    rows = connection.execute(statement.order_by(WorkOrder.id.desc()).limit(limit + 1)).all()
    return paging.page_of([line(row, now_ms) for row in rows], limit, "work-orders", lambda row: row.id)


def _conditions(filters: Filters, now_ms: int) -> list[sa.ColumnElement[bool]]:
    table = WorkOrder.__table__
    found = [table.c[name] == value for name in _EQUAL if (value := getattr(filters, name)) is not None]
    if filters.due_before is not None:
        found.append(WorkOrder.due_at < filters.due_before)
    if filters.overdue:
        found += [WorkOrder.open_key.is_not(None), WorkOrder.due_at < now_ms]
    if filters.open_only:
        found.append(WorkOrder.open_key.is_not(None))
    return found


def order_of(connection: Connection, caller: Actor, number: int) -> Row[Any]:
    """Return an order's row. Raises: ProblemError 404, also for one that the caller may not see."""
    found = connection.execute(
        sa.select(WorkOrder).where(WorkOrder.id == number, seen_by(connection, caller))
    ).one_or_none()
    if found is None:
        raise not_found("work order", number)
    return found


def by_external(connection: Connection, caller: Actor, external_id: str) -> Row[Any]:
    """Return the order with an outside system's number. Raises: ProblemError 404."""
    found = connection.execute(
        sa.select(WorkOrder).where(WorkOrder.external_id == external_id, seen_by(connection, caller))
    ).one_or_none()
    if found is None:
        raise not_found("work order with the external id", external_id)
    return found


_SAME: Final = (
    "id",
    "place",
    "meter",
    "district",
    "type",
    "priority",
    "state",
    "result",
    "reason_en",
    "reason_zh",
    "policy",
    "opened_by",
    "due_rule",
    "provisional",
    "assignee",
    "visits",
    "label",
    "parent_id",
    "external_id",
    "version",
)
_TIMES: Final = ("opened_at", "accepted_at", "respond_by", "due_at", "appointment_at", "finished_at")


def facts(row: Row[Any], now_ms: int) -> dict[str, Any]:
    """Return what a list shows of an order."""
    return {
        **{name: getattr(row, name) for name in _SAME},
        **{name: words.moment(getattr(row, name)) for name in _TIMES},
        "usage_point": row.usage_point_id,
        "overdue": row.open_key is not None and row.due_at < now_ms,
        "escalated": [(level.name or "").lower() for level in Level if row.escalated & level],
    }


def line(row: Row[Any], now_ms: int) -> OrderOut:
    """Return an order as a list shows it."""
    return OrderOut(**facts(row, now_ms))


def allowed(connection: Connection, caller: Actor, row: Row[Any]) -> list[Deed]:
    """Return the steps that the caller could take now."""
    if caller.read_only:
        return []
    deeds = [deed for deed in STEPS[State(row.state)] if caller.has(*MAY[deed])]
    if caller.has(Role.DISPATCHER, Role.SUPERVISOR) or row.assignee in own_of(connection, caller):
        return deeds
    return []


def steps_of(connection: Connection, number: int) -> list[StepOut]:
    """Return the steps of an order, the oldest first; of very long stories the last 1000."""
    rows = connection.execute(
        sa.select(WorkOrderStep)
        .where(WorkOrderStep.order_id == number)
        .order_by(WorkOrderStep.number.desc())
        .limit(_LONGEST)
    ).all()
    names = ("number", "actor", "deed", "before", "after", "note", "data")
    return [StepOut(at=rfc3339(row.at), **{name: getattr(row, name) for name in names}) for row in reversed(rows)]


def receipts(connection: Connection, number: int) -> list[ReceiptOut]:
    """Return the receipts of an order, the first visit first."""
    same = ("visit", "worker", "result", "note", "materials", "amount", "label", "filed_by")
    times = ("arrived_at", "started_at", "finished_at", "left_at", "filed_at")
    return [
        ReceiptOut(
            **{name: getattr(row, name) for name in same},
            **{name: words.moment(getattr(row, name)) for name in times},
            index_seen=words.amounts(row.index_seen),
        )
        for row in receipts_of(connection, number)
    ]


def photos(connection: Connection, number: int) -> list[PhotoOut]:
    """Return what is known of an order's photos."""
    return [
        PhotoOut(
            id=row.id,
            visit=row.visit,
            media_type=row.media_type,
            sha256=row.sha256,
            size=row.size,
            taken_by=row.taken_by,
            at=rfc3339(row.at),
        )
        for row in photos_of(connection, number)
    ]
