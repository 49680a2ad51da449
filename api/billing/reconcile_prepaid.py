"""Prepaid meters 预付费: bought = used + left, between two readings of the credit 表内存量.

A commercial reading carries three numbers: the mechanical index 基表读数, the accumulated volume 累计用气量 that the
controller counts and takes off the credit, and the credit. The accumulated volume is the register volume_standard
where the meter has it beside the billed one, else the billed index itself stands for both.

credit before + bought - used - credit after = 0. A customer may carry a purchase about before loading it, so that
purchases of the last days may be neither used nor left yet, and old ones may come in late; a purchase is loaded as
a whole or not at all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.boundaries import BY_HAND
from api.billing.calendars import Bounds
from api.billing.chain import Sample
from api.billing.load import RulesInForce
from api.billing.reconcile_settings import ReconcileSettings, micro_of
from api.billing.reconcile_words import AGREES, MISMATCH, NOT_KNOWABLE, WAITING, Compared, Scope, Verdict
from api.billing.rules import Rules
from api.billing.spans import AFTER_MS, DAY_MS, Indexes, Spot, blocks, indexes, spots
from api.billing.totals import Outcome, Stay
from metering.store import ReadingStore
from registry.database import Database
from registry.import_facts import counts_still
from registry.models import Installation, Latest, UsagePoint
from registry.models_reconcile import Purchase

_TOGETHER: Final = Rules(15 * 60_000, 0)
"""Index and credit come with one reading, or minutes apart."""
_MOST_SUMS: Final = 4096
Bought = tuple[int, int]
"""(at [ms UTC], volume [micro])."""


@dataclass(frozen=True, slots=True)
class Span:
    """Between two credit readings of one meter. before, after: [micro] credit; start, end: [ms UTC]."""

    meter: str
    start: int
    end: int
    before: int
    after: int


def balance(
    span: Span, used: int, purchases: Sequence[Bought], settings: ReconcileSettings, *, counters: tuple[int, int]
) -> Verdict:
    """Compare. used: [micro] that the credit was charged with. counters: [micro] mechanical and accumulated.

    purchases: also those of `load_days` before the span.
    """
    load_ms = settings.load_days * DAY_MS
    bought = sum(volume for at, volume in purchases if span.start < at <= span.end)
    off = span.before + bought - used - span.after
    margin = max(
        micro_of(settings.prepaid_tolerance_m3),
        abs(used) * micro_of(settings.prepaid_tolerance_percent) // 100_000_000,
    )
    facts = {"meter": span.meter, "from_at": span.start, "to_at": span.end, "credit_before": span.before,
             "bought": bought, "used": used, "credit_after": span.after, "tolerance": margin,
             "mechanical": counters[0], "accumulated": counters[1]}  # fmt: skip
    if min(map(abs, counters)) == 0 and max(map(abs, counters)) > margin:
        return Verdict(MISMATCH, "counter_still", off, facts)
    if abs(off) <= margin:
        return Verdict(AGREES, "", off, facts)
    late = _sums([v for at, v in purchases if span.start - load_ms < at <= span.start])
    early = sorted(_sums([v for at, v in purchases if max(span.start, span.end - load_ms) < at <= span.end]))
    for came_late in late:
        held = _smallest_within(early, off + came_late - margin, off + came_late + margin)
        if held is not None:
            cause, verdict = ("not_loaded_yet", WAITING) if held else ("loaded_late", AGREES)
            return Verdict(verdict, cause, off, facts | {"not_loaded": held, "loaded_late": came_late})
    return Verdict(MISMATCH, "credit_short" if off > 0 else "credit_over", off, facts)


def _smallest_within(ascending: Sequence[int], low: int, high: int) -> int | None:
    """Return the number nearest to 0 of those from low to high, None where there is none.

    Looked up, not walked: a shop that buys each day has thousands of sums on both sides (measured 0.57 s for one).
    """
    first, last = bisect_left(ascending, low), bisect_right(ascending, high)
    if first == last:
        return None
    place = min(max(bisect_left(ascending, 0), first), last - 1)
    return min(ascending[max(place - 1, first) : place + 1], key=abs)


def _sums(volumes: Sequence[int]) -> list[int]:
    """Return every sum of some of the purchases, the empty one first; many of them only as the last ones in a row."""
    sums = {0}
    for volume in volumes:
        sums |= {each + volume for each in sums}
        if len(sums) > _MOST_SUMS:
            return [sum(volumes[place:]) for place in range(len(volumes), -1, -1)]
    return sorted(sums, key=abs)


def compare(
    database: Database,
    store: ReadingStore,
    rules: RulesInForce,
    settings: ReconcileSettings,
    period: str,
    scope: Scope,
) -> Iterator[list[Compared]]:
    """Yield the comparison of every prepaid usage point that is due in a period, block by block."""
    with database.read() as connection:
        found = spots(connection, _prepaid(connection, scope))
    due = [(found[name], bounds) for name in sorted(found) if (bounds := found[name].bounds(rules.calendars, period))]
    by_spot = {spot.point.id: bounds for spot, bounds in due}
    for block in blocks([spot for spot, _ in due]):
        since = min(by_spot[spot.point.id].start for spot in block)
        until = max(by_spot[spot.point.id].end for spot in block)
        look_back = rules.boundary.tolerance_ms + 2 * DAY_MS
        read = indexes(store, rules, block, since - look_back, until + _later(rules), "credit")
        with database.read() as connection:
            bought = _purchases(
                connection, block, since - look_back - settings.load_days * DAY_MS, until + _later(rules)
            )
        yield [_one(spot, by_spot[spot.point.id], read, rules, settings, bought) for spot in block]


def _later(rules: RulesInForce) -> int:
    return max(AFTER_MS, rules.boundary.manual_ms + 1) + 7 * DAY_MS


def _prepaid(connection: Connection, scope: Scope) -> list[str]:
    """Usage points whose meter last told a credit, or for which anything was ever bought."""
    tells = sa.select(Installation.usage_point_id).join(Latest, Latest.meter == Installation.meter_id)
    tells = tells.where(Installation.removed_at.is_(None), sa.cast(Latest.values, sa.Text).like('%"credit"%'))
    buys = sa.select(Purchase.usage_point_id).where(counts_still(Purchase))
    place = UsagePoint.__table__
    statement = sa.select(place.c.id).where(sa.or_(place.c.id.in_(tells), place.c.id.in_(buys)))
    if scope.district:
        statement = statement.where(place.c.district == scope.district)
    ids = connection.execute(statement.order_by(place.c.id)).scalars().all()
    return [name for name in ids if scope.points is None or name in scope.points]


def _purchases(
    connection: Connection, block: Sequence[Spot], since: int, until: int
) -> dict[str, list[Bought]] | None:
    """Return purchases by usage point; None when no file brought any for anybody in this time."""
    table = Purchase.__table__
    within = (table.c.at > since, table.c.at < until, counts_still(Purchase))
    if connection.execute(sa.select(table.c.id).where(*within).limit(1)).first() is None:
        return None
    found: dict[str, list[Bought]] = {}
    wanted = table.c.usage_point_id.in_([spot.point.id for spot in block])
    for row in connection.execute(sa.select(table).where(*within, wanted).order_by(table.c.at, table.c.id)):
        found.setdefault(row.usage_point_id, []).append((row.at, row.volume))
    return found


def _one(
    spot: Spot,
    bounds: Bounds,
    read: Indexes,
    rules: RulesInForce,
    settings: ReconcileSettings,
    bought: dict[str, list[Bought]] | None,
) -> Compared:
    found = _span(spot, bounds, read, rules)
    if isinstance(found, Verdict):
        result = found
    elif bought is None:
        result = Verdict(NOT_KNOWABLE, "no_purchases")
    else:
        result = _settled(spot, found, read, rules, settings, bought.get(spot.point.id, []))
    return Compared(spot.point.id, spot.district, bounds.start, bounds.end, result)


def _span(spot: Spot, bounds: Bounds, read: Indexes, rules: RulesInForce) -> Span | Verdict:
    """The credit readings that stand for both boundaries; after an exchange from the new meter's first one."""
    here = [stay for stay in spot.point.stays if stay.start < bounds.end and (stay.end or bounds.end) >= bounds.end]
    if not here:
        return Verdict(NOT_KNOWABLE, "no_meter")
    stay: Stay = here[-1]
    credit = [
        s for s in read.of(stay.meter, "credit") if s.at >= stay.start and (stay.end is None or s.at < stay.end)
    ]
    closing = _at(credit, bounds.end, rules.boundary, bounds.end_window)
    if stay.start > bounds.start:
        opening = credit[0] if credit else None
    else:
        opening = _at(credit, bounds.start, rules.boundary, bounds.start_window)
    if opening is None or closing is None:
        return Verdict(NOT_KNOWABLE, "no_credit_reading", facts={"meter": stay.meter})
    if closing.at <= opening.at:
        return Verdict(NOT_KNOWABLE, "one_credit_reading", facts={"meter": stay.meter})
    return Span(stay.meter, opening.at, closing.at, opening.index, closing.index)


