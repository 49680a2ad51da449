"""Meters: the list with its filters, one meter with everything known of it, its daily closings."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import Areas, in_areas, meter_seen, moment_seen, seen_since
from api.paging import Page
from api.problems import not_found
from api.queries import gateways as gateway_queries
from api.queries import latest as latest_queries
from api.queries import meter_search
from api.queries.read_rate import is_silent
from api.schemas import (
    BusOut,
    ClosingOut,
    InstallationOut,
    MeterGateway,
    MeterOut,
    MeterSummary,
    UsagePointOut,
)
from metering.clock import rfc3339
from registry.models import Bus, Closing, Gateway, Installation, Latest, Meter, UsagePoint

_METER: Final = Meter.__table__
_PLACE: Final = UsagePoint.__table__
_INSTALLED: Final = Installation.__table__
_LATEST: Final = Latest.__table__
_CURRENT: Final = _INSTALLED.alias("current")

_LINES: Final = _METER.outerjoin(
    _CURRENT, sa.and_(_CURRENT.c.meter_id == _METER.c.id, _CURRENT.c.removed_at.is_(None))
).outerjoin(_PLACE, _PLACE.c.id == _CURRENT.c.usage_point_id)


def conditions(
    *,
    areas: Areas,
    medium: str | None = None,
    district: str | None = None,
    gateway: str | None = None,
    state: str | None = None,
    silent_since: int | None = None,
) -> list[sa.ColumnElement[bool]]:
    """Return the limits of `areas` and the filters given, for `list_meters`.

    silent_since: [ms UTC] only meters that should be read and were not, or with no value of use, from then on.
    """
    equal = ((_METER.c.medium, medium), (_PLACE.c.district, district), (_METER.c.gateway_id, gateway))
    where: list[sa.ColumnElement[bool]] = [column == value for column, value in equal if value is not None]
    if areas is not None:
        where.append(in_areas(areas, _PLACE.c.district))
    if state is not None:
        where.append(_METER.c.state == state)
    if silent_since is not None:
        where.append(is_silent(silent_since))
    return where


def list_meters(
    connection: Connection,
    *,
    limit: int,
    cursor: str | None,
    where: list[sa.ColumnElement[bool]],
    search: str | None = None,
) -> Page[MeterSummary]:
    """Return one page of meters by id. search: see `api.queries.meter_search`."""
    statement = (
        sa.select(
            _METER,
            _PLACE.c.id.label("place"),
            sa.func.coalesce(_PLACE.c.district, "").label("district"),
            _LATEST.c.read_at.label("last_read_at"),
            _LATEST.c.quality.label("last_quality"),
        )
        .select_from(_LINES.outerjoin(_LATEST, _LATEST.c.meter == _METER.c.id))
        .where(*where)
        .order_by(_METER.c.id)
    )
    if (after := paging.text_key("meters", cursor)) is not None:
        statement = statement.where(_METER.c.id > after)
    if search is None:
        found = connection.execute(statement.limit(limit + 1)).mappings().all()
    else:
        found = meter_search.first_rows(connection, statement, search, limit=limit + 1, after=after)
    rows = [_summary(row) for row in found]
    return paging.page_of(rows, limit, "meters", lambda row: row.id)


def _summary(row: Any) -> MeterSummary:
    return MeterSummary(
        id=row["id"],
        serial=row["serial"],
        medium=row["medium"],
        profile=row["profile"],
        quantity=row["quantity"],
        state=row["state"],
        gateway=row["gateway_id"],
        interval_s=row["interval_s"],
        usage_point=row["place"],
        district=row["district"],
        last_read_at=words.moment(row["last_read_at"]),
        last_quality=row["last_quality"],
    )


def require(connection: Connection, meter: str, *, areas: Areas) -> Any:
    """Return the registry's row of a meter. Raises: ProblemError 404, also for one outside `areas`."""
    seen = meter_seen(areas, _METER.c.id)
    row = connection.execute(sa.select(_METER).where(_METER.c.id == meter, seen)).mappings().first()
    if row is None:
        raise not_found("meter", meter)
    return row


