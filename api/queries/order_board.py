"""The board of work orders 派工单: counts by district and state, the nearest deadlines of each state, figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, in_areas
from api.orders.lifecycle import OPEN, State
from api.orders.teams import own_of
from api.paging import Page
from api.problems import invalid
from api.queries.work_orders import line, seen_by
from api.schemas_work_orders import OrderOut
from registry.models_work_orders import FollowUp, WorkOrder
from registry.roles import Actor

DAY_MS: Final = 86_400_000
COLUMNS: Final = (State.PROPOSED, State.ACCEPTED, State.DISPATCHED, State.ARRIVED)
"""The states that somebody has to do something about, in the order of an order's life."""

IN_COLUMN: Final = 20
IS_OPEN: Final = WorkOrder.state.in_(sorted(state.value for state in OPEN))
"""By the state and not by `open_key`: one index holds all that the board counts and sorts by."""


@dataclass(frozen=True, slots=True)
class OrderCounts:
    """Open orders now. due: promised within a day; overdue: past their promise; urgent: of the open ones."""

    open: int
    due: int
    overdue: int
    urgent: int


@dataclass(frozen=True, slots=True)
class BoardFilters:
    """What the board is narrowed to; "" and False narrow nothing. mine: the caller's own and his teams'."""

    state: str = ""
    type: str = ""
    priority: str = ""
    district: str = ""
    assignee: str = ""
    due: str = ""
    """"", "day": promised within a day and not yet over, "overdue", or "calls": a follow-up call waits."""
    mine: bool = False


@dataclass(slots=True)
class DistrictLine:
    """One district: open orders by state; due within a day; overdue."""

    district: str
    states: dict[str, int] = field(default_factory=dict)
    due: int = 0
    overdue: int = 0

    @property
    def open(self) -> int:
        """All of them."""
        return sum(self.states.values())


@dataclass(frozen=True, slots=True)
class Column:
    """The nearest deadlines of one state. count: how many there are in all."""

    state: str
    count: int
    items: list[OrderOut]


def _number(condition: sa.ColumnElement[bool]) -> Any:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _due(now_ms: int) -> sa.ColumnElement[bool]:
    return sa.and_(WorkOrder.due_at >= now_ms, WorkOrder.due_at < now_ms + DAY_MS)


def order_counts(connection: Connection, *, areas: Areas, now_ms: int) -> OrderCounts:
    """Return the figures of the overview for a caller for `areas`."""
    row = connection.execute(
        sa.select(
            sa.func.count(),
            _number(_due(now_ms)),
            _number(WorkOrder.due_at < now_ms),
            _number(WorkOrder.priority == "urgent"),
        ).where(IS_OPEN, in_areas(areas, WorkOrder.district))
    ).one()
    return OrderCounts(*map(int, row))


def conditions(
    connection: Connection, caller: Actor, filters: BoardFilters, now_ms: int
) -> list[sa.ColumnElement[bool]]:
    """Return what an order must fulfil to stand on the caller's board."""
    table = WorkOrder.__table__
    names = ("state", "type", "priority", "district", "assignee")
    found = [seen_by(connection, caller)]
    found += [table.c[name] == value for name in names if (value := getattr(filters, name))]
    if filters.mine:
        found.append(WorkOrder.assignee.in_(sorted(own_of(connection, caller) - {""})))
    if filters.due in ("day", "overdue"):
        found.append(WorkOrder.due_at < now_ms if filters.due == "overdue" else _due(now_ms))
    if not filters.state and filters.due != "calls":
        found.append(IS_OPEN)
    if filters.due == "calls":
        waiting = sa.select(FollowUp.order_id).where(FollowUp.asked_at.is_(None), FollowUp.begins_at <= now_ms)
        found.append(WorkOrder.id.in_(waiting))
    return found


