"""When gateways were away: kept from what they say of themselves, so that a missing index can be explained later.

An outage begins with the last sign of life before a last will and ends with the next birth. A silence of health
messages without a will (the broker or ingest was away too) is kept once the next message ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.models_billing import GatewayOutage

SILENCE_MS: Final = 600_000
"""Health comes every few seconds; ten minutes without are worth a line."""


def note(connection: Connection, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Keep what changed between two states of a gateway (rows of `gateway_status`)."""
    gateway = now["gateway"]
    alive = max(before["state_at"] or 0, before["health_at"] or 0)
    if before["online"] and not now["online"]:
        _begin(connection, gateway, alive or now["state_at"])
        return
    again = max(now["state_at"] or 0, now["health_at"] or 0)
    if not before["online"] and now["online"]:
        _end(connection, gateway, now["state_at"] or again)
    elif now["online"] and alive and again - alive > SILENCE_MS:
        _begin(connection, gateway, alive)
        _end(connection, gateway, again)


def _begin(connection: Connection, gateway: str, at: int) -> None:
    known = sa.select(GatewayOutage.from_at).where(
        GatewayOutage.gateway == gateway, sa.or_(GatewayOutage.to_at.is_(None), GatewayOutage.from_at == at)
    )
    if connection.execute(known).first() is None:
        connection.execute(sa.insert(GatewayOutage).values(gateway=gateway, from_at=at, to_at=None))


def _end(connection: Connection, gateway: str, at: int) -> None:
    connection.execute(
        sa.update(GatewayOutage)
        .where(GatewayOutage.gateway == gateway, GatewayOutage.to_at.is_(None), GatewayOutage.from_at <= at)
        .values(to_at=at)
    )
