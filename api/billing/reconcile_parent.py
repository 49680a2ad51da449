"""Parent meter 总表 against the sum of its children 分表: the loss 管损 of a period, and what cannot be told of it.

    loss = parent - sum of the children that are known

Two things make it uncertain, and they are told apart. `band`: limits of error of all meters, each a rectangular
distribution, joined as independent ones with coverage factor 2 (JCGM 100, GUM 4.3.7 and 5.1.2; k = 2 of half width a
gives 2a/sqrt 3). `unknown`: what children without a total may have used: between nothing and the highest rate of
their own last totals, or, for want of those, what the meter can pass. A loss is only told where the whole range from
loss - unknown - band to loss + band lies above zero; where it holds zero and the children that are missing could
explain it, it is not knowable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.load import RulesInForce
from api.billing.reconcile_settings import ReconcileSettings
from api.billing.reconcile_words import AGREES, GAIN, LOSS, NOT_KNOWABLE, Compared, Scope, Verdict
from api.billing.spans import AFTER_MS, BLOCK, DAY_MS, Spot, indexes, spots
from metering.quantities import UNITS
from metering.store import ReadingStore
from registry import supply
from registry.database import Database
from registry.models_billing import BillingTotal
from registry.supply import Link

_PERCENT: Final = 100_000_000
_SHOWN: Final = 20
_HOUR_MS: Final = 3_600_000
Piece = tuple[str, int, int]
"""(usage point, from, to [ms UTC])."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one meter counted [micro], or None with the cause and what it may have been at most (None: no bound).

    limit: of error [10⁻⁶ %]. doubtful: known, but a person must look.
    """

    point: str
    volume: int | None
    limit: int
    cause: str = ""
    at_most: int | None = None
    doubtful: bool = False


def judge(parent: Count, children: Sequence[Count]) -> Verdict:
    """Compare a parent with its children."""
    known = [(child, child.volume) for child in children if child.volume is not None]
    missing = [child for child in children if child.volume is None]
    total = sum(volume for _, volume in known)
    facts: dict[str, Any] = {
        "parent": parent.volume, "children": total, "known": len(known), "missing": len(missing),
        "missing_children": [{"usage_point": c.point, "cause": c.cause} for c in missing[:_SHOWN]],
        "doubtful": [c.point for c in (parent, *children) if c.doubtful][:_SHOWN],
    }  # fmt: skip
    if parent.volume is None:
        return Verdict(NOT_KNOWABLE, f"parent_{parent.cause}"[:48], facts=facts)
    parts = [parent.volume * parent.limit, *(volume * child.limit for child, volume in known)]
    band, worst = band_of(parts), -(-sum(map(abs, parts)) // _PERCENT)
    loss = parent.volume - total
    facts |= {"band": band, "worst_case": worst}
    if parent.volume:
        facts["loss_percent"] = loss * _PERCENT // parent.volume
    bounds = [child.at_most for child in missing]
    if None in bounds:
        return Verdict(NOT_KNOWABLE, "children_missing", loss, facts)
    unknown = sum(bound for bound in bounds if bound is not None)
    low, high = loss - unknown - band, loss + band
    facts |= {"unknown": unknown, "loss_from": low, "loss_to": high}
    if high < 0:
        return Verdict(GAIN, "", loss, facts)
    if low > 0:
        return Verdict(LOSS, "", loss, facts)
    return (
        Verdict(NOT_KNOWABLE, "children_missing", loss, facts) if unknown > band else Verdict(AGREES, "", loss, facts)
    )


def band_of(parts: Sequence[int]) -> int:
    """Return the expanded uncertainty [micro], rounded up. parts: volume [micro] times limit of error [10⁻⁶ %]."""
    square = sum(part * part for part in parts)
    return -(-isqrt(4 * square // 3) // _PERCENT)


def compare(
    database: Database,
    store: ReadingStore,
    rules: RulesInForce,
    settings: ReconcileSettings,
    period: str,
    scope: Scope,
) -> Iterator[list[Compared]]:
    """Yield the comparison of every parent meter that is due in a period, one list a parent."""
    with database.read() as connection:
        links = supply.links(connection)
        parents = spots(connection, sorted({link.parent for link in links if link.parent}))
    for name, spot in sorted(parents.items()):
        if (scope.district and spot.district != scope.district) or (scope.points and name not in scope.points):
            continue
        bounds = spot.bounds(rules.calendars, period)
        below = [] if bounds is None else supply.children_between(links, bounds.start, bounds.end).get(name, [])
        if bounds is None or not below:
            continue
        start, end = bounds.start, bounds.end
        pieces = [(name, start, end), *((link.child, since, until) for link, since, until in below)]
        counted = _counted(database, store, rules, period, pieces)
        limit = settings.limit(spot.medium, next((link.parent_class for link, *_ in below if link.parent_class), ""))
        counts = [_with_limit(counted[link.child, a, b], spot, link, settings) for link, a, b in below]
        own = counted[name, start, end]
        own = Count(own.point, own.volume, limit, own.cause, own.at_most, own.doubtful)
        facts = judge(own, counts)
        yield [Compared(name, spot.district, start, end, facts)]


def _with_limit(count: Count, parent: Spot, link: Link, settings: ReconcileSettings) -> Count:
    limit = settings.limit(parent.medium, link.child_class)
    return Count(count.point, count.volume, limit, count.cause, count.at_most, count.doubtful)


def _counted(
    database: Database, store: ReadingStore, rules: RulesInForce, period: str, pieces: Sequence[Piece]
) -> dict[Piece, Count]:
    """What meters counted in their pieces: from stored totals of just this time, else from the readings."""
    found: dict[Piece, Count] = {}
    with database.read() as connection:
        places = spots(connection, sorted({point for point, *_ in pieces}))
        billed = _billed(connection, period, [point for point, *_ in pieces])
        rates = _rates(connection, period, [point for point, *_ in pieces])
    rest: list[Piece] = []
    for piece in pieces:
        total = billed.get(piece)
        if total is not None:
            found[piece] = Count(piece[0], total.consumption, 0, doubtful=total.state == "doubtful")
        else:
            rest.append(piece)
    for at in range(0, len(rest), BLOCK):
        found |= _by_readings(store, rules, rest[at : at + BLOCK], places, rates)
    quantity_of = {name: _unit(spot) for name, spot in places.items()}
    unit = quantity_of.get(pieces[0][0])
    return {
        piece: count
        if quantity_of.get(piece[0]) == unit or count.volume is None
        else Count(count.point, None, 0, "other_unit")
        for piece, count in found.items()
    }


def _unit(spot: Spot) -> str:
    return UNITS[spot.point.stays[-1].quantity] if spot.point.stays else ""


def _by_readings(
    store: ReadingStore,
    rules: RulesInForce,
    pieces: Sequence[Piece],
    places: Mapping[str, Spot],
    rates: Mapping[str, int],
) -> dict[Piece, Count]:
    since = min(start for _, start, _ in pieces) - rules.boundary.tolerance_ms - 2 * DAY_MS
    until = max(end for *_, end in pieces) + max(AFTER_MS, rules.boundary.manual_ms + 1)
    block = [places[point] for point in dict.fromkeys(point for point, *_ in pieces)]
    read = indexes(store, rules, block, since, until)
    found = {}
    for piece in pieces:
        point, start, end = piece
        outcome = read.used(places[point], start, end, rules.boundary, rules.conflicts)
        if outcome.cause == "no_meter" and places[point].point.stays:
            found[piece] = Count(point, 0, 0)  # it hung there before or after: nothing was metered in this time
        elif outcome.consumption is None:
            bound = _at_most(places[point], rates.get(point), end - start)
            found[piece] = Count(point, None, 0, outcome.cause, bound)
        else:
            found[piece] = Count(point, outcome.consumption, 0, doubtful=outcome.state == "doubtful")
    return found


def _at_most(spot: Spot, rate: int | None, length_ms: int) -> int | None:
    """[micro] by its own highest rate [micro/h], else by what its meter can pass; None when there is no meter."""
    if rate is None and spot.point.stays:
        rate = spot.point.stays[-1].limits.max_flow
    return None if rate is None else -(-rate * length_ms // _HOUR_MS)


def _billed(connection: Connection, period: str, points: Sequence[str]) -> dict[Piece, Any]:
    table = BillingTotal.__table__
    found: dict[Piece, Any] = {}
    for at in range(0, len(points), 500):
        statement = sa.select(table).where(
            table.c.period == period,
            table.c.usage_point_id.in_(points[at : at + 500]),
            table.c.state.in_(("billed", "doubtful")),
            table.c.consumption.is_not(None),
        )
        for row in connection.execute(statement):
            found[row.usage_point_id, row.start_at, row.end_at] = row
    return found


def _rates(connection: Connection, period: str, points: Sequence[str]) -> dict[str, int]:
    """Return usage point -> [micro/h] of its highest total in the year before a period, rounded up."""
    table = BillingTotal.__table__
    year_ago = f"{int(period[:4]) - 1:04d}{period[4:]}"
    found: dict[str, int] = {}
    for at in range(0, len(points), 500):
        statement = sa.select(table.c.usage_point_id, table.c.consumption, table.c.start_at, table.c.end_at).where(
            table.c.usage_point_id.in_(points[at : at + 500]),
            table.c.period >= year_ago,
            table.c.period < period,
            table.c.consumption >= 0,
            table.c.end_at > table.c.start_at,
        )
        for row in connection.execute(statement):
            rate = -(-row.consumption * _HOUR_MS // (row.end_at - row.start_at))
            found[row.usage_point_id] = max(rate, found.get(row.usage_point_id, 0))
    return found
