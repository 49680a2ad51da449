"""/admin/outbound: webhooks, notification rules, and messages that did not arrive, which may be sent again."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.here import Here, InHere
from api.outbound import book, outbox
from api.parameters import Cursor, Strict
from api.queries import outbound
from api.routes.screen_parts import NoQuery
from api.routes.webhooks import DeliveryPath, NumberPath
from api.screens.admin import admin_page, back_to
from api.screens.frame import attempt
from registry.models_outbound import Webhook
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)
_ADDRESS: Final = "/admin/outbound"
_ROWS: Final = 50


class OutboundQuery(Strict):
    """Which messages, where the list goes on, what became of the form that led here."""

    state: Literal["dead", "waiting", "delivered", "all"] = "dead"
    cursor: Cursor | None = None
    done: Literal["replayed"] | None = None


@router.get("/admin/outbound")
async def outbound_page(here: InHere, query: Annotated[OutboundQuery, Query()]) -> Response:
    """What leaves the house, and what did not arrive."""
    return await _page(here, query)


async def _page(here: Here, query: OutboundQuery, *, refused: str = "") -> Response:
    filters = outbound.Filters(state=None if query.state == "all" else query.state)

    def look(connection: Connection) -> Any:
        messages = outbound.deliveries(connection, here.caller, filters, limit=_ROWS, cursor=query.cursor)
        return outbound.webhooks(connection, here.caller), outbound.rules(connection, here.caller), messages

    found, trouble = await attempt(here.house.read(look))
    webhooks, rules, messages = found or ([], [], None)
    return await admin_page(
        here.house, here.request, here.caller, "admin_outbound.html", status=409 if refused else 200,
        webhooks=webhooks, rules=rules, messages=messages, query=query, trouble=trouble, refused=refused,
    )  # fmt: skip


@router.post("/admin/outbound/webhooks/{number}/replay")
async def replay_all(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Send everything again that one webhook did not take."""
    await checked_fields(here.request)

    def work(connection: Connection) -> None:
        if not book.one(connection, here.caller, Webhook, number).enabled:
            raise book.BookError("number", number, f"webhook {number} is switched off; switch it on first")
        outbox.replay_dead(connection, here.caller, number, now_ms=here.now)

    return await _done(here, work)


@router.post("/admin/outbound/deliveries/{delivery}/replay")
async def replay_one(here: InHere, delivery: DeliveryPath, query: NoQuery) -> Response:
    """Send one message again, with its old id."""
    await checked_fields(here.request)

    def work(connection: Connection) -> None:
        outbound.delivery(connection, here.caller, delivery)
        outbox.replay(connection, here.caller, delivery, now_ms=here.now)

    return await _done(here, work)


async def _done(here: Here, work: Any) -> Response:
    try:
        await here.house.write(work)
    except book.UnknownError as error:
        raise RefusedError("unknown", str(error)) from error
    except (book.BookError, outbox.ReplayError) as error:
        return await _page(here, OutboundQuery(), refused=str(error))
    return back_to(_ADDRESS, "replayed")
