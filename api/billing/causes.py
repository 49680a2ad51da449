"""Why an index is missing, from the delivery ledger: the first cause that holds is told, with its times.

Precedence, most particular first: a row of this meter lies in quarantine; the meter was never read since it was put
in service (not commissioned); its gateway was away; rows still wait in the gateway's outbox; the meter did not
answer (failed reads); nothing is known but silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from registry.models import EventRecord, GatewayStatus, Latest, Quarantine
from registry.models_billing import GatewayOutage

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Hole:
    """A time in which an index of a meter was expected, first <= at <= last [ms UTC]."""

    meter: str
    gateway: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Cause:
    """Why, in one word and one sentence."""

    cause: str
    detail: str


def explain(connection: Connection, holes: Sequence[Hole]) -> dict[str, Cause]:
    """Return meter -> cause of its hole."""
    found: dict[str, Cause] = {}
    for start in range(0, len(holes), _CHUNK):
        chunk = holes[start : start + _CHUNK]
        books = _Books(connection, chunk)
        found |= {hole.meter: books.cause(hole) for hole in chunk}
    return found


class _Books:
    """What the ledgers say of some meters in their holes."""

    def __init__(self, connection: Connection, holes: Sequence[Hole]) -> None:
        meters = [hole.meter for hole in holes]
        gateways = sorted({hole.gateway for hole in holes if hole.gateway})
        first, last = min(hole.first for hole in holes), max(hole.last for hole in holes)
        self._read = set(connection.execute(sa.select(Latest.meter).where(Latest.meter.in_(meters))).scalars())
        self._refused = _by_meter(connection, Quarantine, Quarantine.read_at, meters, first, last)
        self._failed = _by_meter(connection, EventRecord, EventRecord.at, meters, first, last)
        self._outages = outages(connection, gateways, first, last)
        self._waiting = _waiting(connection, gateways)

    def cause(self, hole: Hole) -> Cause:
        refused = [row for row in self._refused.get(hole.meter, ()) if hole.first <= row.read_at <= hole.last]
        if refused:
            return Cause(
                "quarantined", f"{len(refused)} rows in quarantine, {refused[-1].reason}: {refused[-1].detail}"
            )
        if hole.meter not in self._read:
            return Cause("not_commissioned", "the meter was never read")
        away = [out for out in self._outages.get(hole.gateway, ()) if out[0] <= hole.last and out[1] >= hole.first]
        if away:
            return Cause("gateway_down", f"gateway {hole.gateway} was away {outage_text(away[-1])}")
        waiting = self._waiting.get(hole.gateway)
        if waiting is not None and waiting[1] <= hole.last:
            text = f"{waiting[0]} rows wait at gateway {hole.gateway}, the oldest of {rfc3339(waiting[1])}"
            return Cause("waiting", text)
        failed = [row for row in self._failed.get(hole.meter, ()) if row.kind == "read_failed"]
        failed = [row for row in failed if hole.first <= row.at <= hole.last]
        if failed:
            times = sum(row.count for row in failed)
            end = f"last {failed[-1].cause} at {rfc3339(failed[-1].at)}"
            return Cause("meter_silent", f"{times} failed reads, {end}")
        return Cause("meter_silent", f"no reading from {rfc3339(hole.first)} to {rfc3339(hole.last)}")


def _by_meter(
    connection: Connection, table: Any, column: Any, meters: Sequence[str], first: int, last: int
) -> dict[str, list[Any]]:
    rows = connection.execute(
        sa.select(table.__table__)
        .where(table.meter.in_(meters), column >= first, column <= last)
        .order_by(column, table.id)
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.meter, []).append(row)
    return found


FOREVER: Final = 2**62


def outages(
    connection: Connection, gateways: Sequence[str], first: int, last: int
) -> dict[str, list[tuple[int, int]]]:
    """Return gateway -> times in which it was away [ms UTC], oldest first; an open one ends at FOREVER."""
    found: dict[str, list[tuple[int, int]]] = {}
    rows = connection.execute(
        sa.select(GatewayOutage.gateway, GatewayOutage.from_at, GatewayOutage.to_at)
        .where(GatewayOutage.gateway.in_(gateways), GatewayOutage.from_at <= last)
        .where(sa.or_(GatewayOutage.to_at.is_(None), GatewayOutage.to_at >= first))
        .order_by(GatewayOutage.gateway, GatewayOutage.from_at)
    )
    for row in rows:
        found.setdefault(row.gateway, []).append((row.from_at, FOREVER if row.to_at is None else row.to_at))
    return found


def outage_text(outage: tuple[int, int]) -> str:
    """Say from when to when, and how long."""
    begin, end = outage
    if end == FOREVER:
        return f"since {rfc3339(begin)}"
    return f"from {rfc3339(begin)} to {rfc3339(end)} ({long(end - begin)})"


def long(milliseconds: int) -> str:
    """Say how long in the largest unit that fits: 9.0 d, 3.5 h, 12 min."""
    if milliseconds >= 48 * 3_600_000:
        return f"{milliseconds / 86_400_000:.1f} d"
    if milliseconds >= 2 * 3_600_000:
        return f"{milliseconds / 3_600_000:.1f} h"
    return f"{milliseconds // 60_000} min"


def _waiting(connection: Connection, gateways: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """Return gateway -> (rows that wait in its outbox, time of the oldest [ms UTC]), as it last said."""
    found = {}
    for row in connection.execute(
        sa.select(GatewayStatus.gateway, GatewayStatus.health).where(GatewayStatus.gateway.in_(gateways))
    ):
        waiting, oldest = row.health.get("waiting"), row.health.get("oldest_at")
        if waiting and oldest is not None:
            found[row.gateway] = (int(waiting), int(oldest))
    return found
