"""Industrial customers against SCADA totals, day by day: only what both sides know of is compared.

SCADA rows that follow each other without a gap are cut at local midnights; a stretch of at most a day is compared
when the meter has an index near both its ends. What one side does not cover is left out of both sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.load import RulesInForce
from api.billing.reconcile_settings import ReconcileSettings, micro_of
from api.billing.reconcile_words import AGREES, LOOK, NOT_KNOWABLE, SHOWN, Compared, Scope, Verdict
from api.billing.rules import Rules
from api.billing.spans import AFTER_MS, DAY_MS, Indexes, Spot, blocks, indexes, spots
from metering.store import ReadingStore
from registry.database import Database
from registry.import_facts import counts_still
from registry.models import UsagePoint
from registry.models_reconcile import ScadaTotal

_PERCENT: Final = 100_000_000
"""10⁻⁶ of a percent in the whole."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """At most a local day of SCADA without a gap. start, end: [ms UTC]; scada, metered: [micro] or None."""

    start: int
    end: int
    scada: int
    metered: int | None = None


def stretches(rows: Sequence[tuple[int, int, int]], zone: str) -> list[Stretch]:
    """Join rows (from, to [ms UTC], volume [micro]), in order of time, that follow each other within a local day."""
    found: list[Stretch] = []
    for begin, end, volume in rows:
        last = found[-1] if found else None
        if last is not None and last.end == begin and _day(last.start, zone) == _day(end - 1, zone):
            found[-1] = Stretch(last.start, end, last.scada + volume)
        else:
            found.append(Stretch(begin, end, volume))
    return found


def _day(moment: int, zone: str) -> str:
    return datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).date().isoformat()


def judge(found: Sequence[Stretch], start: int, end: int, zone: str, settings: ReconcileSettings) -> Verdict:
    """Compare the stretches of a period, start <= t < end [ms UTC]."""
    both = [(part, part.metered) for part in found if part.metered is not None]
    scada, metered = sum(part.scada for part, _ in both), sum(used for _, used in both)
    covered = sum(part.end - part.start for part, _ in both) * _PERCENT // (end - start)
    told = sum(part.end - part.start for part in found) * _PERCENT // (end - start)
    beyond = [pair for pair in both if _beyond(pair[0].scada, pair[1], settings.scada_look_percent, settings)]
    beyond.sort(key=lambda pair: -abs(pair[1] - pair[0].scada))
    days = [{"day": _day(part.start, zone), "scada": part.scada, "metered": used} for part, used in beyond]
    facts: dict[str, Any] = {"scada": scada, "metered": metered, "covered_percent": covered,
                             "scada_percent": told, "stretches": len(both), "days_beyond": len(days),
                             "worst_days": days[:5]}  # fmt: skip
    if covered < micro_of(settings.scada_covered_percent):
        cause = "scada_gaps" if told < micro_of(settings.scada_covered_percent) else "meter_gaps"
        return Verdict(NOT_KNOWABLE, cause, facts=facts)
    off = metered - scada
    if scada:
        facts["deviation_percent"] = off * _PERCENT // scada
    if _beyond(scada, metered, settings.scada_look_percent, settings):
        return Verdict(LOOK, "meter_below" if off < 0 else "meter_above", off, facts)
    if _beyond(scada, metered, settings.scada_shown_percent, settings):
        return Verdict(SHOWN, "meter_below" if off < 0 else "meter_above", off, facts)
    if days:
        return Verdict(SHOWN, "single_days", off, facts)
    return Verdict(AGREES, "", off, facts)


def _beyond(scada: int, metered: int, percent: float, settings: ReconcileSettings) -> bool:
    off = abs(metered - scada)
    return off > micro_of(settings.scada_floor_m3) and off * _PERCENT > scada * micro_of(percent)


def compare(
    database: Database,
    store: ReadingStore,
    rules: RulesInForce,
    settings: ReconcileSettings,
    period: str,
    scope: Scope,
) -> Iterator[list[Compared]]:
    """Yield the comparison of every usage point of which SCADA told anything in a period, block by block."""
    with database.read() as connection:
        found = spots(connection, _told(connection, scope))
    near = Rules(settings.scada_index_min * 60_000, 0)
    due = {}
    for name in sorted(found):
        spot = found[name]
        bounds = spot.bounds(rules.calendars, period)
        if bounds is not None:
            due[name] = bounds
    for block in blocks([found[name] for name in due]):
        since = min(due[spot.point.id].start for spot in block)
        until = max(due[spot.point.id].end for spot in block)
        with database.read() as connection:
            told = _rows(connection, block, since, until)
        read = indexes(store, rules, block, since - near.tolerance_ms - 2 * DAY_MS, until + AFTER_MS)
        compared = []
        for spot in block:
            start, end = due[spot.point.id].start, due[spot.point.id].end
            rows = [row for row in told.get(spot.point.id, []) if start <= row[0] and row[1] <= end]
            if not rows:
                continue
            parts = [_metered(spot, part, read, near, rules) for part in stretches(rows, spot.tz)]
            compared.append(
                Compared(spot.point.id, spot.district, start, end, judge(parts, start, end, spot.tz, settings))
            )
        yield compared


def _metered(spot: Spot, part: Stretch, read: Indexes, near: Rules, rules: RulesInForce) -> Stretch:
    used = read.used(spot, part.start, part.end, near, rules.conflicts).consumption
    return Stretch(part.start, part.end, part.scada, used)


def _told(connection: Connection, scope: Scope) -> list[str]:
    place = UsagePoint.__table__
    statement = sa.select(place.c.id).where(
        place.c.id.in_(sa.select(ScadaTotal.usage_point_id).where(counts_still(ScadaTotal)))
    )
    if scope.district:
        statement = statement.where(place.c.district == scope.district)
    ids = connection.execute(statement.order_by(place.c.id)).scalars().all()
    return [name for name in ids if scope.points is None or name in scope.points]


def _rows(
    connection: Connection, block: Sequence[Spot], since: int, until: int
) -> dict[str, list[tuple[int, int, int]]]:
    table = ScadaTotal.__table__
    statement = (
        sa.select(table)
        .where(
            table.c.usage_point_id.in_([spot.point.id for spot in block]),
            table.c.from_at >= since,
            table.c.to_at <= until,
            counts_still(ScadaTotal),
        )
        .order_by(table.c.usage_point_id, table.c.from_at)
    )
    found: dict[str, list[tuple[int, int, int]]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.usage_point_id, []).append((row.from_at, row.to_at, row.volume))
    return found
