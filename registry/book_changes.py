"""One change to the books: checked, written, kept as an entry with what was before and after, and able to be undone.

    with change(connection, actor, "exchange", usage_point=…, meter=…, at=…, now=…) as book:
        book.update(Installation, 7, removed_at=…)
        book.insert(Installation, …)

Nothing is overwritten silently: the entry keeps both sides, and undoing it writes a new entry that names the old one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from metering.errors import RegistryError
from metering.quantities import MICRO, from_micro
from registry import audit
from registry.models import Installation, Meter, UsagePoint
from registry.models_books import BookEntry, Classification, Occupancy
from registry.roles import Actor


class BookError(RegistryError):
    """A change that the books refuse, in words for the clerk; nothing was changed."""


_TABLES: Final[dict[str, Any]] = {
    kind.__tablename__: kind.__table__ for kind in (Classification, Installation, Meter, Occupancy, UsagePoint)
}


@dataclass
class Book:
    """What one entry does. number: of the entry, once it is written."""

    connection: Connection
    facts: dict[str, Any]
    effects: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0

    def insert(self, model: Any, /, **values: Any) -> int:
        """Add a row with a number of its own and return it."""
        table = model.__table__
        number = self.connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
        self.effects.append({"table": table.name, "id": number, "before": None, "after": values})
        return int(number)

    def update(self, model: Any, key: Any, /, **values: Any) -> None:
        """Change columns of one row; nothing is noted of those that stay as they are."""
        table = model.__table__
        before = _row(self.connection, table, key)
        assert before is not None, f"{table.name} {key} is not there"
        changed = {name: value for name, value in values.items() if before[name] != value}
        if changed:
            self.connection.execute(sa.update(table).where(table.c.id == key).values(changed))
            old = {name: before[name] for name in changed}
            self.effects.append({"table": table.name, "id": key, "before": old, "after": changed})


@contextmanager
def change(
    connection: Connection,
    actor: Actor,
    kind: str,
    *,
    usage_point: str,
    meter: str,
    at: int,
    now: int,
    note: str = "",
    batch: int | None = None,
    undoes: int | None = None,
    **facts: Any,
) -> Iterator[Book]:
    """Do one change and write its entry; alone it gets an audit row, in a batch the batch has one for all.

    at: [ms UTC] when it happened. now: [ms UTC] when it is recorded. facts: what the person said, as JSON types.
    """
    if batch is None:
        audit.lock(connection)  # two clerks at one usage point take turns
    book = Book(connection, facts)
    yield book
    entry = {
        "kind": kind,
        "usage_point_id": usage_point,
        "meter_id": meter,
        "at": at,
        "recorded_at": now,
        "recorded_by": actor.name[:80],
        "note": note[:500],
        "facts": facts,
        "effects": json.dumps(book.effects),
        "batch_id": batch,
        "undoes": undoes,
    }
    written = connection.execute(sa.insert(BookEntry).values(entry).returning(BookEntry.id))
    book.number = int(written.scalar_one())
    if batch is None:
        said = {"entry": book.number, "meter": meter, "at": rfc3339(at), **facts}
        audit.append(connection, actor, f"book.{kind}", "usage_point", usage_point, at=now, after=said, note=note)


def undo(
    connection: Connection, actor: Actor, entry: int, *, now: int, note: str = "", batch: int | None = None
) -> int:
    """Strike an entry out: put back what was before, as a new entry, and return its number.

    Raises: BookError when there is no such entry, it is struck out already, or later entries stand on it.
    """
    row = _entry(connection, entry)
    if row["kind"] == "undo":
        raise BookError(f"entry {entry} strikes another one out; record the change once more instead")
    if connection.execute(sa.select(BookEntry.id).where(BookEntry.undoes == entry)).first() is not None:
        raise BookError(f"entry {entry} is struck out already")
    effects: list[dict[str, Any]] = json.loads(row["effects"])
    with change(
        connection,
        actor,
        "undo",
        usage_point=row["usage_point_id"],
        meter=row["meter_id"],
        at=row["at"],
        now=now,
        note=note,
        batch=batch,
        undoes=entry,
        struck_out=row["kind"],
    ) as book:
        before = _together(connection, effects)
        for effect in reversed(effects):
            _put_back(book, effect, entry)
        if not _together(connection, effects) <= before:
            raise BookError(f"later records stand on entry {entry}; undo those first")
    return book.number


def _together(connection: Connection, effects: Sequence[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """Return the pairs of installations that share a meter or a usage point at one time, where `effects` reach."""
    stay = Installation.__table__
    facts = [effect["after"] for effect in effects if effect["table"] == Installation.__tablename__]
    ids = [effect["id"] for effect in effects if effect["table"] == Installation.__tablename__]
    known = connection.execute(sa.select(stay).where(stay.c.id.in_(ids))).mappings().all()
    pairs = set()
    for column in ("meter_id", "usage_point_id"):
        keys = {row[column] for row in (*known, *facts) if column in row}
        rows = connection.execute(sa.select(stay).where(stay.c[column].in_(keys)).order_by(stay.c.id)).all()
        for one, two in combinations(rows, 2):
            same = one._mapping[column] == two._mapping[column]
            if same and one.installed_at < _end(two) and two.installed_at < _end(one):
                pairs.add((one.id, two.id))
    return pairs


def _end(stay: Any) -> float:
    return inf if stay.removed_at is None else float(stay.removed_at)


def _put_back(book: Book, effect: Mapping[str, Any], entry: int) -> None:
    table, key, after = _TABLES[effect["table"]], effect["id"], effect["after"]
    now = _row(book.connection, table, key)
    if now is None or any(now[name] != value for name, value in after.items()):
        raise BookError(f"later records stand on entry {entry}; undo those first")
    here = table.c.id == key
    if effect["before"] is None:
        book.connection.execute(sa.delete(table).where(here))
        book.effects.append({"table": table.name, "id": key, "before": now, "after": None})
    else:
        book.connection.execute(sa.update(table).where(here).values(effect["before"]))
        book.effects.append({"table": table.name, "id": key, "before": after, "after": effect["before"]})


def entries(
    connection: Connection, usage_point: str, *, before: int | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the entries of a usage point, newest first; `struck_by` names the entry that struck one out."""
    table, striker = BookEntry.__table__, BookEntry.__table__.alias("striker")
    statement = (
        sa.select(table, striker.c.id.label("struck_by"))
        .select_from(table.outerjoin(striker, striker.c.undoes == table.c.id))
        .where(table.c.usage_point_id == usage_point)
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [dict(row) for row in connection.execute(statement).mappings()]


def usage_point_of(connection: Connection, entry: int) -> str:
    """Return the usage point that an entry speaks of. Raises: BookError."""
    return str(_entry(connection, entry)["usage_point_id"])


def _entry(connection: Connection, entry: int) -> Any:
    row = connection.execute(sa.select(BookEntry.__table__).where(BookEntry.id == entry)).mappings().first()
    if row is None:
        raise BookError(f"there is no entry {entry} in the books")
    return row


def _row(connection: Connection, table: Any, key: Any) -> dict[str, Any] | None:
    row = connection.execute(sa.select(table).where(table.c.id == key)).mappings().first()
    return None if row is None else dict(row)


# --- what every change is checked against -------------------------------------------------------------------------


def usage_point_row(connection: Connection, usage_point: str) -> dict[str, Any]:
    """Return a usage point. Raises: BookError."""
    row = _row(connection, UsagePoint.__table__, usage_point)
    if row is None:
        raise BookError(f'no usage point "{usage_point}" in the books')
    return row


def meter_row(connection: Connection, meter: str) -> dict[str, Any]:
    """Return a meter. Raises: BookError."""
    row = _row(connection, Meter.__table__, meter)
    if row is None:
        raise BookError(f'no meter "{meter}" in the books', meter=meter)
    return row


def check_time(at: int, now: int) -> None:
    """Raises: BookError for a moment that nobody can have seen."""
    if not 0 < at <= now:
        raise BookError(f"{rfc3339(max(0, at))} cannot be: a change is recorded after it happened")


def check_index(index: int | None, meter: Mapping[str, Any], what: str) -> None:
    """Raises: BookError when the meter cannot show this index [10⁻⁶]; None (nobody read it) passes."""
    if index is None:
        return
    digits = meter["index_digits"] or 12
    if not 0 <= index < 10**digits * MICRO:
        allowed = f"0 … below {10**digits}, it has {digits} digits before the point"
        raise BookError(f"{what} {from_micro(index)}: meter {meter['id']} can show {allowed}")


def check_meter_is_free(connection: Connection, meter: str, at: int) -> None:
    """Raises: BookError when the meter is at a usage point at `at` or later."""
    stay = Installation.__table__
    taken = _first_after(connection, stay.c.meter_id == meter, at)
    if taken is not None:
        raise BookError(f"meter {meter} is at usage point {taken['usage_point_id']} {_span(taken)}", meter=meter)


def check_place_is_free(connection: Connection, usage_point: str, at: int) -> None:
    """Raises: BookError when the usage point has a meter at `at` or later."""
    taken = _first_after(connection, Installation.__table__.c.usage_point_id == usage_point, at)
    if taken is not None:
        raise BookError(f"usage point {usage_point} has meter {taken['meter_id']} {_span(taken)}")


def _first_after(connection: Connection, where: Any, at: int) -> Any:
    stay = Installation.__table__
    open_ = sa.or_(stay.c.removed_at.is_(None), stay.c.removed_at > at)
    statement = sa.select(stay).where(where, open_).order_by(stay.c.installed_at).limit(1)
    return connection.execute(statement).mappings().first()


def _span(stay: Mapping[str, Any]) -> str:
    began = rfc3339(stay["installed_at"]) if stay["installed_at"] else "a time that nobody knows"
    return f"from {began} to {rfc3339(stay['removed_at']) if stay['removed_at'] is not None else 'now'}"


def standing(connection: Connection, usage_point: str, meter: str, at: int) -> dict[str, Any]:
    """Return the installation of a meter that is at the usage point still, and since before `at`.

    Raises: BookError.
    """
    stay = Installation.__table__
    here = (stay.c.usage_point_id == usage_point, stay.c.meter_id == meter, stay.c.removed_at.is_(None))
    row = connection.execute(sa.select(stay).where(*here)).mappings().first()
    if row is None:
        raise BookError(f"meter {meter} is not at usage point {usage_point}", meter=meter)
    if at <= row["installed_at"]:
        raise BookError(f"meter {meter} came to {usage_point} on {rfc3339(row['installed_at'])}, not before")
    return dict(row)
