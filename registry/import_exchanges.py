"""Files of meter exchanges 换表: tried out as a whole first, posted as a whole, and taken back as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.quantities import from_micro, to_micro
from registry import audit, book_changes, imports, installations, tabular
from registry.book_changes import BookError
from registry.database import Database
from registry.import_checks import step_of
from registry.imports import Preview
from registry.models import Closing, Meter, UsagePoint
from registry.models_books import BookEntry, ImportRow
from registry.roles import Actor

COLUMNS: Final = (
    "usage_point",
    "old_meter",
    "new_meter",
    "at",
    "final_index",
    "start_index",
    "serial",
    "digits",
    "note",
)
MAX_ROWS: Final = 100_000
"""A larger file is no list of exchanges; each is checked against the ones before it."""
_ROW: Final = ImportRow.__table__


def preview_exchanges(database: Database, actor: Actor, file: Path, *, now: int, name: str = "") -> Preview:
    """Look at a file of exchanges and keep what was seen as a batch; the books stay as they are.

    Raises: ValueError when the file cannot be used at all; RegistryError when it was posted before.
    """
    batch = imports.open_batch(database, actor, "exchanges", file, name or file.name, now)
    try:
        staged: list[tabular.Row] = []
        for line, cells in tabular.read_rows(file, COLUMNS, COLUMNS[:6]):
            if len(staged) == MAX_ROWS:
                raise ValueError(f"line {line}: more than {MAX_ROWS} exchanges in one file")
            staged.append((line, cells))
        with database.begin() as connection:
            rows = [_row(connection, batch, line, cells) for line, cells in staged]
            with connection.begin_nested() as trial:
                for row in rows:
                    if row["verdict"] == "ok":
                        _try(connection, actor, row, now)
                trial.rollback()
            if rows:
                connection.execute(sa.insert(ImportRow), rows)
            usable = sum(row["verdict"] != "bad" for row in rows)
            return imports.close_preview(connection, batch, len(rows), usable)
    except BaseException:
        imports.drop(database, batch)
        raise


def post_exchanges(
    connection: Connection,
    actor: Actor,
    batch: int,
    *,
    now: int,
    accept_doubtful: bool = False,
    leave_bad: bool = False,
    note: str = "",
) -> int:
    """Record all exchanges of a batch, or none. Raises: BookError, naming the line that cannot be."""
    audit.lock(connection)
    imports.check_postable(connection, batch, "exchanges", accept_doubtful=accept_doubtful, leave_bad=leave_bad)
    count = 0
    for row in imports.problems(connection, batch, "ok", "doubt"):
        try:
            _do(connection, actor, row._mapping, now, batch)
        except BookError as error:
            raise BookError(f"line {row.line}: {error.message}") from error
        count += 1
    imports.decide(connection, actor, batch, "posted", now, after={"rows": count}, note=note)
    return count


def reverse_exchanges(connection: Connection, actor: Actor, batch: int, *, now: int, note: str = "") -> int:
    """Strike out all exchanges of a posted batch, the last one first; later records on one of them forbid it.

    Raises: BookError; then none is struck out.
    """
    audit.lock(connection)
    row = imports.batch_row(connection, batch)
    if (row["kind"], row["state"]) != ("exchanges", "posted"):
        raise BookError(f"batch {batch} of {row['kind']} is {row['state']}: only posted exchanges can be reversed")
    undone = sa.select(BookEntry.undoes).where(BookEntry.undoes.is_not(None))
    entries = connection.execute(
        sa.select(BookEntry.id)
        .where(BookEntry.batch_id == batch, BookEntry.kind == "exchange", BookEntry.id.not_in(undone))
        .order_by(BookEntry.id.desc())
    ).scalars()
    count = 0
    for entry in entries.all():
        book_changes.undo(connection, actor, entry, now=now, note=note, batch=batch)
        count += 1
    imports.decide(connection, actor, batch, "reversed", now, after={"rows": count}, note=note)
    return count


def _row(connection: Connection, batch: int, line: int, cells: Mapping[str, str]) -> dict[str, Any]:
    row = imports.blank(
        batch, line, {"meter": cells.get("old_meter", ""), "usage_point": cells.get("usage_point", "")}
    )
    try:
        if "" in cells:
            raise ValueError(cells[""])
        for name in COLUMNS[:6]:
            if name not in cells:
                raise ValueError(f"{name} is missing")
        zone = connection.execute(sa.select(UsagePoint.tz).where(UsagePoint.id == row["usage_point"])).scalar()
        row["at"] = imports.moment(cells["at"], zone or "UTC")
        row["values"] = {
            "new_meter": tabular.active(cells["new_meter"]),
            "final_index": to_micro(cells["final_index"]),
            "start_index": to_micro(cells["start_index"]),
            "serial": tabular.active(cells.get("serial", ""))[:64],
            "digits": _digits(cells.get("digits", "")),
            "note": cells.get("note", "")[:300],
        }
    except ValueError as error:
        row["verdict"], row["reason"], row["detail"] = "bad", "not_usable", str(error)[:500]
    return row


def _digits(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and 1 <= int(text) <= 12):
        raise ValueError(f'digits = "{text[:20]}": a meter shows 1 to 12 digits before the point')
    return int(text) if text else None


def _try(connection: Connection, actor: Actor, row: dict[str, Any], now: int) -> None:
    """Do it in the trial, so that the lines after it see it; note what speaks against it."""
    try:
        with connection.begin_nested():
            doubt = _doubt(connection, row)
            _do(connection, actor, row, now, row["batch_id"])
    except BookError as error:
        row["verdict"], row["reason"], row["detail"] = "bad", "refused", error.message[:500]
    else:
        if doubt:
            row["verdict"], row["reason"], row["detail"] = "doubt", "final_index", doubt


def _do(connection: Connection, actor: Actor, row: Mapping[str, Any], now: int, batch: int) -> None:
    facts = row["values"]
    installations.register_meter(
        connection, facts["new_meter"], like=row["meter"], serial=facts["serial"], digits=facts["digits"]
    )
    installations.exchange(
        connection,
        actor,
        row["usage_point"],
        old_meter=row["meter"],
        new_meter=facts["new_meter"],
        at=row["at"],
        final_index=facts["final_index"],
        start_index=facts["start_index"],
        now=now,
        note=facts["note"],
        batch=batch,
    )


def _doubt(connection: Connection, row: Mapping[str, Any]) -> str:
    """Compare the final index with the last one that was read before."""
    last = connection.execute(
        sa.select(Closing.index.label("known"), Closing.read_at)
        .where(Closing.meter == row["meter"], Closing.read_at <= row["at"])
        .order_by(Closing.day.desc())
        .limit(1)
    ).first()
    meter = connection.execute(sa.select(Meter.__table__).where(Meter.id == row["meter"])).first()
    if last is None or meter is None:
        return ""
    final = row["values"]["final_index"]
    step = step_of(meter, last.known, final, (row["at"] - last.read_at) // 1000)
    if step.step.name in ("FORWARD", "JITTER"):
        return ""
    return f"final index {from_micro(final)}, but {from_micro(last.known)} was read before it"
