"""What billing reads of the books for one period: rules once, and the facts of usage points block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import ANY, DEFAULTS, Bounds, Calendar, Calendars, ExtraDay
from api.billing.chain import STOPS, limits_for
from api.billing.rules import Rules
from api.billing.settings import BillingSettings
from api.billing.states import Hanging, Word
from api.billing.totals import Change, Point, Stay
from metering.clock import parse_day
from metering.quantities import Quantity
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


@dataclass(frozen=True, slots=True)
class Place:
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
    history: dict[str, Any] = field(default_factory=dict)
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
    block = _block(connection, period, rows[0].id, rows[-1].id)
    found = (_place(row, block, rules, period) for row in rows)
    return [place for place in found if place is not None], rows[-1].id


def _block(connection: Connection, period: str, first: str, last: str) -> _Block:
    block = _Block()
    for point, group in groupby(books.stays(connection, first, last), key=lambda row: row.usage_point_id):
        block.stays[str(point)] = list(group)
    table = Occupancy.__table__
    for row in connection.execute(
        sa.select(table)
        .where(table.c.usage_point_id >= first, table.c.usage_point_id <= last)
        .order_by(table.c.usage_point_id, table.c.from_at)
    ):
        block.changes.setdefault(row.usage_point_id, []).append(row)
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
    bounds = rules.calendars.bounds(row.customer_class, row.medium, period, row.tz)
    if bounds is None:
        return None
    history = block.history.get(row.id)
    frozen = block.frozen.get(row.id)
    bounds = _joined(bounds, history) if frozen is None else replace(bounds, start=frozen[0], end=frozen[1])
    stays = block.stays.get(row.id, [])
    look = rules.settings.lookback_days * _DAY_MS
    tolerance = rules.boundary.tolerance_ms
    known = history is not None and history.last_end == bounds.start
    since = bounds.start - (tolerance + 2 * _DAY_MS if known else max(look, tolerance + 2 * _DAY_MS))
    stopped = block.stopped.get(row.id)
    if stopped is not None:
        since = min(since, stopped - tolerance - 2 * _DAY_MS)
    changes = block.changes.get(row.id, [])
    return Place(
        Point(
            row.id,
            [_stay(stay, row) for stay in stays],
            changes[0].account_number if changes else row.account_number,
            [Change(c.from_at, c.account_number, dict(c.start_indexes or {})) for c in changes if c.from_at > 0],
            _rates(rules, row),
        ),
        bounds,
        row.medium,
        row.customer_class,
        row.district,
        tuple(_hanging(stay, block) for stay in stays),
        since,
        int(history.year_to_date) if history is not None else 0,
        known,
        {stay.meter_id: stay.gateway_id or "" for stay in stays},
        {stay.meter_id: min(stay.interval_s or 3600, 86_400) for stay in stays},
        block.words.get(row.id),
        stopped is not None,
    )


def _joined(bounds: Bounds, history: Any) -> Bounds:
    """Begin where the last stored period of this usage point ended, also when its class or calendar changed since."""
    if history is None or history.last_end == bounds.start or history.last_period < bounds.before:
        return bounds
    cuts = tuple(cut for cut in bounds.cuts if cut > history.last_end)
    return Bounds(
        bounds.period,
        min(history.last_end, bounds.end),
        bounds.end,
        0,
        bounds.end_window,
        cuts,
        bounds.months,
        history.last_period,
    )


def _stay(row: Any, place: Any) -> Stay:
    limits = limits_for(place.medium, place.customer_class, row.index_digits, row.resolution, row.qmax)
    quantity: Quantity = row.quantity
    return Stay(row.meter_id, quantity, limits, row.installed_at, row.removed_at, row.start_index, row.final_index)


def _hanging(row: Any, block: _Block) -> Hanging:
    sealed = block.sealed.get(row.meter_id) if row.state == "sealed" else None
    return Hanging(row.state, row.installed_at, row.removed_at, sealed, row.commissioned_at)


def _rates(rules: RulesInForce, row: Any) -> tuple[tuple[int, int], ...]:
    if row.medium != "gas" or not rules.rates:
        return ()
    found = rules.rates.get(row.district) or rules.rates.get("") or []
    return tuple((parse_day(day, row.tz), value) for day, value in found)


def meters_of(block: Sequence[Place]) -> list[str]:
    """Return the ids of all meters of some usage points."""
    return sorted({stay.meter for place in block for stay in place.point.stays})
