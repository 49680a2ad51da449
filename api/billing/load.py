"""What billing reads of the books for one period: rules once, and the facts of usage points block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import ANY, DEFAULTS, Bounds, Calendar, Calendars, ExtraDay
from api.billing.chain import STOPS, limits_for
from api.billing.classes import ClassStay, changed_classes, period_of
from api.billing.rules import Rules
from api.billing.settings import BillingSettings
from api.billing.states import Hanging, Word
from api.billing.totals import Change, Point, Stay
from metering.clock import parse_day
from registry import billing as books
from registry.models import Latest, Quarantine
from registry.models_billing import (
    BillingCalendar,
    BillingDecision,
    BillingExtraDay,
    CalorificValue,
    ReadingCorrection,
)
from registry.models_books import BookEntry, Occupancy

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Scope:
    """Which usage points: "" for all. points: only these."""

    customer_class: str = ANY
    medium: str = ANY
    district: str = ANY
    points: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """A stored index that is taken as another one, or not at all (becomes None)."""

    becomes: int | None


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """What is the same for all usage points of a period. conflicts: (meter, read_at) with a refused second value.

    rates: district -> (from local day, value), oldest first. beside: meters that have further registers.
    """

    settings: BillingSettings
    boundary: Rules
    limits: dict[tuple[str, str], tuple[int, int]]
    calendars: Calendars
    corrections: dict[tuple[str, int], Correction]
    corrected: frozenset[str]
    conflicts: frozenset[tuple[str, int]]
    rates: dict[str, list[tuple[str, int]]]
    beside: frozenset[str]


class Place(NamedTuple):
    """One usage point that is due. since: [ms UTC] from where its readings must be looked at.

    earlier: [micro] of this year's former periods. gateways, intervals: by meter. word: a clerk's last one.
    """

    point: Point
    bounds: Bounds
    medium: str
    customer_class: str
    district: str
    hanging: tuple[Hanging, ...]
    since: int
    earlier: int
    known_before: bool
    gateways: dict[str, str]
    intervals: dict[str, int]
    word: Word | None = None
    stopped: bool = False


def calendars_of(connection: Connection) -> Calendars:
    """Return the registry's calendars and extra days; the manuals' ones for whom it holds none."""
    table = BillingCalendar.__table__
    rules = [
        Calendar(r.customer_class, r.medium, r.first_day, r.last_day, r.every, r.month, r.from_period, r.to_period)
        for r in connection.execute(sa.select(table).order_by(table.c.id))
    ]
    extra = [
        ExtraDay(row.customer_class, row.medium, row.day, row.reason)
        for row in connection.execute(sa.select(BillingExtraDay.__table__).order_by(BillingExtraDay.id))
    ]
    return Calendars(tuple(rules), tuple(extra), otherwise=DEFAULTS)


def rules_in_force(connection: Connection, settings: BillingSettings) -> RulesInForce:
    """Read what is the same for every usage point."""
    corrections = {
        (row.meter_id, row.read_at): Correction(row.becomes)
        for row in connection.execute(
            sa.select(ReadingCorrection.__table__)
            .where(ReadingCorrection.withdrawn_at.is_(None))
            .order_by(ReadingCorrection.id)
        )
    }
    conflicts = connection.execute(
        sa.select(Quarantine.meter, Quarantine.read_at).where(
            Quarantine.reason == "conflict", Quarantine.read_at.is_not(None)
        )
    )
    rates: dict[str, list[tuple[str, int]]] = {}
    for row in connection.execute(sa.select(CalorificValue.__table__).order_by(CalorificValue.from_day)):
        rates.setdefault(row.district, []).append((row.from_day, row.value))
    words = sa.cast(Latest.values, sa.Text)
    beside = connection.execute(
        sa.select(Latest.meter).where(
            sa.or_(*(words.like(f"%{name}%") for name in ("volume_reverse", "volume_standard", "volume_actual")))
        )
    ).scalars()
    return RulesInForce(
        settings,
        settings.rules(),
        settings.limits_of(),
        calendars_of(connection),
        corrections,
        frozenset(meter for meter, _ in corrections),
        frozenset((row.meter, row.read_at) for row in conflicts),
        rates,
        frozenset(beside),
    )


@dataclass(slots=True)
class _Block:
    """Rows of one block by usage point."""

    stays: dict[str, list[Any]] = field(default_factory=dict)
    changes: dict[str, list[Any]] = field(default_factory=dict)
    classes: dict[str, list[ClassStay]] = field(default_factory=dict)
    history: dict[str, tuple[int, str, int]] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    words: dict[str, Word] = field(default_factory=dict)
    sealed: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, tuple[int, int]] = field(default_factory=dict)


def places(
    connection: Connection, rules: RulesInForce, period: str, scope: Scope, after: str
) -> tuple[list[Place], str | None]:
    """Return the usage points due in a period of the next block behind `after`, and its last id; None: no more."""
    rows = books.usage_points(
        connection,
        after=after,
        limit=rules.settings.block,
        customer_class=scope.customer_class,
        medium=scope.medium,
        district=scope.district,
        only=scope.points,
    )
    if not rows:
        return [], None
    first, last = str(rows[0][0]), str(rows[-1][0])
    block = _block(connection, period, first, last)
    found = [place for row in rows if (place := _place(row, block, rules, period)) is not None]
    if scope.customer_class:  # a class that changed: only those whose period belongs to the wanted one
        found = [place for place in found if place.customer_class == scope.customer_class]
    return found, last


def _block(connection: Connection, period: str, first: str, last: str) -> _Block:
    block = _Block()
    for row in books.stays(connection, first, last):
        block.stays.setdefault(row[0], []).append(row)
    table = Occupancy.__table__
    for row in connection.execute(
        sa.select(table)
        .where(table.c.usage_point_id >= first, table.c.usage_point_id <= last)
        .order_by(table.c.usage_point_id, table.c.from_at)
    ):
        block.changes.setdefault(row.usage_point_id, []).append(row)
    block.classes = changed_classes(connection, first, last)
    block.history = books.history(connection, period, first, last)
    block.stopped = books.stopped_since(connection, period, STOPS, first, last)
    block.frozen = books.frozen_bounds(connection, period, first, last)
    block.words = _words(connection, period, first, last)
    seals = connection.execute(
        sa.select(BookEntry.meter_id, BookEntry.at)
        .where(BookEntry.kind == "seal", BookEntry.usage_point_id >= first, BookEntry.usage_point_id <= last)
        .order_by(BookEntry.id)
    )
    block.sealed = {row.meter_id: row.at for row in seals}
    return block


def _words(connection: Connection, period: str, first: str, last: str) -> dict[str, Word]:
    table = BillingDecision.__table__
    rows = connection.execute(
        sa.select(table)
        .where(table.c.period == period, table.c.usage_point_id >= first, table.c.usage_point_id <= last)
        .order_by(table.c.id)
    )
    return {row.usage_point_id: Word(row.kind, row.consumption, row.actor, row.cause) for row in rows}


def _place(row: Any, block: _Block, rules: RulesInForce, period: str) -> Place | None:
    """Put together what one usage point needs. The hot loop of a city: a row is taken apart at once, by place."""
    point, medium, customer_class, district, tz, account = row
    bounds: Bounds | None
    if point in block.classes:
        found = period_of(rules.calendars, block.classes[point], medium, period, tz)
        customer_class, bounds = (customer_class, None) if found is None else found
    else:
        bounds = rules.calendars.bounds(customer_class, medium, period, tz)
    if bounds is None:
        return None
    history, frozen = block.history.get(point), block.frozen.get(point)
    bounds = _joined(bounds, history) if frozen is None else replace(bounds, start=frozen[0], end=frozen[1])
    known = history is not None and history[2] == bounds.start
    stays, hanging, gateways, intervals = _hung(block.stays.get(point, ()), block, medium, customer_class)
    changes = block.changes.get(point, ())
    stopped = block.stopped.get(point)
    return Place(
        Point(
            point,
            stays,
            changes[0].account_number if changes else account,
            [Change(c.from_at, c.account_number, dict(c.start_indexes or {})) for c in changes if c.from_at > 0],
            _rates(rules, district, tz) if rules.rates and medium == "gas" else (),
        ),
        bounds,
        medium,
        customer_class,
        district,
        hanging,
        _since(rules, bounds, stopped, known=known),
        0 if history is None else history[0],
        known,
        gateways,
        intervals,
        block.words.get(point),
        stopped is not None,
    )


def _since(rules: RulesInForce, bounds: Bounds, stopped: int | None, *, known: bool) -> int:
    """From where readings must be looked at [ms UTC]: further back where no earlier total stands behind them."""
    near = rules.boundary.tolerance_ms + 2 * _DAY_MS
    since = bounds.start - (near if known else max(rules.settings.lookback_days * _DAY_MS, near))
    return since if stopped is None else min(since, stopped - near)


def _hung(
    rows: Sequence[Any], block: _Block, medium: str, customer_class: str
) -> tuple[list[Stay], tuple[Hanging, ...], dict[str, str], dict[str, int]]:
    """Take the meters of a usage point apart: stays, what hangs there, gateways and reading intervals by meter."""
    stays, hanging = [], []
    gateways: dict[str, str] = {}
    intervals: dict[str, int] = {}
    for _, meter, start, end, first, final, quantity, digits, resolution, qmax, state, at, gateway, interval in rows:
        limits = limits_for(medium, customer_class, digits, resolution, qmax)
        stays.append(Stay(meter, quantity, limits, start, end, first, final))
        sealed = block.sealed.get(meter) if state == "sealed" else None
        hanging.append(Hanging(state, start, end, sealed, at))
        gateways[meter] = gateway or ""
        intervals[meter] = min(interval or 3600, 86_400)
    return stays, tuple(hanging), gateways, intervals


def _joined(bounds: Bounds, history: tuple[int, str, int] | None) -> Bounds:
    """Begin where the last stored period of this usage point ended, also when its class or calendar changed since."""
    if history is None or history[2] == bounds.start or history[1] < bounds.before:
        return bounds
    _, last_period, last_end = history
    cuts = tuple(cut for cut in bounds.cuts if cut > last_end)
    start = min(last_end, bounds.end)
    return Bounds(bounds.period, start, bounds.end, 0, bounds.end_window, cuts, bounds.months, last_period)


def _rates(rules: RulesInForce, district: str, tz: str) -> tuple[tuple[int, int], ...]:
    found = rules.rates.get(district) or rules.rates.get("") or []
    return tuple((parse_day(day, tz), value) for day, value in found)


def meters_of(block: Sequence[Place]) -> list[str]:
    """Return the ids of all meters of some usage points."""
    return sorted({stay.meter for place in block for stay in place.point.stays})
