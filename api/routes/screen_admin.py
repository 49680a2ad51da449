"""/admin: the parts of the administration that the caller may open, with what waits there."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api.here import InHere
from api.queries.administration import summary
from api.routes.screen_parts import NoQuery, admin_form_page
from api.screens.admin import sections
from api.screens.frame import attempt

router = APIRouter(include_in_schema=False)


@router.get("/admin")
async def admin_start(here: InHere, query: NoQuery) -> Response:
    """What there is to administer."""
    names = {name for _, name in sections(here.caller)}
    found, trouble = await attempt(here.house.read(lambda c: summary(c, here.caller, names, now_ms=here.now)))
    lines, attention = found or ({}, set())
    return await admin_form_page(here, "admin.html", lines=lines, attention=attention, trouble=trouble)
