"""What the charts and tables of one meter's page show: asked of store and registry once for page and charts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy.engine import Connection

from api.house import House
from api.queries import consumption, meters
from api.queries.consumption import Consumption
from api.screens.frame import Times, surroundings
from metering.steps import StepLimits
from registry.roles import Actor

_HEAT_DAYS: Final = 14
_DAYS: Final = 400
_KEEP_S: Final = 5.0


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


async def consumption_of(house: House, caller: Actor, meter: str) -> Consumption:
    """Return all cells of a meter; worked out once for the page and its charts."""

    async def ask() -> Consumption:
        plan = await _plan(house, caller, meter)
        return await house.workers.run(lambda: _work(house, plan))

    return await house.shared.get(("consumption", meter, caller.areas), ask, keep_s=_KEEP_S)


async def _plan(house: House, caller: Actor, meter: str) -> _Plan:
    zone = Times((await surroundings(house)).zone).zone
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
        lead_s = max(consumption.HOUR_S // 2, min(row["interval_s"] or 0, consumption.HOUR_S) - 1)
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
