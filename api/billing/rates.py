"""Read rates 抄见率: how each meter that was due came to its index at the reading day.

What is known: the reading that stands for the boundary, when it arrived (received_at), who read it (source), and the
failed reads that the gateway reported (events). What cannot be known is said beside the numbers (`UNKNOWN`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas
from api.billing.boundaries import BY_HAND
from api.billing.lists import Filters, Row, by_place, key_of
from api.billing.settings import BillingSettings
from metering.quantities import QUANTITIES
from metering.reading import Reading
from metering.store import Key, ReadingStore
from registry.database import Database
from registry.models import EventRecord, Installation, Meter

FIRST, RETRY, EARLIER, BACKFILL = "first_try", "after_retry", "earlier", "after_backfill"
HAND, UNTOLD, ESTIMATED, MISSING = "by_hand", "way_unknown", "estimated", "missing"
WAYS: Final = (FIRST, RETRY, EARLIER, BACKFILL, HAND, UNTOLD)
UNKNOWN: Final = (
    "A gateway that asks a meter twice within one read reports nothing: such a read counts as the first try.",
    "Failed reads that wait in a gateway's outbox, or were lost with it, are unknown: such reads count as first try.",
    "A meter counts for the gateway and make that it belongs to now, and for the class and district of its total.",
)
_PAGE: Final = 1000
_CHUNK: Final = 500
_HOUR_MS: Final = 3_600_000
_STEP_S: Final = 3600
_MICRO_PERCENT: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Visit:
    """One due usage point. way: one of WAYS, estimated or missing; why: method or cause."""

    usage_point: str
    customer_class: str
    medium: str
    district: str
    gateway: str
    make: str
    way: str
    why: str
    state: str
    corrected: bool


@dataclass(frozen=True, slots=True)
class _Due:
    """A due total with its meter. step: [ms] between readings."""

    total: Mapping[str, Any]
    meter: str
    quantity: str
    gateway: str
    make: str
    step: int


def visits(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    period: str,
    areas: Areas,
    *,
    state: str | None = None,
) -> Iterator[list[Visit]]:
    """Yield what is known of the stored totals of a period, page by page; excluded ones are not due.

    state: only totals in this state.
    """
    after: tuple[str, str] | None = None
    tolerance = settings.rules().tolerance_ms
    while True:
        with database.read() as connection:
            rows = by_place(connection, areas, Filters(period=period, state=state), limit=_PAGE, after=after)
            if not rows:
                return
            due = _due(connection, [row for row in rows if row.total["state"] != "excluded"])
            failed = _failed(connection, due)
        readings = _readings(store, due, tolerance)
        yield [_visit(each, readings.get(each.total["usage_point_id"]), failed) for each in due]
        after = key_of(rows[-1])


def _due(connection: Connection, rows: Sequence[Row]) -> list[_Due]:
    hanging = _hanging(connection, [row.total for row in rows if not row.lines])
    meters = {
        row.total["usage_point_id"]: row.lines[-1]["meter_id"]
        if row.lines
        else hanging.get(row.total["usage_point_id"])
        for row in rows
    }
    facts = _facts(connection, sorted({meter for meter in meters.values() if meter}))
    found = []
    for row in rows:
        meter = meters[row.total["usage_point_id"]] or ""
        fact = facts.get(meter)
        step = ((fact.interval_s if fact else None) or _STEP_S) * 1000
        quantity = row.total["quantity"] or (fact.quantity if fact else "")
        gateway, make = (fact.gateway_id or "", fact.profile) if fact else ("", "")
        found.append(_Due(row.total, meter, quantity, gateway, make, step))
    return found


def _hanging(connection: Connection, totals: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return usage point -> the meter that hung there at the end of its period, else the last one."""
    ends = {total["usage_point_id"]: total["end_at"] for total in totals}
    table, found = Installation.__table__, dict[str, str]()
    points = sorted(ends)
    for start in range(0, len(points), _CHUNK):
        rows = connection.execute(
            sa.select(table.c.usage_point_id, table.c.meter_id, table.c.installed_at)
            .where(table.c.usage_point_id.in_(points[start : start + _CHUNK]))
            .order_by(table.c.installed_at, table.c.id)
        )
        for row in rows:
            if row.installed_at < ends[row.usage_point_id]:
                found[row.usage_point_id] = row.meter_id
    return found


