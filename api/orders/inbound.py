"""What an outside system (CMMS) says of an order: the steps that lead to its status are taken, none twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.orders import teams
from api.orders.book import order_row, stale, step
from api.orders.lifecycle import Deed, State, Step, StepError
from api.orders.receipts import Filing, file_receipt
from api.orders.words import Result
from api.orders.working_days import WorkCalendar
from registry.models_work_orders import WorkOrder
from registry.roles import Actor

_ORDER: Final = ("proposed", "accepted", "dispatched", "arrived", "finished")


@dataclass(frozen=True, slots=True)
class Status:
    """What is said. Times [ms UTC]. label: what was really found; result: of a finished visit."""

    status: str
    assignee: str | None = None
    note: str = ""
    result: str | None = None
    label: str = ""
    arrived_at: int | None = None
    finished_at: int | None = None


def locked(connection: Connection, number: int, version: int | None) -> Row[Any]:
    """Return an order's row, locked. Raises: StaleError."""
    row = connection.execute(sa.select(WorkOrder).where(WorkOrder.id == number).with_for_update()).one()
    if version is not None and version != row.version:
        raise stale(connection, row)
    return row


def take(
    connection: Connection, actor: Actor, number: int, said: Status, *, now_ms: int, calendar: WorkCalendar
) -> Row[Any]:
    """Bring an order to the status and return its row; a status that it has (or had passed) changes nothing.

    Raises: StepError (forbidden, impossible, incomplete).
    """
    row = locked(connection, number, None)
    if said.status == "cancelled":
        if row.state == State.FINISHED and row.result == Result.CANCELLED:
            return row
        return step(connection, actor, number, Step(Deed.CANCEL, note=said.note), now_ms=now_ms)
    if row.state in (State.DECLINED, State.VOIDED):
        raise StepError("impossible", f"an order that is {row.state} cannot become {said.status}")
    if _ORDER.index(row.state) >= _ORDER.index(said.status) and not _another(row, said):
        return row
    if row.state == State.PROPOSED:
        row = step(connection, actor, number, Step(Deed.ACCEPT), now_ms=now_ms, calendar=calendar)
    if said.status == "accepted":
        return row
    if row.state == State.ACCEPTED or _another(row, said):
        row = teams.dispatch(connection, actor, number, said.assignee or row.assignee, now_ms=now_ms, note=said.note)
    if said.status == "dispatched":
        return row
    if said.status == "arrived":
        return step(connection, actor, number, Step(Deed.ARRIVE, note=said.note), now_ms=now_ms)
    return _finish(connection, actor, number, said, now_ms, calendar)


def _another(row: Row[Any], said: Status) -> bool:
    """True when somebody else is named for an order that nobody has begun."""
    return row.state == State.DISPATCHED and said.assignee is not None and said.assignee != row.assignee


def _finish(
    connection: Connection, actor: Actor, number: int, said: Status, now_ms: int, calendar: WorkCalendar
) -> Row[Any]:
    if said.result is None:
        raise StepError("incomplete", f"to finish needs a result: {', '.join(Result)}")
    row = order_row(connection, number)
    end = said.finished_at or now_ms
    filing = Filing(
        worker=row.assignee,
        arrived_at=said.arrived_at or min(end, now_ms),
        finished_at=end,
        result=Result(said.result),
        note=said.note,
        label=said.label,
    )
    return file_receipt(connection, actor, number, filing, now_ms=now_ms, calendar=calendar)