def seen_from(connection: Connection, meter: str, *, areas: Areas) -> int:
    """Return the time [ms UTC] from which on a caller for `areas` may see a meter. Raises: ProblemError 404."""
    require(connection, meter, areas=areas)
    return seen_since(connection, areas, meter)


def one_meter(connection: Connection, meter: str, *, areas: Areas, now_ms: int, stale_s: float) -> MeterOut:
    """Return what a caller for `areas` may know of a meter. Raises: ProblemError 404."""
    row = require(connection, meter, areas=areas)
    return MeterOut(
        id=row["id"],
        serial=row["serial"],
        medium=row["medium"],
        profile=row["profile"],
        quantity=row["quantity"],
        state=row["state"],
        index_digits=row["index_digits"],
        resolution=words.amount_or_none(row["resolution"], row["quantity"]),
        qmax=words.amount_or_none(row["qmax"], "power" if row["medium"] in ("electricity", "heat") else "flow"),
        inlet=row["inlet"],
        commissioned_at=words.moment(row["commissioned_at"]),
        interval_s=row["interval_s"],
        installations=_installations(connection, row, areas),
        gateway=_gateway(connection, row, now_ms, stale_s),
        latest=latest_queries.one_latest(connection, meter, areas=areas, now_ms=now_ms),
    )


def _installations(connection: Connection, meter: Any, areas: Areas) -> list[InstallationOut]:
    statement = (
        sa.select(_INSTALLED, _PLACE)
        .select_from(_INSTALLED.join(_PLACE, _PLACE.c.id == _INSTALLED.c.usage_point_id))
        .where(_INSTALLED.c.meter_id == meter["id"], in_areas(areas, _PLACE.c.district))
        .order_by(_INSTALLED.c.installed_at.desc(), _INSTALLED.c.id.desc())
    )
    found = []
    for row in connection.execute(statement).mappings():
        place = UsagePointOut(**{name: row[_PLACE.c[name]] for name in UsagePointOut.model_fields})
        found.append(
            InstallationOut(
                usage_point=place,
                installed_at=words.moment(row["installed_at"] or None),  # 0: the import did not know
                removed_at=words.moment(row["removed_at"]),
                start_index=words.amount_or_none(row["start_index"], meter["quantity"]),
                final_index=words.amount_or_none(row["final_index"], meter["quantity"]),
            )
        )
    return found


def _gateway(connection: Connection, meter: Any, now_ms: int, stale_s: float) -> MeterGateway | None:
    if meter["gateway_id"] is None:
        return None
    gateway = connection.execute(sa.select(Gateway.name).where(Gateway.id == meter["gateway_id"])).first()
    bus = connection.execute(
        sa.select(Bus.name, Bus.kind, Bus.host, Bus.port).where(Bus.id == meter["bus_id"])
    ).mappings()
    line = bus.first()
    return MeterGateway(
        id=meter["gateway_id"],
        name=gateway.name if gateway else "",
        online=gateway_queries.is_online(connection, meter["gateway_id"], now_ms=now_ms, stale_s=stale_s),
        bus=BusOut(**line) if line else None,
        address=meter["address"],
    )


def list_closings(
    connection: Connection,
    meter: str,
    *,
    areas: Areas,
    first: str | None,
    last: str | None,
    limit: int,
    cursor: str | None,
) -> Page[ClosingOut]:
    """Return daily closing indexes of a meter, oldest first; first and last: local days, both included.

    Raises: ProblemError 404.
    """
    require(connection, meter, areas=areas)
    table = Closing.__table__
    seen = moment_seen(areas, table.c.meter, table.c.read_at)
    statement = sa.select(table).where(table.c.meter == meter, seen).order_by(table.c.day).limit(limit + 1)
    if first is not None:
        statement = statement.where(table.c.day >= first)
    if last is not None:
        statement = statement.where(table.c.day <= last)
    if (after := paging.text_key("closings", cursor)) is not None:
        statement = statement.where(table.c.day > after)
    rows = [
        ClosingOut(
            day=row["day"],
            quantity=row["quantity"],
            index=words.amount(row["index"], row["quantity"]),
            read_at=rfc3339(row["read_at"]),
            quality=row["quality"],
        )
        for row in connection.execute(statement).mappings()
    ]
    return paging.page_of(rows, limit, "closings", lambda row: row.day)
