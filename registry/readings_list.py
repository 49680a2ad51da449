"""The list that a meter reader takes along: where, which meter, what it showed last; index and time to fill in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.quantities import from_micro
from registry.models import Installation, Latest, Meter, UsagePoint

HEADER: Final = (
    *("usage_point", "account_number", "address", "meter", "serial", "last_index", "last_read_at", "reading_day"),
    *("index", "read_at", "person", "note"),
)
_FETCH: Final = 2000


def rows(
    connection: Connection, *, district: str | None = None, reading_day: str = "", everything: bool = False
) -> Iterator[tuple[str, ...]]:
    """Yield the lines in the order of usage points, memory flat.

    everything: also meters that a gateway reads. Sealed, removed and unused meters are left out.
    """
    statement = (
        sa.select(
            UsagePoint.id,
            UsagePoint.account_number,
            UsagePoint.address,
            UsagePoint.tz,
            Meter.id.label("meter"),
            Meter.serial,
            Meter.quantity,
            Latest.read_at,
            Latest.values,
        )
        .select_from(Installation)
        .join(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .join(Meter, Meter.id == Installation.meter_id)
        .outerjoin(Latest, Latest.meter == Meter.id)
        .where(Installation.removed_at.is_(None), Meter.state.in_(("installed", "in_service")))
        .order_by(UsagePoint.id, Meter.id)
        .execution_options(yield_per=_FETCH)
    )
    if not everything:
        statement = statement.where(Meter.gateway_id.is_(None))
    if district is not None:
        statement = statement.where(UsagePoint.district == district)
    for point, account, address, zone, meter, serial, quantity, read_at, values in connection.execute(statement):
        last = (values or {}).get(quantity)
        yield (
            point,
            account,
            address,
            meter,
            serial,
            "" if last is None else from_micro(last),
            "" if read_at is None else _local(read_at, zone),
            reading_day,
            "",
            "",
            "",
            "",
        )


def _local(at: int, zone: str) -> str:
    return datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
