"""Search among meters by a part of id, serial, usage point, address or account number; case does not matter.

The text that is looked through is a column that the database works out itself (`registry.models`): one comparison a
row, in any script and from one character on. A word that many meters share is found among the first of them; only a
rare one needs a look at all. Measured: `benchmarks/screens.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.models import Installation, Meter, UsagePoint

_METER: Final = Meter.__table__
_PLACE: Final = UsagePoint.__table__
_INSTALLED: Final = Installation.__table__
_FIRST: Final = 3000
"""Meters among which a common word is looked for before all are looked at."""
_ESCAPE: Final = "\\"


def first_rows(
    connection: Connection, statement: sa.Select[Any], search: str, *, limit: int, after: str | None
) -> Sequence[Any]:
    """Return the first `limit` rows of a statement over meters and their places (by id) that fit `search`.

    statement: selects from meter and usage_point, ordered by meter id, behind `after`.
    """
    pattern = sa.func.lower("%" + _escaped(search) + "%")
    fits = sa.or_(_like(_METER, pattern), _like(_PLACE, pattern))
    near = sa.select(_METER.c.id).order_by(_METER.c.id).limit(_FIRST)
    if after is not None:
        near = near.where(_METER.c.id > after)
    among = statement.where(fits, _METER.c.id.in_(near.scalar_subquery())).limit(limit)
    rows = connection.execute(among).mappings().all()
    if len(rows) < limit:
        rows = connection.execute(statement.where(_METER.c.id.in_(_all(pattern))).limit(limit)).mappings().all()
    return rows


def _all(pattern: sa.ColumnElement[str]) -> sa.CompoundSelect[Any]:
    """Ids of all meters that fit by themselves or by the place where they are now."""
    places = sa.select(_PLACE.c.id).where(_like(_PLACE, pattern))
    there = sa.select(_INSTALLED.c.meter_id).where(
        _INSTALLED.c.removed_at.is_(None), _INSTALLED.c.usage_point_id.in_(places)
    )
    return sa.select(_METER.c.id).where(_like(_METER, pattern)).union(there)


def _like(table: Any, pattern: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    fits: sa.ColumnElement[bool] = table.c.search.like(pattern, escape=_ESCAPE)
    return fits


def _escaped(search: str) -> str:
    """Wildcards are letters."""
    for letter in (_ESCAPE, "%", "_"):
        search = search.replace(letter, _ESCAPE + letter)
    return search
