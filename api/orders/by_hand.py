"""Orders that a person opens: a customer's call, a requested meter test, a meter reader's remark."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders.book import Opened, Request, open_or_join
from api.orders.deadlines import Deadline
from api.orders.lifecycle import StepError
from api.orders.words import CHINESE, Opens, OrderType, Priority
from api.orders.working_days import WorkCalendar
from registry.models import Installation, UsagePoint
from registry.roles import Actor

PROMISES: Final = {
    OrderType.LEAK_VISIT: ("1 h", "24 h"),
    OrderType.COMMUNICATION_REPAIR: ("6 h", "24 h"),
    OrderType.SEAL: ("", "3 working days"),
}
"""Begun within, finished within; everything else: 5 working days. Source: the manuals' promises."""
_OTHER: Final = ("", "5 working days")


def open_order(
    connection: Connection,
    actor: Actor,
    *,
    usage_point: str,
    order_type: OrderType,
    priority: Priority,
    reason: str,
    reason_zh: str = "",
    deadline: str | None = None,
    now_ms: int,
    calendar: WorkCalendar,
) -> Opened:
    """Open an order at a usage point; an open one of its type there takes the words and the higher priority.

    Raises: StepError (incomplete) for a place that does not exist or that the actor may not see, or a deadline that
    is none.
    """
    place = connection.execute(sa.select(UsagePoint).where(UsagePoint.id == usage_point)).one_or_none()
    if place is None or not actor.sees(place.district):
        raise StepError("incomplete", f"there is no usage point {usage_point!r}")
    respond, promise = PROMISES.get(order_type, _OTHER)
    try:
        end = Deadline.parse(deadline or promise)
    except ValueError as error:
        raise StepError("incomplete", f"deadline {deadline!r} {error}") from error
    request = Request(
        place=usage_point,
        usage_point_id=usage_point,
        meter=_meter(connection, usage_point),
        district=place.district,
        type=order_type,
        priority=priority,
        opens=Opens.ITSELF,
        deadline=end,
        respond=Deadline.parse(respond) if respond else None,
        reason_en=reason,
        reason_zh=reason_zh or f"{CHINESE[order_type]}：{reason}"[:500],
        tz=place.tz,
        by_hand=True,
    )
    return open_or_join(connection, actor, request, now_ms=now_ms, calendar=calendar)


def _meter(connection: Connection, usage_point: str) -> str:
    """The meter that hangs there now; "" when none or several do."""
    rows = connection.execute(
        sa.select(Installation.meter_id).where(
            Installation.usage_point_id == usage_point, Installation.removed_at.is_(None)
        )
    ).scalars()
    found = list(rows)
    return found[0] if len(found) == 1 else ""
