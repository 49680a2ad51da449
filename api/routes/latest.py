"""/api/v1/latest: the newest reading of every meter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import formats
from api.access.areas import Areas
from api.access.caller import InCaller
from api.formats import Form, FormatParameter
from api.house import House, InHouse
from api.paging import Page
from api.parameters import PageQuery, Word
from api.problems import invalid
from api.queries import latest
from api.replies import reply
from api.routes.documented import answers
from api.schemas import LatestOut, LatestPage
from metering.reading import Quality
from registry.books import Medium

router = APIRouter(prefix="/api/v1", tags=["readings"])


class LatestQuery(PageQuery):
    """Filters; several must all hold."""

    medium: Medium | None = None
    district: Word | None = None
    gateway: Word | None = None
    quality: Quality | None = None
    format: FormatParameter = None


@router.get("/latest", summary="Newest reading of every meter", **answers(LatestPage, streams=True))
async def list_latest(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[LatestQuery, Query()]
) -> Response:
    """One newest reading per meter, by meter id: a page as JSON, or all as NDJSON or CSV."""
    fmt = formats.negotiate(request, query.format)
    if fmt == "json":
        page = await house.read(partial(_page, house, caller.areas, query, query.limit, query.cursor))
        return reply(request, LatestPage(items=page.items, next_cursor=page.next_cursor))
    if {"cursor", "limit"} & query.model_fields_set:
        raise invalid("format", fmt, "a stream gives everything and takes neither cursor nor limit")
    form = formats.FORMS[fmt]
    return await formats.stream(house, _all(house, caller.areas, query, form), form, "latest")


def _page(
    house: House, areas: Areas, query: LatestQuery, limit: int, cursor: str | None, connection: Connection
) -> Page[LatestOut]:
    return latest.list_latest(
        connection,
        areas=areas,
        now_ms=house.clock.now_ms(),
        limit=limit,
        cursor=cursor,
        medium=query.medium,
        district=query.district,
        gateway=query.gateway,
        quality=query.quality,
    )


async def _all(house: House, areas: Areas, query: LatestQuery, form: Form) -> AsyncIterator[bytes]:
    """Read and encode page behind page; between two pages nothing is held."""

    def encoded(cursor: str | None, connection: Connection) -> tuple[bytes, str | None]:
        page = _page(house, areas, query, formats.STREAM_PAGE, cursor, connection)
        return form.encode(page.items), page.next_cursor

    cursor: str | None = None
    while True:
        body, cursor = await house.read(partial(encoded, cursor))
        yield body
        if cursor is None:
            return
