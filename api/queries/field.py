"""The field network as its pages show it: gateways with what they say of themselves, buses, meters in trouble."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas
from api.paging import Page
from api.queries.gateways import list_gateways, one_gateway
from api.schemas import GatewayOut, GatewaySummary
from metering.messages import BusHealth, MeterOnBus
from registry.ledger import BUSES, get_state
from registry.models import Bus, EventRecord, GatewayStatus, Meter
from registry.models_billing import GatewayOutage

FAILED_MS: Final = 86_400_000
"""Failed reads are counted over the last day."""
_METERS: Final = 100
_OUTAGES: Final = 20
_STATUS: Final = GatewayStatus.__table__


@dataclass(frozen=True, slots=True)
class Said:
    """What a gateway last said of itself. clock_ms: [ms] its clock ahead of ours, the way of the message included."""

    version: str = ""
    plan: str = ""
    clock_ms: int | None = None
    meters_silent: int | None = None


@dataclass(frozen=True, slots=True)
class MeterLine:
    """A meter on a bus. busy, planned: part of the bus's time that it takes, and should take; None when unknown."""

    facts: MeterOnBus
    busy: float | None
    planned: float | None

    @property
    def troubled(self) -> bool:
        """True when a person may want to look: it fails now, or often."""
        facts = self.facts
        lost = facts.silent + facts.late + facts.damaged + facts.foreign + facts.refused
        return facts.failures > 0 or (facts.asked > 0 and lost * 20 > facts.asked)


@dataclass(frozen=True, slots=True)
class BusLine:
    """A bus: as the gateway told it (`told`), or as the books have it. meters_planned: of the books."""

    name: str
    kind: str
    place: str
    meters_planned: int
    told: BusHealth | None = None
    meters: list[MeterLine] = field(default_factory=list)
    busy: float | None = None


@dataclass(frozen=True, slots=True)
class FailedLine:
    """Reads of a meter that failed within the last day, by cause."""

    meter: str
    cause: str
    count: int
    last_at: int


@dataclass(frozen=True, slots=True)
class GatewayView:
    """All of one gateway. buses_at: [ms UTC] when it told of its buses, None when never."""

    gateway: GatewayOut
    said: Said
    buses: list[BusLine]
    buses_at: int | None
    failed: list[FailedLine]
    outages: list[tuple[int, int | None]]


def gateways(
    connection: Connection, *, areas: Areas, now_ms: int, stale_s: float, limit: int, cursor: str | None
) -> tuple[Page[GatewaySummary], dict[str, Said]]:
    """Return one page of gateways, and what each of them says of itself."""
    page = list_gateways(connection, areas=areas, now_ms=now_ms, stale_s=stale_s, limit=limit, cursor=cursor)
    wanted = sa.select(_STATUS.c.gateway, _STATUS.c.health).where(_STATUS.c.gateway.in_([g.id for g in page.items]))
    return page, {gateway: said(health) for gateway, health in connection.execute(wanted)}


def gateway_view(connection: Connection, name: str, *, areas: Areas, now_ms: int, stale_s: float) -> GatewayView:
    """Return one gateway. Raises: ProblemError 404, also outside `areas`."""
    found = one_gateway(connection, name, areas=areas, now_ms=now_ms, stale_s=stale_s)
    told, told_at = _told(connection, name)
    return GatewayView(
        found,
        said(found.health),
        _buses(connection, name, told),
        told_at if told else None,
        _failed(connection, name, now_ms),
        _outages(connection, name),
    )


def said(health: Any) -> Said:
    """Return what a health message says, as far as it is of the expected form."""
    facts: Mapping[str, Any] = health if isinstance(health, Mapping) else {}
    at, heard = _whole(facts.get("at")), _whole(facts.get("heard_at"))
    version, plan = (str(facts.get(key, ""))[:64] for key in ("version", "plan"))
    offset = None if at is None or heard is None else at - heard
    return Said(version, plan, offset, _whole(facts.get("meters_silent")))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _told(connection: Connection, gateway: str) -> tuple[list[BusHealth], int | None]:
    """The buses as the gateway told them and when; [] for what is not of the expected form."""
    try:
        kept = json.loads(get_state(connection, f"{BUSES}{gateway}") or "{}")
        return msgspec.convert(kept["buses"], list[BusHealth]), _whole(kept["at"])
    except (ValueError, TypeError, KeyError, msgspec.ValidationError):
        return [], None


def _buses(connection: Connection, gateway: str, told: Iterable[BusHealth]) -> list[BusLine]:
    """Those of the books and those that the gateway tells of; a bus may be known to one side alone."""
    reported = {bus.bus: bus for bus in told}
    count = sa.func.count(Meter.id)
    wanted = (
        sa.select(Bus.name, Bus.kind, Bus.host, Bus.port, count)
        .join(Meter, Meter.bus_id == Bus.id, isouter=True)
        .where(Bus.gateway_id == gateway)
        .group_by(Bus.id, Bus.name, Bus.kind, Bus.host, Bus.port)
        .order_by(Bus.name)
    )
    lines = []
    for name, kind, host, port, meters in connection.execute(wanted):
        place = f"{host}:{port}" if port is not None else host
        lines.append(_line(name, kind, place, meters, reported.pop(name, None)))
    return lines + [_line(bus.bus, bus.kind, "", 0, bus) for bus in reported.values()]


def _line(name: str, kind: str, place: str, planned: int, told: BusHealth | None) -> BusLine:
    if told is None:
        return BusLine(name, kind, place, planned)
    meters = [_meter(meter, told.counts_s) for meter in told.meters]
    counted = told.load is not None and told.counts_s > 0
    busy = sum(meter.busy_s for meter in told.meters) / told.counts_s if counted else None
    return BusLine(name, kind, place, planned, told, meters, busy)


def _meter(meter: MeterOnBus, counts_s: float) -> MeterLine:
    known = meter.planned_s > 0 and meter.interval_s > 0
    busy = meter.busy_s / counts_s if known and counts_s > 0 else None
    return MeterLine(meter, busy, meter.planned_s / meter.interval_s if known else None)


def _failed(connection: Connection, gateway: str, now_ms: int) -> list[FailedLine]:
    event = EventRecord
    total = sa.func.sum(event.count)
    wanted = (
        sa.select(event.meter, event.cause, total, sa.func.max(event.at))
        .where(event.gateway == gateway, event.kind == "read_failed", event.at >= now_ms - FAILED_MS)
        .group_by(event.meter, event.cause)
        .order_by(total.desc(), event.meter)
        .limit(_METERS)
    )
    return [FailedLine(meter, cause, int(count), at) for meter, cause, count, at in connection.execute(wanted)]


def _outages(connection: Connection, gateway: str) -> list[tuple[int, int | None]]:
    outage = GatewayOutage
    wanted = sa.select(outage.from_at, outage.to_at).where(outage.gateway == gateway)
    rows = connection.execute(wanted.order_by(outage.from_at.desc()).limit(_OUTAGES))
    return [(from_at, to_at) for from_at, to_at in rows]