def _at(credit: Sequence[Sample], moment: int, boundary: Rules, window_end: int) -> Sample | None:
    """As `boundaries.choose`: the last one before within the tolerance, else one by hand some days after."""
    before = [sample for sample in credit if moment - boundary.tolerance_ms <= sample.at <= moment]
    if before:
        return before[-1]
    latest = max(moment + boundary.manual_ms, window_end)
    return next((s for s in credit if moment < s.at <= latest and s.source in BY_HAND), None)


def _settled(
    spot: Spot,
    span: Span,
    read: Indexes,
    rules: RulesInForce,
    settings: ReconcileSettings,
    bought: Sequence[Bought],
) -> Verdict:
    outcome = read.used(spot, span.start, span.end, _TOGETHER, rules.conflicts)
    if outcome.consumption is None:
        facts: dict[str, Any] = {"meter": span.meter, "from_at": span.start, "to_at": span.end}
        return Verdict(NOT_KNOWABLE, outcome.cause, facts=facts | {"detail": outcome.detail[:300]})
    mechanical, accumulated = _counters(outcome, next(s for s in spot.point.stays if s.meter == span.meter))
    result = balance(span, accumulated, bought, settings, counters=(mechanical, accumulated))
    if outcome.state == "billed":
        return result
    return Verdict(result.verdict, result.cause, result.difference, dict(result.facts) | {"doubt": outcome.cause})


def _counters(outcome: Outcome, stay: Stay) -> tuple[int, int]:
    """[micro] what passed by the mechanical index and by the accumulated volume."""
    billed = outcome.consumption or 0
    if stay.quantity == "volume_standard":
        return outcome.companions.get("volume_actual", billed), billed
    return billed, outcome.companions.get("volume_standard", billed)
