"""Customer classes of usage points in time: a period is billed by the class at its boundary, whatever came later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from registry.book_changes import BookError, change, check_time, usage_point_row
from registry.models import UsagePoint
from registry.models_books import Classification
from registry.roles import Actor

CLASSES: Final = ("residential", "residential_heating", "restaurant", "commercial", "public", "industrial")
_CHUNK: Final = 500


def change_class(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    *,
    customer_class: str,
    at: int,
    now: int,
    note: str = "",
    batch: int | None = None,
) -> int:
    """From `at` [ms UTC] on the usage point belongs to another class. Return the number of the entry.

    Raises: BookError.
    """
    check_time(at, now)
    place = usage_point_row(connection, usage_point)
    if customer_class not in CLASSES:
        raise BookError(f'class "{customer_class[:40]}": allowed are {", ".join(CLASSES)}')
    with change(connection, actor, "class", usage_point=usage_point, meter="", at=at, now=now, note=note,
                batch=batch, customer_class=customer_class) as book:  # fmt: skip
        last = _last(connection, usage_point)
        before = place["customer_class"] if last is None else last["customer_class"]
        since = 0 if last is None else last["from_at"]
        if at <= since:
            raise BookError(f"{usage_point} has been {before or 'of no class'} since {rfc3339(since)}, not before")
        if before == customer_class:
            raise BookError(f"usage point {usage_point} is {customer_class} already")
        if last is None:
            book.insert(Classification, usage_point_id=usage_point, customer_class=before, from_at=0, to_at=at)
        else:
            book.update(Classification, last["id"], to_at=at)
        book.insert(Classification, usage_point_id=usage_point, customer_class=customer_class, from_at=at, to_at=None)
        book.update(UsagePoint, usage_point, customer_class=customer_class)
    return book.number


def _last(connection: Connection, usage_point: str) -> Any:
    table = Classification.__table__
    statement = sa.select(table).where(table.c.usage_point_id == usage_point, table.c.to_at.is_(None))
    return connection.execute(statement).mappings().first()


def known(connection: Connection, usage_points: Sequence[str]) -> dict[str, str]:
    """Return the present class of those usage points that the books know ("" for none)."""
    table = UsagePoint.__table__
    found: dict[str, str] = {}
    for start in range(0, len(usage_points), _CHUNK):
        chunk = list(usage_points[start : start + _CHUNK])
        rows = connection.execute(sa.select(table.c.id, table.c.customer_class).where(table.c.id.in_(chunk)))
        found |= {str(point): str(customer_class) for point, customer_class in rows}
    return found


def stays(connection: Connection, usage_point: str) -> list[Any]:
    """Return the classes that a usage point had, oldest first; none when its class never changed."""
    table = Classification.__table__
    return list(
        connection.execute(sa.select(table).where(table.c.usage_point_id == usage_point).order_by(table.c.from_at))
    )
