"""Files for reconciliation: purchases 充值, SCADA totals, supply links; looked at, then posted or reversed whole.

Rows of a batch count while it is posted: a reversed batch keeps its rows, and nothing of them counts any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import audit, imports, supply, tabular
from registry.book_changes import BookError
from registry.database import Database
from registry.import_fact_rows import staged
from registry.imports import Preview
from registry.models_books import ImportBatch, ImportRow
from registry.models_reconcile import Purchase, ScadaTotal, SupplyLink
from registry.roles import Actor

FactKind = Literal["purchases", "scada", "parents"]
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "purchases": ("usage_point", "account_number", "at", "volume", "reference", "note"),
    "scada": ("usage_point", "account_number", "from", "to", "interval", "volume", "note"),
    "parents": ("parent", "child", "from", "parent_class", "child_class", "note"),
}
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "purchases": ("at", "volume"),
    "scada": ("from", "volume"),
    "parents": ("parent", "child", "from"),
}
_CHUNK: Final = 5000
_FETCH: Final = 5000
_ROW: Final = ImportRow.__table__
Line = tuple[int, str, str]
"""(line, reason, what is wrong)."""


def preview_facts(
    database: Database, actor: Actor, kind: FactKind, file: Path, *, now: int, name: str = ""
) -> Preview:
    """Look at a file and keep what was seen as a batch; nothing of it counts yet.

    Raises: ValueError when the file cannot be used at all; BookError when it was posted before.
    """
    batch = imports.open_batch(database, actor, kind, file, name or file.name, now)
    try:
        rows, count = tabular.read_rows(file, COLUMNS[kind], NEEDED[kind]), 0
        while chunk := list(islice(rows, _CHUNK)):
            count += len(chunk)
            with database.begin() as connection:
                connection.execute(sa.insert(ImportRow), staged(connection, kind, batch, chunk, now))
        _check(database, kind, batch)
    except BaseException:
        imports.drop(database, batch)
        raise
    with database.begin() as connection:
        usable = sa.select(sa.func.count()).where(_ROW.c.batch_id == batch, _ROW.c.verdict != "bad")
        return imports.close_preview(connection, batch, count, connection.execute(usable).scalar_one())


def post_facts(
    connection: Connection,
    actor: Actor,
    batch: int,
    *,
    now: int,
    accept_doubtful: bool = False,
    leave_bad: bool = False,
    note: str = "",
) -> int:
    """Let all rows of a batch count, or none; return how many. Raises: BookError with what stands in the way."""
    audit.lock(connection)
    kind = imports.batch_row(connection, batch)["kind"]
    if kind not in COLUMNS:
        raise BookError(f"batch {batch} holds {kind}, not purchases, SCADA totals or supply links")
    imports.check_postable(connection, batch, kind, accept_doubtful=accept_doubtful, leave_bad=leave_bad)
    clash = connection.execute(sa.select(sa.func.min(_ROW.c.line)).where(*_usable(batch), _known(kind))).scalar()
    if clash is not None:
        raise BookError(f"line {clash} was posted meanwhile by another batch: look at the file again")
    if kind == "parents":
        _raise_first(supply.faults(connection, batch))
    columns = _columns(kind)
    wanted = sa.select(*columns.values()).where(*_usable(batch)).order_by(_ROW.c.line)
    connection.execute(sa.insert(_TABLES[kind]).from_select(list(columns), wanted))
    count = int(connection.execute(sa.select(sa.func.count()).where(*_usable(batch))).scalar_one())
    imports.decide(connection, actor, batch, "posted", now, after={"rows": count}, note=note)
    return count


def reverse_facts(connection: Connection, actor: Actor, batch: int, *, now: int, note: str = "") -> int:
    """Let nothing of a posted batch count any more; return its rows. Raises: BookError."""
    audit.lock(connection)
    row = imports.batch_row(connection, batch)
    if row["kind"] not in COLUMNS or row["state"] != "posted":
        raise BookError(f"batch {batch} of {row['kind']} is {row['state']}: it cannot be reversed")
    table = _TABLES[row["kind"]]
    count = connection.execute(sa.select(sa.func.count()).where(table.batch_id == batch)).scalar_one()
    imports.decide(connection, actor, batch, "reversed", now, after={"rows": count}, note=note)
    return int(count)


def counts_still(table: Any) -> Any:
    """True for rows of such a table whose batch stands."""
    return sa.exists().where(ImportBatch.id == table.batch_id, ImportBatch.state == "posted")


# --- checks -------------------------------------------------------------------------------------------------


def _check(database: Database, kind: FactKind, batch: int) -> None:
    """Give rows that stand twice, overlap or contradict the books their verdict."""
    with database.begin() as connection:
        known = {"verdict": "bad", "reason": "known", "detail": _KNOWN_TEXT[kind]}
        connection.execute(sa.update(ImportRow).where(*_usable(batch), _known(kind)).values(known))
    with database.read() as connection:
        found = supply.faults(connection, batch) if kind == "parents" else list(_beside(connection, kind, batch))
    changes = [{"at_line": line, "why": reason, "text": text} for line, reason, text in found]
    here = (_ROW.c.batch_id == batch, _ROW.c.line == sa.bindparam("at_line"))
    values = {"verdict": "bad", "reason": sa.bindparam("why"), "detail": sa.bindparam("text")}
    for start in range(0, len(changes), _CHUNK):
        with database.begin() as connection:
            connection.execute(sa.update(ImportRow).where(*here).values(values), changes[start : start + _CHUNK])


def _beside(connection: Connection, kind: FactKind, batch: int) -> Iterator[Line]:
    """Compare each row with the ones before it at the same usage point, in order of time."""
    ordered = (
        sa.select(_ROW.c.line, _ROW.c.usage_point, _ROW.c.at, _ROW.c["values"])
        .where(*_usable(batch))
        .order_by(_ROW.c.usage_point, _ROW.c.at, _ROW.c.line)
        .execution_options(yield_per=_FETCH)
    )
    point, until, until_line = "", 0, 0
    same: dict[tuple[int, str], int] = {}
    moment = None
    for row in connection.execute(ordered):
        values = row._mapping["values"]
        if row.usage_point != point:
            point, until, moment = row.usage_point, 0, None
        if kind == "scada":
            if row.at < until:
                yield row.line, "overlap", f"its time overlaps that of line {until_line}"
            else:
                until, until_line = values["to"], row.line
            continue
        if row.at != moment:
            moment, same = row.at, {}
        key = (values["volume"], values["reference"])
        if key in same:
            yield row.line, "twice", f"the same purchase stands on line {same[key]}"
        same.setdefault(key, row.line)


def _raise_first(faults: Sequence[Line]) -> None:
    if faults:
        line, _, text = faults[0]
        raise BookError(f"line {line}: {text}")


def _usable(batch: int) -> tuple[Any, Any]:
    return _ROW.c.batch_id == batch, _ROW.c.verdict.in_(("ok", "doubt"))


def _value(name: str) -> Any:
    return _ROW.c["values"][name].as_string()


def _whole(name: str) -> Any:
    return sa.cast(_value(name), sa.BigInteger)  # as_integer() is 32 bits wide in PostgreSQL


_TABLES: Final[dict[str, Any]] = {"purchases": Purchase, "scada": ScadaTotal, "parents": SupplyLink}
_KNOWN_TEXT: Final = {
    "purchases": "this purchase was posted before",
    "scada": "a total of this time was posted before",
    "parents": "a link of this usage point from this time on was posted before",
}


def _known(kind: str) -> Any:
    """True for a staged row that contradicts or repeats what stands."""
    if kind == "purchases":
        same = (
            Purchase.at == _ROW.c.at,
            Purchase.volume == _whole("volume"),
            Purchase.reference == _value("reference"),
        )
        return sa.exists().where(Purchase.usage_point_id == _ROW.c.usage_point, *same, counts_still(Purchase))
    if kind == "scada":
        overlap = (ScadaTotal.from_at < _whole("to"), ScadaTotal.to_at > _ROW.c.at)
        return sa.exists().where(ScadaTotal.usage_point_id == _ROW.c.usage_point, *overlap, counts_still(ScadaTotal))
    same_time = SupplyLink.from_at == _ROW.c.at
    return sa.exists().where(SupplyLink.child_id == _ROW.c.usage_point, same_time, counts_still(SupplyLink))


def _columns(kind: str) -> dict[str, Any]:
    common = {"batch_id": _ROW.c.batch_id, "line": _ROW.c.line}
    if kind == "purchases":
        return common | {
            "usage_point_id": _ROW.c.usage_point,
            "at": _ROW.c.at,
            "volume": _whole("volume"),
            "reference": _value("reference"),
        }
    if kind == "scada":
        return common | {
            "usage_point_id": _ROW.c.usage_point,
            "from_at": _ROW.c.at,
            "to_at": _whole("to"),
            "volume": _whole("volume"),
        }
    return common | {
        "parent_id": _value("parent"),
        "child_id": _ROW.c.usage_point,
        "from_at": _ROW.c.at,
        "parent_class": _value("parent_class"),
        "child_class": _value("child_class"),
    }
