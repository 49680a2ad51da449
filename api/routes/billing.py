"""/api/v1/billing/totals and periods: what was used, in which state it is, and what a clerk says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import formats
from api.access.caller import InCaller
from api.billing import export
from api.billing.compute import Tally
from api.billing.desk import (
    InBilling,
    KeyHeader,
    PeriodPath,
    check_version,
    once,
    scope_of,
    steps,
    told,
)
from api.billing.keep import refresh, refresh_blocks
from api.billing.lists import Filters
from api.billing.load import Scope
from api.billing.spoken import total_out
from api.billing.why import counts, why
from api.house import House, InHouse
from api.parameters import Nothing, PageQuery, PointPath, Word
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError, invalid
from api.queries import billing, books
from api.replies import reply
from api.routes.documented import answers
from api.schemas_billing import (
    DecideIn,
    HandReadingIn,
    Period,
    PeriodPage,
    RefreshOut,
    Scoped,
    State,
    StretchOut,
    TotalDetail,
    TotalOut,
    TotalPage,
    WhyOut,
)
from api.schemas_books import FateOut
from metering.clock import rfc3339
from registry import billing_words, office
from registry.book_changes import BookError
from registry.books import CustomerClass, Medium
from registry.models import Installation
from registry.roles import Actor

router = APIRouter(prefix="/api/v1/billing", tags=["billing"])
NoQuery = Annotated[Nothing, Query()]
_FILES: Final = ("xlsx", "parquet", "nem13")


class TotalsQuery(PageQuery):
    """Filters; several must all hold."""

    period: Period | None = None
    state: State | None = None
    cause: Word | None = None
    customer_class: CustomerClass | None = None
    medium: Medium | None = None
    district: Word | None = None
    usage_point: Word | None = None
    account_number: Word | None = None
    closed: bool | None = None
    since: Annotated[
        int | None,
        Field(ge=0, le=2**63 - 1, description="Only totals that changed after this version, in that order."),
    ] = None
    format: Annotated[
        Literal["json", "ndjson", "csv", "xlsx", "parquet", "nem13"] | None,
        Field(description="json (a page), or a file with everything; else the Accept header decides."),
    ] = None

    def filters(self) -> Filters:
        """Return what the query asks for."""
        return Filters(**{name: getattr(self, name) for name in Filters.__dataclass_fields__})


def _streamed() -> dict[str, Any]:
    found = answers(TotalPage, streams=True)
    content = found["responses"][200]["content"]
    content["text/csv"]["schema"]["description"] = "Fixed columns, or NEM13 records."
    for kind in ("xlsx", "parquet"):
        content[export.encoder(kind, now=0).media_type] = {"schema": {"type": "string", "format": "binary"}}
    return found


@router.get("/totals", summary="Monthly totals 月度用量", **_streamed())
async def list_totals(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[TotalsQuery, Query()]
) -> Response:
    """A page as JSON, or everything as a file. `since` is for pullers: every change gets a higher version."""
    kind = query.format if query.format in _FILES else formats.negotiate(request, query.format)  # type: ignore[arg-type]  # the rest is a Format
    filters = query.filters()
    if kind == "json":
        return reply(
            request, await house.read(lambda c: billing.totals(c, caller.areas, filters, query.limit, query.cursor))
        )
    if {"cursor", "limit"} & query.model_fields_set:
        raise invalid("format", kind, "a file holds everything and takes neither cursor nor limit")
    await house.read(lambda c: export.check(c, kind, caller.areas, filters))
    writer = export.encoder(kind, now=house.clock.now_ms())
    name = f"totals-{query.period or 'all'}.{writer.ending}"
    return await formats.stream_file(house, _file(house, caller, filters, writer), writer.media_type, name)


async def _file(house: House, caller: Actor, filters: Filters, writer: export.Encoder) -> AsyncIterator[bytes]:
    """Read and encode page behind page; between two pages nothing is held."""
    async for piece in steps(house, export.pieces(house.database, caller.areas, filters, writer)):
        if piece:
            yield piece


@router.get("/usage-points/{usage_point}/totals/{period}", summary="One total", **answers(TotalDetail))
async def one_total(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, period: PeriodPath, query: NoQuery
) -> Response:
    """With what was decided and what changed since it was closed. Its ETag goes into If-Match."""
    found = await house.read(lambda c: billing.one_total(c, caller, usage_point, period))
    return with_etag(reply(request, found, cached=False), found.total.version)


@router.post(
    "/usage-points/{usage_point}/totals/{period}/refresh", summary="Compute one total again", **answers(RefreshOut)
)
async def refresh_total(
    request: Request,
    house: InHouse,
    settings: InBilling,
    caller: InCaller,
    usage_point: PointPath,
    period: PeriodPath,
    query: NoQuery,
) -> Response:
    """From what is stored now. A closed total stays as it is."""
    now, tally = house.clock.now_ms(), Tally()
    await house.read(lambda c: books.require_point(c, caller, usage_point))
    changed = await house.workers.run(
        lambda: refresh(
            house.database, house.store, settings, period, Scope(points=(usage_point,)), now=now, tally=tally
        )
    )
    return reply(request, RefreshOut(period=period, changed=changed, states=dict(tally.states)), cached=False)


@router.post(
    "/usage-points/{usage_point}/totals/{period}/decide", summary="Accept, or have it read again", **answers(TotalOut)
)
async def decide_total(
    house: InHouse,
    caller: InCaller,
    usage_point: PointPath,
    period: PeriodPath,
    body: DecideIn,
    query: NoQuery,
    if_match: IfMatch = None,
    key: KeyHeader = None,
) -> Response:
    """The word counts for the total as it stands: when data change it, it is looked at again."""
    wanted, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> TotalOut:
        check_version(wanted, billing.require_total(connection, caller, usage_point, period).total["version"])
        billing_words.decide(connection, caller, usage_point, period, body.kind, now=now, note=body.note)
        return total_out(billing.require_total(connection, caller, usage_point, period))

    asked = {"decide": [usage_point, period], **body.model_dump()}
    return told(await once(house, caller, key, asked, work))


@router.post(
    "/usage-points/{usage_point}/totals/{period}/readings",
    summary="Enter a manual reading 手工抄表",
    status_code=202,
    **answers(FateOut, status=202),
)
async def enter_reading(
    request: Request,
    house: InHouse,
    caller: InCaller,
    usage_point: PointPath,
    period: PeriodPath,
    body: HandReadingIn,
    query: NoQuery,
) -> Response:
    """It is safe with this answer and on its way to the store; then compute the total again. Twice is one."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        books.require_point(connection, caller, usage_point)
        meter = meter_there(connection, usage_point, body.meter, body.read_at)
        values = {str(quantity): micro for quantity, micro in body.values.items()}
        return office.post_manual(
            connection, caller, meter, read_at=body.read_at, values=values, person=body.person, reason="manual",
            note=body.note, now=now,
        )  # fmt: skip

    try:
        number = await house.write(work)
    except BookError as error:
        raise ProblemError(409, "refused-by-the-books", error.message) from error
    answer = reply(request, await house.read(lambda c: books.fate(c, caller, number)), cached=False)
    answer.status_code = 202
    answer.headers["location"] = f"/api/v1/office-readings/{number}"
    return answer


