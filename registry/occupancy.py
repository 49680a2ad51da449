"""Customers at usage points: a change in mid-period has a final reading, which splits the total."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from registry.book_changes import BookError, change, check_index, check_time, meter_row, usage_point_row
from registry.models import Installation, UsagePoint
from registry.models_books import Occupancy
from registry.roles import Actor


def change_customer(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    *,
    account_number: str,
    at: int,
    indexes: Mapping[str, int],
    now: int,
    note: str = "",
) -> int:
    """From `at` on the usage point belongs to another account. Return the number of the entry.

    indexes: meter -> index [10⁻⁶] read at the change, for every meter that hangs there at that moment.
    Raises: BookError.
    """
    check_time(at, now)
    place = usage_point_row(connection, usage_point)
    read = {meter: int(index) for meter, index in sorted(indexes.items())}
    if not account_number or len(account_number) > 64 or not account_number.isprintable():
        raise BookError("an account number has 1 to 64 characters and no control character")
    with change(connection, actor, "customer", usage_point=usage_point, meter="", at=at, now=now, note=note,
                account_number=account_number, indexes=read) as book:  # fmt: skip
        _check_indexes(connection, usage_point, at, read)
        last = _last(connection, usage_point)
        if last is None:
            before, since = place["account_number"], 0
            number = book.insert(
                Occupancy, usage_point_id=usage_point, account_number=before, from_at=since, to_at=None,
                start_indexes={}, final_indexes={},
            )  # fmt: skip
        else:
            before, since, number = last["account_number"], last["from_at"], last["id"]
        if at <= since:
            raise BookError(f"account {before} has been at {usage_point} since {rfc3339(since)}, not before")
        if before == account_number:
            raise BookError(f"usage point {usage_point} belongs to account {account_number} already")
        book.update(Occupancy, number, to_at=at, final_indexes=read)
        book.insert(
            Occupancy, usage_point_id=usage_point, account_number=account_number, from_at=at, to_at=None,
            start_indexes=read, final_indexes={},
        )  # fmt: skip
        book.update(UsagePoint, usage_point, account_number=account_number)
    return book.number


def _last(connection: Connection, usage_point: str) -> Any:
    table = Occupancy.__table__
    statement = sa.select(table).where(table.c.usage_point_id == usage_point, table.c.to_at.is_(None))
    return connection.execute(statement).mappings().first()


def _check_indexes(connection: Connection, usage_point: str, at: int, read: Mapping[str, int]) -> None:
    stay = Installation.__table__
    here = sa.select(stay.c.meter_id).where(
        stay.c.usage_point_id == usage_point,
        stay.c.installed_at <= at,
        sa.or_(stay.c.removed_at.is_(None), stay.c.removed_at > at),
    )
    meters = set(connection.execute(here).scalars())
    if meters != set(read):
        wanted = ", ".join(sorted(meters)) or "no meter at all"
        raise BookError(f"the final reading must name the meters that hang at {usage_point} then: {wanted}")
    for meter, index in read.items():
        check_index(index, meter_row(connection, meter), "index")
