"""/api/v1/billing: read rates 抄见率 and the monthly reading report 抄表月报."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.access.caller import InCaller
from api.billing import rates, report
from api.billing.desk import InBilling, steps
from api.billing.lists import latest_period
from api.billing.settings import BillingSettings
from api.house import House, InHouse
from api.parameters import Strict
from api.replies import reply
from api.routes.documented import answers
from api.schemas_billing import By, Period
from api.schemas_billing_reports import RatePage, ReportOut
from metering.clock import rfc3339
from registry.roles import Actor

router = APIRouter(prefix="/api/v1/billing", tags=["billing"])
_PAGE: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
}
Sums = tuple[Mapping[report.Group, rates.Sum], rates.Sum]


class RatesQuery(Strict):
    """Which period, and what is told apart. period: the newest one that has totals, when left out."""

    period: Period | None = None
    by: By = "class"


class ReportQuery(Strict):
    """Which period, and how it is written."""

    period: Period | None = None
    format: Annotated[Literal["json", "csv", "html"], Field(description="html: a page to be printed.")] = "json"


async def _period(house: House, caller: Actor, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    return await house.read(lambda c: latest_period(c, caller.areas)) or rfc3339(house.clock.now_ms())[:7]


async def _sums(
    house: House, settings: BillingSettings, caller: Actor, period: str, by: str, adjusted: set[str]
) -> Sums:
    groups: defaultdict[report.Group, rates.Sum] = defaultdict(rates.new_sum)
    total = rates.new_sum()
    pages = rates.visits(house.database, house.store, settings, period, caller.areas)
    async for page in steps(house, pages):
        for visit in page:
            for found in (groups[rates.group_of(visit, by)], total):
                found.add(visit, corrected=visit.usage_point in adjusted)
    return groups, total


@router.get("/read-rates", summary="Read rates 抄见率", **answers(RatePage))
async def read_rates(
    request: Request,
    house: InHouse,
    settings: InBilling,
    caller: InCaller,
    query: Annotated[RatesQuery, Query()],
) -> Response:
    """Due, at first try, after retry, after backfill, by hand, estimated, missing and why, against the targets."""
    period = await _period(house, caller, query.period)
    groups, total = await _sums(house, settings, caller, period, query.by, set())
    return reply(request, report.rates(settings, period, query.by, groups, total), cached=False)


def _reported() -> dict[str, Any]:
    found = answers(ReportOut)
    texts = {"text/csv": "One line per class and medium.", "text/html": "A page to be printed."}
    content = {kind: {"schema": {"type": "string", "description": text}} for kind, text in texts.items()}
    found["responses"][200]["content"] = content
    return found


@router.get("/reading-report", summary="Monthly reading report 抄表月报", **_reported())
async def reading_report(
    request: Request,
    house: InHouse,
    settings: InBilling,
    caller: InCaller,
    query: Annotated[ReportQuery, Query()],
) -> Response:
    """Due, read, estimated, read rate, accuracy, long-standing exceptions solved; by class and medium."""
    period = await _period(house, caller, query.period)
    adjusted = await house.read(lambda c: report.adjusted_points(c, period))
    groups, total = await _sums(house, settings, caller, period, "class", adjusted)
    lasting = await house.read(lambda c: report.lasting_exceptions(c, caller.areas, period))
    made = report.report(settings, period, groups, total, lasting, now=house.clock.now_ms())
    if query.format == "json":
        return reply(request, made, cached=False)
    if query.format == "html":
        return Response(report.report_html(made), media_type="text/html", headers=_PAGE)
    headers = {
        "content-disposition": f'attachment; filename="reading-report-{period}.csv"',
        "cache-control": "no-store",
    }
    return Response(report.report_csv(made), media_type="text/csv", headers=headers)
