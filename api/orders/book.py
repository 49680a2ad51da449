"""The book of work orders: open or join, take a step; each in the caller's writing transaction, with its audit row.

One open order per place and type holds by the database (`open_key` is unique), whoever opens at the same moment. What
happened to an order stands in `work_order_step`, numbered per order, and is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from api.orders.deadlines import Deadline, due
from api.orders.lifecycle import OPEN, Deed, Standing, State, Step, StepError, check_actor, take, withdraw
from api.orders.words import URGENCY, Opens, OrderType, Priority, Result
from api.orders.working_days import WorkCalendar
from registry import audit
from registry.models import UsagePoint
from registry.models_work_orders import WorkOrder, WorkOrderFinding, WorkOrderStep
from registry.roles import Actor

OBJECT: Final = "work_order"
DEFAULT_TZ: Final = "Asia/Shanghai"
# made once: putting these together for every order took as long as the database did
_SPEAKS: Final = sa.insert(cast(sa.Table, WorkOrderFinding.__table__))
_KEEP: Final = sa.insert(cast(sa.Table, WorkOrderStep.__table__))
_OPEN: Final = {
    name: insert(cast(sa.Table, WorkOrder.__table__))
    .on_conflict_do_nothing(index_elements=["open_key"])
    .returning(WorkOrder.__table__.c.id)
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
RESPOND_LEVELS: Final = 0b0011
"""Bits of `WorkOrder.escalated` about the promise to begin; an extension starts those about the end anew."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finding that speaks for an order. facts: JSON types, as they were when it joined. repeats: of the finding."""

    finding_id: int
    facts: Mapping[str, Any]
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """An order that somebody or some rule asks for. Fields as of `WorkOrder`; deadline and respond as promised.

    by_hand: a person asks, whose words are kept even when the order is open already.
    """

    place: str
    type: OrderType
    priority: Priority
    opens: Opens
    deadline: Deadline
    reason_en: str
    reason_zh: str
    tz: str
    usage_point_id: str | None = None
    meter: str = ""
    district: str = ""
    policy: str = ""
    respond: Deadline | None = None
    parent_id: int | None = None
    by_hand: bool = False
    evidence: Sequence[Evidence] = field(default=())


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of a request. new: False when an open order of that type was there and took the evidence."""

    order_id: int
    new: bool
    joined: int
    raised: bool


class StaleError(Exception):
    """Somebody else was faster. by: who changed the order last, at: [ms UTC], version: the order's version now."""

    def __init__(self, order_id: int, version: int, by: str, deed: str, at: int) -> None:
        super().__init__(f"order {order_id} was changed meanwhile: {by} did {deed}; its version is {version}")
        self.version, self.by, self.deed, self.at = version, by, deed, at


class UnknownOrderError(Exception):
    """There is no such order."""


def open_or_join(
    connection: Connection, actor: Actor, request: Request, *, now_ms: int, calendar: WorkCalendar
) -> Opened:
    """Open an order, or give its evidence to the open one of this type at this place."""
    proposed = request.opens is Opens.PROPOSED
    promise = due(request.deadline, now_ms, calendar=calendar, tz=request.tz)
    respond = None if request.respond is None else due(request.respond, now_ms, calendar=calendar, tz=request.tz).at
    open_key = f"{request.place}|{request.type}"
    state = State.PROPOSED if proposed else State.ACCEPTED
    values = {
        "place": request.place,
        "usage_point_id": request.usage_point_id,
        "meter": request.meter,
        "district": request.district,
        "type": request.type.value,
        "priority": request.priority.value,
        "state": state.value,
        "result": "",
        "open_key": open_key,
        "opened_at": now_ms,
        "opened_by": actor.name,
        "reason_en": request.reason_en,
        "reason_zh": request.reason_zh,
        "policy": request.policy,
        "accepted_at": None if proposed else now_ms,
        "respond_by": respond,
        "respond_rule": "" if request.respond is None else str(request.respond),
        "due_at": promise.at,
        "due_rule": str(request.deadline),
        "provisional": promise.provisional,
        "parent_id": request.parent_id,
        "version": 1,
    }
    order_id = _insert(connection, values)
    if order_id is not None:
        joined = _join(connection, order_id, request.evidence, now_ms, new=True)
        _keep(connection, order_id, actor, "open", "", state.value, now_ms, data={"findings": joined}, number=1)
        after = {key: values[key] for key in ("place", "type", "priority", "state", "policy", "due_at")}
        audit.append(connection, actor, "work_order.open", OBJECT, order_id, at=now_ms, after=after)
        return Opened(order_id, True, len(joined), False)
    added = _add(connection, actor, request, open_key, promise.at, now_ms)
    # None: it was finished between our two statements (PostgreSQL), so that its place is free now
    return added or open_or_join(connection, actor, request, now_ms=now_ms, calendar=calendar)


def _insert(connection: Connection, values: Mapping[str, Any]) -> int | None:
    """Return the new order's number, None when an open one with this key is there."""
    made: int | None = connection.execute(_OPEN[connection.dialect.name], dict(values)).scalar()
    return made