def _facts(connection: Connection, meters: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    columns = (Meter.id, Meter.gateway_id, Meter.profile, Meter.interval_s, Meter.quantity)
    for start in range(0, len(meters), _CHUNK):
        rows = connection.execute(sa.select(*columns).where(Meter.id.in_(meters[start : start + _CHUNK])))
        found |= {row.id: row for row in rows}
    return found


def _failed(connection: Connection, due: Sequence[_Due]) -> dict[str, list[int]]:
    """Return meter -> times [ms UTC] of failures and recoveries in the last reading interval before its end."""
    found: dict[str, list[int]] = {}
    if not due:
        return found
    first = min(each.total["end_at"] - each.step for each in due)
    last = max(each.total["end_at"] for each in due)
    meters = sorted({each.meter for each in due if each.meter})
    for start in range(0, len(meters), _CHUNK):
        rows = connection.execute(
            sa.select(EventRecord.meter, EventRecord.at).where(
                EventRecord.meter.in_(meters[start : start + _CHUNK]),
                EventRecord.kind.in_(("read_failed", "read_recovered")),
                EventRecord.at > first,
                EventRecord.at <= last,
            )
        )
        for row in rows:
            found.setdefault(row.meter, []).append(row.at)
    return found


def _readings(store: ReadingStore, due: Sequence[_Due], tolerance_ms: int) -> dict[str, Reading]:
    """Return usage point -> the reading at its boundary; also where it was read and yet gives no total."""
    keys: dict[Key, str] = {}
    without: defaultdict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    for each in due:
        point, closing_at = each.total["usage_point_id"], each.total["closing_at"]
        if closing_at is not None:
            keys[each.meter, closing_at] = point
        elif each.meter and each.quantity in QUANTITIES:
            without[each.total["end_at"], each.quantity][each.meter] = point
    found = {keys[key]: reading for key, reading in store.get(list(keys)).items()}
    for (end, quantity), meters in without.items():
        last = store.at_or_before(list(meters), end, quantity=quantity)  # type: ignore[arg-type]  # checked above
        found |= {meters[m]: reading for m, reading in last.items() if end - reading.read_at <= tolerance_ms}
    return found


def _visit(due: _Due, reading: Reading | None, failed: Mapping[str, Sequence[int]]) -> Visit:
    total = due.total
    way, why = _way(due, reading, failed.get(due.meter, ()))
    return Visit(
        total["usage_point_id"],
        total["customer_class"],
        total["medium"],
        total["district"],
        due.gateway,
        due.make,
        way,
        why,
        total["state"],
        bool(total["edited"]),
    )


def _way(due: _Due, reading: Reading | None, failed: Sequence[int]) -> tuple[str, str]:
    total = due.total
    if total["method"]:
        return ESTIMATED, total["method"]
    if reading is None:
        if total["closing_at"] is not None:
            return UNTOLD, ""  # an index that the books gave: a final reading of a customer or a removed meter
        return MISSING, total["cause"]
    if reading.source in BY_HAND:
        return HAND, ""
    if reading.received_at is None:
        return UNTOLD, ""
    if reading.received_at - reading.read_at > max(2 * due.step, _HOUR_MS):
        return BACKFILL, ""
    slot = total["end_at"] - due.step
    if reading.read_at <= slot - due.step:
        return EARLIER, ""
    return (RETRY, "") if any(slot < at for at in failed) else (FIRST, "")


@dataclass(slots=True)
class Sum:
    """Counts of a group."""

    ways: Counter[str]
    missing: Counter[str]
    estimated: Counter[str]
    corrected: int = 0

    @property
    def due(self) -> int:
        """How many were due."""
        return self.ways.total()

    @property
    def read(self) -> int:
        """How many were read."""
        return sum(self.ways[way] for way in WAYS)

    def add(self, visit: Visit, *, corrected: bool = False) -> None:
        """Count one. corrected: something else than its boundary index was, after closing."""
        self.ways[visit.way] += 1
        if visit.way == MISSING:
            self.missing[visit.why] += 1
        elif visit.way == ESTIMATED:
            self.estimated[visit.why] += 1
        else:
            self.corrected += visit.corrected or corrected


def new_sum() -> Sum:
    """Return a sum of nothing."""
    return Sum(Counter(), Counter(), Counter())


def group_of(visit: Visit, by: str) -> tuple[str, str]:
    """Return (group, medium) that a visit counts for; classes are apart by medium, other groups are not."""
    if by == "class":
        return visit.customer_class, visit.medium
    return {"district": visit.district, "gateway": visit.gateway, "make": visit.make}[by], ""


def percent(part: int, whole: int) -> str | None:
    """Return part of whole [%] with two places, rounded down, so that 100 is never said of less; None of nothing."""
    if whole == 0:
        return None
    hundredths = part * 10_000 // whole
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def reached(part: int, whole: int, target: int | None) -> bool | None:
    """True when part of whole is at least target [10⁻⁶ %]; None without a target or when nothing was due."""
    return None if target is None or whole == 0 else part * _MICRO_PERCENT >= target * whole
