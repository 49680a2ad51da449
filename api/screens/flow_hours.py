"""Flow of the last whole hour beside the same hour a week before, per district: worked out hourly, kept in a table.

Asking the store for every meter at each look would cost seconds; a page reads a handful of rows instead. An hour is
worked out some minutes after its end and once more an hour later, when what gateways held back has come. A meter
without an index near both ends of an hour is not known: it is counted as that and never as 0.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from anomaly.stored import city_zone
from api.queries.consumption import HOUR_S, limits_of_meter
from api.queries.read_rate import is_due
from api.screens.frame import Times
from metering.clock import Clock
from metering.errors import MetergateError
from metering.quantities import Quantity
from metering.steps import PLAIN, StepLimits, relate
from metering.store import ReadingStore
from registry.database import Database
from registry.models import HourlyFlow, Installation, Meter, UsagePoint

_LOG: Final = structlog.get_logger("api")
HOUR_MS: Final = HOUR_S * 1000
SETTLE_MS: Final = 3 * 60_000
"""An hour is worked out so long after its end."""
TURN_S: Final = 60.0
_AGAIN_MS: Final = 10 * 60_000
"""After a start ingest may still be busy with what waited for it."""
_FIRST_S: Final = 5.0
_CHUNK: Final = 500
_KEEP_MS: Final = 35 * 86_400_000
_FLOW: Final = HourlyFlow.__table__
Key = tuple[str, str, str]
"""(district, medium, quantity)."""


@dataclass(frozen=True, slots=True)
class Due:
    """A meter that is read at least once an hour. lead_ms: how old an index may be at the end of an hour."""

    id: str
    key: Key
    limits: StepLimits
    lead_ms: int


@dataclass(slots=True)
class Sums:
    """Of one district, medium and quantity; see `registry.models.HourlyFlow`."""

    micro: int = 0
    known: int = 0
    due: int = 0
    same: int = 0
    same_now: int = 0
    same_then: int = 0


async def run_flow(database: Database, store: ReadingStore, clock: Clock) -> None:
    """Keep the table up to date until cancelled; what cannot be read now is tried again at the next turn."""
    await clock.sleep(_FIRST_S)
    while True:
        try:
            await asyncio.to_thread(keep, database, store, clock.now_ms())
        except (MetergateError, SQLAlchemyError) as error:
            _LOG.warning("flow_not_worked_out", error=str(error))
        await clock.sleep(TURN_S)


def keep(database: Database, store: ReadingStore, now_ms: int) -> int:
    """Work out the hours that are due at `now_ms`; return how many."""
    with database.read() as connection:
        zone = city_zone(connection)
        last = last_hour(now_ms - SETTLE_MS, zone)
        rows = connection.execute(
            sa.select(_FLOW.c.hour, sa.func.min(_FLOW.c.worked_at), sa.func.sum(_FLOW.c.known))
            .where(_FLOW.c.hour >= last - HOUR_MS)
            .group_by(_FLOW.c.hour)
        )
        known = {int(hour): (int(worked_at), int(number)) for hour, worked_at, number in rows}
        wanted = [hour for hour in (last, last - HOUR_MS) if _is_due(hour, known.get(hour), last, now_ms)]
        meters = list(_due_meters(connection)) if wanted else []
    for hour in wanted:
        sums = work_out(store, meters, hour, week_before(hour, zone))
        with database.begin() as connection:
            _save(connection, hour, sums, now_ms)
    return len(wanted)


def _is_due(hour: int, worked: tuple[int, int] | None, last: int, now_ms: int) -> bool:
    """worked: when it was worked out, and of how many meters it was known.

    The last hour when it was not yet, or of nobody; the one before when that was too early for what came late.
    """
    if worked is None:
        return hour == last
    worked_at, known = worked
    if hour == last:
        return not known and now_ms - worked_at >= _AGAIN_MS
    return worked_at < hour + 2 * HOUR_MS <= now_ms - SETTLE_MS


def last_hour(at_ms: int, zone: str) -> int:
    """Return the start [ms UTC] of the last whole hour, by the city's clock, that had ended at `at_ms`."""
    now = datetime.fromtimestamp(at_ms / 1000, Times(zone).zone)
    return round(now.replace(minute=0, second=0, microsecond=0).timestamp() * 1000) - HOUR_MS


