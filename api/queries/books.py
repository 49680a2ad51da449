"""What the books say of a usage point, and of batches of imports, in the words of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import meter_seen
from api.access.caller import require_area
from api.problems import ProblemError, not_found
from api.schemas_books import (
    ClassOut,
    CustomerOut,
    EntryOut,
    FateOut,
    HistoryOut,
    ImportRowOut,
    ImportRowPage,
    PreviewOut,
    StayOut,
)
from metering.clock import rfc3339
from metering.quantities import from_micro
from registry import book_changes, classes, history, imports, office
from registry.models import Meter, Quarantine, UsagePoint
from registry.models_books import OfficeRow
from registry.roles import Actor


def require_point(connection: Connection, caller: Actor, usage_point: str) -> None:
    """Raises: ProblemError 404 for a usage point that is not there or not the caller's."""
    found = connection.execute(
        sa.select(UsagePoint.district).where(UsagePoint.id == usage_point)
    ).scalar_one_or_none()
    if found is None:
        raise not_found("usage point", usage_point)
    require_area(caller, found, "usage point", usage_point)


def require_meter(connection: Connection, caller: Actor, meter: str) -> None:
    """Raises: ProblemError 404 for a meter that is not there or not the caller's."""
    seen = sa.select(Meter.id).where(Meter.id == meter, meter_seen(caller.areas, Meter.id))
    if connection.execute(seen).first() is None:
        raise not_found("meter", meter)


def require_quarantined(connection: Connection, caller: Actor, number: int) -> None:
    """Raises: ProblemError 404 for a quarantined row that is not there or of a meter the caller may not see."""
    seen = sa.select(Quarantine.id).where(Quarantine.id == number, meter_seen(caller.areas, Quarantine.meter))
    if connection.execute(seen).first() is None:
        raise not_found("quarantined row", number)


def require_everywhere(caller: Actor) -> None:
    """A file may name any meter, so that only a caller for all areas may bring one. Raises: ProblemError 403."""
    if caller.areas is not None:
        raise ProblemError(403, "not-permitted-here", "files may name meters of any area: this needs all areas")


def point_of_entry(connection: Connection, caller: Actor, entry: int) -> None:
    """Raises: ProblemError 404 for an entry of a usage point that is not the caller's."""
    try:
        point = book_changes.usage_point_of(connection, entry)
    except book_changes.BookError as error:
        raise not_found("entry", entry) from error
    if caller.areas is not None or point:
        require_point(connection, caller, point)


def history_of(connection: Connection, usage_point: str, *, limit: int, cursor: str | None) -> HistoryOut:
    """Return installations and customers of a usage point, and a page of its entries, newest first."""
    before = paging.number_key("entries", cursor)
    rows = book_changes.entries(connection, usage_point, before=before, limit=limit + 1)
    page = paging.page_of([_entry(row) for row in rows], limit, "entries", lambda entry: entry.id)
    stays = history.history(connection, [usage_point]).get(usage_point, [])
    customers = history.occupancies(connection, [usage_point]).get(usage_point, [])
    return HistoryOut(
        usage_point=usage_point,
        installations=[_stay(facts) for facts in stays],
        customers=[_customer(facts) for facts in customers],
        classes=[_class(row) for row in classes.stays(connection, usage_point)],
        entries=page.items,
        next_cursor=page.next_cursor,
    )


def _entry(row: Mapping[str, Any]) -> EntryOut:
    return EntryOut(
        id=row["id"],
        kind=row["kind"],
        meter=row["meter_id"],
        at=rfc3339(row["at"]),
        recorded_at=rfc3339(row["recorded_at"]),
        recorded_by=row["recorded_by"],
        note=row["note"],
        facts=row["facts"],
        undoes=row["undoes"],
        struck_by=row["struck_by"],
    )


def _stay(facts: history.InstallationFacts) -> StayOut:
    return StayOut(
        meter=facts.meter,
        from_at=words.moment(facts.from_at or None),
        to_at=words.moment(facts.to_at),
        start_index=None if facts.start_index is None else from_micro(facts.start_index),
        final_index=None if facts.final_index is None else from_micro(facts.final_index),
        kind=facts.kind,
    )


def _class(row: Any) -> ClassOut:
    return ClassOut(
        customer_class=row.customer_class,
        from_at=words.moment(row.from_at or None),
        to_at=words.moment(row.to_at),
    )


def _customer(facts: history.OccupancyFacts) -> CustomerOut:
    return CustomerOut(
        account_number=facts.account_number,
        from_at=words.moment(facts.from_at or None),
        to_at=words.moment(facts.to_at),
        start_indexes={meter: from_micro(index) for meter, index in facts.start_indexes.items()},
        final_indexes={meter: from_micro(index) for meter, index in facts.final_indexes.items()},
    )


def fate(connection: Connection, caller: Actor, number: int) -> FateOut:
    """Return where a posted reading is. Raises: ProblemError 404."""
    meter = connection.execute(sa.select(OfficeRow.meter).where(OfficeRow.id == number)).scalar_one_or_none()
    if meter is None:
        raise not_found("office reading", number)
    require_meter(connection, caller, meter)
    return FateOut(**asdict(office.fates(connection, [number])[number]))


def preview(connection: Connection, batch: int) -> PreviewOut:
    """Return how a batch stands. Raises: ProblemError 404."""
    try:
        return PreviewOut(**asdict(imports.preview_of(connection, batch)))
    except book_changes.BookError as error:
        raise not_found("import batch", batch) from error


def batch_rows(connection: Connection, batch: int, *, limit: int, cursor: str | None) -> ImportRowPage:
    """Return rows of a batch that are not simply good, in the order of the file. Raises: ProblemError 404."""
    preview(connection, batch)
    after = paging.number_key("import-rows", cursor) or 0
    found = islice(imports.problems(connection, batch, "bad", "doubt", "reread", after=after), limit + 1)
    rows = [ImportRowOut(**{name: getattr(row, name) for name in ImportRowOut.model_fields}) for row in found]
    page = paging.page_of(rows, limit, "import-rows", lambda row: row.line)
    return ImportRowPage(items=page.items, next_cursor=page.next_cursor)
