"""The books: meters and customers at usage points, manual readings, decisions on quarantined rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.here import Here, InHere
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
_ENTRY: Final[dict[str, Any]] = {"status_code": 201, **answers(DoneOut, status=201)}


async def _record(here: Here, work: Callable[[Connection], int]) -> int:
    """Write, and say in words what the books refuse (409)."""
    try:
        return await here.house.write(work)
    except BookError as error:
        raise ProblemError(409, "refused-by-the-books", error.message) from error


async def _entry(here: Here, work: Callable[[Connection], int]) -> Response:
    """Write an entry and answer with its number."""
    answer = reply(here.request, DoneOut(entry=await _record(here, work)), cached=False)
    answer.status_code = 201
    return answer


async def _entry_at(here: Here, point: str, work: Callable[[Connection], int]) -> Response:
    """The same at a usage point, which the caller must see."""

    def inside(connection: Connection) -> int:
        books.require_point(connection, here.caller, point)
        return work(connection)

    return await _entry(here, inside)


@router.get("/usage-points/{usage_point}/history", summary="Meters and customers there", **answers(HistoryOut))
async def usage_point_history(here: InHere, usage_point: PointPath, query: Annotated[PageQuery, Query()]) -> Response:
    """What stands, and every entry with those that were struck out."""

    def work(connection: Connection) -> HistoryOut:
        books.require_point(connection, here.caller, usage_point)
        return books.history_of(connection, usage_point, limit=query.limit, cursor=query.cursor)

    return reply(here.request, await here.house.read(work))


@router.post("/usage-points/{usage_point}/installs", summary="Install a meter 装表", **_ENTRY)
async def install_meter(here: InHere, usage_point: PointPath, body: InstallIn, query: NoQuery) -> Response:
    """A meter comes, or comes back."""
    return await _entry_at(here, usage_point, lambda c: installations.install(
        c, here.caller, usage_point, body.meter, at=body.at, start_index=body.start_index, beside=body.beside,
        now=here.now, note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/exchanges", summary="Exchange a meter 换表", **_ENTRY)
async def exchange_meter(here: InHere, usage_point: PointPath, body: ExchangeIn, query: NoQuery) -> Response:
    """The old meter goes with its final index, the new one starts from its own."""

    def work(connection: Connection) -> int:
        installations.register_meter(
            connection, body.new_meter, like=body.old_meter, serial=body.serial, digits=body.digits
        )
        return installations.exchange(
            connection, here.caller, usage_point, old_meter=body.old_meter, new_meter=body.new_meter, at=body.at,
            final_index=body.final_index, start_index=body.start_index, now=here.now, note=body.note, kind=body.kind,
        )  # fmt: skip

    return await _entry_at(here, usage_point, work)


@router.post("/usage-points/{usage_point}/removals", summary="Remove a meter 拆表", **_ENTRY)
async def remove_meter(here: InHere, usage_point: PointPath, body: RemovalIn, query: NoQuery) -> Response:
    """It goes with its final index, and nothing comes."""
    return await _entry_at(here, usage_point, lambda c: installations.remove(
        c, here.caller, usage_point, body.meter, at=body.at, final_index=body.final_index, now=here.now,
        note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/seals", summary="Seal a meter 封表, or open it", **_ENTRY)
async def seal_meter(here: InHere, usage_point: PointPath, body: SealIn, query: NoQuery) -> Response:
    """It stays where it is, and is not read while it is sealed."""
    return await _entry_at(here, usage_point, lambda c: installations.seal(
        c, here.caller, usage_point, body.meter, at=body.at, index=body.index, open_again=body.open_again,
        now=here.now, note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/openings", summary="Take over an opening index", **_ENTRY)
async def take_over_index(here: InHere, usage_point: PointPath, body: OpeningIn, query: NoQuery) -> Response:
    """From an old system: totals begin here."""
    return await _entry_at(here, usage_point, lambda c: installations.take_over(
        c, here.caller, usage_point, body.meter, at=body.at, index=body.index, now=here.now,
        note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/customers", summary="Change the customer 过户", **_ENTRY)
async def change_customer(here: InHere, usage_point: PointPath, body: CustomerIn, query: NoQuery) -> Response:
    """The final reading of every meter there splits the total."""
    return await _entry_at(here, usage_point, lambda c: occupancy.change_customer(
        c, here.caller, usage_point, account_number=body.account_number, at=body.at, indexes=body.indexes,
        now=here.now, note=body.note))  # fmt: skip


@router.post("/usage-points/{usage_point}/classes", summary="Change the customer class 用户类别", **_ENTRY)
async def change_class(here: InHere, usage_point: PointPath, body: ClassIn, query: NoQuery) -> Response:
    """A period is billed by the class at its reading day; what is closed stays as it is."""
    return await _entry_at(here, usage_point, lambda c: classes.change_class(
        c, here.caller, usage_point, customer_class=body.customer_class, at=body.at, now=here.now,
        note=body.note))  # fmt: skip


@router.post("/book-entries/{number}/undo", summary="Strike an entry out", **_ENTRY)
async def undo_entry(here: InHere, number: NumberPath, body: UndoIn, query: NoQuery) -> Response:
    """The wrong entry stays visible; later ones that stand on it are undone first."""

    def work(connection: Connection) -> int:
        books.point_of_entry(connection, here.caller, number)
        return book_changes.undo(connection, here.caller, number, now=here.now, note=body.note)

    return await _entry(here, work)


@router.post("/meters/{meter_id}/manual-readings", summary="Enter a manual reading", status_code=202,
             **answers(FateOut, status=202))  # fmt: skip
async def post_manual_reading(here: InHere, meter_id: MeterPath, body: ManualReadingIn, query: NoQuery) -> Response:
    """It is safe with this answer, and on its way to the store. The same reading twice is one."""

    def work(connection: Connection) -> int:
        books.require_meter(connection, here.caller, meter_id)
        values = {str(quantity): micro for quantity, micro in body.values.items()}
        return office.post_manual(
            connection, here.caller, meter_id, read_at=body.read_at, values=values, person=body.person,
            reason=body.reason, note=body.note, now=here.now,
        )  # fmt: skip

    return await _sent(here, await _record(here, work))


@router.get("/office-readings/{number}", summary="Where a posted reading is", **answers(FateOut))
async def office_reading(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Waiting, sent, stored, or quarantined by ingest with its reason."""
    return reply(here.request, await here.house.read(lambda c: books.fate(c, here.caller, number)))


