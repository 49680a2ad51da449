"""/api/v1/billing/reconciliation: prepaid meters, SCADA, parent meters; what agrees and what nobody can know."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import formats, paging
from api.access.caller import InCaller
from api.billing.desk import InBilling, PeriodPath
from api.billing.reconcile import ask_for_exchanges, last_period, passes, results, spoken
from api.billing.reconcile_words import Kind, Scope
from api.house import House, InHouse
from api.parameters import Nothing, PageQuery, PointPath, Word
from api.problems import ProblemError, invalid, not_found
from api.queries.books import require_point
from api.replies import reply
from api.routes.documented import answers
from api.schemas_billing import Period
from api.schemas_reconcile import (
    ComparedOut,
    ComparedPage,
    ExchangesOut,
    ReconcileIn,
    RunOut,
    SupplyLinkOut,
    SupplyLinkPage,
)
from metering.clock import rfc3339
from registry import supply
from registry.models import UsagePoint
from registry.roles import Actor

router = APIRouter(prefix="/api/v1/billing/reconciliation", tags=["billing"])
KindPath = Annotated[Kind, Path(description="What is compared.", examples=["prepaid"])]
VerdictWord = Literal["agrees", "waiting", "mismatch", "shown", "look", "loss", "gain", "not_knowable"]
_COLUMNS: Final = (
    *("usage_point", "period", "district", "verdict", "cause", "difference", "from", "to", "work_order"),
    *("computed_at", "facts"),
)


class ComparedQuery(PageQuery):
    """Filters; several must all hold."""

    period: Annotated[Period, Field(description="The last one that was compared when left out.")] | None = None
    verdict: VerdictWord | None = None
    district: Word | None = None
    format: formats.FormatParameter = None


@router.get("/links/{usage_point}", summary="Supply links of a usage point", **answers(SupplyLinkPage))
async def supply_links(
    request: Request, house: InHouse, caller: InCaller, usage_point: PointPath, query: Annotated[Nothing, Query()]
) -> Response:
    """As parent and as child."""

    def work(connection: Connection) -> SupplyLinkPage:
        require_point(connection, caller, usage_point)
        found = [link for link in supply.links_of(connection, usage_point) if _seen(connection, caller, link)]
        return SupplyLinkPage(items=[_link_out(link) for link in found])

    return reply(request, await house.read(work))


def _seen(connection: Connection, caller: Actor, link: supply.Link) -> bool:
    """A link tells of both its ends: a caller for some areas sees it when both lie there."""
    if caller.areas is None:
        return True
    ends = [name for name in (link.parent, link.child) if name]
    found = connection.execute(sa.select(UsagePoint.district).where(UsagePoint.id.in_(ends))).scalars()
    return all(district in caller.areas for district in found)


def _link_out(link: supply.Link) -> SupplyLinkOut:
    return SupplyLinkOut(
        parent=link.parent,
        child=link.child,
        from_=rfc3339(link.since),
        parent_class=link.parent_class,
        child_class=link.child_class,
    )


@router.post("/prepaid/exchanges", summary="Ask for meter exchanges 换表", **answers(ExchangesOut))
async def prepaid_exchanges(
    request: Request,
    house: InHouse,
    caller: InCaller,
    settings: InBilling,
    body: ReconcileIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """An urgent work order for each prepaid meter that disagrees and has none; asking again opens no second one."""
    district, now, calendar = _district(caller, body.district), house.clock.now_ms(), house.orders.calendar()
    opened = await house.write(
        lambda c: ask_for_exchanges(
            c,
            caller,
            body.period,
            settings.reconciliation,
            calendar=calendar,
            now=now,
            district=district,
            areas=caller.areas,
        )
    )
    return reply(request, ExchangesOut(period=body.period, work_orders=opened), cached=False)


@router.get("/{kind}", summary="Comparisons of a period", **answers(ComparedPage, streams=True))
async def list_compared(
    request: Request, house: InHouse, caller: InCaller, kind: KindPath, query: Annotated[ComparedQuery, Query()]
) -> Response:
    """A page as JSON, or everything as NDJSON or CSV, as the last run left it."""
    form = formats.negotiate(request, query.format)
    if form == "json":
        after = paging.text_key("reconciliation", query.cursor) or ""
        page = await house.read(lambda c: _page(c, caller, kind, query, after))
        return reply(request, page)
    if {"cursor", "limit"} & query.model_fields_set:
        raise invalid("format", form, "a stream holds everything and takes neither cursor nor limit")
    writer = formats.Form(form, lambda: b"" if form == "ndjson" else formats.csv_lines([_COLUMNS]), bytes)
    return await formats.stream(
        house, _pages(house, caller, kind, query, form), writer, f"{kind}-{query.period or 'last'}"
    )


def _page(connection: Connection, caller: Actor, kind: Kind, query: ComparedQuery, after: str) -> ComparedPage:
    rows = _rows(connection, caller, kind, query, after, query.limit + 1)
    page = paging.page_of(rows, query.limit, "reconciliation", lambda row: str(row["usage_point_id"]))
    return ComparedPage(items=[ComparedOut(**spoken(row)) for row in page.items], next_cursor=page.next_cursor)


def _rows(
    connection: Connection, caller: Actor, kind: Kind, query: ComparedQuery, after: str, limit: int
) -> list[Any]:
    return results(
        connection,
        kind,
        query.period or last_period(connection, kind),
        verdict=query.verdict or "",
        district=query.district or "",
        areas=caller.areas,
        after=after,
        limit=limit,
    )


async def _pages(
    house: House, caller: Actor, kind: Kind, query: ComparedQuery, form: formats.Format
) -> AsyncIterator[bytes]:
    after, more = "", True
    while more:
        start = after
        rows = await house.read(lambda c: _rows(c, caller, kind, query, start, formats.STREAM_PAGE))  # noqa: B023 (awaited before `start` changes)
        more = len(rows) == formats.STREAM_PAGE
        after = rows[-1]["usage_point_id"] if rows else after
        told = [spoken(row) for row in rows]
        if form == "ndjson":
            yield "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in told).encode()
        else:
            yield formats.csv_lines([_cell(item.get(name, "")) for name in _COLUMNS] for item in told)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@router.post("/{kind}", summary="Compare a period", **answers(RunOut))
async def run_compare(
    request: Request,
    house: InHouse,
    caller: InCaller,
    settings: InBilling,
    kind: KindPath,
    body: ReconcileIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """Anew, from readings and books as they are now. Whole cities: `metergate reconcile`."""
    scope, now = Scope(_district(caller, body.district)), house.clock.now_ms()
    work = passes(house.database, house.store, settings, caller, kind, body.period, scope, now=now)
    counts: dict[str, int] = {}
    while (found := await house.workers.run(lambda: next(work, None))) is not None:
        counts = found
    return reply(request, RunOut(kind=kind, period=body.period, verdicts=counts), cached=False)


@router.get("/{kind}/usage-points/{usage_point}/{period}", summary="One comparison", **answers(ComparedOut))
async def one_compared(
    request: Request,
    house: InHouse,
    caller: InCaller,
    kind: KindPath,
    usage_point: PointPath,
    period: PeriodPath,
    query: Annotated[Nothing, Query()],
) -> Response:
    """With every number behind it."""

    def work(connection: Connection) -> ComparedOut:
        require_point(connection, caller, usage_point)
        rows = results(connection, kind, period, points=(usage_point,), limit=1)
        if not rows:
            raise not_found("comparison", f"{kind} {usage_point} {period}")
        return ComparedOut(**spoken(rows[0]))

    return reply(request, await house.read(work))


def _district(caller: Actor, district: str | None) -> str:
    """Return the district to work on, "" for all. Raises: ProblemError 403 when it is not the caller's."""
    if caller.areas is None:
        return district or ""
    if district is None and len(caller.areas) == 1:
        return next(iter(caller.areas))
    if district is None or district not in caller.areas:
        raise ProblemError(403, "not-permitted-here", "name one of your districts")
    return district
