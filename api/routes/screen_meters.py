"""/meters: search, and one meter with consumption, readings, installations and findings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import words
from api.access.caller import InCaller
from api.house import House, InHouse
from api.parameters import END_OF_TIME, Cursor, MeterPath, Nothing, Strict, Word
from api.queries import consumption, findings, meters
from api.queries.consumption import Consumption
from api.queries.findings import Filters
from api.queries.readings import newest
from api.screens.frame import attempt, page, surroundings
from metering.steps import StepLimits
from registry.books import Medium
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_READINGS: Final = 24
_HEAT_DAYS: Final = 14
_DAYS: Final = 400
_LEAD_S: Final = 3600
_READINGS_MS: Final = 31 * 86_400_000
_KEEP_S: Final = 5.0


class MetersQuery(Strict):
    """What is looked for."""

    search: Annotated[Word, Field(max_length=64)] | Literal[""] = ""
    medium: Medium | Literal[""] = ""
    district: Word | Literal[""] = ""
    gateway: Word | Literal[""] = ""
    cursor: Cursor | None = None


@router.get("/meters")
async def meters_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[MetersQuery, Query()]
) -> Response:
    """Meters by id, narrowed by a part of id, serial, usage point, address or account."""

    def look(connection: Connection) -> Any:
        where = meters.conditions(
            areas=caller.areas,
            medium=query.medium or None,
            district=query.district or None,
            gateway=query.gateway or None,
        )
        search = query.search or None
        return meters.list_meters(connection, limit=_ROWS, cursor=query.cursor, where=where, search=search)

    found, trouble = await attempt(house.read(look))
    return await page(house, request, caller, "meters.html", found=found, query=query, trouble=trouble)


@router.get("/meters/{meter_id}")
async def meter_page(
    request: Request, house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[Nothing, Query()]
) -> Response:
    """One meter. The registry's part and the store's part fail each by itself."""
    now, stale_s = house.clock.now_ms(), house.settings.gateway_stale_s

    def look(connection: Connection) -> Any:
        meter = meters.one_meter(connection, meter_id, areas=caller.areas, now_ms=now, stale_s=stale_s)
        filters = Filters(meter=meter_id, suppressed=True)
        alarms = findings.list_findings(connection, areas=caller.areas, filters=filters, limit=20, cursor=None)
        return meter, alarms.items, meters.seen_from(connection, meter_id, areas=caller.areas)

    found, trouble = await attempt(house.read(look))
    meter, alarms, since = found or (None, [], 0)
    rows, store_trouble, used = None, "", None
    if meter is not None:
        t0 = max(since, now - _READINGS_MS)
        rows, store_trouble = await attempt(
            house.workers.run(lambda: newest(house.store, meter_id, t0=t0, t1=END_OF_TIME, limit=_READINGS))
        )
    if rows:
        used, store_trouble = await attempt(_consumption(house, caller, meter_id))
    quantity = meter.quantity if meter is not None else ""
    return await page(
        house,
        request,
        caller,
        "meter.html",
        topics="readings findings",
        meter_id=meter_id,
        meter=meter,
        alarms=alarms,
        rows=rows,
        used=consumption.shown(used, words.unit_of(quantity)) if used else None,
        night=words.amount_or_none(used.night_minimum, quantity) if used else None,
        trouble=trouble,
        store_trouble=store_trouble,
    )


@router.get("/meters/{meter_id}/consumption")
async def meter_consumption(
    house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[Nothing, Query()]
) -> dict[str, Any]:
    """What the charts of the page draw."""
    row = await house.read(lambda c: meters.require(c, meter_id, areas=caller.areas))
    found = await _consumption(house, caller, meter_id)
    return consumption.shown(found, words.unit_of(row["quantity"]))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked of the store. closings: of the registry."""

    meter: str
    quantity: str
    limits: StepLimits
    lead_s: int
    first: datetime
    last: datetime
    first_day: date
    last_day: date
    closings: dict[date, tuple[int, int]]


async def _consumption(house: House, caller: Actor, meter: str) -> Consumption:
    """Return all cells of a meter; worked out once for the page and its charts."""

    async def ask() -> Consumption:
        plan = await _plan(house, caller, meter)
        return await house.workers.run(lambda: _work(house, plan))

    return await house.shared.get(("consumption", meter, caller.areas), ask, keep_s=_KEEP_S)


async def _plan(house: House, caller: Actor, meter: str) -> _Plan:
    zone = _zone((await surroundings(house)).zone)
    now = datetime.fromtimestamp(house.clock.now_ms() / 1000, zone)
    hour = now.replace(minute=0, second=0, microsecond=0)
    first = (hour - timedelta(days=_HEAT_DAYS)).replace(hour=0)
    last_day = now.date()
    first_day = (last_day - timedelta(days=_DAYS)).replace(day=1)

    def look(connection: Connection) -> _Plan:
        row = meters.require(connection, meter, areas=caller.areas)
        since = meters.seen_from(connection, meter, areas=caller.areas)
        known = consumption.closings(connection, meter, caller.areas, first_day - timedelta(days=1), last_day)
        start = max([first, datetime.fromtimestamp(since / 1000, zone)]).replace(minute=0, second=0, microsecond=0)
        oldest = max(first_day, min(known, default=last_day))
        lead_s = max(_LEAD_S, min(row["interval_s"] or 0, 86_400)) // 2
        return _Plan(
            meter,
            row["quantity"],
            consumption.limits_of_meter(row),
            lead_s,
            start,
            hour,
            oldest,
            last_day,
            known,
        )

    return await house.read(look)


def _work(house: House, plan: _Plan) -> Consumption:
    hours, complete = consumption.hourly(
        house.store,
        plan.meter,
        plan.quantity,
        first=plan.first,
        last=plan.last,
        lead_s=plan.lead_s,
        limits=plan.limits,
    )
    days = consumption.daily(plan.closings, plan.first_day, plan.last_day, plan.limits)
    return consumption.whole(hours, days, complete=complete)


def _zone(name: str) -> Any:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
