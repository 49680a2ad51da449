"""Which meters a set-clock is for, in their local time, and the monthly one before reading day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.books import NOT_READ
from registry.ledger import get_state, set_state
from registry.models import Bus, Gateway, Installation, Meter, UsagePoint

_MOST = 500
"""Meters in one command."""


def clocks_of(
    connection: Connection,
    gateway: str,
    profiles: Iterable[str],
    *,
    at: int,
    bus: str = "",
    meters: Sequence[str] | None = None,
    areas: frozenset[str] | None = None,
) -> list[tuple[int, list[str]]]:
    """Return [(offset of local time from UTC [s], meter ids)] of a gateway's meters in service.

    profiles: models that take a time. bus, meters: only of this bus, only these. areas: only what the caller may see.
    """
    statement = (
        sa.select(Meter.id, UsagePoint.tz)
        .outerjoin(Installation, sa.and_(Installation.meter_id == Meter.id, Installation.removed_at.is_(None)))
        .outerjoin(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .where(Meter.gateway_id == gateway, Meter.state.not_in(NOT_READ))
        .order_by(Meter.id)
    )
    if meters is None:
        statement = statement.where(Meter.profile.in_(list(profiles)))
    else:
        statement = statement.where(Meter.id.in_(list(meters)))
    if bus:
        statement = statement.join(Bus, Bus.id == Meter.bus_id).where(Bus.name == bus)
    if areas is not None:
        statement = statement.where(UsagePoint.district.in_(areas))
    groups: dict[int, list[str]] = defaultdict(list)
    for meter, zone in connection.execute(statement):
        groups[_offset_s(zone or "UTC", at)].append(meter)
    return [
        (offset, found[start : start + _MOST])
        for offset, found in sorted(groups.items())
        for start in range(0, len(found), _MOST)
    ]


def gateways(connection: Connection) -> list[str]:
    """Return the ids of all gateways."""
    return list(connection.execute(sa.select(Gateway.id).order_by(Gateway.id)).scalars())


def was_ordered(connection: Connection, gateway: str, month: str) -> bool:
    """True when this month's ("2026-03") set-clock was ordered for the gateway."""
    return get_state(connection, _key(gateway)) == month


def note_ordered(connection: Connection, gateway: str, month: str) -> None:
    """Remember that; in the transaction that orders it."""
    set_state(connection, _key(gateway), month)


def _key(gateway: str) -> str:
    return f"set-clock/{gateway}"


def _offset_s(zone: str, at: int) -> int:
    offset = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    return round(offset.total_seconds()) if offset is not None else 0
