"""One work order as its page shows it: the case, what can be done by this caller, and what was typed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from fastapi import Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import words
from api.house import House
from api.orders import evidence, teams
from api.orders.lifecycle import NEEDS_NOTE, Deed, State
from api.orders.photos import MAX_BYTES, MAX_PHOTOS
from api.orders.precision import precision
from api.orders.receipts import LABELS
from api.orders.slips import masked
from api.orders.words import OrderType, Priority, Result
from api.queries import work_orders
from api.schemas_work_orders import Evidence, OrderDetail, StepOut
from api.screens.frame import Times, attempt, page, surroundings
from api.screens.order_chart import charts
from api.screens.order_forms import MATERIALS, Again
from metering.clock import parse_rfc3339
from registry.findings_store import FINDING
from registry.models import Meter, UsagePoint
from registry.models_work_orders import FollowUp, WorkOrder
from registry.roles import Actor, Role

TOPICS: Final = "orders findings"
_QUARTER_MS: Final = 90 * 86_400_000
_MOST_CREWS: Final = 300
CHOICES: Final = {
    "types": tuple(OrderType),
    "priorities": tuple(reversed(Priority)),
    "results": tuple(Result),
    "labels": LABELS,
    "states": tuple(State),
}


@dataclass(frozen=True, slots=True)
class CrewChoice:
    """Somebody who can be sent now. busy: orders that he has."""

    name: str
    shown: str
    team: bool
    busy: int


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of the order as it stands now. right, looked: of its rule's findings in the last 90 days."""

    state: str
    right: int
    looked: int


@dataclass(slots=True)
class OrderView:
    """What the registry says of one order.

    account: masked, as on the slips. evidence: added from the store afterwards; None while it is away.
    """

    order: OrderDetail
    books: evidence.Books
    quantity: str
    address: str
    account: str
    call: Any
    crews: list[CrewChoice]
    members: list[str]
    findings: dict[int, Found]
    evidence: Evidence | None = None


def view(connection: Connection, caller: Actor, number: int, now_ms: int) -> OrderView:
    """Read everything that the registry knows of an order. Raises: ProblemError 404."""
    row = work_orders.order_of(connection, caller, number)
    allowed = work_orders.allowed(connection, caller, row)
    detail = OrderDetail(
        **work_orders.facts(row, now_ms),
        allowed=allowed,
        steps=work_orders.steps_of(connection, number),
        receipts=work_orders.receipts(connection, number),
        photos=work_orders.photos(connection, number),
        evidence=None,
    )
    books = evidence.books(connection, row)
    points = sa.select(UsagePoint.address, UsagePoint.account_number)
    point = connection.execute(points.where(UsagePoint.id == row.usage_point_id)).one_or_none()
    return OrderView(
        detail,
        books,
        quantity_of(connection, row.meter),
        point.address if point is not None else "",
        masked(point.account_number) if point is not None else "",
        connection.execute(sa.select(FollowUp).where(FollowUp.order_id == number)).one_or_none(),
        _crews(connection, row.district, now_ms) if Deed.DISPATCH in allowed else [],
        _members(connection, caller, row.assignee) if Deed.FINISH in allowed or Deed.ARRIVE in allowed else [],
        _findings(connection, caller, books, now_ms),
    )


def quantity_of(connection: Connection, meter: str) -> str:
    """Return the quantity that a meter's index counts, "" without a meter."""
    return connection.execute(sa.select(Meter.quantity).where(Meter.id == meter)).scalar() or ""


def _crews(connection: Connection, district: str, now_ms: int) -> list[CrewChoice]:
    """Those who are free for a district, the least busy first."""
    rows = connection.execute(
        sa.select(WorkOrder.assignee, sa.func.count())
        .where(WorkOrder.state.in_([State.DISPATCHED.value, State.ARRIVED.value]))
        .group_by(WorkOrder.assignee)
    )
    busy: dict[str, int] = {row[0]: row[1] for row in rows}
    known = teams.crews(connection)
    found = [
        CrewChoice(name, known[name].shown, known[name].team, busy.get(name, 0))
        for name in teams.free(connection, district=district, at=now_ms)
    ]
    return sorted(found, key=lambda crew: (crew.busy, crew.name))[:_MOST_CREWS]


def _members(connection: Connection, caller: Actor, assignee: str) -> list[str]:
    """For whom the caller may file a receipt, whoever is most likely first."""
    own = caller.name.partition(":")[2]
    crew = teams.crews(connection).get(assignee)
    names = list(crew.members) if crew is not None else []
    if own in names or not names:
        return [own, *(name for name in names if name != own)]
    return names if caller.has(Role.DISPATCHER, Role.SUPERVISOR) else [own]


def _findings(connection: Connection, caller: Actor, books: evidence.Books, now_ms: int) -> dict[int, Found]:
    numbers = [item.finding for item in books.findings]
    rows = connection.execute(sa.select(FINDING.c.id, FINDING.c.state).where(FINDING.c.id.in_(numbers)))
    states: dict[int, str] = {row.id: row.state for row in rows}
    scores: dict[str, tuple[int, int]] = {}
    for rule in {item.rule for item in books.findings if item.rule}:
        lines = precision(connection, areas=caller.areas, rule=rule, since_ms=now_ms - _QUARTER_MS)
        right = sum(line.true for line in lines)
        scores[rule] = (right, right + sum(line.false + line.other_cause for line in lines))
    return {
        item.finding: Found(states[item.finding], *scores.get(item.rule, (0, 0)))
        for item in books.findings
        if item.finding in states
    }


async def order_page(
    house: House, request: Request, caller: Actor, number: int, *, again: Again | None = None, status: int = 200
) -> Response:
    """Return the page of one order. again: a form that was not taken, shown anew with what was typed."""
    now = house.clock.now_ms()
    seen, trouble = await attempt(house.read(lambda c: view(c, caller, number, now)))
    store_trouble = ""
    if seen is not None:
        books = seen.books
        seen.evidence, store_trouble = await attempt(
            house.workers.run(lambda: evidence.measured(house.store, books, now))
        )
    times = Times((await surroundings(house)).zone)
    return await page(
        house,
        request,
        caller,
        "order.html",
        status=status,
        topics="" if again is not None else TOPICS,
        number=number,
        seen=seen,
        order=seen.order if seen else None,
        proof=seen.evidence if seen else None,
        charts=charts(seen.evidence.series, seen.books.around, times) if seen and seen.evidence else [],
        unit=words.unit_of(seen.quantity) if seen else "",
        again=again,
        typed=again.typed if again is not None else {},
        since=_since(seen.order.steps, again) if seen is not None and again is not None else [],
        local=lambda when: _local(when, times),
        choices=CHOICES,
        needs_note=NEEDS_NOTE,
        materials=range(1, MATERIALS + 1),
        photo_mib=MAX_BYTES // (1 << 20),
        photo_count=MAX_PHOTOS,
        trouble=trouble,
        store_trouble=store_trouble,
    )


def _since(steps: list[StepOut], again: Again) -> list[StepOut]:
    """What happened after the form was loaded: who changed what meanwhile."""
    seen = again.typed.get("seen", "")
    if again.key != "changed" or not (seen.isascii() and seen.isdigit()):
        return []
    return [step for step in steps if step.number > int(seen[:18])]


def _local(when: str | int | None, times: Times) -> str:
    """Return a time as an `<input type=datetime-local>` wants it, "" for None."""
    if when is None:
        return ""
    ms = parse_rfc3339(when) if isinstance(when, str) else when
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone(times.zone):%Y-%m-%dT%H:%M}"
