"""Idempotency-Key of billing's writes: what a key did once is answered again, never done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import audit
from registry.models_billing import BillingKey
from registry.refusals import RefusedError
from registry.roles import Actor

KEPT_MS: Final = 30 * 86_400_000
"""A program that retries gives up long before; a close or adjustment of last month is refused by what stands."""


def known(connection: Connection, actor: Actor, key: str | None, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what this caller's key was answered before, None when it is new or there is none.

    Raises: RefusedError when the key was used for something else.
    """
    if key is None:
        return None
    row = connection.execute(sa.select(BillingKey.__table__).where(BillingKey.key == _key(actor, key))).first()
    if row is None:
        return None
    if row.body != _digest(audit.canonical(asked)):
        raise RefusedError("conflict", "this Idempotency-Key was used for another request")
    found: dict[str, Any] = json.loads(row.answer)
    return found


def remember(
    connection: Connection,
    actor: Actor,
    key: str | None,
    asked: Mapping[str, Any],
    answer: Mapping[str, Any],
    at: int,
) -> None:
    """Keep an answer in the transaction of the change. Of two at the same time the primary key lets one through."""
    if key is None:
        return
    row = {"key": _key(actor, key), "body": _digest(audit.canonical(asked)), "at": at}
    connection.execute(sa.insert(BillingKey).values(row | {"answer": json.dumps(dict(answer), ensure_ascii=False)}))


def sweep(connection: Connection, now: int) -> int:
    """Forget keys that no program can mean any more; return how many. now: [ms UTC]."""
    done = connection.execute(sa.delete(BillingKey).where(BillingKey.at < now - KEPT_MS))
    return int(done.rowcount)


def _key(actor: Actor, key: str) -> str:
    return _digest(f"{actor.name}\n{key}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
