"""What the live service reads from the registry's books: places, wiring, gateways that are away, thresholds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly.stored import Places, city_zone, read_places
from anomaly.thresholds import Override, Thresholds
from anomaly.topology import Topology, Wired
from registry import models
from registry.models_findings import ThresholdChange


@dataclass(frozen=True, slots=True)
class Books:
    """One look at the books. wiring: meter -> gateway, bus and district."""

    places: Places
    wiring: Mapping[str, Mapping[str, str]]
    topology: Topology
    thresholds: Thresholds

    def same_places(self, other: Books) -> bool:
        """True when the same meters hang at the same places, with the same facts."""
        mine, theirs = self.places, other.places
        return (mine.table.meters, mine.stays, mine.quantity) == (theirs.table.meters, theirs.stays, theirs.quantity)


def read_books(
    connection: Connection, t0: int, t1: int, *, parts: Collection[int] | None, thresholds: Thresholds
) -> Books:
    """Read everything for the meters of `parts` (None: all). Raises: SettingsError when there is no meter."""
    places = read_places(connection, t0, t1, parts=parts)
    wiring = _wiring(connection)
    meters = [
        Wired(
            m.meter_id,
            (known := wiring.get(m.meter_id, {})).get("gateway", ""),
            known.get("bus", ""),
            m.district,
            m.interval_s * 1000,
        )
        for m in places.table.meters
    ]
    gateway = models.Gateway
    districts = {row.id: row.district for row in connection.execute(sa.select(gateway.id, gateway.district))}
    for m in places.table.meters:
        wiring[m.meter_id] = {**wiring.get(m.meter_id, {}), "district": m.district}
    everyone = {} if parts is None else _everyone(connection, districts, t1)
    topology = Topology(meters, {**districts, **everyone}, everyone=everyone)
    return Books(places, wiring, topology, with_changes(connection, thresholds))


def _everyone(connection: Connection, known: Mapping[str, str | None], at: int) -> dict[str, str]:
    """District of every gateway that has a meter at `at` [ms UTC], whichever service watches it."""
    meter, stay, place = models.Meter, models.Installation, models.UsagePoint
    statement = (
        sa.select(meter.gateway_id, place.district)
        .join(stay, stay.meter_id == meter.id)
        .join(place, place.id == stay.usage_point_id)
        .where(meter.gateway_id.is_not(None), sa.or_(stay.removed_at.is_(None), stay.removed_at > at))
        .distinct()
    )
    homes: dict[str, set[str]] = {}
    for gateway, district in connection.execute(statement):
        homes.setdefault(str(gateway), set()).add(district or "")
    return {
        name: known.get(name) or (next(iter(own)) if len(own) == 1 else "") for name, own in sorted(homes.items())
    }


def _wiring(connection: Connection) -> dict[str, dict[str, str]]:
    meter, bus = models.Meter, models.Bus
    statement = sa.select(meter.id, meter.gateway_id, bus.name).outerjoin(bus, bus.id == meter.bus_id)
    return {row.id: {"gateway": row.gateway_id or "", "bus": row.name or ""} for row in connection.execute(statement)}


def gateways_away(connection: Connection, now_ms: int, stale_s: float) -> dict[str, int]:
    """Return gateways that were there and are away, with their last sign of life [ms UTC].

    A last will was written when its gateway connected, so that its own time says nothing of when it was lost.
    """
    status = models.GatewayStatus
    away = {}
    for row in connection.execute(sa.select(status.gateway, status.online, status.state_at, status.health_at)):
        last = max(row.state_at or 0, row.health_at or 0)
        if last and ((not row.online and row.state_at) or now_ms - last > stale_s * 1000):
            away[row.gateway] = int(last)
    return away


def with_changes(connection: Connection, base: Thresholds, *, without: int = 0) -> Thresholds:
    """Lay the confirmed changes of the registry over the file's thresholds, each from its local midnight on.

    without: a change that is left out. Findings of a day carry the number of the change that was in force on it.
    """
    change = ThresholdChange
    rows = connection.execute(
        sa.select(change.id, change.effective_at, change.scope, change.values)
        .where(change.state == "confirmed", change.id != without)
        .order_by(change.effective_at, change.id)
    ).all()
    if not rows:
        return base
    zone = ZoneInfo(city_zone(connection))
    overrides = tuple(
        override_of(
            row.id,
            row.scope,
            {name: float(value) for name, value in row.values.items() if name in base.defaults},
            datetime.fromtimestamp(row.effective_at / 1000, UTC).astimezone(zone).date(),
        )
        for row in rows
    )
    dated = tuple((row.effective_at // 1000, f"{base.version}+change-{row.id}") for row in rows)
    return Thresholds(base.version, base.defaults, (*base.overrides, *overrides), dated)


def override_of(
    number: int, scope: Mapping[str, object], values: Mapping[str, float], since: date | None
) -> Override:
    """Return a change as an entry of the thresholds. since: None for always, as a back-test needs it."""
    return Override(
        values,
        medium=str(scope.get("medium") or ""),
        customer_class=str(scope.get("class") or ""),
        meter=str(scope.get("meter") or ""),
        since=since,
        origin=f"change {number}",
    )
