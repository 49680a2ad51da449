"""The books: meters and customers at usage points, manual readings, decisions on quarantined rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import House, InHouse
from api.parameters import MeterPath, Nothing, PageQuery, PointPath
from api.problems import ProblemError
from api.queries import books
from api.replies import reply
from api.routes.documented import answers
from api.schemas_books import (
    ClassIn,
    CustomerIn,
    DecisionIn,
    DoneOut,
    ExchangeIn,
    FateOut,
    HistoryOut,
    InstallIn,
    ManualReadingIn,
    OpeningIn,
    RemovalIn,
    SealIn,
    UndoIn,
)
from registry import book_changes, classes, installations, occupancy, office, quarantine
from registry.book_changes import BookError

router = APIRouter(prefix="/api/v1", tags=["books"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, examples=[1])]
NoQuery = Annotated[Nothing, Query()]


async def _record(house: House, work: Callable[[Connection], int]) -> int:
    """Write, and say in words what the books refuse (409)."""
    try:
        return await house.write(work)
    except BookError as error:
        raise ProblemError(409, "refused-by-the-books", error.message) from error


async def _entry(request: Request, house: House, caller: InCaller, point: str,
                 work: Callable[[Connection], int]) -> Response:  # fmt: skip
    def inside(connection: Connection) -> int:
        books.require_point(connection, caller, point)
        return work(connection)

    answer = reply(request, DoneOut(entry=await _record(house, inside)), cached=False)
    answer.status_code = 201
    return answer


@router.get("/usage-points/{usage_point}/history", summary="Meters and customers there", **answers(HistoryOut))
async def usage_point_history(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, query: Annotated[PageQuery, Query()]
) -> Response:
    """What stands, and every entry with those that were struck out."""

    def work(connection: Connection) -> HistoryOut:
        books.require_point(connection, caller, usage_point)
        return books.history_of(connection, usage_point, limit=query.limit, cursor=query.cursor)

    return reply(request, await house.read(work))


@router.post("/usage-points/{usage_point}/installs", summary="Install a meter 装表", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def install_meter(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: InstallIn, query: NoQuery
) -> Response:
    """A meter comes, or comes back."""
    now = house.clock.now_ms()
    return await _entry(request, house, caller, usage_point, lambda c: installations.install(
        c, caller, usage_point, body.meter, at=body.at, start_index=body.start_index, beside=body.beside, now=now,
        note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/exchanges", summary="Exchange a meter 换表", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def exchange_meter(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: ExchangeIn, query: NoQuery
) -> Response:
    """The old meter goes with its final index, the new one starts from its own."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        installations.register_meter(
            connection, body.new_meter, like=body.old_meter, serial=body.serial, digits=body.digits
        )
        return installations.exchange(
            connection, caller, usage_point, old_meter=body.old_meter, new_meter=body.new_meter, at=body.at,
            final_index=body.final_index, start_index=body.start_index, now=now, note=body.note, kind=body.kind,
        )  # fmt: skip

    return await _entry(request, house, caller, usage_point, work)


