"""Follow-up calls 回访: all leak repairs and paid repairs, and a tenth of the rest that covers every worker evenly.

The tenth is drawn worker by worker: after n finished orders of a worker in a month, ceil(n / 10) of them are called,
so that nobody who worked is left out and nobody is called for more than his share. Which of a day's orders it is a
generator decides, seeded by day and worker: the same books draw the same calls.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders.lifecycle import StepError
from api.orders.words import OrderType, Result
from registry import audit
from registry.models_work_orders import FollowUp, Receipt, WorkOrder
from registry.roles import Actor

ALWAYS: Final = frozenset({OrderType.LEAK_VISIT.value})
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Share:
    """How much is called. share: of what is not called always, 0 to 1. First and last day after completion [d]."""

    share: float = 0.1
    first_day: int = 3
    last_day: int = 5
    seed: int = 0


def needed(finished: int, share: float) -> int:
    """Return how many of a worker's `finished` orders of a month are called: the share, rounded up."""
    return math.ceil(Decimal(str(share)) * finished)


def draw(candidates: Sequence[int], already: int, finished: int, *, share: float, seed: str) -> list[int]:
    """Return which of today's orders of one worker are called.

    candidates: numbers of today's orders; finished: the worker's orders of the month, today's among them; already:
    how many of the month's are called.
    """
    count = min(max(needed(finished, share) - already, 0), len(candidates))
    return sorted(random.Random(seed).sample(sorted(candidates), count))


def plan_day(connection: Connection, day: date, *, tz: str, share: Share, now_ms: int) -> list[int]:
    """Plan the calls for the orders finished on a local day; return their numbers. A second run plans nothing new."""
    zone = ZoneInfo(tz)
    month = _start(day.replace(day=1), zone)
    begin, end = _start(day, zone), _start(day + DAY, zone)
    rows = _finished(connection, month, end)
    today = [row for row in rows if row.finished_at >= begin]
    planned = set(connection.execute(sa.select(FollowUp.order_id)).scalars()) if today else set()
    if any(row.id in planned for row in today):
        return []
    chosen: dict[int, str] = {row.id: "always" for row in today if _always(row)}
    for worker in sorted({row.worker for row in today}):
        others = [row.id for row in rows if row.worker == worker and not _always(row)]
        mine = [row.id for row in today if row.worker == worker and not _always(row)]
        already = len(planned.intersection(others))
        seed = f"{share.seed}|{day.isoformat()}|{worker}"
        for order_id in draw(mine, already, len(others), share=share.share, seed=seed):
            chosen[order_id] = f"{worker} {day:%Y-%m}"
    window = {
        "begins_at": _start(day + share.first_day * DAY, zone),
        "ends_at": _start(day + (share.last_day + 1) * DAY, zone),
    }
    if chosen:
        connection.execute(
            sa.insert(FollowUp),
            [{"order_id": number, "stratum": stratum, **window} for number, stratum in sorted(chosen.items())],
        )
    return sorted(chosen)


def _start(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp()) * 1000


def _finished(connection: Connection, begin: int, end: int) -> Sequence[Any]:
    """Orders that were done, with the worker and the amount of their last visit."""
    last = sa.and_(Receipt.order_id == WorkOrder.id, Receipt.visit == WorkOrder.visits)
    done = (Result.PASSED.value, Result.NOT_PASSED.value)
    return connection.execute(
        sa.select(WorkOrder.id, WorkOrder.type, WorkOrder.finished_at, Receipt.worker, Receipt.amount)
        .join(Receipt, last)
        .where(WorkOrder.finished_at >= begin, WorkOrder.finished_at < end, WorkOrder.result.in_(done))
        .order_by(WorkOrder.id)
    ).all()


def _always(row: Any) -> bool:
    return row.type in ALWAYS or bool(row.amount and Decimal(row.amount) > 0)


def answer(
    connection: Connection, actor: Actor, order_id: int, *, satisfied: bool, note: str, now_ms: int
) -> Mapping[str, Any]:
    """Record a call. Raises: StepError when none is planned, it was made already, or the caller did the work."""
    call = connection.execute(
        sa.select(FollowUp).where(FollowUp.order_id == order_id).with_for_update()
    ).one_or_none()
    if call is None:
        raise StepError("impossible", f"no follow-up call is planned for order {order_id}")
    if call.asked_at is not None:
        raise StepError("impossible", f"{call.asked_by} has called already")
    workers = connection.execute(sa.select(Receipt.worker).where(Receipt.order_id == order_id)).scalars().all()
    if actor.name.partition(":")[2] in workers:
        raise StepError("forbidden", "whoever did the work does not make the follow-up call")
    values = {"asked_at": now_ms, "asked_by": actor.name, "satisfied": satisfied, "note": note}
    connection.execute(sa.update(FollowUp).where(FollowUp.order_id == order_id).values(**values))
    audit.append(connection, actor, "work_order.follow_up", "work_order", order_id, at=now_ms, after=values)
    return values
