"""The few figures of the landing page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, meter_seen
from api.queries.events import counts
from api.queries.gateways import list_gateways
from api.queries.latest import list_latest
from api.schemas import GatewaySummary, LatestOut
from registry.models import Latest, Meter

SHOWN: Final = 50

NOT_READ: Final = ("removed", "unused", "registered")  # the registry's own list of meters that nobody polls


@dataclass(frozen=True, slots=True)
class Overview:
    """due: meters that should be read. read: of these, read in the window with a value that may be used."""

    due: int
    read: int
    events: int
    quarantined: int
    latest: list[LatestOut]
    gateways: list[GatewaySummary]

    @property
    def read_rate(self) -> str:
        """The read rate 抄见率 in percent with one decimal, rounded down; "–" when no meter is due."""
        if not self.due:
            return "–"
        tenths = self.read * 1000 // self.due
        return f"{tenths // 10}.{tenths % 10} %"


def overview(connection: Connection, *, areas: Areas, now_ms: int, window_s: float, stale_s: float) -> Overview:
    """Return what the landing page shows to a caller for `areas`."""
    due = sa.and_(Meter.gateway_id.is_not(None), Meter.state.not_in(NOT_READ), meter_seen(areas, Meter.id))
    read = sa.select(sa.func.count()).select_from(Latest).join(Meter, Meter.id == Latest.meter)
    since = now_ms - round(window_s * 1000)
    events, quarantined = counts(connection, areas)
    return Overview(
        due=connection.execute(sa.select(sa.func.count()).select_from(Meter).where(due)).scalar_one(),
        read=connection.execute(read.where(due, Latest.read_at >= since, Latest.quality != "suspect")).scalar_one(),
        events=events,
        quarantined=quarantined,
        latest=list_latest(connection, areas=areas, now_ms=now_ms, limit=SHOWN).items,
        gateways=list_gateways(
            connection, areas=areas, now_ms=now_ms, stale_s=stale_s, limit=SHOWN, cursor=None
        ).items,
    )
