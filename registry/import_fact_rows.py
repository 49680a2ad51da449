"""One row of a file for reconciliation: names looked up in the books, times and volumes read, faults in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.quantities import to_micro
from registry import imports, supply, tabular
from registry.many import among
from registry.models import UsagePoint
from registry.models_books import Occupancy

_MINUTE_MS: Final = 60_000
_LONGEST_MS: Final = 25 * 60 * _MINUTE_MS
"""A SCADA row covers a day at most; the longest local day has 25 hours."""


def staged(
    connection: Connection, kind: str, batch: int, chunk: Sequence[tabular.Row], now: int
) -> list[dict[str, Any]]:
    """Return the rows to stage for lines of a file. kind: purchases, scada, parents."""
    names = ("parent", "child") if kind == "parents" else ("usage_point",)
    points = _points(connection, {tabular.active(row[name]) for _, row in chunk for name in names if name in row})
    accounts = _accounts(connection, {tabular.active(row.get("account_number", "")) for _, row in chunk} - {""})
    rows = []
    for line, cells in chunk:
        row = imports.blank(batch, line, {"usage_point": cells.get("child", cells.get("usage_point", ""))})
        try:
            if "" in cells:
                raise ValueError(cells[""])
            if kind == "parents":
                _link(row, cells, points)
            else:
                _fact(row, cells, kind, points, accounts, now)
        except ValueError as error:
            row["verdict"], row["reason"], row["detail"] = "bad", "not_usable", str(error)[:500]
        rows.append(row)
    return rows


def _points(connection: Connection, ids: set[str]) -> dict[str, Any]:
    table = UsagePoint.__table__
    wanted = sa.select(table.c.id, table.c.tz, table.c.medium).where(among(connection, table.c.id, ids))
    return {row.id: row for row in connection.execute(wanted).all()} if ids else {}


def _accounts(connection: Connection, numbers: set[str]) -> dict[str, list[Any]]:
    """Account number -> where and from when to when [ms UTC] it was the customer's."""
    if not numbers:
        return {}
    point, stay = UsagePoint.__table__, Occupancy.__table__
    moved = sa.exists().where(stay.c.usage_point_id == point.c.id)
    now_there = sa.select(
        point.c.account_number, point.c.id, point.c.tz, sa.literal(0).label("from_at"), sa.null().label("to_at")
    ).where(among(connection, point.c.account_number, numbers), ~moved)
    then = (
        sa.select(stay.c.account_number, point.c.id, point.c.tz, stay.c.from_at, stay.c.to_at)
        .join(point, point.c.id == stay.c.usage_point_id)
        .where(among(connection, stay.c.account_number, numbers))
    )
    found: dict[str, list[Any]] = {}
    for statement in (now_there, then):
        for row in connection.execute(statement):
            found.setdefault(row.account_number, []).append(row)
    return found


def _fact(
    row: dict[str, Any],
    cells: Mapping[str, str],
    kind: str,
    points: Mapping[str, Any],
    accounts: Mapping[str, list[Any]],
    now: int,
) -> None:
    """Fill in a purchase or a SCADA total. Raises: ValueError, in words."""
    name = "at" if kind == "purchases" else "from"
    place = _place(cells, points, accounts, cells.get(name, ""))
    row["usage_point"], row["at"] = place.id, _moment(cells, name, place.tz)
    volume = to_micro(_needed(cells, "volume"))
    if kind == "purchases":
        row["values"] = {"volume": volume, "reference": _short(cells, "reference", 64)}
        end = row["at"]
        if volume == 0:
            raise ValueError("volume = 0: nothing was bought")
        if volume < 0:
            row["verdict"], row["reason"], row["detail"] = "doubt", "refund", "a negative purchase takes volume back"
    else:
        end = _end(cells, row["at"], place.tz)
        row["values"] = {"volume": volume, "to": end}
        if volume < 0:
            raise ValueError(f'volume = "{cells["volume"]}": a total of SCADA is not negative')
    if end > now:
        raise ValueError(f"{name} lies in the future" if kind == "purchases" else "the time is not over yet")


def _place(cells: Mapping[str, str], points: Mapping[str, Any], accounts: Mapping[str, list[Any]], when: str) -> Any:
    point, account = (tabular.active(cells.get(name, "")) for name in ("usage_point", "account_number"))
    if point:
        if point not in points:
            raise ValueError(f'usage_point = "{imports.shown(point)}": no such usage point in the books')
        return points[point]
    if not account:
        raise ValueError("neither usage_point nor account_number is given")
    here = {row.id: row for row in accounts.get(account, ()) if _lived(row, when)}
    if len(here) != 1:
        raise ValueError(
            f'account_number = "{imports.shown(account)}" has {len(here)} usage points then: name the usage point'
        )
    return next(iter(here.values()))


def _lived(row: Any, when: str) -> bool:
    at = imports.moment(when, row.tz)
    return bool(row.from_at <= at and (row.to_at is None or at < row.to_at))


def _moment(cells: Mapping[str, str], name: str, zone: str) -> int:
    at = imports.moment(_needed(cells, name), zone, name)
    if at <= 0:
        raise ValueError(f'{name} = "{cells[name][:40]}" lies before 1970')
    return at


def _end(cells: Mapping[str, str], begin: int, zone: str) -> int:
    interval = cells.get("interval", "").lower()
    if "to" in cells:
        end = _moment(cells, "to", zone)
    elif interval == "hour":
        end = begin + 60 * _MINUTE_MS
    elif interval == "day":
        local = datetime.fromtimestamp(begin / 1000, ZoneInfo(zone)).replace(tzinfo=None) + timedelta(days=1)
        end = round(local.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    else:
        raise ValueError('write "to", or "interval" as hour or day')
    if not _MINUTE_MS <= end - begin <= _LONGEST_MS:
        raise ValueError("a row covers from a minute to a day")
    return end


def _link(row: dict[str, Any], cells: Mapping[str, str], points: Mapping[str, Any]) -> None:
    parent, child = (tabular.active(cells.get(name, "")) for name in ("parent", "child"))
    for name, point in (("child", child), *((("parent", parent),) if parent else ())):
        if point not in points:
            raise ValueError(f'{name} = "{imports.shown(point)}": no such usage point in the books')
    if parent == child:
        raise ValueError("a meter does not supply itself")
    if parent and points[parent].medium != points[child].medium:
        raise ValueError(f"{points[parent].medium} does not supply {points[child].medium}")
    row["usage_point"], row["at"] = child, _moment(cells, "from", points[child].tz)
    row["values"] = {"parent": parent}
    for name in ("parent_class", "child_class"):
        row["values"][name] = _short(cells, name, 8)
        supply.check_class(row["values"][name])


def _needed(cells: Mapping[str, str], name: str) -> str:
    if name not in cells:
        raise ValueError(f"{name} is missing")
    return cells[name]


def _short(cells: Mapping[str, str], name: str, most: int) -> str:
    text = tabular.active(cells.get(name, ""))
    if len(text) > most or not text.isprintable():
        raise ValueError(f"{name} has at most {most} characters and no control character")
    return text
