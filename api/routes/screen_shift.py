"""/shift: the shift log 交接班: what is open, what was done, who hands over to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import RedirectResponse, Response

from api.access.caller import InCaller
from api.access.forms import checked_fields
from api.house import House, InHouse
from api.parameters import Nothing
from api.problems import not_found
from api.queries import shifts as queries
from api.routes.shifts import NumberPath
from api.schemas_thresholds import ShiftDetail
from api.screens import alarm_forms as forms
from api.screens.frame import attempt, page
from registry import shifts
from registry.refusals import RefusedError
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_PAST: Final = 30
_LONGEST_DESK: Final = 64


@router.get("/shift")
async def shift_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """The newest shift that is not closed, and the ones before."""
    return await _page(request, house, caller, None)


@router.get("/shift/{number}")
async def one_shift_page(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """One shift: while it is open as it stands now, afterwards as it was signed."""
    return await _page(request, house, caller, number)


async def _page(
    request: Request,
    house: House,
    caller: Actor,
    number: int | None,
    refused: str = "",
    typed: dict[str, str] | None = None,
) -> Response:
    now = house.clock.now_ms()

    def look(connection: Connection) -> Any:
        past = queries.list_shifts(connection, caller, desk=None, state=None, before=None, limit=_PAST).items
        current = next((shift.id for shift in past if shift.state != "closed"), None)
        chosen = number or current
        return past, _one(connection, caller, chosen, now) if chosen else None

    found, trouble = await attempt(house.read(look))
    return await page(
        house,
        request,
        caller,
        "shift.html",
        topics="findings orders",
        status=422 if refused else 200,
        at=f"/shift/{number}" if number else "/shift",
        past=found[0] if found else [],
        shift=found[1] if found else None,
        me=caller.name,
        refused=refused,
        typed=typed or {},
        trouble=trouble,
    )


def _one(connection: Connection, caller: Actor, number: int, now_ms: int) -> ShiftDetail:
    try:
        return queries.one_shift(connection, caller, number, now_ms=now_ms)
    except RefusedError:
        raise not_found("shift", number) from None


@router.post("/shift")
async def begin(request: Request, house: InHouse, caller: InCaller) -> Response:
    """Begin the first shift of a desk."""
    fields = await checked_fields(request)
    desk, note, now = " ".join(fields.get("desk", "").split()), forms.note_of(fields), house.clock.now_ms()
    if note is None or not 0 < len(desk) <= _LONGEST_DESK or forms.note_of({"note": desk}) is None:
        return await _page(request, house, caller, None, "note" if note is None else "desk", fields)
    return await _done(
        request, house, caller, None, fields, lambda c: shifts.begin(c, caller, desk=desk, note=note, now_ms=now)
    )


@router.post("/shift/{number}/note")
async def add_note(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Write a line into the log."""
    fields = await checked_fields(request)
    note, now = forms.note_of(fields), house.clock.now_ms()
    if not note:
        return await _page(request, house, caller, number, "note", fields)

    def work(connection: Connection) -> None:
        shifts.add_note(connection, caller, number, note, now_ms=now)

    return await _done(request, house, caller, number, fields, work)


@router.post("/shift/{number}/hand-over")
async def hand_over(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Sign as the one who leaves."""
    return await _sign(request, house, caller, number, shifts.hand_over)


@router.post("/shift/{number}/take-over")
async def take_over(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Sign as the one who comes; the next shift begins."""
    return await _sign(request, house, caller, number, shifts.take_over)


async def _sign(
    request: Request, house: House, caller: Actor, number: int, deed: Callable[..., int | None]
) -> Response:
    fields = await checked_fields(request)
    note, now = forms.note_of(fields), house.clock.now_ms()
    if note is None:
        return await _page(request, house, caller, number, "note", fields)
    version = forms.version_of(fields)
    return await _done(
        request,
        house,
        caller,
        number,
        fields,
        lambda c: deed(c, caller, number, now_ms=now, note=note, version=version),
    )


async def _done(
    request: Request,
    house: House,
    caller: Actor,
    number: int | None,
    fields: dict[str, str],
    work: Callable[[Connection], int | None],
) -> Response:
    """Do it and show the shift; a refusal stands on the page, with what was typed."""
    try:
        made = await house.write(work)
    except RefusedError as error:
        return await _page(request, house, caller, number, str(error), fields)
    chosen = made or number
    return RedirectResponse(f"/shift/{chosen}", 303, headers={"cache-control": "no-store"})
