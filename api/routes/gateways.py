"""/api/v1/gateways: how each is, and its delivery ledger."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.parameters import GatewayPath, Nothing, PageQuery
from api.queries import gateways
from api.replies import reply
from api.routes.documented import answers
from api.schemas import GatewayOut, GatewayPage

router = APIRouter(prefix="/api/v1/gateways", tags=["gateways"])


@router.get("", summary="List gateways", **answers(GatewayPage))
async def list_gateways(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[PageQuery, Query()]
) -> Response:
    """Gateways by id with the sums of their ledgers: produced, committed, stored, missing, waiting."""
    now_ms, stale_s = house.clock.now_ms(), house.settings.gateway_stale_s
    page = await house.read(
        lambda c: gateways.list_gateways(
            c, areas=caller.areas, now_ms=now_ms, stale_s=stale_s, limit=query.limit, cursor=query.cursor
        )
    )
    return reply(request, GatewayPage(items=page.items, next_cursor=page.next_cursor))


@router.get("/{gateway_id}", summary="One gateway", **answers(GatewayOut))
async def one_gateway(
    request: Request, house: InHouse, caller: InCaller, gateway_id: GatewayPath, query: Annotated[Nothing, Query()]
) -> Response:
    """The ledger per epoch (one outbox file), newest first, and what the gateway said of itself."""
    now_ms, stale_s = house.clock.now_ms(), house.settings.gateway_stale_s
    found = await house.read(
        lambda c: gateways.one_gateway(c, gateway_id, areas=caller.areas, now_ms=now_ms, stale_s=stale_s)
    )
    return reply(request, found)