def _add(
    connection: Connection, actor: Actor, request: Request, open_key: str, due_at: int, now_ms: int
) -> Opened | None:
    """More evidence for an open order; it may become more urgent and its promise nearer, never the other way."""
    order = connection.execute(sa.select(WorkOrder).where(WorkOrder.open_key == open_key).with_for_update()).first()
    if order is None:
        return None
    joined = _join(connection, order.id, request.evidence, now_ms)
    raised = URGENCY[request.priority] > URGENCY[Priority(order.priority)]
    if raised:
        changed = {
            "priority": request.priority.value,
            "due_at": min(order.due_at, due_at),
            "version": order.version + 1,
        }
        before = {"priority": order.priority, "due_at": order.due_at}
        connection.execute(sa.update(WorkOrder).where(WorkOrder.id == order.id).values(**changed))
        audit.append(connection, actor, "work_order.raise", OBJECT, order.id, at=now_ms, before=before, after=changed)
    if joined or raised or request.by_hand:
        data = {"findings": joined, **({"priority": request.priority.value} if raised else {})}
        deed, note = "raise" if raised else "join", request.reason_en if request.by_hand else ""
        _keep(connection, order.id, actor, deed, order.state, order.state, now_ms, data=data, note=note)
    if request.by_hand:
        audit.append(connection, actor, "work_order.join", OBJECT, order.id, at=now_ms, note=note)
    return Opened(order.id, False, len(joined), raised)


def _join(
    connection: Connection, order_id: int, evidence: Sequence[Evidence], now_ms: int, *, new: bool = False
) -> list[int]:
    """Keep the findings that the order does not have yet; return their numbers. new: the order has none."""
    if not evidence:
        return []
    mine = sa.select(WorkOrderFinding.finding_id).where(WorkOrderFinding.order_id == order_id)
    known = set() if new else set(connection.execute(mine).scalars())
    fresh = {item.finding_id: item for item in evidence if item.finding_id not in known}
    rows = [
        {
            "order_id": order_id,
            "finding_id": item.finding_id,
            "joined_at": now_ms,
            "repeats": item.repeats,
            "evidence": dict(item.facts),
        }
        for item in fresh.values()
    ]
    if rows:
        connection.execute(_SPEAKS, rows)
    return list(fresh)


def step(
    connection: Connection,
    actor: Actor,
    order_id: int,
    wanted: Step,
    *,
    now_ms: int,
    version: int | None = None,
    own: frozenset[str] = frozenset(),
    calendar: WorkCalendar | None = None,
) -> Row[Any]:
    """Take one step and return the order's row after it.

    version: what the caller has seen; None when he does not care (services). own: the worker's name and teams.
    calendar: promises count from acceptance, so that an order that was proposed gets its deadlines then.
    Raises: UnknownOrderError, StaleError, StepError (forbidden, impossible, incomplete); nothing is changed then.
    """
    order = _locked(connection, order_id)
    if version is not None and version != order.version:
        raise stale(connection, order)
    standing = standing_of(order)
    check_actor(standing, wanted.deed, actor, own=own)
    after = take(standing, wanted, now_ms=now_ms)
    changed = _columns(after)
    if wanted.deed is Deed.ACCEPT:
        changed |= _accepted(connection, order, wanted, now_ms, calendar)
    if wanted.deed is Deed.EXTEND:
        changed["escalated"] = order.escalated & RESPOND_LEVELS
    if after.state is State.FINISHED:
        changed["finished_at"] = now_ms
    data = {
        "assignee": wanted.assignee,
        "result": wanted.result,
        "appointment_at": wanted.appointment_at,
        "not_reached": wanted.not_reached or None,
        "priority": wanted.priority,
    }
    _change(connection, actor, order, wanted.deed, changed, now_ms, note=wanted.note, data=_given(data))
    return order_row(connection, order_id)


def _accepted(
    connection: Connection, order: Row[Any], wanted: Step, now_ms: int, calendar: WorkCalendar | None
) -> dict[str, Any]:
    """What acceptance sets: the time, the priority that was chosen, and the promises, which count from now."""
    changed: dict[str, Any] = {"accepted_at": now_ms}
    if wanted.priority is not None:
        changed["priority"] = wanted.priority.value
    if calendar is None:
        return changed
    tz = connection.execute(sa.select(UsagePoint.tz).where(UsagePoint.id == order.usage_point_id)).scalar()
    promise = due(Deadline.parse(order.due_rule), now_ms, calendar=calendar, tz=tz or DEFAULT_TZ)
    changed |= {"due_at": promise.at, "provisional": promise.provisional, "escalated": 0}
    if order.respond_rule:
        respond = Deadline.parse(order.respond_rule)
        changed["respond_by"] = due(respond, now_ms, calendar=calendar, tz=tz or DEFAULT_TZ).at
    return changed


