"""Who was where, when: meters at usage points and customers at usage points, read in order for one or a million.

Only what stands: an entry that was struck out has left these tables (its record stays in `book_entry`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.models import Installation
from registry.models_books import BookEntry, Occupancy

InstallationKind = Literal["normal", "temporary"]

_CHUNK: Final = 500  # ids named in one statement


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """A meter at a usage point: from_at <= time < to_at [ms UTC]; to_at None: still there; from_at 0: not known.

    start_index, final_index: [10⁻⁶] of the meter's billed quantity, None when nobody recorded it.
    """

    id: int
    usage_point: str
    meter: str
    from_at: int
    to_at: int | None
    start_index: int | None
    final_index: int | None
    kind: InstallationKind


@dataclass(frozen=True, slots=True)
class OccupancyFacts:
    """A customer at a usage point: from_at <= time < to_at [ms UTC]; from_at 0: not known; to_at None: still.

    start_indexes, final_indexes: meter -> index [10⁻⁶] read at the change; empty when there was none.
    """

    id: int
    usage_point: str
    account_number: str
    from_at: int
    to_at: int | None
    start_indexes: Mapping[str, int]
    final_indexes: Mapping[str, int]


def history(connection: Connection, usage_points: Sequence[str]) -> dict[str, list[InstallationFacts]]:
    """Return the installations of each usage point, oldest first; a point without any is left out."""
    rows = _in_chunks(connection, Installation.__table__, usage_points, "installed_at")
    return {point: list(group) for point, group in groupby(map(_installation, rows), key=_point)}


def occupancies(connection: Connection, usage_points: Sequence[str]) -> dict[str, list[OccupancyFacts]]:
    """Return the customers of each usage point, oldest first; a point that never changed hands is left out.

    Such a point belongs to `usage_point.account_number` all the time.
    """
    rows = _in_chunks(connection, Occupancy.__table__, usage_points, "from_at")
    return {point: list(group) for point, group in groupby(map(_occupancy, rows), key=_point)}


def version(connection: Connection) -> int:
    """Return the number of the newest entry of the books, 0 when there is none: it rises with every change."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(BookEntry.id), 0))).scalar_one())


def _in_chunks(connection: Connection, table: Any, points: Sequence[str], time: str) -> Iterator[Any]:
    wanted = sorted(set(points))
    for start in range(0, len(wanted), _CHUNK):
        statement = sa.select(table).where(table.c.usage_point_id.in_(wanted[start : start + _CHUNK]))
        yield from connection.execute(statement.order_by(table.c.usage_point_id, table.c[time], table.c.id))


_point: Final = attrgetter("usage_point")


def _installation(row: Any) -> InstallationFacts:
    return InstallationFacts(
        row.id,
        row.usage_point_id,
        row.meter_id,
        row.installed_at,
        row.removed_at,
        row.start_index,
        row.final_index,
        row.kind,
    )


def _occupancy(row: Any) -> OccupancyFacts:
    return OccupancyFacts(
        row.id,
        row.usage_point_id,
        row.account_number,
        row.from_at,
        row.to_at,
        row.start_indexes,
        row.final_indexes,
    )
