"""The evidence of an order: the same case for the person at the door and the person at the desk.

Two parts, because the registry and the reading store are asked one after the other: `books` reads the registry,
`measured` the store. What cannot be shown is said in `missing`; nothing is filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api import words
from api.orders.opening import meter_facts
from api.schemas_work_orders import EarlierOrder, Evidence, FindingEvidence, Series, SeriesPoint
from metering.clock import rfc3339
from metering.errors import StoreError
from metering.quantities import UNITS, Quantity, from_micro
from metering.reading import Reading
from metering.store import ReadingStore
from registry.models import Closing, Latest, UsagePoint
from registry.models_work_orders import WorkOrder, WorkOrderFinding

HOUR_MS: Final = 3_600_000
DAYS_SHOWN: Final = 60
HOURS_SHOWN: Final = 72
READINGS_SHOWN: Final = 10
_EARLIER_SHOWN: Final = 20
_MOST_READINGS: Final = 20_000
NO_FRAMES: Final = "raw frames: none are kept; `metergate command tap` records them from now on"


@dataclass(frozen=True, slots=True)
class Books:
    """What the registry tells. Times [ms UTC]. around: when it began, for the chart. begins: when the
    meter came here; what it showed elsewhere is not this place's affair."""

    order: Row[Any]
    findings: list[FindingEvidence]
    meter: dict[str, Any]
    quantity: str
    days: list[SeriesPoint]
    earlier: list[EarlierOrder]
    around: int
    begins: int


def books(connection: Connection, order: Row[Any]) -> Books:
    """Read the registry's part."""
    findings = _findings(connection, order.id)
    point = order.usage_point_id or ""
    known = meter_facts(connection, point, order.meter) if order.meter else {}
    quantity = str(known.get("quantity", ""))
    joined = connection.execute(
        sa.select(WorkOrderFinding.evidence).where(WorkOrderFinding.order_id == order.id)
    ).scalars()
    starts = [facts["started_at"] for facts in joined if isinstance(facts.get("started_at"), int)]
    tz = connection.execute(sa.select(UsagePoint.tz).where(UsagePoint.id == point)).scalar()
    return Books(
        order,
        findings,
        _meter(connection, known, quantity, tz),
        quantity,
        _days(connection, order.meter, quantity, order.opened_at) if known else [],
        _earlier(connection, order),
        min(starts, default=order.opened_at),
        known.get("installed_at") or 0,
    )


def measured(store: ReadingStore, known: Books, now_ms: int) -> Evidence:
    """Add the store's part."""
    missing = [NO_FRAMES]
    readings: list[Reading] = []
    hours: list[SeriesPoint] = []
    meter = known.order.meter
    if meter and known.quantity:
        try:
            readings = _last(store, meter, known.begins, now_ms)
            hours = _hours(store, meter, cast(Quantity, known.quantity), known.around, known.begins, now_ms)
        except StoreError as error:
            missing.append(f"readings: the store cannot be read now ({error})")
    else:
        missing.append("readings: this order is about no single meter")
    if meter and known.quantity and not hours:
        missing.append("hours: no two readings an hour apart lie around the finding")
    series = None
    if known.quantity:
        unit = UNITS.get(cast(Quantity, known.quantity), "")
        series = Series(quantity=known.quantity, unit=unit, days=known.days, hours=hours)
    return Evidence(
        sentence_en=known.order.reason_en,
        sentence_zh=known.order.reason_zh,
        findings=known.findings,
        meter=known.meter,
        readings=[words.reading(reading).model_dump() for reading in readings],
        series=series,
        earlier=known.earlier,
        raw_frames=[],
        missing=missing,
    )


def _findings(connection: Connection, order_id: int) -> list[FindingEvidence]:
    rows = connection.execute(
        sa.select(WorkOrderFinding)
        .where(WorkOrderFinding.order_id == order_id)
        .order_by(WorkOrderFinding.joined_at, WorkOrderFinding.finding_id)
    )
    names = ("kind", "rule", "rule_version", "thresholds_version", "severity")
    return [
        FindingEvidence(
            finding=row.finding_id,
            joined_at=rfc3339(row.joined_at),
            withdrawn_at=words.moment(row.withdrawn_at),
            **{name: str(row.evidence.get(name, "")) for name in names},
            started_at=words.moment(row.evidence.get("started_at")),
            detected_at=words.moment(row.evidence.get("detected_at")),
            numbers=dict(row.evidence.get("evidence") or {}),
        )
        for row in rows
    ]


