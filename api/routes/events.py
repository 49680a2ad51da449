"""/api/v1/events and /api/v1/quarantine: what went wrong, and the bytes that were refused."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.parameters import Moment, Nothing, PageQuery, Word
from api.queries import events
from api.replies import reply
from api.routes.documented import answers
from api.schemas import EventPage, QuarantineOut, QuarantinePage

router = APIRouter(prefix="/api/v1", tags=["events"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="Its number in the list.", examples=[1])]


class EventsQuery(PageQuery):
    """Filters; several must all hold."""

    gateway: Word | None = None
    meter: Word | None = None
    kind: Word | None = Field(None, examples=["read_failed"])
    cause: Word | None = Field(None, examples=["timeout"])
    from_: Moment | None = Field(None, alias="from", description="First moment of the event, included.")
    to: Moment | None = Field(None, description="Last moment of the event, not included.")


class QuarantineQuery(PageQuery):
    """Filters; several must all hold."""

    gateway: Word | None = None
    meter: Word | None = None
    reason: Word | None = None
    from_: Moment | None = Field(None, alias="from", description="First arrival, included.")
    to: Moment | None = Field(None, description="Last arrival, not included.")


@router.get("/events", summary="List events", **answers(EventPage))
async def list_events(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[EventsQuery, Query()]
) -> Response:
    """Failed reads, security events and whatever else was noticed, newest arrival first."""
    page = await house.read(
        lambda c: events.list_events(
            c,
            areas=caller.areas,
            limit=query.limit,
            cursor=query.cursor,
            t0=query.from_,
            t1=query.to,
            gateway=query.gateway,
            meter=query.meter,
            kind=query.kind,
            cause=query.cause,
        )
    )
    return reply(request, EventPage(items=page.items, next_cursor=page.next_cursor))


@router.get("/quarantine", summary="List refused rows", **answers(QuarantinePage))
async def list_quarantine(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[QuarantineQuery, Query()]
) -> Response:
    """Rows and messages that ingest refused, with reason and first bytes, newest first."""
    page = await house.read(
        lambda c: events.list_quarantine(
            c,
            areas=caller.areas,
            limit=query.limit,
            cursor=query.cursor,
            t0=query.from_,
            t1=query.to,
            gateway=query.gateway,
            meter=query.meter,
            reason=query.reason,
        )
    )
    return reply(request, QuarantinePage(items=page.items, next_cursor=page.next_cursor))


@router.get("/quarantine/{number}", summary="One refused row", **answers(QuarantineOut))
async def one_quarantined(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """One refused row with up to 64 KiB of its bytes."""
    return reply(request, await house.read(lambda c: events.one_quarantined(c, number, areas=caller.areas)))


@router.get(
    "/quarantine/{number}/raw",
    summary="Bytes of a refused row",
    response_model=None,
    responses={
        200: {
            "description": "The bytes as they came.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def raw_quarantined(
    house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """All bytes, as a file to save."""
    raw = await house.read(lambda c: events.raw_quarantined(c, number, areas=caller.areas))
    headers = {"content-disposition": f'attachment; filename="quarantine-{number}.bin"', "cache-control": "no-store"}
    return Response(raw, media_type="application/octet-stream", headers=headers)
