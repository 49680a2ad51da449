"""What the routes of pages share: a query without parameters, and how they show a page."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from api.here import Here
from api.parameters import Nothing
from api.screens.admin import admin_page
from api.screens.frame import page

NoQuery = Annotated[Nothing, Query()]


async def show(here: Here, template: str, **values: Any) -> Response:
    """Return a page, as `api.screens.frame.page` makes it."""
    return await page(here.house, here.request, here.caller, template, **values)


async def admin_form_page(here: Here, template: str, *, refused: str = "", **values: Any) -> Response:
    """Return a page of the administration. refused: why the form that stood on it was; it is a 422 then."""
    status = 422 if refused else 200
    return await admin_page(here.house, here.request, here.caller, template, status=status, refused=refused, **values)
