"""/api/v1/work-orders: lists, one with its evidence, opening by hand, and the steps of an order's life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Final, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import formats
from api.access.caller import InCaller
from api.formats import Form, FormatParameter
from api.house import House, InHouse
from api.orders import by_hand, inbound, teams
from api.orders.book import step, tell
from api.orders.lifecycle import Deed, Step
from api.parameters import Moment, Nothing, PageQuery, Word, clean
from api.preconditions import IfMatch, wanted_version
from api.problems import ProblemError, invalid
from api.queries import work_orders
from api.queries.work_orders import Filters
from api.replies import reply
from api.routes.documented import answers
from api.routes.order_parts import KeyHeader, NumberPath, answer, do, done_before, keep_key
from api.schemas_work_orders import (
    AcceptIn,
    CancelIn,
    DispatchIn,
    ExtendIn,
    ExternalIn,
    NoteIn,
    OpenIn,
    OrderDetail,
    OrderOut,
    OrderPage,
    StatusIn,
)
from registry.models_work_orders import WorkOrder
from registry.roles import Actor

router = APIRouter(prefix="/api/v1/work-orders", tags=["work orders"])
NoQuery = Annotated[Nothing, Query()]
PlaceName = Annotated[str, Field(min_length=1, max_length=96), AfterValidator(clean)]
ExternalName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(clean)]
ExternalPath = Annotated[
    str,
    Path(min_length=1, max_length=128, description="The outside system's number.", examples=["SR-1001"]),
    AfterValidator(clean),
]
StateWord = Literal["proposed", "accepted", "dispatched", "arrived", "finished", "declined", "voided"]
TypeWord = Literal[
    "leak_visit",
    "meter_inspection",
    "meter_test",
    "meter_exchange",
    "read_again",
    "close_valve",
    "seal",
    "contract_check",
    "communication_repair",
    "safety_inspection",
    "rectification",
]
PriorityWord = Literal["wait", "appointment", "soon", "urgent"]
_CSV: Final = tuple(OrderOut.model_fields)


class OrdersQuery(PageQuery):
    """Filters; several must all hold."""

    state: StateWord | None = None
    type: TypeWord | None = None
    priority: PriorityWord | None = None
    district: Word | None = None
    assignee: Word | None = None
    place: PlaceName | None = Field(None, description="A usage point, or gateway:…, bus:…, district:….")
    external_id: ExternalName | None = None
    due_before: Moment | None = Field(None, description="Only orders whose deadline lies before.")
    overdue: Literal["true", "false"] = Field("false", description="Only open ones whose deadline is over.")
    open: Literal["true", "false"] = Field("false", description="Only open ones.")
    format: FormatParameter = None

    def filters(self) -> Filters:
        """The same for the query."""
        names = (
            "state", "type", "priority", "district", "assignee", "place", "external_id", "due_before",
        )  # fmt: skip
        same = {name: getattr(self, name) for name in names}
        return Filters(**same, overdue=self.overdue == "true", open_only=self.open == "true")


@router.get("", summary="List work orders 派工单", **answers(OrderPage, streams=True))
async def list_work_orders(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[OrdersQuery, Query()]
) -> Response:
    """Newest first: a page as JSON, or all as NDJSON or CSV. A worker sees what is dispatched to him or his team."""
    fmt, now = formats.negotiate(request, query.format), house.clock.now_ms()
    if fmt == "json":
        page = await house.read(
            lambda c: work_orders.list_orders(
                c, caller, filters=query.filters(), now_ms=now, limit=query.limit, cursor=query.cursor
            )
        )
        return reply(request, OrderPage(items=page.items, next_cursor=page.next_cursor))
    if {"cursor", "limit"} & query.model_fields_set:
        raise invalid("format", fmt, "a stream gives everything and takes neither cursor nor limit")
    form = _FORMS[fmt]
    return await formats.stream(house, _all(house, caller, query.filters(), form), form, "work-orders")


async def _all(house: House, caller: Actor, filters: Filters, form: Form) -> AsyncIterator[bytes]:
    now = house.clock.now_ms()

    def encoded(cursor: str | None, connection: Connection) -> tuple[bytes, str | None]:
        page = work_orders.list_orders(
            connection, caller, filters=filters, now_ms=now, limit=formats.STREAM_PAGE, cursor=cursor
        )
        return form.encode(page.items), page.next_cursor

    cursor: str | None = None
    while True:
        body, cursor = await house.read(partial(encoded, cursor))
        yield body
        if cursor is None:
            return


def _json_lines(rows: Sequence[OrderOut]) -> bytes:
    return "".join(row.model_dump_json() + "\n" for row in rows).encode()


def _csv_lines(rows: Sequence[OrderOut]) -> bytes:
    return formats.csv_lines([_cell(getattr(row, name)) for name in _CSV] for row in rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


_FORMS: Final = {
    "ndjson": Form("ndjson", bytes, _json_lines),
    "csv": Form("csv", lambda: formats.csv_lines([_CSV]), _csv_lines),
}


@router.post("", summary="Open a work order by hand", status_code=201, **answers(OrderDetail, status=201))
async def open_work_order(
    request: Request, house: InHouse, caller: InCaller, body: OpenIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """201 with the new order; 200 with the open one of this type at this place, which keeps what was said."""
    now, said = house.clock.now_ms(), body.model_dump_json()

    def work(connection: Connection) -> tuple[int, bool]:
        if (known := done_before(connection, caller, key, said)) is not None:
            return known, False
        made = by_hand.open_order(
            connection,
            caller,
            usage_point=body.usage_point,
            order_type=body.type,
            priority=body.priority,
            reason=body.reason,
            reason_zh=body.reason_zh,
            deadline=body.deadline,
            now_ms=now,
            calendar=house.orders.calendar(),
        )
        keep_key(connection, caller, key, said, made.order_id, now)
        return made.order_id, made.new

    number, new = await do(request, house, caller, work)
    return await answer(request, house, caller, number, status=201 if new else 200)


@router.get("/{number}", summary="One work order", **answers(OrderDetail))
async def one_work_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery
) -> Response:
    """With its evidence, steps, receipts and photos. Its ETag goes into If-Match."""
    return await answer(request, house, caller, number, quick=False)


async def _step(
    request: Request, house: House, caller: Actor, number: int, wanted: Step, if_match: str | None
) -> Response:
    version, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> None:
        work_orders.order_of(connection, caller, number)
        own = teams.own_of(connection, caller)
        step(
            connection, caller, number, wanted, now_ms=now, version=version, own=own,
            calendar=house.orders.calendar(),
        )  # fmt: skip

    await do(request, house, caller, work)
    return await answer(request, house, caller, number)


@router.post("/{number}/accept", summary="Accept a proposed order 受理", **answers(OrderDetail))
async def accept_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery,
    body: AcceptIn | None = None, if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """Its promises count from now."""
    body = body or AcceptIn()
    wanted = Step(Deed.ACCEPT, note=body.note, priority=body.priority)
    return await _step(request, house, caller, number, wanted, if_match)


@router.post("/{number}/decline", summary="Decline a proposed order", **answers(OrderDetail))
async def decline_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: NoteIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """Nobody goes; the note says why."""
    return await _step(request, house, caller, number, Step(Deed.DECLINE, note=body.note), if_match)


@router.post("/{number}/dispatch", summary="Dispatch 派工", **answers(OrderDetail))
async def dispatch_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: DispatchIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """Send a worker or a team, or another than before. Who is away or disabled is refused; free ones are named."""
    version, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> None:
        work_orders.order_of(connection, caller, number)
        teams.dispatch(connection, caller, number, body.assignee, now_ms=now, version=version, note=body.note)

    await do(request, house, caller, work)
    return await answer(request, house, caller, number)


@router.post("/{number}/recall", summary="Recall whoever was sent", **answers(OrderDetail))
async def recall_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: NoteIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """The order waits to be dispatched again."""
    return await _step(request, house, caller, number, Step(Deed.RECALL, note=body.note), if_match)


@router.post("/{number}/arrive", summary="Arrive on site 到达", **answers(OrderDetail))
async def arrive_at_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery,
    body: NoteIn | None = None, if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """Work has begun; it ends with a receipt."""
    wanted = Step(Deed.ARRIVE, note=body.note if body else "")
    return await _step(request, house, caller, number, wanted, if_match)


@router.post("/{number}/cancel", summary="Cancel 取消", **answers(OrderDetail))
async def cancel_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: CancelIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """As long as nobody has begun; the note says why."""
    wanted = Step(Deed.CANCEL, note=body.note, not_reached=body.not_reached)
    return await _step(request, house, caller, number, wanted, if_match)


@router.post("/{number}/extend", summary="Extend by appointment 顺延", **answers(OrderDetail))
async def extend_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: ExtendIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """An appointment later than the promise is no breach; the note says why."""
    wanted = Step(Deed.EXTEND, note=body.note, appointment_at=body.appointment_at)
    return await _step(request, house, caller, number, wanted, if_match)


@router.post("/{number}/void", summary="Void a mistaken order 作废", **answers(OrderDetail))
async def void_order(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: NoteIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """By a supervisor only; the note says why."""
    return await _step(request, house, caller, number, Step(Deed.VOID, note=body.note), if_match)


@router.post("/{number}/external-id", summary="Set an outside system's number", **answers(OrderDetail))
async def set_external_id(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: ExternalIn, query: NoQuery,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """By it the outside system finds the order again. 409 when another order has it."""
    version, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> None:
        order = inbound.locked(connection, work_orders.order_of(connection, caller, number).id, version)
        taken = sa.select(WorkOrder.id).where(WorkOrder.external_id == body.external_id, WorkOrder.id != number)
        if body.external_id is not None and connection.execute(taken).first():
            raise ProblemError(409, "taken", "another order has this external id")
        if order.external_id != body.external_id:
            columns = {"external_id": body.external_id}
            tell(connection, caller, order, "external_id", now_ms=now, data=columns, columns=columns)

    await do(request, house, caller, work)
    return await answer(request, house, caller, number)


@router.post(
    "/by-external-id/{external_id}/status", summary="An outside system tells a status", **answers(OrderDetail)
)
async def tell_status(
    request: Request, house: InHouse, caller: InCaller, external_id: ExternalPath, body: StatusIn, query: NoQuery,
    key: KeyHeader = None,
) -> Response:  # fmt: skip
    """The steps that lead there are taken; the same status twice changes nothing, nor does a key that was used."""
    now, said = house.clock.now_ms(), f"{external_id}\n{body.model_dump_json()}"

    def work(connection: Connection) -> int:
        order = work_orders.by_external(connection, caller, external_id)
        if done_before(connection, caller, key, said) is not None:
            return int(order.id)
        inbound.take(
            connection,
            caller,
            order.id,
            inbound.Status(**body.model_dump()),
            now_ms=now,
            calendar=house.orders.calendar(),
        )
        keep_key(connection, caller, key, said, order.id, now)
        return int(order.id)

    return await answer(request, house, caller, await do(request, house, caller, work))
