"""/api/v1/shifts: the shift log 交接班 of the control room, signed by both."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import paging
from api.access.caller import InCaller
from api.house import House, InHouse
from api.parameters import Nothing, PageQuery, Word
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError
from api.queries import shifts as queries
from api.replies import reply
from api.routes.documented import answers
from api.schemas_thresholds import ShiftDetail, ShiftIn, ShiftNoteIn, ShiftPage, SignIn
from registry import shifts
from registry.shifts import StaleShiftError

router = APIRouter(prefix="/api/v1/shifts", tags=["findings"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The shift's id.", examples=[1])]


class ShiftsQuery(PageQuery):
    """Filters of the list of shifts."""

    desk: Word | None = Field(None, description="Only this desk.")
    state: Literal["open", "handed", "closed"] | None = None


@router.get("", summary="List shifts", **answers(ShiftPage))
async def list_shifts(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[ShiftsQuery, Query()]
) -> Response:
    """Newest first."""
    before = paging.number_key("shifts", query.cursor)
    page = await house.read(
        lambda c: queries.list_shifts(c, caller, desk=query.desk, state=query.state, before=before, limit=query.limit)
    )
    return reply(request, ShiftPage(items=page.items, next_cursor=page.next_cursor))


@router.post("", summary="Begin the first shift of a desk", status_code=201, **answers(ShiftDetail, status=201))
async def begin_shift(
    request: Request, house: InHouse, caller: InCaller, body: ShiftIn, query: Annotated[Nothing, Query()]
) -> Response:
    """Later ones begin by taking over."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> ShiftDetail:
        number = shifts.begin(connection, caller, desk=body.desk, note=body.note, now_ms=now)
        return queries.one_shift(connection, caller, number, now_ms=now)

    return _created(request, await house.write(work))


@router.get("/{number}", summary="One shift with its log", **answers(ShiftDetail))
async def one_shift(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """While it is open as it stands now, afterwards as it was signed."""
    now = house.clock.now_ms()
    found = await house.read(lambda c: queries.one_shift(c, caller, number, now_ms=now))
    return with_etag(reply(request, found, cached=False), found.version)


@router.post("/{number}/notes", summary="Write a line into the log", **answers(ShiftDetail))
async def add_shift_note(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: ShiftNoteIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """Only while the shift is open."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> ShiftDetail:
        shifts.add_note(connection, caller, number, body.note, now_ms=now)
        return queries.one_shift(connection, caller, number, now_ms=now)

    found = await house.write(work)
    return with_etag(reply(request, found, cached=False), found.version)


@router.post("/{number}/hand-over", summary="Sign as the one who leaves 交班", **answers(ShiftDetail))
async def hand_over_shift(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: SignIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Freezes what is open and what was done; until somebody takes over, it can be signed again."""
    signed, version, now = body or SignIn(), wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> ShiftDetail:
        shifts.hand_over(connection, caller, number, now_ms=now, note=signed.note, version=version)
        return queries.one_shift(connection, caller, number, now_ms=now)

    found = await _signed(house, work)
    return with_etag(reply(request, found, cached=False), found.version)


@router.post(
    "/{number}/take-over", summary="Sign as the one who comes 接班", status_code=201,
    **answers(ShiftDetail, status=201),
)  # fmt: skip
async def take_over_shift(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: SignIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Closes the shift for ever and begins the next one, which is answered."""
    signed, version, now = body or SignIn(), wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> ShiftDetail:
        following = shifts.take_over(connection, caller, number, now_ms=now, note=signed.note, version=version)
        return queries.one_shift(connection, caller, following, now_ms=now)

    return _created(request, await _signed(house, work))


def _created(request: Request, shift: ShiftDetail) -> Response:
    answer = with_etag(reply(request, shift, cached=False), shift.version)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/shifts/{shift.id}"
    return answer


async def _signed(house: House, work: Any) -> ShiftDetail:
    try:
        done: ShiftDetail = await house.write(work)
    except StaleShiftError as error:
        raise ProblemError(412, "changed-meanwhile", str(error)) from error
    return done
