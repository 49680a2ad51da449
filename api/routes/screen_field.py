"""/field: gateways, one gateway with its buses and its ledger, and the quarantine with what a person decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.here import Here, InHere
from api.parameters import Cursor, GatewayPath, Strict, Word, clean
from api.queries import books, events
from api.queries import field as queries
from api.replies import see_other
from api.routes.events import NumberPath
from api.routes.screen_parts import NoQuery, show
from api.screens import field as words
from api.screens.frame import attempt, may, own_address
from registry import office, quarantine
from registry.book_changes import BookError

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_REFUSED_ROWS: Final = 50
_LONGEST_NOTE: Final = 500
_QUARANTINE: Final = "/field/quarantine"
_WORDS: Final[Mapping[str, Any]] = {
    "span": words.span,
    "since": words.since,
    "offset": words.offset,
    "share": words.share,
    "clock_ms": words.CLOCK_MS,
    "old_ms": words.OLD_MS,
}


class FieldQuery(Strict):
    """Where the list goes on."""

    cursor: Cursor | None = None


class QuarantineQuery(Strict):
    """Filters of the list; an empty field of the form narrows nothing."""

    view: Literal["undecided", "all"] = "undecided"
    reason: Word | Literal[""] = ""
    gateway: Word | Literal[""] = ""
    meter: Word | Literal[""] = ""
    cursor: Cursor | None = None
    done: Literal["adopted", "discarded"] | None = None


class RowQuery(Strict):
    """What became of the form that led here."""

    done: Literal["adopted", "discarded"] | None = None


@router.get("/field")
async def field_page(here: InHere, query: Annotated[FieldQuery, Query()]) -> Response:
    """Gateways: who is there, what waits in their outboxes, what is missing."""
    limits = here.house.settings
    found, trouble = await attempt(
        here.house.read(
            lambda c: queries.gateways(
                c,
                areas=here.caller.areas,
                now_ms=here.now,
                stale_s=limits.gateway_stale_s,
                limit=_ROWS,
                cursor=query.cursor,
            )
        )
    )
    gateways, said = found or (None, {})
    return await show(
        here, "field.html", topics="gateways readings", found=gateways, said=said,
        unheard=queries.Said(), trouble=trouble, **_WORDS,
    )  # fmt: skip


# -- quarantine ----------------------------------------------------------------------------------------------


@router.get("/field/quarantine")
async def quarantine_page(here: InHere, query: Annotated[QuarantineQuery, Query()]) -> Response:
    """Rows that ingest refused; those that wait for a decision first."""
    return await _list(here, query)


async def _list(here: Here, query: QuarantineQuery) -> Response:
    def look(connection: Connection) -> Any:
        rows = events.list_quarantine(
            connection, areas=here.caller.areas, limit=_REFUSED_ROWS, cursor=query.cursor,
            undecided=query.view == "undecided", reason=query.reason or None, gateway=query.gateway or None,
            meter=query.meter or None,
        )  # fmt: skip
        decisions, fates = _decided(connection, [row.id for row in rows.items])
        return rows, decisions, fates, events.reasons(connection, here.caller.areas)

    found, trouble = await attempt(here.house.read(look))
    rows, decisions, fates, reasons = found or (None, {}, {}, [])
    return await show(
        here, "field_quarantine.html", found=rows, decisions=decisions, fates=fates,
        reasons=reasons, query=query, trouble=trouble,
    )  # fmt: skip


def _decided(connection: Connection, numbers: list[int]) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """Decisions by row, and by row where the adopted reading is now."""
    decisions = quarantine.decisions(connection, numbers)
    posted = {decision["office_row_id"]: number for number, decision in decisions.items()}
    posted.pop(None, None)
    fates = office.fates(connection, list(posted))
    return decisions, {posted[number]: fate for number, fate in fates.items()}


@router.get("/field/quarantine/{number}")
async def quarantined_page(here: InHere, number: NumberPath, query: Annotated[RowQuery, Query()]) -> Response:
    """One refused row with its bytes, and the decision on it."""
    return await _row(here, number, done=query.done)


async def _row(
    here: Here,
    number: int,
    *,
    refused: str = "",
    note: str = "",
    done: str | None = None,
) -> Response:
    def look(connection: Connection) -> Any:
        row = events.one_quarantined(connection, number, areas=here.caller.areas)
        return row, *_decided(connection, [number])

    found, trouble = await attempt(here.house.read(look))
    row: Any = None
    decisions: Mapping[int, Any] = {}
    fates: Mapping[int, Any] = {}
    if found is not None:
        row, decisions, fates = found
    return await show(
        here, "field_row.html", status=422 if refused else 200, number=number, row=row,
        decision=decisions.get(number), fate=fates.get(number), refused=refused, note=note, done=done,
        trouble=trouble,
    )  # fmt: skip


@router.post("/field/quarantine/{number}/adopt")
async def adopt(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Send it to the store as a reading of the office, marked suspect."""
    return await _decide(here, number, "adopted", quarantine.adopt)


@router.post("/field/quarantine/{number}/discard")
async def discard(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Say that it is of no use; it stays where it is."""
    return await _decide(here, number, "discarded", quarantine.discard)


async def _decide(here: Here, number: int, done: str, work: Callable[..., object]) -> Response:
    fields = await checked_fields(here.request)
    note = " ".join(fields.get("note", "").split())

    def inside(connection: Connection) -> None:
        books.require_quarantined(connection, here.caller, number)
        if not 0 < len(note) <= _LONGEST_NOTE:
            raise BookError(f"say why, in 1 to {_LONGEST_NOTE} characters")
        work(connection, here.caller, number, reason=clean(note), now=here.now)

    try:
        await here.house.write(inside)
    except (BookError, ValueError) as error:
        said = error.message if isinstance(error, BookError) else "the note has signs that cannot be kept"
        return await _row(here, number, refused=said, note=note[:_LONGEST_NOTE])
    path, _, rest = own_address(fields.get("back", _QUARANTINE)).partition("?")
    kept = [pair for pair in rest.split("&") if pair and not pair.startswith("done=")]
    return see_other(f"{path}?{'&'.join([*kept, f'done={done}'])}")


# -- one gateway ---------------------------------------------------------------------------------------------


@router.get("/field/{gateway_id}")
async def gateway_page(here: InHere, gateway_id: GatewayPath, query: NoQuery) -> Response:
    """One gateway: its buses and their time, its meters in trouble, what became of its rows, when it was away."""
    limits = here.house.settings
    found, trouble = await attempt(
        here.house.read(
            lambda c: queries.gateway_view(
                c, gateway_id, areas=here.caller.areas, now_ms=here.now, stale_s=limits.gateway_stale_s
            )
        )
    )
    return await show(
        here, "field_gateway.html", topics="gateways readings", name=gateway_id, found=found,
        trouble=trouble, refused_rows=may(here.caller, "GET", _QUARANTINE), **_WORDS,
    )  # fmt: skip