def _meter(connection: Connection, known: dict[str, Any], quantity: str, tz: str | None) -> dict[str, Any]:
    """Type, serial, inlet, year, and the index: as it began and as it was read last."""
    if not known:
        return {}
    shown = {name: known[name] for name in ("id", "serial", "medium", "profile", "quantity", "inlet", "state")}
    installed = known["installed_at"]
    shown["installed_at"] = words.moment(installed)
    shown["year"] = None if installed is None else datetime.fromtimestamp(installed / 1000, UTC).year
    shown["start_index"] = None if known["start_index"] is None else from_micro(known["start_index"])
    latest = connection.execute(sa.select(Latest).where(Latest.meter == known["id"])).one_or_none()
    index = None if latest is None else latest.values.get(quantity)
    shown["index"] = None if index is None else from_micro(index)
    shown["read_at"] = None if latest is None else rfc3339(latest.read_at)
    shown["unit"] = UNITS.get(cast(Quantity, quantity), "")
    return shown


def _days(connection: Connection, meter: str, quantity: str, until_ms: int) -> list[SeriesPoint]:
    """Consumption of whole local days from their closing indexes; unknown where a day before is missing."""
    last = datetime.fromtimestamp(until_ms / 1000, UTC).date() + timedelta(days=1)
    first = last - timedelta(days=DAYS_SHOWN)
    rows = connection.execute(
        sa.select(Closing.__table__)
        .where(
            Closing.meter == meter,
            Closing.quantity == quantity,
            Closing.day >= first.isoformat(),
            Closing.day <= last.isoformat(),
        )
        .order_by(Closing.day)
    ).mappings()
    by_day: dict[str, int] = {row["day"]: row["index"] for row in rows}
    return [
        SeriesPoint(
            at=day,
            consumption=_grown(by_day.get((date.fromisoformat(day) - timedelta(days=1)).isoformat()), index),
            index=from_micro(index),
        )
        for day, index in by_day.items()
    ]


def _grown(before: int | None, after: int) -> str | None:
    """What passed between two indexes; None where the index fell: what that step was, the rules say."""
    return None if before is None or after < before else from_micro(after - before)


def _last(store: ReadingStore, meter: str, begins: int, now_ms: int) -> list[Reading]:
    """The last readings, the newest first."""
    newest = store.at_or_before([meter], now_ms).get(meter)
    if newest is None or newest.read_at < begins:
        return []
    for days in (1, 40, 400):
        since = newest.read_at - days * 24 * HOUR_MS
        found = list(store.range([meter], max(since, begins), newest.read_at + 1, limit=_MOST_READINGS))
        if len(found) >= READINGS_SHOWN or days == 400:
            return found[-READINGS_SHOWN:][::-1]
    return []


def _hours(
    store: ReadingStore, meter: str, quantity: Quantity, around: int, begins: int, now_ms: int
) -> list[SeriesPoint]:
    """Consumption by the hour around the beginning: the last reading of each hour against that of the one before."""
    begin = (around // HOUR_MS - HOURS_SHOWN // 2) * HOUR_MS
    end = min(begin + HOURS_SHOWN * HOUR_MS, now_ms + 1)
    since = max(begin - HOUR_MS, begins)
    found = store.range([meter], since, end, quantities=[quantity], limit=_MOST_READINGS)
    last: dict[int, int] = {reading.read_at // HOUR_MS: reading.values[quantity] for reading in found}
    return [
        SeriesPoint(
            at=rfc3339(hour * HOUR_MS), consumption=_grown(last.get(hour - 1), index), index=from_micro(index)
        )
        for hour, index in sorted(last.items())
        if hour * HOUR_MS >= begin
    ]


def _earlier(connection: Connection, order: Row[Any]) -> list[EarlierOrder]:
    rows = connection.execute(
        sa.select(WorkOrder)
        .where(WorkOrder.place == order.place, WorkOrder.id < order.id)
        .order_by(WorkOrder.id.desc())
        .limit(_EARLIER_SHOWN)
    )
    names = ("id", "type", "state", "result", "label")
    return [
        EarlierOrder(
            **{name: getattr(row, name) for name in names},
            opened_at=rfc3339(row.opened_at),
            finished_at=words.moment(row.finished_at),
        )
        for row in rows
    ]
