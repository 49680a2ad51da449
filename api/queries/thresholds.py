"""Thresholds in force, and their changes, as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly import changes
from anomaly.books import with_changes
from anomaly.changes import CHANGE
from anomaly.thresholds import Thresholds, is_wide
from api import paging
from api.paging import Page
from api.problems import invalid
from api.schemas_thresholds import ChangeOut, ThresholdOut, ThresholdsOut
from api.words import moment
from metering.clock import rfc3339
from registry.models import Installation, Meter, UsagePoint
from registry.roles import Actor


def in_force(
    connection: Connection,
    actor: Actor,
    base: Thresholds,
    *,
    day: date | None,
    medium: str = "",
    customer_class: str = "",
    meter: str = "",
    now_ms: int,
) -> ThresholdsOut:
    """Return every threshold of a local day (None: today) with where it comes from.

    Raises: ProblemError 422 for a meter that the actor may not see.
    """
    on = day or changes.local_day(connection, now_ms)
    if meter:
        medium, customer_class = _facts_of(connection, actor, meter)
    laid = with_changes(connection, base)
    items = []
    for name in laid.defaults:
        found = laid.source(name, on, medium=medium, customer_class=customer_class, meter=meter)
        since = None if found.since is None else found.since.isoformat()
        items.append(
            ThresholdOut(name=name, value=found.value, origin=found.origin, since=since, one_for_all=is_wide(name))
        )
    version = laid.version_at(changes.midnight_ms(connection, on) // 1000 + 1)
    return ThresholdsOut(
        on=on.isoformat(), version=version, medium=medium, customer_class=customer_class, meter=meter, items=items
    )


def _facts_of(connection: Connection, actor: Actor, meter: str) -> tuple[str, str]:
    """(medium, class) of a meter as it hangs now."""
    stay = Installation
    statement = (
        sa.select(Meter.medium, UsagePoint.customer_class, UsagePoint.district)
        .join(stay, (stay.meter_id == Meter.id) & stay.removed_at.is_(None), isouter=True)
        .join(UsagePoint, UsagePoint.id == stay.usage_point_id, isouter=True)
        .where(Meter.id == meter)
    )
    row = connection.execute(statement).first()
    if row is None or not actor.sees(row.district or ""):
        raise invalid("meter", meter, "there is no such meter")
    return row.medium, row.customer_class or "other"


def list_changes(
    connection: Connection, actor: Actor, *, state: str | None, before: int | None, limit: int, now_ms: int
) -> Page[ChangeOut]:
    """Return one page of changes, newest first; those of a single meter only to whoever may see it."""
    shown: list[ChangeOut] = []
    while len(shown) <= limit:
        wanted = sa.select(CHANGE).order_by(CHANGE.c.id.desc()).limit(limit + 1)
        wanted = wanted if state is None else wanted.where(CHANGE.c.state == state)
        wanted = wanted if before is None else wanted.where(CHANGE.c.id < before)
        rows = connection.execute(wanted).mappings().all()
        if not rows:
            break
        shown += [_out(connection, row, now_ms) for row in rows if _may_see(connection, actor, row["scope"])]
        before = rows[-1]["id"]
    return paging.page_of(shown, limit, "threshold-changes", lambda change: change.id)


def _may_see(connection: Connection, actor: Actor, scope: Mapping[str, str]) -> bool:
    meter = scope.get("meter", "")
    return actor.areas is None or not meter or actor.sees(changes.district_of(connection, meter))


def one_change(connection: Connection, actor: Actor, number: int, *, now_ms: int) -> ChangeOut:
    """Return one change. Raises: RefusedError when there is none that the actor may see."""
    return _out(connection, changes.row_of(connection, actor, number), now_ms)


def _out(connection: Connection, row: Mapping[Any, Any], now_ms: int) -> ChangeOut:
    return ChangeOut(
        id=row["id"],
        state=row["state"],
        effective=changes.local_day(connection, row["effective_at"]).isoformat(),
        effective_at=rfc3339(row["effective_at"]),
        in_force=row["state"] == "confirmed" and row["effective_at"] <= now_ms,
        scope=row["scope"],
        values=row["values"],
        reason=row["reason"],
        author=row["author"],
        created_at=rfc3339(row["created_at"]),
        job=row["job_id"],
        backtest=row["backtest"],
        decided_by=row["decided_by"],
        decided_at=moment(row["decided_at"]),
        note=row["note"],
        accepted_flagged=row["accepted"],
        version=row["version"],
    )
