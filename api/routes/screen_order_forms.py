"""POST /orders/…: what people do with a work order, as plain forms; what was refused is shown with what was typed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.here import Here, InHere
from api.orders import follow_up, notes, teams
from api.orders.book import step
from api.orders.lifecycle import Deed
from api.orders.photos import add_to_visit
from api.orders.receipts import file_receipt
from api.problems import ProblemError
from api.queries import work_orders
from api.replies import see_other
from api.routes.order_parts import NumberPath, do, done_before, keep_key
from api.screens.frame import Times, surroundings
from api.screens.multipart import checked_form
from api.screens.order_forms import Again, Fields, FormError, filing_of, step_of, text_of
from api.screens.orders import order_page, quantity_of

router = APIRouter(include_in_schema=False)
_KEYS: Final = {
    "changed-meanwhile": "changed",
    "not-yours-to-do": "forbidden",
    "not-possible-now": "not_now",
    "incomplete": "incomplete",
}
"""Sorts of problems of the API -> what the page says of them."""


async def _done(
    here: Here,
    number: int,
    deed: str,
    fields: Fields,
    work: Callable[[Connection], Any],
) -> Response:
    """Do it and show the order; what is refused is said there, and what was typed is kept."""
    try:
        await do(here.request, here.house, here.caller, work)
    except FormError as error:
        again = Again(deed, fields, error.key, error.values)
        return await order_page(here.house, here.request, here.caller, number, again=again, status=422)
    except ProblemError as error:
        if error.sort not in _KEYS:
            raise
        again = Again(deed, fields, _KEYS[error.sort], said=error.detail)
        return await order_page(here.house, here.request, here.caller, number, again=again, status=error.status)
    own_only = not here.caller.has(*work_orders.DESK)
    address = "/orders?done=receipt" if deed == "receipt" and own_only else f"/orders/{number}"
    return see_other(address)


def _version(fields: Fields) -> int:
    """The version that the form was made from. Raises: FormError."""
    text = fields.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise FormError("version")
    return int(text)


async def _step(here: Here, number: int, deed: Deed) -> Response:
    fields = await checked_fields(here.request)
    zone = Times((await surroundings(here.house)).zone).zone

    def work(connection: Connection) -> None:
        work_orders.order_of(connection, here.caller, number)
        wanted, version = step_of(deed, fields, zone), _version(fields)
        if deed is Deed.DISPATCH:
            teams.dispatch(
                connection, here.caller, number, wanted.assignee, now_ms=here.now, version=version, note=wanted.note
            )
            return
        own = teams.own_of(connection, here.caller)
        calendar = here.house.orders.calendar()
        step(connection, here.caller, number, wanted, now_ms=here.now, version=version, own=own, calendar=calendar)

    return await _done(here, number, str(deed), fields, work)


@router.post("/orders/{number}/accept")
async def accept(here: InHere, number: NumberPath) -> Response:
    """受理: its promises count from now."""
    return await _step(here, number, Deed.ACCEPT)


@router.post("/orders/{number}/decline")
async def decline(here: InHere, number: NumberPath) -> Response:
    """Nobody goes; the note says why."""
    return await _step(here, number, Deed.DECLINE)


@router.post("/orders/{number}/dispatch")
async def dispatch(here: InHere, number: NumberPath) -> Response:
    """派工 to a worker or a team, or to another than before."""
    return await _step(here, number, Deed.DISPATCH)


@router.post("/orders/{number}/recall")
async def recall(here: InHere, number: NumberPath) -> Response:
    """The order waits to be dispatched again."""
    return await _step(here, number, Deed.RECALL)


@router.post("/orders/{number}/arrive")
async def arrive(here: InHere, number: NumberPath) -> Response:
    """到达."""
    return await _step(here, number, Deed.ARRIVE)


@router.post("/orders/{number}/cancel")
async def cancel(here: InHere, number: NumberPath) -> Response:
    """取消, as long as nobody has begun."""
    return await _step(here, number, Deed.CANCEL)


@router.post("/orders/{number}/extend")
async def extend(here: InHere, number: NumberPath) -> Response:
    """顺延 by appointment."""
    return await _step(here, number, Deed.EXTEND)


@router.post("/orders/{number}/void")
async def void(here: InHere, number: NumberPath) -> Response:
    """作废 by a supervisor."""
    return await _step(here, number, Deed.VOID)


@router.post("/orders/{number}/note")
async def note(here: InHere, number: NumberPath) -> Response:
    """A line in its story."""
    fields = await checked_fields(here.request)

    def work(connection: Connection) -> None:
        work_orders.order_of(connection, here.caller, number)
        words = text_of(fields, "note")
        if not words:
            raise FormError("note")
        notes.add_note(connection, here.caller, number, words, now_ms=here.now)

    return await _done(here, number, "note", fields, work)


@router.post("/orders/{number}/call")
async def call(here: InHere, number: NumberPath) -> Response:
    """回访: what the customer said."""
    fields = await checked_fields(here.request)

    def work(connection: Connection) -> None:
        work_orders.order_of(connection, here.caller, number)
        said = fields.get("satisfied", "")
        if said not in ("true", "false"):
            raise FormError("satisfied")
        words = text_of(fields, "note")
        follow_up.answer(connection, here.caller, number, satisfied=said == "true", note=words, now_ms=here.now)

    return await _done(here, number, "call", fields, work)


@router.post("/orders/{number}/photos")
async def photo(here: InHere, number: NumberPath) -> Response:
    """One more photo of the present or last visit."""
    fields, files = await checked_form(here.request)

    def work(connection: Connection) -> None:
        work_orders.order_of(connection, here.caller, number)
        if not files.get("photo"):
            raise FormError("photo")
        _keep_photos(connection, here, number, files)

    return await _done(here, number, "photo", fields, work)


@router.post("/orders/{number}/receipt")
async def receipt(here: InHere, number: NumberPath) -> Response:
    """回执, with a photo: all of it or nothing. The same form sent twice is one receipt."""
    fields, files = await checked_form(here.request)
    zone = Times((await surroundings(here.house)).zone).zone
    key = _digest(number, fields, files)

    def work(connection: Connection) -> None:
        if done_before(connection, here.caller, key, key) is not None:
            return
        order = work_orders.order_of(connection, here.caller, number)
        version = _version(fields)
        worker = text_of(fields, "worker", 64) or here.caller.name.partition(":")[2]
        teams.require_of_crew(connection, here.caller, order.assignee, worker)
        filing = filing_of(
            fields,
            worker=worker,
            quantity=quantity_of(connection, order.meter),
            accepted_at=order.accepted_at,
            now_ms=here.now,
            zone=zone,
        )
        _keep_photos(connection, here, number, files)
        own = teams.own_of(connection, here.caller)
        file_receipt(
            connection,
            here.caller,
            number,
            filing,
            now_ms=here.now,
            version=version,
            own=own,
            calendar=here.house.orders.calendar(),
        )
        keep_key(connection, here.caller, key, key, number, here.now)

    return await _done(here, number, "receipt", fields, work)


def _keep_photos(connection: Connection, here: Here, number: int, files: Mapping[str, list[bytes]]) -> None:
    own = teams.own_of(connection, here.caller)
    for data in files.get("photo", ()):
        add_to_visit(connection, here.caller, number, data, own=own, now_ms=here.now)


def _digest(number: int, fields: Fields, files: Mapping[str, list[bytes]]) -> str:
    """What was sent, whole: the version in it makes it one of its kind."""
    told = hashlib.sha256(f"form {number}".encode())
    for name in sorted(fields.keys() - {"csrf_token"}):
        told.update(f"\n{name}={fields[name]}".encode("utf-8", "replace"))
    for data in files.get("photo", ()):
        told.update(hashlib.sha256(data).digest())
    return told.hexdigest()
