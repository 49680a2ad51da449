"""What the routes of pages share: who asks, and the page that a form of the administration is answered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import House, InHouse
from api.parameters import Nothing
from api.screens.admin import admin_page
from registry.roles import Actor

NoQuery = Annotated[Nothing, Query()]


@dataclass(frozen=True, slots=True)
class Here:
    """Who asks for a page or sends its form, and when. now: [ms UTC]."""

    request: Request
    house: House
    caller: Actor
    now: int


async def _here(request: Request, house: InHouse, caller: InCaller) -> Here:
    return Here(request, house, caller, house.clock.now_ms())


InHere = Annotated[Here, Depends(_here)]


async def admin_form_page(here: Here, template: str, *, refused: str = "", **values: Any) -> Response:
    """Return a page of the administration. refused: why the form that stood on it was; it is a 422 then."""
    status = 422 if refused else 200
    return await admin_page(here.house, here.request, here.caller, template, status=status, refused=refused, **values)
