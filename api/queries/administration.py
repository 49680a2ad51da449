"""Figures for the first page of administration."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly.changes import CHANGE
from api.outbound import book
from registry import audit
from registry.models_access import ApiKey, User
from registry.models_outbound import Webhook, WebhookDelivery
from registry.roles import Actor

SOON_MS: Final = 14 * 86_400_000
"""Keys that end within so long are named."""

Lines = dict[str, list[tuple[str, dict[str, int]]]]
"""Section -> (text of `admin_line`, its values)."""


def summary(connection: Connection, actor: Actor, names: set[str], *, now_ms: int) -> tuple[Lines, set[str]]:
    """Return lines for each of the sections `names`, and the sections where something waits for a person."""
    lines: Lines = {}
    attention: set[str] = set()
    for name, look in _LOOKS.items():
        if name in names:
            lines[name], waits = look(connection, actor, now_ms)
            attention |= {name} if waits else set()
    return lines, attention


def _count(connection: Connection, *conditions: Any) -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one())


def _users(connection: Connection, _: Actor, now_ms: int) -> tuple[list[tuple[str, dict[str, int]]], bool]:
    locked = _count(connection, User.enabled, User.locked_until > now_ms)
    lines = [("users", {"count": _count(connection, User.id > 0)})]
    return lines + ([("locked", {"count": locked})] if locked else []), locked > 0


def _keys(connection: Connection, _: Actor, now_ms: int) -> tuple[list[tuple[str, dict[str, int]]], bool]:
    good = (ApiKey.revoked_at.is_(None), ApiKey.expires_at > now_ms)
    ending = _count(connection, *good, ApiKey.expires_at < now_ms + SOON_MS)
    lines = [("keys", {"count": _count(connection, *good)})]
    return lines + ([("ending", {"count": ending})] if ending else []), ending > 0


def _audit(connection: Connection, _: Actor, now_ms: int) -> tuple[list[tuple[str, dict[str, int]]], bool]:
    head = audit.head(connection)
    return [("audit", {"number": head.number if head else 0})], head is None


def _thresholds(connection: Connection, _: Actor, now_ms: int) -> tuple[list[tuple[str, dict[str, int]]], bool]:
    waiting = _count(connection, CHANGE.c.state.in_(("proposed", "tested")), CHANGE.c.effective_at > now_ms)
    return ([("waiting", {"count": waiting})] if waiting else []), waiting > 0


def _outbound(connection: Connection, actor: Actor, now_ms: int) -> tuple[list[tuple[str, dict[str, int]]], bool]:
    dead = [WebhookDelivery.state == "dead"]
    if actor.areas is not None:
        mine = [row.id for row in book.seen(connection, actor, Webhook)]
        dead.append(WebhookDelivery.webhook_id.in_(mine))
    count = _count(connection, *dead)
    return ([("dead", {"count": count})] if count else []), count > 0


_LOOKS: Final = {
    "users": _users,
    "keys": _keys,
    "audit": _audit,
    "thresholds": _thresholds,
    "outbound": _outbound,
}
