"""What the registry knows of one meter, for its page: facts, findings, work orders, bytes that were refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import Connection

from api.house import House
from api.queries import events, findings, meters, work_orders
from api.queries.findings import Filters
from api.schemas import MeterOut, QuarantineOut
from api.schemas_findings import FindingOut
from api.schemas_work_orders import OrderOut
from api.screens.frame import may
from registry.roles import Actor

_FINDINGS: Final = 20
_ORDERS: Final = 10
_FRAMES: Final = 5


@dataclass(frozen=True, slots=True)
class Known:
    """since: [ms UTC] from when on the caller may see readings. frames: None for a role that may not see bytes."""

    meter: MeterOut
    alarms: list[FindingOut]
    orders: list[OrderOut]
    frames: list[QuarantineOut] | None
    since: int


def known_of(connection: Connection, house: House, caller: Actor, meter: str, *, now_ms: int) -> Known:
    """Return all of it. Raises: ProblemError 404."""
    stale_s = house.settings.gateway_stale_s
    facts = meters.one_meter(connection, meter, areas=caller.areas, now_ms=now_ms, stale_s=stale_s)
    filters = Filters(meter=meter, suppressed=True)
    alarms = findings.list_findings(connection, areas=caller.areas, filters=filters, limit=_FINDINGS, cursor=None)
    frames = (
        events.list_quarantine(connection, areas=caller.areas, limit=_FRAMES, meter=meter).items
        if may(caller, "GET", "/api/v1/quarantine")
        else None
    )
    since = meters.seen_from(connection, meter, areas=caller.areas)
    return Known(facts, alarms.items, _orders(connection, caller, facts, now_ms), frames, since)


def _orders(connection: Connection, caller: Actor, meter: MeterOut, now_ms: int) -> list[OrderOut]:
    """Orders of the place where the meter is now."""
    here = next((stay.usage_point.id for stay in meter.installations if stay.removed_at is None), None)
    if here is None:
        return []
    wanted = work_orders.Filters(place=here)
    return work_orders.list_orders(connection, caller, filters=wanted, now_ms=now_ms, limit=_ORDERS).items
