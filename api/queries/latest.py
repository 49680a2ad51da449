"""The newest reading of every meter, from ingest's table (the store would take seconds for a city)."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import Areas, moment_seen
from api.paging import Page
from api.schemas import LatestOut
from registry.ledger import LatestRow
from registry.models import Installation, Latest, Meter, UsagePoint

_LATEST: Final = Latest.__table__
_METER: Final = Meter.__table__
_PLACE: Final = UsagePoint.__table__
_INSTALLED: Final = Installation.__table__


def list_latest(
    connection: Connection,
    *,
    areas: Areas,
    now_ms: int,
    limit: int,
    cursor: str | None = None,
    medium: str | None = None,
    district: str | None = None,
    gateway: str | None = None,
    quality: str | None = None,
) -> Page[LatestOut]:
    """Return one page of newest readings by meter id, of meters in `areas`."""
    statement = sa.select(_LATEST).order_by(_LATEST.c.meter).limit(limit + 1)
    if areas is not None:
        statement = statement.where(moment_seen(areas, _LATEST.c.meter, _LATEST.c.read_at))
    if quality is not None:
        statement = statement.where(_LATEST.c.quality == quality)
    if medium is not None or gateway is not None or district is not None:
        statement = statement.join(_METER, _METER.c.id == _LATEST.c.meter)
    if medium is not None:
        statement = statement.where(_METER.c.medium == medium)
    if gateway is not None:
        statement = statement.where(_METER.c.gateway_id == gateway)
    if district is not None:
        statement = statement.where(_in_district(district))
    if (after := paging.text_key("latest", cursor)) is not None:
        statement = statement.where(_LATEST.c.meter > after)
    rows = [words.latest(_row(row), now_ms) for row in connection.execute(statement).mappings()]
    return paging.page_of(rows, limit, "latest", lambda row: row.meter)


def _in_district(district: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        _INSTALLED.c.meter_id == _METER.c.id,
        _INSTALLED.c.removed_at.is_(None),
        _PLACE.c.id == _INSTALLED.c.usage_point_id,
        _PLACE.c.district == district,
    )


def one_latest(connection: Connection, meter: str, *, areas: Areas, now_ms: int) -> LatestOut | None:
    """Return the newest reading of a meter, None when it was never read (or nowhere in `areas`)."""
    seen = moment_seen(areas, _LATEST.c.meter, _LATEST.c.read_at)
    row = connection.execute(sa.select(_LATEST).where(_LATEST.c.meter == meter, seen)).mappings().first()
    return None if row is None else words.latest(_row(row), now_ms)


def _row(row: Any) -> LatestRow:
    return LatestRow(**row)
