"""Receipts 回执: what a visit brought back. Filing one takes the order's steps and keeps everything in one go.

A receipt records arrival, start, finish and leaving, one result, and a note for every result but passed; index seen,
materials, amount collected, and what was really found (the label that teaches the rule). A worker in the field may be
without a connection: filing a receipt for a dispatched order also records the arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.orders.book import OBJECT, order_row, step
from api.orders.lifecycle import Deed, State, Step, StepError
from api.orders.outcome import follow
from api.orders.words import Result
from api.orders.working_days import WorkCalendar
from metering.clock import rfc3339
from registry import audit
from registry.models_work_orders import Photo, Receipt, WorkOrder
from registry.roles import Actor

LABELS: Final = ("true", "false", "other_cause", "not_looked")
"""What was really found: the finding was right; nothing was wrong; something else was; nobody could look."""

FUTURE_MS: Final = 5 * 60_000
"""[ms] A telephone's clock may be ahead by this."""


@dataclass(frozen=True, slots=True)
class Filing:
    """A receipt as it is handed in. Times [ms UTC]. index_seen: quantity -> micro. amount: decimal text or ""."""

    worker: str
    arrived_at: int
    result: Result
    started_at: int | None = None
    finished_at: int | None = None
    left_at: int | None = None
    note: str = ""
    index_seen: Mapping[str, int] = field(default_factory=dict)
    materials: Sequence[Mapping[str, Any]] = ()
    amount: str = ""
    label: str = ""
    not_reached: bool = False


def file_receipt(
    connection: Connection,
    actor: Actor,
    order_id: int,
    filing: Filing,
    *,
    now_ms: int,
    version: int | None = None,
    own: frozenset[str] = frozenset(),
    calendar: WorkCalendar | None = None,
) -> Row[Any]:
    """Keep a receipt and finish the order (or send it back to be dispatched anew); return the order's row after it.

    A finding that was right and is repaired is cleared, a hazard opens its own order (`api.orders.outcome`).
    Raises: StepError (incomplete: times out of order, unknown label; else as `book.step`), StaleError,
    UnknownOrderError.
    """
    order = order_row(connection, order_id)
    _check(order, filing, now_ms)
    if order.state == State.DISPATCHED:
        order = step(connection, actor, order_id, Step(Deed.ARRIVE), now_ms=now_ms, version=version, own=own)
        version = None if version is None else order.version
    visit = order.visits + 1
    finish = Step(Deed.FINISH, note=filing.note, result=filing.result, not_reached=filing.not_reached)
    after = step(connection, actor, order_id, finish, now_ms=now_ms, version=version, own=own)
    values = {
        "order_id": order_id,
        "visit": visit,
        "worker": filing.worker,
        "arrived_at": filing.arrived_at,
        "started_at": filing.started_at,
        "finished_at": filing.finished_at,
        "left_at": filing.left_at,
        "result": filing.result.value,
        "note": filing.note,
        "index_seen": dict(filing.index_seen),
        "materials": [dict(item) for item in filing.materials],
        "amount": filing.amount,
        "label": filing.label,
    }
    connection.execute(sa.insert(Receipt).values(**values, filed_by=actor.name, filed_at=now_ms))
    if filing.label:
        connection.execute(sa.update(WorkOrder).where(WorkOrder.id == order_id).values(label=filing.label))
    audit.append(connection, actor, "work_order.receipt", OBJECT, order_id, at=now_ms, after=values)
    follow(
        connection,
        actor,
        after,
        label=filing.label,
        note=filing.note,
        now_ms=now_ms,
        calendar=calendar or WorkCalendar(),
    )
    return order_row(connection, order_id)


def _check(order: Row[Any], filing: Filing, now_ms: int) -> None:
    if filing.label and filing.label not in LABELS:
        raise StepError("incomplete", f"label {filing.label!r}; allowed: {', '.join(LABELS)}")
    times = [
        ("acceptance", order.accepted_at),
        ("arrival", filing.arrived_at),
        ("start", filing.started_at),
        ("finish", filing.finished_at),
        ("leaving", filing.left_at),
        ("now", now_ms + FUTURE_MS),
    ]
    known = [(name, at) for name, at in times if at is not None]
    for (before, earlier), (after, later) in pairwise(known):
        if later < earlier and after == "now":
            raise StepError("incomplete", f"the {before} ({rfc3339(earlier)}) lies in the future")
        if later < earlier:
            raise StepError("incomplete", f"the {after} lies before the {before} ({rfc3339(earlier)})")


def receipts_of(connection: Connection, order_id: int) -> Sequence[Any]:
    """Return the receipts of an order, the first visit first."""
    return connection.execute(sa.select(Receipt).where(Receipt.order_id == order_id).order_by(Receipt.visit)).all()


def photos_of(connection: Connection, order_id: int) -> Sequence[Any]:
    """Return what is known of an order's photos, without their bytes."""
    columns = (Photo.id, Photo.visit, Photo.media_type, Photo.sha256, Photo.size, Photo.taken_by, Photo.at)
    return connection.execute(sa.select(*columns).where(Photo.order_id == order_id).order_by(Photo.id)).all()
