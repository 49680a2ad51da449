"""Escalation: before and at the deadline somebody is told, once for each; the order itself stays as it is.

Two promises are watched: by when somebody must have begun (`respond_by`, over with the first arrival) and by when the
order must be finished (`due_at`). What was told stands as bits in `work_order.escalated` and as a step "escalate"
of the order, which others follow to notify people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.orders.book import tell
from api.orders.lifecycle import OPEN, State
from metering.clock import rfc3339
from registry.models_work_orders import WorkOrder
from registry.roles import Actor, service

ACTOR: Final = service("orders")
DEED: Final = "escalate"
_MOST: Final = 500


class Level(IntFlag):
    """What is told: the end of a promise is near, or over."""

    RESPOND_NEAR = 1
    RESPOND_OVER = 2
    DUE_NEAR = 4
    DUE_OVER = 8


WORDS: Final = {
    Level.RESPOND_NEAR: "work must begin soon",
    Level.RESPOND_OVER: "work should have begun",
    Level.DUE_NEAR: "the deadline is near",
    Level.DUE_OVER: "the deadline is over",
}
_OVER: Final = {Level.RESPOND_OVER: Level.RESPOND_NEAR, Level.DUE_OVER: Level.DUE_NEAR}


@dataclass(frozen=True, slots=True)
class Escalated:
    """One thing that was told."""

    order_id: int
    level: Level


def escalate(
    connection: Connection, *, now_ms: int, warn_before_ms: int, actor: Actor = ACTOR, most: int = _MOST
) -> list[Escalated]:
    """Tell what is near or over and was not told; return it. Must run in a writing transaction."""
    told = []
    for order in waiting(connection, now_ms=now_ms, warn_before_ms=warn_before_ms, most=most):
        for level in levels(order, now_ms=now_ms, warn_before_ms=warn_before_ms):
            told.append(Escalated(order.id, level))
            end = order.due_at if level in (Level.DUE_NEAR, Level.DUE_OVER) else order.respond_by
            data = {"level": _name(level), "by": rfc3339(end), "assignee": order.assignee}
            columns = {"escalated": _with(order.escalated, level)}
            tell(connection, actor, order, DEED, now_ms=now_ms, data=data, columns=columns, note=WORDS[level])
            order = connection.execute(sa.select(WorkOrder).where(WorkOrder.id == order.id)).one()
    return told


def waiting(connection: Connection, *, now_ms: int, warn_before_ms: int, most: int = _MOST) -> Sequence[Row[Any]]:
    """Return the open orders for which something may have to be told, the nearest deadline first."""
    soon = now_ms + warn_before_ms
    rows = connection.execute(
        sa.select(WorkOrder)
        .where(
            WorkOrder.open_key.is_not(None),
            sa.or_(
                sa.and_(WorkOrder.due_at <= soon, WorkOrder.escalated < Level.DUE_OVER),
                sa.and_(
                    WorkOrder.respond_by <= soon,
                    WorkOrder.visits == 0,
                    WorkOrder.state != State.ARRIVED,
                    WorkOrder.escalated.in_((0, 1, 4, 8, 12, 5, 9, 13)),  # RESPOND_OVER was not told
                ),
            ),
        )
        .order_by(WorkOrder.due_at, WorkOrder.id)
        .limit(most)
    ).all()
    return [row for row in rows if levels(row, now_ms=now_ms, warn_before_ms=warn_before_ms)]


def levels(order: Row[Any], *, now_ms: int, warn_before_ms: int) -> list[Level]:
    """Return what is to be told of one order now. What is over is told without the warning before it."""
    if order.state not in OPEN:
        return []
    found: list[Level] = []
    begins = order.accepted_at or order.opened_at
    promises = [(order.due_at, Level.DUE_NEAR, Level.DUE_OVER)]
    if order.respond_by is not None and order.visits == 0 and order.state != State.ARRIVED:
        promises.insert(0, (order.respond_by, Level.RESPOND_NEAR, Level.RESPOND_OVER))
    for end, near, over in promises:
        warn_at = end - min(warn_before_ms, max(0, end - begins) // 4)
        if now_ms >= end:
            found += [over] if not order.escalated & over else []
        elif now_ms >= warn_at and not order.escalated & (near | over):
            found.append(near)
    return found


def _with(bits: int, level: Level) -> int:
    return int(bits | level | _OVER.get(level, Level(0)))


def _name(level: Level) -> str:
    return (level.name or "").lower()
