"""/admin/outbound: webhooks, notification rules, and messages that did not arrive, which may be sent again."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.access.forms import checked_fields
from api.house import House, InHouse
from api.outbound import book, outbox
from api.parameters import Cursor, Nothing, Strict
from api.queries import outbound
from api.routes.webhooks import DeliveryPath, NumberPath
from api.screens.admin import admin_page, back_to
from api.screens.frame import attempt
from registry.models_outbound import Webhook
from registry.refusals import RefusedError
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_ADDRESS: Final = "/admin/outbound"
_ROWS: Final = 50


class OutboundQuery(Strict):
    """Which messages, where the list goes on, what became of the form that led here."""

    state: Literal["dead", "waiting", "delivered", "all"] = "dead"
    cursor: Cursor | None = None
    done: Literal["replayed"] | None = None


@router.get("/admin/outbound")
async def outbound_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[OutboundQuery, Query()]
) -> Response:
    """What leaves the house, and what did not arrive."""
    return await _page(request, house, caller, query)


async def _page(
    request: Request, house: House, caller: Actor, query: OutboundQuery, *, refused: str = ""
) -> Response:
    filters = outbound.Filters(state=None if query.state == "all" else query.state)

    def look(connection: Connection) -> Any:
        messages = outbound.deliveries(connection, caller, filters, limit=_ROWS, cursor=query.cursor)
        return outbound.webhooks(connection, caller), outbound.rules(connection, caller), messages

    found, trouble = await attempt(house.read(look))
    webhooks, rules, messages = found or ([], [], None)
    return await admin_page(
        house, request, caller, "admin_outbound.html", status=409 if refused else 200, webhooks=webhooks,
        rules=rules, messages=messages, query=query, trouble=trouble, refused=refused,
    )  # fmt: skip


@router.post("/admin/outbound/webhooks/{number}/replay")
async def replay_all(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Send everything again that one webhook did not take."""
    await checked_fields(request)
    now = house.clock.now_ms()

    def work(connection: Connection) -> None:
        if not book.one(connection, caller, Webhook, number).enabled:
            raise book.BookError("number", number, f"webhook {number} is switched off; switch it on first")
        outbox.replay_dead(connection, caller, number, now_ms=now)

    return await _done(request, house, caller, work)


@router.post("/admin/outbound/deliveries/{delivery}/replay")
async def replay_one(
    request: Request, house: InHouse, caller: InCaller, delivery: DeliveryPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Send one message again, with its old id."""
    await checked_fields(request)
    now = house.clock.now_ms()

    def work(connection: Connection) -> None:
        outbound.delivery(connection, caller, delivery)
        outbox.replay(connection, caller, delivery, now_ms=now)

    return await _done(request, house, caller, work)


async def _done(request: Request, house: House, caller: Actor, work: Any) -> Response:
    try:
        await house.write(work)
    except book.UnknownError as error:
        raise RefusedError("unknown", str(error)) from error
    except (book.BookError, outbox.ReplayError) as error:
        return await _page(request, house, caller, OutboundQuery(), refused=str(error))
    return back_to(_ADDRESS, "replayed")
