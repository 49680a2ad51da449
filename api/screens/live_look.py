"""One look at the registry for all who watch: what is new in it since the look before."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.queries.readiness import faults
from api.screens.live_stream import Change
from metering.clock import Clock
from registry.database import Database
from registry.findings_store import FINDING, HISTORY
from registry.models import GatewayStatus, Latest, PositionRecord
from registry.models_work_orders import WorkOrder, WorkOrderStep

_OVERLAP: Final = 500
"""Lines of history that are looked at again: PostgreSQL may show a lower number after a higher one."""
_MOST_LINES: Final = 2000
_STEPS_BACK_MS: Final = 60_000
"""Steps of orders carry the time at which their transaction began; it may have waited so long for the lock."""
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the registry found. uplink, gateways: change when something changed there."""

    lines: tuple[tuple[int, str, str, str], ...]
    orders: frozenset[str]
    uplink: tuple[int, ...]
    gateways: tuple[int, int]
    stale: tuple[str, ...]
    latest: dict[str, int]
    """Time of the newest reading [ms UTC] of the meters that were asked for."""


class Looker:
    """Remembers what it has seen. Used from one thread at a time; `forget` makes the next look the first."""

    def __init__(self, database: Database, *, clock: Clock, stale_s: float) -> None:
        self._database, self._clock, self._stale_s = database, clock, stale_s
        self._first = True
        self._top = -1
        self._lines: set[int] = set()
        self._steps: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """Nobody watched for a while: what happened meanwhile is not new."""
        self._first = True

    def look(self, meters: Collection[str]) -> Seen:
        """Return what is new. meters: of which somebody's page shows the newest reading."""
        with self._database.read() as connection:
            seen = Seen(
                self._new_lines(connection),
                self._changed_orders(connection),
                tuple(connection.execute(_UPLINK).one()),
                tuple(connection.execute(_GATEWAYS).one()),
                tuple(
                    f"{check.name}: {check.reason}"
                    for check in faults(connection, self._clock.now_ms(), self._stale_s)
                ),
                _latest(connection, meters),
            )
        self._first = False
        return seen

    def _new_lines(self, connection: Connection) -> tuple[tuple[int, str, str, str], ...]:
        """Return (id, district, state, priority) of lines of history that were not seen before."""
        if self._first:
            self._top = int(connection.execute(sa.select(sa.func.max(HISTORY.c.id))).scalar() or 0)
            floor = self._top - _OVERLAP
            self._lines = set(connection.execute(sa.select(HISTORY.c.id).where(HISTORY.c.id > floor)).scalars())
            return ()
        rows = connection.execute(_LINES, {"floor": self._top - _OVERLAP}).all()
        new = tuple((row.id, row.district, row.to_state, row.priority) for row in rows if row.id not in self._lines)
        self._top = max([self._top, *(row.id for row in rows)])
        self._lines = {row.id for row in rows if row.id > self._top - _OVERLAP}
        return new

    def _changed_orders(self, connection: Connection) -> frozenset[str]:
        """Return the districts of orders with steps that were not seen before."""
        since = self._clock.now_ms() - _STEPS_BACK_MS
        rows = connection.execute(_STEPS, {"since": since}).all()
        new = frozenset(row.district for row in rows if (row.order_id, row.number) not in self._steps)
        self._steps = {(row.order_id, row.number) for row in rows}
        return new if not self._first else frozenset()


def _latest(connection: Connection, meters: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    names = sorted(meters)
    for start in range(0, len(names), _CHUNK):
        wanted = sa.select(Latest.meter, Latest.read_at).where(Latest.meter.in_(names[start : start + _CHUNK]))
        found.update({row.meter: row.read_at for row in connection.execute(wanted)})
    return found


_LINES: Final = (
    sa.select(HISTORY.c.id, HISTORY.c.to_state, FINDING.c.district, FINDING.c.priority)
    .join(FINDING, FINDING.c.id == HISTORY.c.finding_id)
    .where(HISTORY.c.id > sa.bindparam("floor"))
    .order_by(HISTORY.c.id)
    .limit(_MOST_LINES)
)
_STEPS: Final = (
    sa.select(WorkOrderStep.order_id, WorkOrderStep.number, WorkOrder.district)
    .join(WorkOrder, WorkOrder.id == WorkOrderStep.order_id)
    .where(WorkOrderStep.at >= sa.bindparam("since"))
    .order_by(WorkOrderStep.at.desc(), WorkOrderStep.order_id.desc())
    .limit(_MOST_LINES)
)
_UPLINK: Final = sa.select(
    sa.func.coalesce(sa.func.sum(PositionRecord.stored), 0),
    sa.func.coalesce(sa.func.sum(PositionRecord.quarantined), 0),
    sa.func.coalesce(sa.func.max(PositionRecord.last_up_at), 0),
)
_GATEWAYS: Final = sa.select(
    sa.func.count(),
    sa.func.coalesce(sa.func.sum(sa.case((GatewayStatus.online, 1), else_=0)), 0),
)


def change_of(number: int, before: Seen, seen: Seen) -> Change:
    """Return the difference of two looks."""
    topics = {
        name
        for name, changed in (
            ("findings", bool(seen.lines)),
            ("orders", bool(seen.orders)),
            ("readings", before.uplink != seen.uplink),
            ("gateways", before.gateways != seen.gateways),
        )
        if changed
    }
    urgent = _districts(line for line in seen.lines if line[2:] == ("UNACK", "urgent"))
    return Change(number, frozenset(topics), _districts(seen.lines), urgent, seen.orders, seen.latest)


def _districts(lines: Iterable[tuple[int, str, str, str]]) -> frozenset[str]:
    return frozenset(line[1] for line in lines)
