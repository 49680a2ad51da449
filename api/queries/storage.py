"""What the page about the disk shows: sizes with their forecast, what waits, what is kept and for how long."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.storage import Forecast, Sizes, forecast, measure, samples
from metering.store import ReadingStore
from registry import office
from registry.database import Database
from registry.models import GatewayStatus, Quarantine
from registry.models_books import OfficeRow, QuarantineDecision


@dataclass(frozen=True, slots=True)
class StorageView:
    """history: samples, oldest first. quarantine: rows, their bytes, rows without a decision.

    outboxes: rows that gateways say they hold; untold: gateways that do not say. office: rows of the office that
    ingest has not acknowledged.
    """

    now: Sizes
    forecast: dict[str, Forecast]
    history: list[Sizes]
    quarantine: tuple[int, int, int]
    outboxes: int
    untold: int
    office: int


def storage(connection: Connection, database: Database, store: ReadingStore, *, now_ms: int) -> StorageView:
    """Return all of it."""
    now, history = measure(connection, database, store, now_ms), samples(connection)
    waiting, untold = _outboxes(connection)
    held = sa.select(sa.func.count()).select_from(OfficeRow).where(OfficeRow.state != office.ACKNOWLEDGED)
    return StorageView(
        now,
        forecast(history, now),
        history,
        _quarantine(connection),
        waiting,
        untold,
        int(connection.execute(held).scalar_one()),
    )


def _quarantine(connection: Connection) -> tuple[int, int, int]:
    sums = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(Quarantine.raw)), 0))
    rows, size = connection.execute(sums.select_from(Quarantine)).one()
    decided = connection.execute(sa.select(sa.func.count()).select_from(QuarantineDecision)).scalar_one()
    return int(rows), int(size), int(rows) - int(decided)


def _outboxes(connection: Connection) -> tuple[int, int]:
    waiting = untold = 0
    for health in connection.execute(sa.select(GatewayStatus.health)).scalars():
        said = health.get("waiting") if isinstance(health, dict) else None
        if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < 2**53:
            waiting += said
        else:
            untold += 1
    return waiting, untold
