"""/shift: the shift log 交接班: what is open, what was done, who hands over to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.here import Here, InHere
from api.problems import not_found
from api.queries import shifts as queries
from api.replies import see_other
from api.routes.screen_parts import NoQuery, show
from api.routes.shifts import NumberPath
from api.schemas_thresholds import ShiftDetail
from api.screens import alarm_forms as forms
from api.screens.frame import attempt
from registry import shifts
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)
_PAST: Final = 30
_LONGEST_DESK: Final = 64


@router.get("/shift")
async def shift_page(here: InHere, query: NoQuery) -> Response:
    """The newest shift that is not closed, and the ones before."""
    return await _page(here, None)


@router.get("/shift/{number}")
async def one_shift_page(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """One shift: while it is open as it stands now, afterwards as it was signed."""
    return await _page(here, number)


async def _page(
    here: Here,
    number: int | None,
    refused: str = "",
    typed: dict[str, str] | None = None,
) -> Response:
    def look(connection: Connection) -> Any:
        past = queries.list_shifts(connection, here.caller, desk=None, state=None, before=None, limit=_PAST).items
        current = next((shift.id for shift in past if shift.state != "closed"), None)
        chosen = number or current
        return past, _one(connection, here, chosen) if chosen else None

    found, trouble = await attempt(here.house.read(look))
    return await show(
        here,
        "shift.html",
        topics="findings orders",
        status=422 if refused else 200,
        at=f"/shift/{number}" if number else "/shift",
        past=found[0] if found else [],
        shift=found[1] if found else None,
        me=here.caller.name,
        refused=refused,
        typed=typed or {},
        trouble=trouble,
    )


def _one(connection: Connection, here: Here, number: int) -> ShiftDetail:
    try:
        return queries.one_shift(connection, here.caller, number, now_ms=here.now)
    except RefusedError:
        raise not_found("shift", number) from None


@router.post("/shift")
async def begin(here: InHere) -> Response:
    """Begin the first shift of a desk."""
    fields = await checked_fields(here.request)
    desk, note = " ".join(fields.get("desk", "").split()), forms.note_of(fields)
    if note is None or not 0 < len(desk) <= _LONGEST_DESK or forms.note_of({"note": desk}) is None:
        return await _page(here, None, "note" if note is None else "desk", fields)
    return await _done(
        here, None, fields, lambda c: shifts.begin(c, here.caller, desk=desk, note=note, now_ms=here.now)
    )


@router.post("/shift/{number}/note")
async def add_note(here: InHere, number: NumberPath) -> Response:
    """Write a line into the log."""
    fields = await checked_fields(here.request)
    note = forms.note_of(fields)
    if not note:
        return await _page(here, number, "note", fields)

    def work(connection: Connection) -> None:
        shifts.add_note(connection, here.caller, number, note, now_ms=here.now)

    return await _done(here, number, fields, work)


@router.post("/shift/{number}/hand-over")
async def hand_over(here: InHere, number: NumberPath) -> Response:
    """Sign as the one who leaves."""
    return await _sign(here, number, shifts.hand_over)


@router.post("/shift/{number}/take-over")
async def take_over(here: InHere, number: NumberPath) -> Response:
    """Sign as the one who comes; the next shift begins."""
    return await _sign(here, number, shifts.take_over)


async def _sign(here: Here, number: int, deed: Callable[..., int | None]) -> Response:
    fields = await checked_fields(here.request)
    note = forms.note_of(fields)
    if note is None:
        return await _page(here, number, "note", fields)
    version = forms.version_of(fields)
    return await _done(
        here,
        number,
        fields,
        lambda c: deed(c, here.caller, number, now_ms=here.now, note=note, version=version),
    )


async def _done(
    here: Here,
    number: int | None,
    fields: dict[str, str],
    work: Callable[[Connection], int | None],
) -> Response:
    """Do it and show the shift; a refusal stands on the page, with what was typed."""
    try:
        made = await here.house.write(work)
    except RefusedError as error:
        return await _page(here, number, str(error), fields)
    chosen = made or number
    return see_other(f"/shift/{chosen}")
