"""/admin: the parts of the administration that the caller may open, with what waits there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.parameters import Nothing
from api.queries.administration import summary
from api.screens.admin import admin_page, sections
from api.screens.frame import attempt

router = APIRouter(include_in_schema=False)


@router.get("/admin")
async def admin_start(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """What there is to administer."""
    names, now = {name for _, name in sections(caller)}, house.clock.now_ms()
    found, trouble = await attempt(house.read(lambda c: summary(c, caller, names, now_ms=now)))
    lines, attention = found or ({}, set())
    return await admin_page(house, request, caller, "admin.html", lines=lines, attention=attention, trouble=trouble)