@router.post("/usage-points/{usage_point}/removals", summary="Remove a meter 拆表", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def remove_meter(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: RemovalIn, query: NoQuery
) -> Response:
    """It goes with its final index, and nothing comes."""
    now = house.clock.now_ms()
    return await _entry(request, house, caller, usage_point, lambda c: installations.remove(
        c, caller, usage_point, body.meter, at=body.at, final_index=body.final_index, now=now, note=body.note,
    ))  # fmt: skip


@router.post("/usage-points/{usage_point}/seals", summary="Seal a meter 封表, or open it", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def seal_meter(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: SealIn, query: NoQuery
) -> Response:
    """It stays where it is, and is not read while it is sealed."""
    now = house.clock.now_ms()
    return await _entry(request, house, caller, usage_point, lambda c: installations.seal(
        c, caller, usage_point, body.meter, at=body.at, index=body.index, open_again=body.open_again, now=now,
        note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/openings", summary="Take over an opening index", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def take_over_index(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: OpeningIn, query: NoQuery
) -> Response:
    """From an old system: totals begin here."""
    now = house.clock.now_ms()
    return await _entry(request, house, caller, usage_point, lambda c: installations.take_over(
        c, caller, usage_point, body.meter, at=body.at, index=body.index, now=now, note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/customers", summary="Change the customer 过户", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def change_customer(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: CustomerIn, query: NoQuery
) -> Response:
    """The final reading of every meter there splits the total."""
    now = house.clock.now_ms()
    return await _entry(request, house, caller, usage_point, lambda c: occupancy.change_customer(
        c, caller, usage_point, account_number=body.account_number, at=body.at, indexes=body.indexes, now=now,
        note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/classes", summary="Change the customer class 用户类别", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def change_class(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, body: ClassIn, query: NoQuery
) -> Response:
    """A period is billed by the class at its reading day; what is closed stays as it is."""
    now = house.clock.now_ms()
    return await _entry(request, house, caller, usage_point, lambda c: classes.change_class(
        c, caller, usage_point, customer_class=body.customer_class, at=body.at, now=now, note=body.note))  # fmt: skip


@router.post("/book-entries/{number}/undo", summary="Strike an entry out", status_code=201,
             **answers(DoneOut, status=201))  # fmt: skip
async def undo_entry(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: UndoIn, query: NoQuery
) -> Response:
    """The wrong entry stays visible; later ones that stand on it are undone first."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        books.point_of_entry(connection, caller, number)
        return book_changes.undo(connection, caller, number, now=now, note=body.note)

    answer = reply(request, DoneOut(entry=await _record(house, work)), cached=False)
    answer.status_code = 201
    return answer


@router.post("/meters/{meter_id}/manual-readings", summary="Enter a manual reading", status_code=202,
             **answers(FateOut, status=202))  # fmt: skip
async def post_manual_reading(
    request: Request, house: InHouse, caller: InCaller, meter_id: MeterPath, body: ManualReadingIn, query: NoQuery
) -> Response:
    """It is safe with this answer, and on its way to the store. The same reading twice is one."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        books.require_meter(connection, caller, meter_id)
        values = {str(quantity): micro for quantity, micro in body.values.items()}
        return office.post_manual(
            connection, caller, meter_id, read_at=body.read_at, values=values, person=body.person,
            reason=body.reason, note=body.note, now=now,
        )  # fmt: skip

    return await _sent(request, house, caller, await _record(house, work))


@router.get("/office-readings/{number}", summary="Where a posted reading is", **answers(FateOut))
async def office_reading(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery
) -> Response:
    """Waiting, sent, stored, or quarantined by ingest with its reason."""
    return reply(request, await house.read(lambda c: books.fate(c, caller, number)))


@router.post("/quarantine/{number}/adopt", summary="Adopt a quarantined reading", status_code=202,
             **answers(FateOut, status=202))  # fmt: skip
async def adopt_quarantined(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: DecisionIn, query: NoQuery
) -> Response:
    """It goes to the store as a reading of the office, marked suspect; the quarantined bytes stay as they are."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        books.require_quarantined(connection, caller, number)
        return quarantine.adopt(connection, caller, number, reason=body.reason, now=now)

    return await _sent(request, house, caller, await _record(house, work))


@router.post("/quarantine/{number}/discard", summary="Discard a quarantined row", status_code=204)
async def discard_quarantined(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: DecisionIn, query: NoQuery
) -> Response:
    """It is marked as decided, with who and why; nothing is deleted."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        books.require_quarantined(connection, caller, number)
        quarantine.discard(connection, caller, number, reason=body.reason, now=now)
        return number

    await _record(house, work)
    return Response(status_code=204)


async def _sent(request: Request, house: House, caller: InCaller, number: int) -> Response:
    answer = reply(request, await house.read(lambda c: books.fate(c, caller, number)), cached=False)
    answer.status_code = 202
    answer.headers["location"] = f"/api/v1/office-readings/{number}"
    return answer
