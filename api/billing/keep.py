"""Compute the totals of a period and keep them in the registry; frozen ones stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.billing.compute import Tally, Total, compute
from api.billing.load import Scope
from api.billing.rows import line_rows, total_row
from api.billing.settings import BillingSettings
from metering.store import ReadingStore
from registry import billing as books
from registry.database import Database

_SAME = frozenset({"computed_at", "version", "close_id", "digest"})


def refresh(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    period: str,
    scope: Scope | None = None,
    *,
    now: int,
    tally: Tally | None = None,
) -> int:
    """Bring the stored totals of a period up to date; return how many changed. A write follows each block.

    now: [ms UTC] goes into what changed; an unchanged total keeps its version, so that pullers see changes only.
    """
    return sum(refresh_blocks(database, store, settings, period, scope, now=now, tally=tally))


def refresh_blocks(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    period: str,
    scope: Scope | None = None,
    *,
    now: int,
    tally: Tally | None = None,
) -> Iterator[int]:
    """Do the same block by block, and yield how many changed in each; nothing is held between two blocks."""
    for block in compute(database, store, settings, period, scope, tally=tally):
        with database.read() as connection:
            known = books.stored(connection, period, [total.place.point.id for total in block])
        rows = [(total, total_row(total, now=now, version=0)) for total in block]
        fresh = [(total, row) for total, row in rows if _differs(row, known.get(row["usage_point_id"]))]
        if fresh:
            _save(database, fresh, now)
        yield len(fresh)


def _differs(row: dict[str, Any], known: Any) -> bool:
    if known is None:
        return True
    return known["close_id"] is None and any(known[name] != value for name, value in row.items() if name not in _SAME)


def _save(database: Database, fresh: list[tuple[Total, dict[str, Any]]], now: int) -> None:
    with database.begin() as connection:
        version = books.next_version(connection)
        rows = [row | {"version": version} for _, row in fresh]
        lines = [line for total, _ in fresh for line in line_rows(total)]
        books.save_totals(connection, rows, lines)
