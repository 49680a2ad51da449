"""What usage points consumed between any two moments, by the arithmetic of the monthly totals and no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import Bounds, Calendars
from api.billing.chain import Sample, limits_for
from api.billing.classes import ClassStay, changed_classes, period_of
from api.billing.compute import read_samples
from api.billing.load import RulesInForce
from api.billing.rules import Rules
from api.billing.totals import COMPANIONS, Outcome, Point, Samples, Stay, total
from metering.quantities import Quantity
from metering.store import ReadingStore
from registry.models import Installation, Meter, UsagePoint

DAY_MS: Final = 86_400_000
BLOCK: Final = 200
"""Usage points whose readings are held at once."""
AFTER_MS: Final = 3 * DAY_MS
"""How far behind the end readings are looked for that confirm its index."""
_IDS: Final = 500


@dataclass(frozen=True, slots=True)
class Spot:
    """A usage point with every meter that ever hung there."""

    point: Point
    medium: str
    customer_class: str
    district: str
    tz: str
    classes: tuple[ClassStay, ...] = ()

    def bounds(self, calendars: Calendars, period: str) -> Bounds | None:
        """Return a period by the class that it belongs to; classes: empty while it never changed."""
        if not self.classes:
            return calendars.bounds(self.customer_class, self.medium, period, self.tz)
        found = period_of(calendars, self.classes, self.medium, period, self.tz)
        return None if found is None else found[1]


def spots(connection: Connection, ids: Sequence[str]) -> dict[str, Spot]:
    """Return the usage points that exist among `ids`."""
    found: dict[str, Spot] = {}
    for start in range(0, len(ids), _IDS):
        chunk = ids[start : start + _IDS]
        stays, classes = _stays(connection, chunk), changed_classes(connection, min(chunk), max(chunk))
        for row in connection.execute(sa.select(UsagePoint.__table__).where(UsagePoint.id.in_(chunk))):
            own = [_stay(stay, row) for stay in stays.get(row.id, [])]
            found[row.id] = Spot(
                Point(row.id, own, row.account_number),
                row.medium,
                row.customer_class,
                row.district,
                row.tz,
                tuple(classes.get(row.id, ())),
            )
    return found


def _stays(connection: Connection, ids: Sequence[str]) -> dict[str, list[Any]]:
    stay, meter = Installation.__table__, Meter.__table__
    statement = (
        sa.select(stay, meter.c.quantity, meter.c.index_digits, meter.c.resolution, meter.c.qmax)
        .join(meter, meter.c.id == stay.c.meter_id)
        .where(stay.c.usage_point_id.in_(ids))
        .order_by(stay.c.usage_point_id, stay.c.installed_at, stay.c.id)
    )
    found: dict[str, list[Any]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.usage_point_id, []).append(row)
    return found


def _stay(row: Any, place: Any) -> Stay:
    limits = limits_for(place.medium, place.customer_class, row.index_digits, row.resolution, row.qmax)
    quantity: Quantity = row.quantity
    return Stay(row.meter_id, quantity, limits, row.installed_at, row.removed_at, row.start_index, row.final_index)


@dataclass(frozen=True, slots=True)
class Indexes:
    """Quantity -> meter -> samples in order of time, corrections laid over."""

    by_quantity: Mapping[Quantity, Mapping[str, list[Sample]]]

    def of(self, meter: str, quantity: Quantity) -> list[Sample]:
        """Return the samples of one register of one meter."""
        return self.by_quantity.get(quantity, {}).get(meter, [])

    def used(
        self, spot: Spot, start: int, end: int, rules: Rules, conflicts: frozenset[tuple[str, int]] = frozenset()
    ) -> Outcome:
        """Return the consumption from start to end [ms UTC], or why it is not known. companions as of a total."""
        own = {stay.meter: self.of(stay.meter, stay.quantity) for stay in spot.point.stays}
        beside: dict[Quantity, Samples] = {
            quantity: self.by_quantity[quantity]
            for quantity in COMPANIONS
            if quantity in self.by_quantity and any(stay.quantity != quantity for stay in spot.point.stays)
        }
        bounds = Bounds("", start, end, 0, 0)
        return total(spot.point, bounds, own, rules, companions=beside, conflicts=conflicts)


def indexes(
    store: ReadingStore, rules: RulesInForce, block: Sequence[Spot], since: int, until: int, *more: Quantity
) -> Indexes:
    """Read the registers of some usage points, since <= at < until [ms UTC]. more: further quantities."""
    meters = sorted({stay.meter for spot in block for stay in spot.point.stays})
    billed = {stay.quantity for spot in block for stay in spot.point.stays}
    wanted = sorted(billed | set(COMPANIONS) | set(more))
    return Indexes(read_samples(store, rules, meters, since, until, wanted) if meters else {})


def blocks(found: Sequence[Spot]) -> Iterator[Sequence[Spot]]:
    """Yield usage points in pieces whose readings fit into memory together."""
    for start in range(0, len(found), BLOCK):
        yield found[start : start + BLOCK]
