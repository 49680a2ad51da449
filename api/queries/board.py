"""The figures of the overview: read rate, what is silent, alarms by priority, orders, all of it per district."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, in_areas
from api.queries.gateways import list_gateways
from api.queries.order_board import OrderCounts, order_counts
from api.queries.read_rate import is_due, is_read
from registry.findings_store import FINDING
from registry.findings_words import PRIORITIES
from registry.models import Installation, Latest, Meter, UsagePoint

SHOWN_STATES: Final = ("UNACK", "RTNUN", "ACKED")
_MOST_GATEWAYS: Final = 1000


@dataclass(frozen=True, slots=True)
class Tile:
    """One district. due: meters that should be read; read: of these, read in the window with a value of use."""

    district: str
    due: int
    read: int
    alarms: Mapping[str, int]
    gateways_down: int

    @property
    def silent(self) -> int:
        """Meters that are due and were not read."""
        return self.due - self.read


@dataclass(frozen=True, slots=True)
class Board:
    """All of it. alarms: priority -> state -> number. orders: open, due within a day, past their time."""

    tiles: list[Tile]
    alarms: Mapping[str, Mapping[str, int]]
    gateways: int
    gateways_down: int
    orders: OrderCounts

    @property
    def due(self) -> int:
        """Meters that should be read."""
        return sum(tile.due for tile in self.tiles)

    @property
    def read(self) -> int:
        """Of these, read in the window."""
        return sum(tile.read for tile in self.tiles)


@dataclass(frozen=True, slots=True)
class MeterCounts:
    """By district: meters that should be read, and of these those that were. "" for a meter installed nowhere."""

    due: Mapping[str, int]
    read: Mapping[str, int]


def board(connection: Connection, meters: MeterCounts, *, areas: Areas, now_ms: int, stale_s: float) -> Board:
    """Return the figures for a caller for `areas`. meters: of `meter_counts`, which looks at every meter."""
    due, read = meters.due, meters.read
    counted = _alarms(connection, areas)
    page = list_gateways(
        connection, areas=areas, now_ms=now_ms, stale_s=stale_s, limit=_MOST_GATEWAYS, cursor=None
    ).items
    down = Counter(gateway.district for gateway in page if gateway.status not in ("ok", "never_seen"))
    by_district: dict[str, Counter[str]] = defaultdict(Counter)
    by_priority: dict[str, Counter[str]] = {priority: Counter() for priority in reversed(PRIORITIES)}
    for district, priority, state, count in counted:
        by_district[district][priority] += count
        by_priority[priority][state] += count
    names = sorted({*due, *by_district, *down} - {""}) + ([""] if "" in {*due, *by_district, *down} else [])
    tiles = [Tile(name, due.get(name, 0), read.get(name, 0), by_district[name], down[name]) for name in names]
    orders = order_counts(connection, areas=areas, now_ms=now_ms)
    return Board(tiles, by_priority, len(page), sum(down.values()), orders)


def meter_counts(connection: Connection, *, areas: Areas, since: int) -> MeterCounts:
    """Return meters due and read since `since` [ms UTC]. It looks at every meter: 0.3 s for 100,000 of them."""
    district = sa.func.coalesce(UsagePoint.district, "")
    statement = (
        sa.select(district, sa.func.count(), sa.func.sum(sa.case((is_read(since), 1), else_=0)))
        .select_from(Meter)
        .outerjoin(Installation, sa.and_(Installation.meter_id == Meter.id, Installation.removed_at.is_(None)))
        .outerjoin(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .outerjoin(Latest, Latest.meter == Meter.id)
        .where(is_due())
        .group_by(district)
    )
    if areas is not None:
        statement = statement.where(in_areas(areas, UsagePoint.district))
    rows = connection.execute(statement).all()
    return MeterCounts({row[0]: int(row[1]) for row in rows}, {row[0]: int(row[2] or 0) for row in rows})


def _alarms(connection: Connection, areas: Areas) -> list[tuple[str, str, str, int]]:
    statement = (
        sa.select(FINDING.c.district, FINDING.c.priority, FINDING.c.state, sa.func.count())
        .where(FINDING.c.state.in_(SHOWN_STATES), in_areas(areas, FINDING.c.district))
        .group_by(FINDING.c.district, FINDING.c.priority, FINDING.c.state)
    )
    return [(row[0], row[1], row[2], int(row[3])) for row in connection.execute(statement)]
