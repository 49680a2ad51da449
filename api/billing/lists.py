"""Stored totals as lists: pages by usage point for people and exports, pages by version for a puller that resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, in_areas
from registry import billing as books
from registry.models import Meter
from registry.models_billing import BillingTotal

_TOTAL: Final = BillingTotal.__table__
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Filters:
    """Which totals; several must all hold, None for any. since: only totals with a higher version."""

    period: str | None = None
    state: str | None = None
    cause: str | None = None
    customer_class: str | None = None
    medium: str | None = None
    district: str | None = None
    usage_point: str | None = None
    account_number: str | None = None
    closed: bool | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A stored total with its lines, and the serial numbers of their meters."""

    total: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    serials: Mapping[str, str] = field(default_factory=dict)


def chosen(areas: Areas, filters: Filters) -> sa.ColumnElement[bool]:
    """Return the condition on billing_total."""
    found = [in_areas(areas, _TOTAL.c.district)]
    for name, column in (
        ("period", _TOTAL.c.period),
        ("state", _TOTAL.c.state),
        ("cause", _TOTAL.c.cause),
        ("customer_class", _TOTAL.c.customer_class),
        ("medium", _TOTAL.c.medium),
        ("district", _TOTAL.c.district),
        ("usage_point", _TOTAL.c.usage_point_id),
        ("account_number", _TOTAL.c.account_number),
    ):
        if (wanted := getattr(filters, name)) is not None:
            found.append(column == wanted)
    if filters.closed is not None:
        found.append(_TOTAL.c.close_id.is_not(None) if filters.closed else _TOTAL.c.close_id.is_(None))
    if filters.since is not None:
        found.append(_TOTAL.c.version > filters.since)
    return sa.and_(*found)


def by_place(
    connection: Connection, areas: Areas, filters: Filters, *, limit: int, after: tuple[str, str] | None = None
) -> list[Row]:
    """Return totals by (usage point, period), behind `after`."""
    statement = sa.select(_TOTAL).where(chosen(areas, filters))
    statement = statement.order_by(_TOTAL.c.usage_point_id, _TOTAL.c.period).limit(limit)
    if after is not None:
        statement = statement.where(sa.tuple_(_TOTAL.c.usage_point_id, _TOTAL.c.period) > sa.tuple_(*after))
    return _with_lines(connection, statement)


def by_version(
    connection: Connection, areas: Areas, filters: Filters, *, limit: int, after: tuple[int, int] | None = None
) -> list[Row]:
    """Return totals by (version, id), behind `after`: a total that changes meanwhile comes again, later."""
    statement = sa.select(_TOTAL).where(chosen(areas, filters))
    statement = statement.order_by(_TOTAL.c.version, _TOTAL.c.id).limit(limit)
    if after is not None:
        statement = statement.where(sa.tuple_(_TOTAL.c.version, _TOTAL.c.id) > sa.tuple_(*after))
    return _with_lines(connection, statement)


def _with_lines(connection: Connection, statement: Any) -> list[Row]:
    totals = [dict(row) for row in connection.execute(statement).mappings()]
    points: dict[str, list[str]] = {}
    for row in totals:
        points.setdefault(row["period"], []).append(row["usage_point_id"])
    lines = {period: books.lines_of(connection, period, names) for period, names in points.items()}
    own = [(row, lines[row["period"]].get(row["usage_point_id"], [])) for row in totals]
    serials = _serials(connection, sorted({line["meter_id"] for _, each in own for line in each}))
    return [
        Row(row, each, {line["meter_id"]: serials.get(line["meter_id"], "") for line in each}) for row, each in own
    ]


def _serials(connection: Connection, meters: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(meters), _CHUNK):
        wanted = Meter.id.in_(meters[start : start + _CHUNK])
        found |= {row.id: row.serial for row in connection.execute(sa.select(Meter.id, Meter.serial).where(wanted))}
    return found


def key_of(row: Row) -> tuple[str, str]:
    """Return where a page by place goes on."""
    return row.total["usage_point_id"], row.total["period"]


def periods(connection: Connection, areas: Areas) -> list[dict[str, Any]]:
    """Return period, state, closed or not, and how many totals; newest period first."""
    closed = sa.case((_TOTAL.c.close_id.is_not(None), 1), else_=0).label("closed")
    statement = (
        sa.select(_TOTAL.c.period, _TOTAL.c.state, closed, sa.func.count().label("count"))
        .where(in_areas(areas, _TOTAL.c.district))
        .group_by(_TOTAL.c.period, _TOTAL.c.state, closed)
        .order_by(_TOTAL.c.period.desc(), _TOTAL.c.state)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def latest_period(connection: Connection, areas: Areas) -> str | None:
    """Return the newest period that has totals."""
    newest = sa.select(sa.func.max(_TOTAL.c.period)).where(in_areas(areas, _TOTAL.c.district))
    found = connection.execute(newest).scalar()
    return None if found is None else str(found)
