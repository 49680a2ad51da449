"""The audit: append-only, hash-chained, written in the same transaction as the change it tells of.

    with database.begin() as connection:
        change(connection, …)
        audit.append(connection, actor, "finding.acknowledge", "finding", 17, at=now_ms, before=…, after=…)

A row's hash covers its canonical JSON and the hash of the row before: an edited, deleted or inserted row breaks the
chain where it stands. A cut tail leaves a sound chain behind; the anchors outside the database (`registry.anchors`)
show it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.errors import RegistryError
from registry.models_access import AuditHead, AuditRecord
from registry.roles import Actor

GENESIS: Final = "0" * 64
_COLUMNS: Final = ("number", "at", "actor", "action", "object_kind", "object_id", "detail", "address", "previous")

_ROWS: sa.Table = AuditRecord.__table__  # type: ignore[assignment]  # SQLAlchemy calls it a FromClause
_HEAD: sa.Table = AuditHead.__table__  # type: ignore[assignment]  # as above
_INSERT: Final = sa.insert(_ROWS)  # made once: each costs as much to make as to run
_LOCK: Final = sa.select(_HEAD.c.number, _HEAD.c.hash).with_for_update()
_MOVE: Final = sa.update(_HEAD).values(number=sa.bindparam("to_number"), hash=sa.bindparam("to_hash"))


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row's number and hash; number 0 and GENESIS when there is none."""

    number: int
    hash: str


def append(
    connection: Connection,
    actor: Actor,
    action: str,
    object_kind: str,
    object_id: object,
    *,
    at: int,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    note: str = "",
) -> int:
    """Write one row and return its number. Must run in a writing transaction (`Database.begin`).

    action: "<object>.<verb>". before, after: the changed facts as JSON types; secrets never.
    """
    head = lock(connection)
    detail = {"before": before, "after": after, "note": note}
    row: dict[str, Any] = {
        "number": head.number + 1,
        "at": at,
        "actor": actor.name,
        "action": action,
        "object_kind": object_kind,
        "object_id": str(object_id).replace("\0", "")[:128],
        "detail": canonical({key: value for key, value in detail.items() if value}),
        "address": actor.address[:64],
        "previous": head.hash,
    }
    row["hash"] = row_hash(row)
    connection.execute(_INSERT, row)
    connection.execute(_MOVE, {"to_number": row["number"], "to_hash": row["hash"]})
    return int(row["number"])


def lock(connection: Connection) -> Head:
    """Return the head, and let no other writer of the audit in before this transaction ends.

    Whoever decides from what he read (is this the last administrator?) and writes an audit row takes it first.
    Raises: RegistryError when the head row is gone.
    """
    row = connection.execute(_LOCK).one_or_none()
    if row is None:
        raise RegistryError("the audit's head row is missing; nothing can be changed; see: metergate audit verify")
    return Head(row.number, row.hash)


def head(connection: Connection) -> Head | None:
    """Return the newest number and hash, None when the head row is missing."""
    row = connection.execute(sa.select(AuditHead.number, AuditHead.hash)).one_or_none()
    return None if row is None else Head(row.number, row.hash)


def records(
    connection: Connection,
    *,
    before: int | None = None,
    after: int | None = None,
    actor: str = "",
    action: str = "",
    object_kind: str = "",
    object_id: str = "",
    since: int | None = None,
    until: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Return rows as dicts, newest first; oldest first when `after` (a number) is given. since, until: [ms UTC].

    action: the whole word, or its beginning up to the dot ("user." for all that happened to users).
    """
    wanted = sa.select(AuditRecord.__table__)
    for column, value in ((AuditRecord.actor, actor), (AuditRecord.object_kind, object_kind)):
        wanted = wanted.where(column == value) if value else wanted
    wanted = wanted.where(AuditRecord.object_id == object_id) if object_id else wanted
    if action:
        begins = AuditRecord.action.startswith(action, autoescape=True)
        wanted = wanted.where(begins if action.endswith(".") else AuditRecord.action == action)
    wanted = wanted.where(AuditRecord.at >= since) if since is not None else wanted
    wanted = wanted.where(AuditRecord.at < until) if until is not None else wanted
    wanted = wanted.where(AuditRecord.number < before) if before is not None else wanted
    wanted = wanted.where(AuditRecord.number > after) if after is not None else wanted
    order = AuditRecord.number.asc() if after is not None else AuditRecord.number.desc()
    rows = connection.execute(wanted.order_by(order).limit(limit)).mappings()
    return [{**row, "detail": json.loads(row["detail"])} for row in rows]


def row_hash(row: Mapping[str, Any]) -> str:
    """Return the hash that a row must carry."""
    return hashlib.sha256(canonical({name: row[name] for name in _COLUMNS}).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return the one JSON spelling of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
