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
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.models_access import AuditHead, AuditRecord
from registry.roles import Actor

GENESIS: Final = "0" * 64
_COLUMNS: Final = ("number", "at", "actor", "action", "object_kind", "object_id", "detail", "address", "previous")


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
    head = connection.execute(sa.select(AuditHead.number, AuditHead.hash).with_for_update()).one()
    detail = {"before": before, "after": after, "note": note}
    row: dict[str, Any] = {
        "number": head.number + 1,
        "at": at,
        "actor": actor.name,
        "action": action,
        "object_kind": object_kind,
        "object_id": str(object_id),
        "detail": canonical({key: value for key, value in detail.items() if value}),
        "address": actor.address,
        "previous": head.hash,
    }
    row["hash"] = row_hash(row)
    connection.execute(sa.insert(AuditRecord).values(row))
    connection.execute(sa.update(AuditHead).values(number=row["number"], hash=row["hash"]))
    return int(row["number"])


def row_hash(row: Mapping[str, Any]) -> str:
    """Return the hash that a row must carry."""
    return hashlib.sha256(canonical({name: row[name] for name in _COLUMNS}).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return the one JSON spelling of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
