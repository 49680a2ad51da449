"""Dispatch slips 派工单: what a worker takes along on a day, by district and worker, for print.

A slip shows what the visit needs and no more: the address in full, of the account number only its last four digits.
Source: the manuals' rule that slips are printed each day before closing, per district and worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders.book import DEFAULT_TZ
from api.orders.lifecycle import State
from api.orders.words import URGENCY, OrderType, Priority, Result, both
from metering.quantities import from_micro
from registry.findings_store import chunks
from registry.models import Latest, Meter, UsagePoint
from registry.models_work_orders import Team, WorkOrder

MOST: Final = 2000
"""Most slips of one print; more are refused, by district or worker they are fewer."""
ON_THE_WAY: Final = (State.DISPATCHED.value, State.ARRIVED.value)


class TooManyError(Exception):
    """More slips than one print takes."""


@dataclass(frozen=True, slots=True)
class Slip:
    """One order for one visit, in words; times local. earlier: orders at this place before this one."""

    number: int
    type: str
    priority: str
    urgent: bool
    place: str
    address: str
    account: str
    meter: str
    serial: str
    meter_facts: str
    last_index: str
    reason_en: str
    reason_zh: str
    opened: str
    due: str
    late: bool
    appointment: str
    visits: int
    earlier: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one worker or team takes along in one district."""

    district: str
    worker: str
    worker_name: str
    day: str
    slips: Sequence[Slip] = field(default=())


RESULTS: Final = tuple(both(result) for result in Result)
"""What a visit can end with, as the form offers it."""


def masked(account: str) -> str:
    """Return the last four characters of an account number behind stars; short ones show nothing."""
    return "" if not account else f"****{account[-4:]}" if len(account) > 6 else "****"


def sheets(
    connection: Connection,
    day: date,
    *,
    district: str | None = None,
    worker: str | None = None,
    seen: sa.ColumnElement[bool] | None = None,
) -> list[Sheet]:
    """Return the sheets of a day: orders on their way whose appointment, if there is one, is not later.

    district, worker (or team): only these. seen: what the caller may see. Raises: TooManyError.
    """
    end = _end_of(day)
    statement = (
        sa.select(WorkOrder)
        .where(WorkOrder.state.in_(ON_THE_WAY), WorkOrder.accepted_at < end)
        .where(WorkOrder.appointment_at.is_(None) | (WorkOrder.appointment_at < end))
    )
    if district is not None:
        statement = statement.where(WorkOrder.district == district)
    if worker is not None:
        statement = statement.where(WorkOrder.assignee == worker)
    if seen is not None:
        statement = statement.where(seen)
    rows = list(connection.execute(statement.limit(MOST + 1)).all())
    if len(rows) > MOST:
        raise TooManyError(f"more than {MOST} slips at once; choose a district or a worker")
    rows.sort(key=lambda row: (row.district, row.assignee, -URGENCY[Priority(row.priority)], row.due_at, row.id))
    facts = _Facts.load(connection, rows)
    return [
        Sheet(place, who, facts.crews.get(who, ""), day.isoformat(), tuple(_slip(row, facts, end) for row in members))
        for (place, who), members in groupby(rows, key=lambda row: (row.district, row.assignee))
    ]


def _end_of(day: date) -> int:
    """Return the end of a local day [ms UTC]."""
    midnight = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(DEFAULT_TZ))
    return round(midnight.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What slips need beside the orders."""

    points: dict[str, Any]
    meters: dict[str, Any]
    latest: dict[str, Any]
    earlier: dict[int, int]
    crews: dict[str, str]

    @classmethod
    def load(cls, connection: Connection, rows: Sequence[Any]) -> _Facts:
        meters = sorted({row.meter for row in rows if row.meter})
        return cls(
            _by(connection, UsagePoint, UsagePoint.id, sorted({row.usage_point_id for row in rows} - {None}), "id"),
            _by(connection, Meter, Meter.id, meters, "id"),
            _by(connection, Latest, Latest.meter, meters, "meter"),
            _earlier(connection, rows),
            {row.id: row.name for row in connection.execute(sa.select(Team.id, Team.name))},
        )


def _by(connection: Connection, table: Any, column: Any, keys: Sequence[str], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in chunks(keys):
        for row in connection.execute(sa.select(table).where(column.in_(part))):
            found[getattr(row, name)] = row
    return found


def _earlier(connection: Connection, rows: Sequence[Any]) -> dict[int, int]:
    """Return order -> how many orders of its place are older."""
    older: dict[str, list[int]] = {}
    for part in chunks(sorted({row.place for row in rows})):
        statement = sa.select(WorkOrder.place, WorkOrder.id).where(WorkOrder.place.in_(part))
        for place, number in connection.execute(statement):
            older.setdefault(place, []).append(number)
    return {row.id: sum(number < row.id for number in older[row.place]) for row in rows}


def _slip(row: Any, facts: _Facts, end: int) -> Slip:
    point = facts.points.get(row.usage_point_id)
    meter = facts.meters.get(row.meter)
    tz = point.tz if point is not None else DEFAULT_TZ
    return Slip(
        number=row.id,
        type=both(OrderType(row.type)),
        priority=both(Priority(row.priority)),
        urgent=row.priority == Priority.URGENT,
        place=row.place,
        address=point.address if point is not None else "",
        account=masked(point.account_number) if point is not None else "",
        meter=row.meter,
        serial=meter.serial if meter is not None else "",
        meter_facts=_meter_facts(meter),
        last_index=_last_index(meter, facts.latest.get(row.meter), tz),
        reason_en=row.reason_en,
        reason_zh=row.reason_zh,
        opened=_local(row.opened_at, tz),
        due=_local(row.due_at, tz) + (" (provisional 暂定)" if row.provisional else ""),
        late=row.due_at < end,
        appointment="" if row.appointment_at is None else _local(row.appointment_at, tz),
        visits=row.visits,
        earlier=facts.earlier[row.id],
    )


def _meter_facts(meter: Any) -> str:
    if meter is None:
        return ""
    inlet = f"inlet 进气方向 {meter.inlet}" if meter.inlet else ""
    return ", ".join(part for part in (meter.medium, meter.profile, inlet) if part)


def _last_index(meter: Any, latest: Any, tz: str) -> str:
    if meter is None or latest is None or meter.quantity not in latest.values:
        return ""
    unit = "kWh" if meter.quantity.startswith("energy") else "m³"
    return f"{from_micro(latest.values[meter.quantity])} {unit} ({_local(latest.read_at, tz)}, {latest.quality})"


def _local(at_ms: int, tz: str) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(tz)).strftime("%Y-%m-%d %H:%M")