def districts(connection: Connection, where: Sequence[sa.ColumnElement[bool]], now_ms: int) -> list[DistrictLine]:
    """Return the open orders by district; "" stands last, for what lies in none."""
    rows = connection.execute(
        sa.select(
            WorkOrder.district,
            WorkOrder.state,
            sa.func.count(),
            _number(_due(now_ms)),
            _number(WorkOrder.due_at < now_ms),
        )
        .where(*where, IS_OPEN)
        .group_by(WorkOrder.district, WorkOrder.state)
    ).all()
    lines: dict[str, DistrictLine] = {}
    for district, state, count, due, overdue in rows:
        here = lines.setdefault(district, DistrictLine(district))
        here.states[state] = int(count)
        here.due += int(due)
        here.overdue += int(overdue)
    return sorted(lines.values(), key=lambda here: (not here.district, here.district))


def calls_waiting(connection: Connection, *, areas: Areas, now_ms: int) -> int:
    """Return how many follow-up calls 回访 may be made now."""
    waiting = sa.and_(FollowUp.asked_at.is_(None), FollowUp.begins_at <= now_ms)
    counted = (
        sa.select(sa.func.count())
        .select_from(FollowUp)
        .join(WorkOrder, WorkOrder.id == FollowUp.order_id)
        .where(waiting, in_areas(areas, WorkOrder.district))
    )
    return int(connection.execute(counted).scalar_one())


def columns(
    connection: Connection, where: Sequence[sa.ColumnElement[bool]], lines: Sequence[DistrictLine], now_ms: int
) -> list[Column]:
    """Return the columns of the board; `lines` has already counted them."""
    found = []
    for state in COLUMNS:
        count = sum(line_.states.get(state, 0) for line_ in lines)
        items: list[OrderOut] = []
        if count:
            statement = sa.select(WorkOrder).where(*where, WorkOrder.state == state.value)
            rows = connection.execute(statement.order_by(WorkOrder.due_at, WorkOrder.id).limit(IN_COLUMN))
            items = [line(row, now_ms) for row in rows]
        found.append(Column(state.value, count, items))
    return found


def listed(
    connection: Connection,
    where: Sequence[sa.ColumnElement[bool]],
    *,
    by_deadline: bool,
    now_ms: int,
    limit: int,
    cursor: str | None,
) -> Page[OrderOut]:
    """Return one page of orders: the nearest deadline first, or (what is over) the newest first."""
    kind = "orders-due" if by_deadline else "orders-new"
    statement = sa.select(WorkOrder).where(*where)
    if cursor is not None:
        at, number = _key(kind, cursor)
        behind = sa.tuple_(WorkOrder.due_at, WorkOrder.id) > sa.tuple_(sa.literal(at), sa.literal(number))
        statement = statement.where(behind if by_deadline else WorkOrder.id < number)
    order = (WorkOrder.due_at, WorkOrder.id) if by_deadline else (WorkOrder.id.desc(),)
    rows = connection.execute(statement.order_by(*order).limit(limit + 1)).all()
    more = _cursor(kind, rows[limit - 1].due_at, rows[limit - 1].id) if len(rows) > limit else None
    return Page([line(row, now_ms) for row in rows[:limit]], more)


_DECODER: Final = msgspec.json.Decoder(tuple[str, int, int])
_MOST: Final = 2**63 - 1


def _cursor(kind: str, at: int, number: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([kind, at, number])).rstrip(b"=").decode("ascii")


def _key(kind: str, cursor: str) -> tuple[int, int]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, at, number = _DECODER.decode(raw)
    except (ValueError, msgspec.MsgspecError) as error:
        raise invalid("cursor", cursor, "is not a cursor of this list; begin without one") from error
    if found != kind or not (0 <= at <= _MOST and 0 <= number <= _MOST):
        raise invalid("cursor", cursor, "is not a cursor of this list; begin without one")
    return at, number


def is_over(state: str) -> bool:
    """True for a state in which nobody has to do anything any more."""
    return bool(state) and State(state) not in OPEN


def totals(lines: Sequence[DistrictLine]) -> Mapping[str, int]:
    """Return the sums below the districts."""
    return {
        "open": sum(here.open for here in lines),
        "due": sum(here.due for here in lines),
        "overdue": sum(here.overdue for here in lines),
    }