@router.post("/quarantine/{number}/adopt", summary="Adopt a quarantined reading", status_code=202,
             **answers(FateOut, status=202))  # fmt: skip
async def adopt_quarantined(here: InHere, number: NumberPath, body: DecisionIn, query: NoQuery) -> Response:
    """It goes to the store as a reading of the office, marked suspect; the quarantined bytes stay as they are."""

    def work(connection: Connection) -> int:
        books.require_quarantined(connection, here.caller, number)
        return quarantine.adopt(connection, here.caller, number, reason=body.reason, now=here.now)

    return await _sent(here, await _record(here, work))


@router.post("/quarantine/{number}/discard", summary="Discard a quarantined row", status_code=204)
async def discard_quarantined(here: InHere, number: NumberPath, body: DecisionIn, query: NoQuery) -> Response:
    """It is marked as decided, with who and why; nothing is deleted."""

    def work(connection: Connection) -> int:
        books.require_quarantined(connection, here.caller, number)
        quarantine.discard(connection, here.caller, number, reason=body.reason, now=here.now)
        return number

    await _record(here, work)
    return Response(status_code=204)


async def _sent(here: Here, number: int) -> Response:
    answer = reply(here.request, await here.house.read(lambda c: books.fate(c, here.caller, number)), cached=False)
    answer.status_code = 202
    answer.headers["location"] = f"/api/v1/office-readings/{number}"
    return answer
