"""/meters: search, one meter with consumption, readings, findings and orders, and why a period of it is short."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import words
from api.billing.why import STATES, counts, why
from api.here import Here, InHere
from api.parameters import END_OF_TIME, Cursor, MeterPath, Strict, Word
from api.queries import consumption, meters
from api.queries.readings import newest
from api.routes.screen_parts import NoQuery, show
from api.screens.frame import Times, attempt, surroundings
from api.screens.meter_consumption import consumption_of
from api.screens.meter_page import Known, known_of
from metering.clock import parse_rfc3339
from registry.books import Medium
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_READINGS: Final = 24
_SHORTEST_S: Final = 900
"""Why a reading is missing is told by quarters of an hour at most: a month of seconds is nobody's reading."""
_READINGS_MS: Final = 31 * 86_400_000


class MetersQuery(Strict):
    """What is looked for."""

    search: Annotated[Word, Field(max_length=64)] | Literal[""] = ""
    medium: Medium | Literal[""] = ""
    district: Word | Literal[""] = ""
    gateway: Word | Literal[""] = ""
    silent: Literal["", "1"] = ""
    cursor: Cursor | None = None


class MeterQuery(Strict):
    """Where the list of readings goes on: those before a time [ms UTC]."""

    before: Annotated[int, Field(ge=1, le=END_OF_TIME)] = END_OF_TIME


class WhyQuery(Strict):
    """Which period; "" stands for the present month."""

    period: Annotated[str, Field(pattern=r"^(20\d\d-(0[1-9]|1[0-2]))?$")] = ""


@router.get("/meters")
async def meters_page(here: InHere, query: Annotated[MetersQuery, Query()]) -> Response:
    """Meters by id, narrowed by a part of id, serial, usage point, address or account."""

    def look(connection: Connection) -> Any:
        where = meters.conditions(
            areas=here.caller.areas,
            medium=query.medium or None,
            district=query.district or None,
            gateway=query.gateway or None,
            silent_since=here.house.settings.read_rate_since(here.now) if query.silent else None,
        )
        search = query.search or None
        return meters.list_meters(connection, limit=_ROWS, cursor=query.cursor, where=where, search=search)

    found, trouble = await attempt(here.house.read(look))
    window_h = f"{here.house.settings.read_rate_window_s / 3600:g}"
    return await show(here, "meters.html", found=found, query=query, window_h=window_h, trouble=trouble)


@router.get("/meters/{meter_id}")
async def meter_page(here: InHere, meter_id: MeterPath, query: Annotated[MeterQuery, Query()]) -> Response:
    """One meter. The registry's part and the store's part fail each by itself."""
    known, trouble = await attempt(
        here.house.read(lambda c: known_of(c, here.house, here.caller, meter_id, now_ms=here.now))
    )
    rows, store_trouble, used = None, "", None
    if known is not None:
        rows, store_trouble = await attempt(_readings(here, known, meter_id, query.before))
    if rows or (known is not None and known.meter.latest):
        used, store_trouble = await attempt(consumption_of(here.house, here.caller, meter_id))
    quantity = known.meter.quantity if known is not None else ""
    return await show(
        here,
        "meter.html",
        topics="meter findings orders",
        meter_id=meter_id,
        meter=known.meter if known is not None else None,
        known=known,
        seen_at=parse_rfc3339(known.meter.latest.read_at) if known is not None and known.meter.latest else 0,
        rows=rows,
        older=parse_rfc3339(rows[-1].read_at) if rows and len(rows) == _READINGS else None,
        used=consumption.shown(used, words.unit_of(quantity)) if used else None,
        night=words.amount_or_none(used.night_minimum, quantity) if used else None,
        query=query,
        trouble=trouble,
        store_trouble=store_trouble,
    )


async def _readings(here: Here, known: Known, meter: str, before: int) -> list[Any]:
    last = min(before, here.now + 86_400_000)
    t0 = max(known.since, last - _READINGS_MS)
    return await here.house.workers.run(lambda: newest(here.house.store, meter, t0=t0, t1=before, limit=_READINGS))


@router.get("/meters/{meter_id}/consumption")
async def meter_consumption(here: InHere, meter_id: MeterPath, query: NoQuery) -> dict[str, Any]:
    """What the charts of the page draw."""
    row = await here.house.read(lambda c: meters.require(c, meter_id, areas=here.caller.areas))
    found = await consumption_of(here.house, here.caller, meter_id)
    return consumption.shown(found, words.unit_of(row["quantity"]))


@router.get("/meters/{meter_id}/why")
async def meter_why(here: InHere, meter_id: MeterPath, query: Annotated[WhyQuery, Query()]) -> Response:
    """Every expected reading of a period: received, late, quarantined, waiting or missing, and why."""
    zone = Times((await surroundings(here.house)).zone).zone
    period = query.period or f"{datetime.fromtimestamp(here.now / 1000, zone):%Y-%m}"

    def look(connection: Connection) -> Any:
        meters.require(connection, meter_id, areas=here.caller.areas)
        try:
            _, bounds, stretches = why(
                connection, here.house.store, meter_id, period, now=here.now, shortest_s=_SHORTEST_S
            )
        except RefusedError as error:
            return None, [], str(error)
        return bounds, [one for one in stretches if one.meter == meter_id], ""

    found, trouble = await attempt(here.house.read(look))
    bounds, stretches, refused = found or (None, [], "")
    return await show(
        here,
        "meter_why.html",
        meter_id=meter_id,
        period=period,
        bounds=bounds,
        stretches=stretches,
        counted=counts(stretches),
        states=STATES,
        refused=refused,
        trouble=trouble,
    )