def week_before(hour: int, zone: str) -> int:
    """Return the start [ms UTC] of the hour that the city's clock called the same a week ago."""
    then = datetime.fromtimestamp(hour / 1000, Times(zone).zone) - timedelta(days=7)
    return round(then.timestamp() * 1000)


def _due_meters(connection: Connection) -> Iterator[Due]:
    """Meters that some gateway reads at least once an hour, or that send by themselves."""
    meter = Meter.__table__
    statement = (
        sa.select(
            meter.c.id, meter.c.medium, meter.c.quantity, meter.c.index_digits, meter.c.resolution, meter.c.qmax,
            meter.c.interval_s, sa.func.coalesce(UsagePoint.district, "").label("district"),
        )
        .outerjoin(Installation, sa.and_(Installation.meter_id == meter.c.id, Installation.removed_at.is_(None)))
        .outerjoin(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .where(is_due(), sa.or_(meter.c.interval_s <= HOUR_S, meter.c.interval_s.is_(None)))
    )  # fmt: skip
    for row in connection.execute(statement).mappings():
        key = (row["district"], row["medium"], row["quantity"])
        yield Due(row["id"], key, limits_of_meter(dict(row)), max(HOUR_S // 2, (row["interval_s"] or 0) - 1) * 1000)


def work_out(store: ReadingStore, meters: Sequence[Due], hour: int, before: int) -> dict[Key, Sums]:
    """Return the sums of one hour and of the one that began at `before`. Raises: StoreError."""
    sums: dict[Key, Sums] = defaultdict(Sums)
    by_quantity: dict[str, list[Due]] = defaultdict(list)
    for meter in meters:
        by_quantity[meter.key[2]].append(meter)
        sums[meter.key].due += 1
    for quantity, members in by_quantity.items():
        for start in range(0, len(members), _CHUNK):
            chunk = members[start : start + _CHUNK]
            now, then = (_passed(store, chunk, cast(Quantity, quantity), at) for at in (hour, before))
            for meter in chunk:
                _add(sums[meter.key], now.get(meter.id), then.get(meter.id))
    return sums


def _passed(store: ReadingStore, meters: Sequence[Due], quantity: Quantity, start: int) -> dict[str, int]:
    """Return consumption [micro] by meter of the hour from `start`, of meters that have an index near both ends."""
    ids = [meter.id for meter in meters]
    first, last = (store.at_or_before(ids, at, quantity=quantity) for at in (start, start + HOUR_MS))
    found = {}
    for meter in meters:
        before, after = first.get(meter.id), last.get(meter.id)
        if before is None or after is None or "suspect" in (before.quality, after.quality):
            continue
        near = start - before.read_at <= meter.lead_ms and start + HOUR_MS - after.read_at <= meter.lead_ms
        if near and after.read_at > before.read_at:
            elapsed_s = (after.read_at - before.read_at) // 1000
            step = relate(before.values[quantity], after.values[quantity], elapsed_s, meter.limits)
            if step.step in PLAIN and step.consumption is not None:
                found[meter.id] = step.consumption
    return found


def _add(sums: Sums, now: int | None, then: int | None) -> None:
    if now is None:
        return
    sums.micro += now
    sums.known += 1
    if then is not None:
        sums.same += 1
        sums.same_now += now
        sums.same_then += then


def _save(connection: Connection, hour: int, sums: dict[Key, Sums], now_ms: int) -> None:
    connection.execute(sa.delete(HourlyFlow).where(sa.or_(_FLOW.c.hour == hour, _FLOW.c.hour < now_ms - _KEEP_MS)))
    rows: list[dict[str, Any]] = [
        {"hour": hour, "district": district, "medium": medium, "quantity": quantity, "worked_at": now_ms}
        | {name: getattr(found, name) for name in Sums.__slots__}
        for (district, medium, quantity), found in sums.items()
    ]
    if rows:
        connection.execute(sa.insert(HourlyFlow), rows)