def meter_there(connection: Connection, point: str, meter: str | None, at: int) -> str:
    """Return the meter that hung at a usage point at a moment. Raises: ProblemError 409 when it must be named."""
    table = Installation.__table__
    there = connection.execute(
        sa.select(table.c.meter_id).where(
            table.c.usage_point_id == point,
            table.c.installed_at <= at,
            sa.or_(table.c.removed_at.is_(None), table.c.removed_at >= at),
        )
    ).scalars()
    found = sorted(set(there))
    if meter is not None and meter in found:
        return meter
    if meter is None and len(found) == 1:
        return str(found[0])
    hangs = f"{', '.join(found)} did" if found else "no meter did"
    raise ProblemError(409, "refused-by-the-books", f"name the meter that hung at {point} then: {hangs}")


@router.get("/usage-points/{usage_point}/totals/{period}/why", summary="Why a total is short", **answers(WhyOut))
async def why_short(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, period: PeriodPath, query: NoQuery
) -> Response:
    """Of every expected reading: received, late, quarantined, waiting or missing, with the cause and the times."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> WhyOut:
        books.require_point(connection, caller, usage_point)
        _, bounds, found = why(connection, house.store, usage_point, period, now=now)
        stretches = [
            StretchOut(
                meter=s.meter, state=s.state, cause=s.cause, detail=s.detail, from_at=rfc3339(s.first),
                to_at=rfc3339(s.last), readings=s.count,
            )
            for s in found
        ]  # fmt: skip
        return WhyOut(
            usage_point=usage_point, period=period, from_at=rfc3339(bounds.start), to_at=rfc3339(bounds.end),
            counts=counts(found), stretches=stretches,
        )  # fmt: skip

    return reply(request, await house.read(work), cached=False)


@router.get("/periods", summary="How periods stand", **answers(PeriodPage))
async def list_periods(request: Request, house: InHouse, caller: InCaller, query: NoQuery) -> Response:
    """Totals by state, open and closed, newest period first."""
    return reply(request, await house.read(lambda c: billing.periods(c, caller.areas)))


@router.post("/periods/{period}/refresh", summary="Compute a period again", **answers(RefreshOut))
async def refresh_period(
    request: Request,
    house: InHouse,
    settings: InBilling,
    caller: InCaller,
    period: PeriodPath,
    body: Scoped,
    query: NoQuery,
) -> Response:
    """All totals of a scope, block by block. Closed totals stay as they are."""
    scope = scope_of(caller, body.customer_class, body.medium, body.district)
    now, tally = house.clock.now_ms(), Tally()
    blocks = refresh_blocks(house.database, house.store, settings, period, scope, now=now, tally=tally)
    changed = 0
    async for count in steps(house, blocks):
        changed += count
    return reply(request, RefreshOut(period=period, changed=changed, states=dict(tally.states)), cached=False)
