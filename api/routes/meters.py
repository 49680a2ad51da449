"""/api/v1/meters and what belongs to one meter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from api import formats, words
from api.access.caller import InCaller
from api.formats import Form, FormatParameter
from api.house import House, InHouse
from api.parameters import END_OF_TIME, Day, MeterPath, Moment, Nothing, PageQuery, Quantities, Word
from api.problems import invalid, not_found
from api.queries import latest, meters, readings
from api.replies import reply
from api.routes.documented import answers
from api.schemas import ClosingPage, LatestOut, MeterOut, MeterPage, ReadingPage
from metering.quantities import Quantity
from registry.books import Medium, MeterState

router = APIRouter(prefix="/api/v1/meters", tags=["meters"])


class MetersQuery(PageQuery):
    """Filters of the list of meters; several must all hold."""

    medium: Medium | None = None
    district: Word | None = None
    gateway: Word | None = None
    state: MeterState | None = None
    silent: bool = Field(
        False, description="True: only those that should be read and were not within the period of the read rate."
    )
    search: Word | None = Field(None, description="Part of id, serial, usage point, address or account number.")


class ReadingsQuery(PageQuery):
    """A time range, and which quantities."""

    from_: Moment | None = Field(None, alias="from", description="First read_at, included; RFC 3339 with offset.")
    to: Moment | None = Field(None, description="Last read_at, not included; RFC 3339 with offset.")
    quantity: Quantities | None = Field(None, description="Only these quantities; may stand several times.")
    format: FormatParameter = None


class ClosingsQuery(PageQuery):
    """A range of local days."""

    from_: Day | None = Field(None, alias="from", description="First local day, included.")
    to: Day | None = Field(None, description="Last local day, included.")


@router.get("", summary="List meters", **answers(MeterPage))
async def list_meters(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[MetersQuery, Query()]
) -> Response:
    """Meters by id, with filters; `last_read_at` tells when each was read last."""
    where = meters.conditions(
        areas=caller.areas,
        medium=query.medium,
        district=query.district,
        gateway=query.gateway,
        state=query.state,
        silent_since=house.settings.read_rate_since(house.clock.now_ms()) if query.silent else None,
    )
    page = await house.read(
        lambda c: meters.list_meters(c, limit=query.limit, cursor=query.cursor, where=where, search=query.search)
    )
    return reply(request, MeterPage(items=page.items, next_cursor=page.next_cursor))


@router.get("/{meter_id}", summary="One meter", **answers(MeterOut))
async def one_meter(
    request: Request, house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Facts, installations, the gateway that reads it, and its newest reading."""
    now_ms, stale_s = house.clock.now_ms(), house.settings.gateway_stale_s
    found = await house.read(
        lambda c: meters.one_meter(c, meter_id, areas=caller.areas, now_ms=now_ms, stale_s=stale_s)
    )
    return reply(request, found)


@router.get("/{meter_id}/latest", summary="Newest reading of a meter", **answers(LatestOut))
async def one_latest(
    request: Request, house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[Nothing, Query()]
) -> Response:
    """The newest reading; 404 when the meter was never read, since a missing reading is not a 0."""
    now_ms = house.clock.now_ms()
    found = await house.read(lambda c: latest.one_latest(c, meter_id, areas=caller.areas, now_ms=now_ms))
    if found is None:
        await house.read(lambda c: meters.require(c, meter_id, areas=caller.areas))
        raise not_found("reading of meter", meter_id)
    return reply(request, found)


@router.get("/{meter_id}/readings", summary="Readings of a meter", **answers(ReadingPage, streams=True))
async def list_readings(
    request: Request, house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[ReadingsQuery, Query()]
) -> Response:
    """Readings in a time range, oldest first: a page as JSON, or everything as NDJSON or CSV."""
    t0 = 0 if query.from_ is None else query.from_
    t1 = END_OF_TIME if query.to is None else query.to
    if t1 < t0:
        raise invalid("to", request.query_params.get("to"), "lies before `from`")
    fmt = formats.negotiate(request, query.format)
    if fmt != "json" and {"cursor", "limit"} & query.model_fields_set:
        raise invalid("format", fmt, "a stream gives the whole range and takes neither cursor nor limit")
    t0 = max(t0, await house.read(lambda c: meters.seen_from(c, meter_id, areas=caller.areas)))
    if fmt != "json":
        form = formats.FORMS[fmt]
        pages = _all_readings(house, meter_id, t0, t1, query.quantity, form)
        return await formats.stream(house, pages, form, "readings")
    page = await house.workers.run(
        lambda: readings.list_readings(
            house.store,
            meter_id,
            t0=t0,
            t1=t1,
            limit=query.limit,
            cursor=query.cursor,
            quantities=query.quantity,
        )
    )
    return reply(request, ReadingPage(items=page.items, next_cursor=page.next_cursor))


async def _all_readings(
    house: House, meter: str, t0: int, t1: int, quantities: list[Quantity] | None, form: Form
) -> AsyncIterator[bytes]:
    """Read and encode page behind page, so that a slow caller holds neither a thread nor a transaction."""

    def encoded(after: int | None) -> tuple[bytes, int | None]:
        rows = readings.read_page(
            house.store, meter, t0=t0, t1=t1, limit=formats.STREAM_PAGE, quantities=quantities, after=after
        )
        body = form.encode([words.reading(row) for row in rows])
        return body, rows[-1].read_at if len(rows) == formats.STREAM_PAGE else None

    after: int | None = None
    while True:
        body, after = await house.workers.run(partial(encoded, after))
        yield body
        if after is None:
            return


@router.get("/{meter_id}/closings", summary="Daily closing indexes of a meter", **answers(ClosingPage))
async def list_closings(
    request: Request, house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[ClosingsQuery, Query()]
) -> Response:
    """The last index of each local day, oldest first."""
    page = await house.read(
        lambda c: meters.list_closings(
            c,
            meter_id,
            areas=caller.areas,
            first=query.from_,
            last=query.to,
            limit=query.limit,
            cursor=query.cursor,
        )
    )
    return reply(request, ClosingPage(items=page.items, next_cursor=page.next_cursor))