def tell(
    connection: Connection,
    actor: Actor,
    order: Row[Any],
    deed: str,
    *,
    now_ms: int,
    data: Mapping[str, Any],
    columns: Mapping[str, Any] | None = None,
    note: str = "",
) -> None:
    """Keep something that happened to an order without changing its state; `columns` of it may change."""
    _change(connection, actor, order, deed, {"state": order.state, **(columns or {})}, now_ms, note=note, data=data)


def cancel_withdrawn(connection: Connection, actor: Actor, finding_id: int, *, reason: str, now_ms: int) -> list[int]:
    """Cancel the orders that only a withdrawn finding speaks for, and that nobody has begun; return their numbers."""
    connection.execute(
        sa.update(WorkOrderFinding)
        .where(WorkOrderFinding.finding_id == finding_id, WorkOrderFinding.withdrawn_at.is_(None))
        .values(withdrawn_at=now_ms)
    )
    mine = sa.select(WorkOrderFinding.order_id).where(WorkOrderFinding.finding_id == finding_id)
    others = sa.select(WorkOrderFinding.order_id).where(WorkOrderFinding.withdrawn_at.is_(None))
    orders = connection.execute(
        sa.select(WorkOrder)
        .where(WorkOrder.id.in_(mine), WorkOrder.id.not_in(others), WorkOrder.open_key.is_not(None))
        .with_for_update()
    ).all()
    done = []
    for order in orders:
        after = withdraw(standing_of(order))
        if after is not None:
            changed = {**_columns(after), "finished_at": now_ms}
            _change(connection, actor, order, Deed.CANCEL, changed, now_ms, note=reason, data={"finding": finding_id})
            done.append(order.id)
    return done


def standing_of(order: Row[Any]) -> Standing:
    """Return what of an order decides over its steps."""
    return Standing(
        state=State(order.state),
        due_at=order.due_at,
        assignee=order.assignee,
        result=Result(order.result) if order.result else None,
        appointment_at=order.appointment_at,
        visits=order.visits,
    )


def _columns(after: Standing) -> dict[str, Any]:
    return {
        "state": after.state.value,
        "result": after.result.value if after.result else "",
        "assignee": after.assignee,
        "appointment_at": after.appointment_at,
        "due_at": after.due_at,
        "visits": after.visits,
    }


def _change(
    connection: Connection,
    actor: Actor,
    order: Row[Any],
    deed: str,
    columns: Mapping[str, Any],
    now_ms: int,
    *,
    note: str,
    data: Mapping[str, Any],
) -> None:
    changed = {key: value for key, value in columns.items() if getattr(order, key) != value}
    open_key = order.open_key if columns["state"] in OPEN else None
    connection.execute(
        sa.update(WorkOrder)
        .where(WorkOrder.id == order.id)
        .values(**changed, open_key=open_key, version=order.version + 1)
    )
    _keep(connection, order.id, actor, str(deed), order.state, columns["state"], now_ms, note=note, data=data)
    before = {key: getattr(order, key) for key in changed}
    audit.append(
        connection,
        actor,
        f"work_order.{deed}",
        OBJECT,
        order.id,
        at=now_ms,
        before=before,
        after=changed,
        note=note,
    )


def _keep(
    connection: Connection,
    order_id: int,
    actor: Actor,
    deed: str,
    before: str,
    after: str,
    now_ms: int,
    *,
    note: str = "",
    data: Mapping[str, Any],
    number: int | None = None,
) -> None:
    if number is None:
        last = sa.func.coalesce(sa.func.max(WorkOrderStep.number), 0)
        number = connection.execute(sa.select(last).where(WorkOrderStep.order_id == order_id)).scalar_one() + 1
    row = {
        "order_id": order_id,
        "number": number,
        "at": now_ms,
        "actor": actor.name,
        "deed": deed,
        "before": before,
        "after": after,
        "note": note,
        "data": dict(data),
    }
    connection.execute(_KEEP, row)


def _locked(connection: Connection, order_id: int) -> Row[Any]:
    order = connection.execute(sa.select(WorkOrder).where(WorkOrder.id == order_id).with_for_update()).one_or_none()
    if order is None:
        raise UnknownOrderError(f"there is no work order {order_id}")
    return order


def order_row(connection: Connection, order_id: int) -> Row[Any]:
    """Return an order's row. Raises: UnknownOrderError."""
    order = connection.execute(sa.select(WorkOrder).where(WorkOrder.id == order_id)).one_or_none()
    if order is None:
        raise UnknownOrderError(f"there is no work order {order_id}")
    return order


def stale(connection: Connection, order: Row[Any]) -> StaleError:
    """Return the error that tells who changed an order last."""
    last = connection.execute(
        sa.select(WorkOrderStep)
        .where(WorkOrderStep.order_id == order.id)
        .order_by(WorkOrderStep.number.desc())
        .limit(1)
    ).one()
    return StaleError(order.id, order.version, last.actor, last.deed, last.at)


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "")}


__all__ = [
    "Evidence",
    "Opened",
    "Request",
    "StaleError",
    "StepError",
    "UnknownOrderError",
    "cancel_withdrawn",
    "open_or_join",
    "order_row",
    "stale",
    "standing_of",
    "step",
    "tell",
]
