"""What a finished visit sets in motion: the finding that was right is cleared, a hazard gets an order of its own."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.orders.book import DEFAULT_TZ, Request, open_or_join
from api.orders.deadlines import Deadline
from api.orders.words import Opens, OrderType, Priority, Result
from api.orders.working_days import WorkCalendar
from registry.findings_cleared import clear_by_order
from registry.models import UsagePoint
from registry.models_work_orders import WorkOrderFinding
from registry.roles import Actor

RIGHT = "true"


def follow(
    connection: Connection,
    actor: Actor,
    order: Row[Any],
    *,
    label: str,
    note: str,
    now_ms: int,
    calendar: WorkCalendar,
) -> list[int]:
    """Draw the consequences of a receipt; return the numbers of orders that it opened. order: as it is afterwards."""
    if order.result == Result.PASSED and label == RIGHT:
        for number in _findings(connection, order.id):
            clear_by_order(connection, actor, number, order_id=order.id, now_ms=now_ms)
    if order.type == OrderType.SAFETY_INSPECTION and order.result == Result.NOT_PASSED:
        return [_rectify(connection, actor, order, note, now_ms, calendar)]
    return []


def _findings(connection: Connection, order_id: int) -> list[int]:
    mine = sa.select(WorkOrderFinding.finding_id).where(
        WorkOrderFinding.order_id == order_id, WorkOrderFinding.withdrawn_at.is_(None)
    )
    return list(connection.execute(mine.order_by(WorkOrderFinding.finding_id)).scalars())


def _rectify(
    connection: Connection, actor: Actor, order: Row[Any], note: str, now_ms: int, calendar: WorkCalendar
) -> int:
    """隐患整改: closed by its own receipt."""
    tz = connection.execute(sa.select(UsagePoint.tz).where(UsagePoint.id == order.usage_point_id)).scalar()
    request = Request(
        place=order.place,
        usage_point_id=order.usage_point_id,
        meter=order.meter,
        district=order.district,
        type=OrderType.RECTIFICATION,
        priority=Priority.SOON,
        opens=Opens.ITSELF,
        deadline=Deadline.parse("5 working days"),
        reason_en=f"hazard found by safety inspection {order.id}: {note}"[:500],
        reason_zh=f"安检 {order.id} 发现隐患：{note}"[:500],
        tz=tz or DEFAULT_TZ,
        policy="receipt/hazard",
        parent_id=order.id,
    )
    return open_or_join(connection, actor, request, now_ms=now_ms, calendar=calendar).order_id
