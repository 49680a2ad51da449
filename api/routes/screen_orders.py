"""/orders: the board of work orders, one order with its case, and opening one by hand."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.access.forms import checked_fields
from api.here import Here, InHere
from api.orders import by_hand
from api.orders.words import OrderType
from api.parameters import Cursor, Day, Strict, Word
from api.problems import ProblemError
from api.queries import order_board
from api.queries.order_board import BoardFilters
from api.queries.work_orders import DESK
from api.replies import see_other
from api.routes.order_parts import NumberPath, do
from api.routes.screen_parts import NoQuery, show
from api.routes.work_orders import PriorityWord, StateWord, TypeWord
from api.screens.frame import attempt
from api.screens.order_forms import Again, FormError, priority_of, text_of
from api.screens.orders import CHOICES, order_page

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100


class BoardQuery(Strict):
    """Filters of the board; an empty field of the form narrows nothing. done: what was done just before."""

    view: Literal["board", "list"] = "board"
    state: StateWord | Literal[""] = ""
    type: TypeWord | Literal[""] = ""
    priority: PriorityWord | Literal[""] = ""
    district: Word | Literal[""] = ""
    assignee: Word | Literal[""] = ""
    due: Literal["", "day", "overdue", "calls"] = ""
    mine: Literal["", "true"] = ""
    cursor: Cursor | None = None
    done: Literal["receipt"] | None = None

    def filters(self) -> BoardFilters:
        """The same for the query."""
        names = ("state", "type", "priority", "district", "assignee", "due")
        return BoardFilters(**{name: getattr(self, name) for name in names}, mine=self.mine == "true")

    def address(self, **changed: str) -> str:
        """Return the board's address with something changed; what narrows nothing is left out."""
        now = self.model_dump(exclude={"cursor", "done"}) | changed
        kept = {name: value for name, value in now.items() if value and (name, value) != ("view", "board")}
        return "/orders" + (f"?{urlencode(kept)}" if kept else "")

    @property
    def is_list(self) -> bool:
        """True for one long list, False for a column for each state."""
        return self.view == "list" or bool(self.state) or bool(self.due) or self.cursor is not None


@router.get("/orders")
async def board_page(here: InHere, query: Annotated[BoardQuery, Query()]) -> Response:
    """Who waits for what, by state and district; a worker sees what is dispatched to him and his teams."""
    found, trouble = await attempt(here.house.read(lambda c: _board(c, here, query)))
    return await show(
        here,
        "orders.html",
        topics="orders",
        found=found,
        query=query,
        only_own=not here.caller.has(*DESK),
        choices=CHOICES,
        trouble=trouble,
    )


def _board(connection: Connection, here: Here, query: BoardQuery) -> dict[str, Any]:
    filters, areas = query.filters(), here.caller.areas
    where = order_board.conditions(connection, here.caller, filters, here.now)
    lines = order_board.districts(connection, where, here.now)
    found: dict[str, Any] = {
        "lines": lines,
        "totals": order_board.totals(lines),
        "states": [state.value for state in order_board.COLUMNS],
        "calls": order_board.calls_waiting(connection, areas=areas, now_ms=here.now) if here.caller.has(*DESK) else 0,
        "columns": [],
        "page": None,
    }
    if query.is_list:
        by_deadline = not order_board.is_over(filters.state) and filters.due != "calls"
        found["page"] = order_board.listed(
            connection, where, by_deadline=by_deadline, now_ms=here.now, limit=_ROWS, cursor=query.cursor
        )
    else:
        found["columns"] = order_board.columns(connection, where, lines, here.now)
    return found


class SlipsQuery(Strict):
    """Which slips; an empty field of the form narrows nothing."""

    date: Day | Literal[""] = ""
    district: Word | Literal[""] = ""
    worker: Word | Literal[""] = ""
    format: Literal["html", "pdf"] = "html"


@router.get("/orders/slips")
async def slips_of_a_day(caller: InCaller, query: Annotated[SlipsQuery, Query()]) -> Response:
    """Lead to the day's slips for print: a form always sends its empty fields, the API takes none."""
    kept = {name: value for name, value in query.model_dump().items() if value}
    return see_other(f"/api/v1/work-orders/slips?{urlencode(kept)}")


class NewQuery(Strict):
    """Where the order is to be, when the page of a meter or finding leads here."""

    usage_point: Annotated[Word, Field(max_length=64)] | Literal[""] = ""


@router.get("/orders/new")
async def new_order_page(here: InHere, query: Annotated[NewQuery, Query()]) -> Response:
    """The form for a customer's call, a requested meter test, a meter reader's remark."""
    return await _form(here, {"usage_point": query.usage_point, "priority": "soon"}, None)


async def _form(here: Here, typed: dict[str, str], again: Again | None, status: int = 200) -> Response:
    return await show(here, "order_new.html", typed=typed, again=again, choices=CHOICES, status=status)


@router.post("/orders")
async def open_order(here: InHere) -> Response:
    """Open it, or add the words to the open one of this type at this place; either way the order is shown."""
    fields = await checked_fields(here.request)
    try:
        wanted = _wanted(fields)
        made = await do(
            here.request,
            here.house,
            here.caller,
            lambda c: by_hand.open_order(
                c, here.caller, **wanted, now_ms=here.now, calendar=here.house.orders.calendar()
            ),
        )
    except FormError as error:
        return await _form(here, fields, Again("open", fields, error.key, error.values), 422)
    except ProblemError as error:
        if error.status not in (409, 422):
            raise
        again = Again("open", fields, "incomplete" if error.status == 422 else "not_now", said=error.detail)
        return await _form(here, fields, again, error.status)
    return see_other(f"/orders/{made.order_id}")


def _wanted(fields: dict[str, str]) -> dict[str, Any]:
    place, reason = text_of(fields, "usage_point", 64), text_of(fields, "reason", 500)
    if not place:
        raise FormError("usage_point")
    if not reason:
        raise FormError("reason")
    if fields.get("type") not in tuple(OrderType):
        raise FormError("type")
    return {
        "usage_point": place,
        "order_type": OrderType(fields["type"]),
        "priority": priority_of(fields),
        "reason": reason,
        "deadline": text_of(fields, "deadline", 24) or None,
    }


@router.get("/orders/{number}")
async def one_order_page(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """One order: why, where, what was done, and what this caller can do now."""
    return await order_page(here.house, here.request, here.caller, number)


@router.get("/orders/{number}/{form}")
async def leave_the_form(number: NumberPath, form: Word, query: NoQuery) -> Response:
    """Whoever asks for the address of a form again (another language, an old bookmark) gets the order."""
    return see_other(f"/orders/{number}")
