"""Opening and ending maintenance windows: who may, what they cover, one line of audit each."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from metering.errors import MetergateError
from registry import audit, maintenance
from registry.findings_words import Change
from registry.maintenance import WINDOW, Scope
from registry.models import Bus, Gateway, Installation, Meter, UsagePoint
from registry.roles import Actor

OBJECT: Final = "maintenance_window"


class UnknownWindowError(MetergateError):
    """There is no such window or target, or it lies in a district that the actor may not see."""


class WindowError(MetergateError):
    """A window that makes no sense, or one that is over already."""


class StaleWindowError(MetergateError):
    """Somebody else changed it first."""


def open_window(
    connection: Connection,
    actor: Actor,
    *,
    scope: Scope,
    target: str,
    from_at: int,
    to_at: int,
    reason: str,
    now_ms: int,
    longest_h: float,
) -> tuple[int, list[Change]]:
    """Write a window; when it lasts already, its alarms go out of service at once. Returns its id and the changes.

    target: a meter, "gateway/bus", a gateway, a district, as `scope` says. Times [ms UTC].
    Raises: UnknownWindowError, WindowError.
    """
    if to_at <= from_at or to_at <= now_ms:
        raise WindowError("a window must end after its beginning, and in the future")
    if to_at - from_at > longest_h * 3_600_000:
        raise WindowError(f"a window may last {longest_h:g} h; write a second one when it takes longer")
    district = _district(connection, scope, target)
    if district is None or not actor.sees(district):
        raise UnknownWindowError(f"there is no {scope} {target!r}")
    values = {
        "scope": scope,
        "target": target,
        "district": district,
        "from_at": from_at,
        "to_at": to_at,
        "reason": reason,
        "created_by": actor.name,
        "created_at": now_ms,
        "ended_by": "",
        "version": 1,
    }
    number = connection.execute(sa.insert(WINDOW).values(values).returning(WINDOW.c.id)).scalar_one()
    after = {"scope": scope, "target": target, "from": rfc3339(from_at), "to": rfc3339(to_at)}
    audit.append(connection, actor, f"{OBJECT}.open", OBJECT, number, at=now_ms, after=after, note=reason)
    return number, maintenance.expire(connection, now_ms)


def end_window(
    connection: Connection, actor: Actor, number: int, *, now_ms: int, version: int | None = None
) -> list[Change]:
    """End a window early, or cancel one that has not begun; its alarms return to service.

    version: that the actor has seen, None for any. Raises: UnknownWindowError, StaleWindowError, WindowError.
    """
    row = _row(connection, actor, number)
    if version is not None and version != row["version"]:
        raise StaleWindowError(f"window {number} was changed meanwhile: its version is {row['version']}")
    if row["ended_at"] is not None or row["to_at"] <= now_ms:
        raise WindowError(f"window {number} is over since {rfc3339(row['ended_at'] or row['to_at'])}")
    done = sa.update(WINDOW).where(WINDOW.c.id == number)
    connection.execute(done.values(ended_by=actor.name, ended_at=now_ms, version=row["version"] + 1))
    before = {"to": rfc3339(row["to_at"])}
    audit.append(
        connection, actor, f"{OBJECT}.end", OBJECT, number, at=now_ms, before=before, after={"to": rfc3339(now_ms)}
    )
    return maintenance.expire(connection, now_ms)


def _row(connection: Connection, actor: Actor, number: int) -> Any:
    statement = sa.select(WINDOW).where(WINDOW.c.id == number).with_for_update()
    row = connection.execute(statement).mappings().first()
    if row is None or not actor.sees(row["district"]):
        raise UnknownWindowError(f"there is no maintenance window {number}")
    return row


def _district(connection: Connection, scope: Scope, target: str) -> str | None:
    """Return the district of a target ("" when it has none), None when there is no such target."""
    found: str | None
    if scope == "meter":
        place = (
            sa.select(UsagePoint.district)
            .join(Installation, Installation.usage_point_id == UsagePoint.id)
            .where(Installation.meter_id == target, Installation.removed_at.is_(None))
        )
        found = connection.execute(place).scalars().first()
        if found is None and connection.execute(sa.select(Meter.id).where(Meter.id == target)).first():
            return ""
        return found
    if scope == "district":
        known = sa.union(
            sa.select(UsagePoint.district).where(UsagePoint.district == target),
            sa.select(Gateway.district).where(Gateway.district == target),
        )
        return target if target and connection.execute(known).first() else None
    gateway, _, bus = target.partition("/") if scope == "bus" else (target, "", "")
    statement = sa.select(Gateway.district).where(Gateway.id == gateway)
    if scope == "bus":
        statement = statement.join(Bus, Bus.gateway_id == Gateway.id).where(Bus.name == bus)
    found = connection.execute(statement).scalars().first()
    return found
