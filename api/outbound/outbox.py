"""The outbox: deliveries put in with the change they tell of, taken out when received, retried, or dead."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.outbound.settings import OutboundSettings
from metering.errors import MetergateError
from registry import audit
from registry.ledger import upsert
from registry.models_outbound import Notification, OutboundEvent, Webhook, WebhookDelivery
from registry.roles import Actor, service

ACTOR: Final = service("outbound")
WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
DEAD: Final = "dead"
_ANSWER: Final = 300
_DAY_MS: Final = 86_400_000


class ReplayError(MetergateError):
    """A delivery that cannot be sent again now."""


@dataclass(frozen=True, slots=True)
class Put:
    """One delivery to put in. key: what makes it this one; the same key again is the same delivery."""

    key: str
    channel: str
    webhook_id: int | None
    target: str
    kind: str
    district: str
    subject: str
    payload: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt. gone: the receiver wants nothing any more. retry_after_s: what it asked for."""

    ok: bool
    answer: str
    gone: bool = False
    retry_after_s: float = 0.0


def put(connection: Connection, items: Sequence[Put], *, now_ms: int) -> list[str]:
    """Put deliveries in; those that are there already stay as they are. Returns their ids."""
    rows = [
        {
            "id": delivery_id(item.key),
            "channel": item.channel,
            "webhook_id": item.webhook_id,
            "target": item.target,
            "kind": item.kind,
            "district": item.district,
            "subject": item.subject,
            "payload": item.payload,
            "created_at": now_ms,
            "place": place,
            "next_at": now_ms,
            "attempts": 0,
            "state": WAITING,
            "answer": "",
        }
        for place, item in enumerate(items)
    ]
    upsert(connection, WebhookDelivery, rows, ("id",), replace=False)
    return [str(row["id"]) for row in rows]


def delivery_id(key: str) -> str:
    """Return "msg_…": the same for the same key, so that a repeated attempt is known as such everywhere."""
    return "msg_" + hashlib.sha256(key.encode()).hexdigest()[:32]


def due(connection: Connection, now_ms: int, *, per_lane: int) -> dict[tuple[str, int], list[Row[Any]]]:
    """Return what is to be sent now, oldest first, by lane: one lane per webhook, one for all e-mail.

    Taken lane by lane, so that a receiver with thousands of waiting deliveries hides nobody else's.
    """
    table = WebhookDelivery
    ready = (table.state == WAITING, table.next_at <= now_ms)
    lanes = connection.execute(sa.select(table.channel, table.webhook_id).where(*ready).distinct()).all()
    found: dict[tuple[str, int], list[Row[Any]]] = {}
    for channel, webhook_id in lanes:
        mine = table.webhook_id.is_(None) if webhook_id is None else table.webhook_id == webhook_id
        statement = sa.select(table).where(*ready, table.channel == channel, mine)
        rows = connection.execute(statement.order_by(table.created_at, table.place).limit(per_lane)).all()
        found[(channel, webhook_id or 0)] = list(rows)
    return found


def wait_s(attempts: int, settings: OutboundSettings, chance: random.Random) -> float:
    """Return the wait [s] after that many failures: doubled each time, and 50 to 100 % of it, so that many spread."""
    longest = min(settings.retry_longest_s, settings.retry_first_s * 2.0 ** min(attempts - 1, 40))
    return longest * (0.5 + 0.5 * chance.random())


def settle(
    connection: Connection,
    delivery: str,
    outcome: Outcome,
    *,
    now_ms: int,
    settings: OutboundSettings,
    chance: random.Random,
) -> str:
    """Write what became of an attempt and return the delivery's state; one that is gone or settled stays as it is."""
    table = WebhookDelivery
    row = connection.execute(sa.select(table).where(table.id == delivery).with_for_update()).one_or_none()
    if row is None or row.state != WAITING:
        return "" if row is None else str(row.state)
    values: dict[str, Any] = {"attempts": row.attempts + 1, "answer": outcome.answer[:_ANSWER]}
    if outcome.ok:
        values |= {"state": DELIVERED, "delivered_at": now_ms}
    elif outcome.gone or row.attempts + 1 >= settings.max_attempts:
        values |= {"state": DEAD}
    else:
        pause = max(wait_s(row.attempts + 1, settings, chance), min(outcome.retry_after_s, settings.retry_longest_s))
        values |= {"next_at": now_ms + round(pause * 1000)}
    connection.execute(sa.update(table).where(table.id == delivery).values(**values))
    if outcome.gone and row.webhook_id is not None:
        _switch_off(connection, row.webhook_id, outcome.answer, now_ms)
    return str(values.get("state", WAITING))


def _switch_off(connection: Connection, webhook_id: int, why: str, now_ms: int) -> None:
    """Standard Webhooks: a receiver that answers 410 is not to be called again."""
    values = {"enabled": False, "disabled_why": why[:_ANSWER], "version": Webhook.version + 1}
    done = connection.execute(
        sa.update(Webhook).where(Webhook.id == webhook_id, Webhook.enabled.is_(True)).values(**values)
    )
    if done.rowcount:
        audit.append(
            connection, ACTOR, "webhook.disable", "webhook", webhook_id, at=now_ms, after={"enabled": False}, note=why
        )


def replay(connection: Connection, actor: Actor, delivery: str, *, now_ms: int) -> None:
    """Send one again, with its old id. Raises: ReplayError while it still waits by itself, or its webhook is off."""
    table = WebhookDelivery
    row = connection.execute(sa.select(table).where(table.id == delivery).with_for_update()).one()
    if row.state == WAITING and row.attempts == 0:
        raise ReplayError(f"{delivery} waits for its first attempt already")
    if row.webhook_id is not None:
        enabled = connection.execute(sa.select(Webhook.enabled).where(Webhook.id == row.webhook_id)).scalar_one()
        if not enabled:
            raise ReplayError(f"webhook {row.webhook_id} is switched off; switch it on first")
    values = {"state": WAITING, "attempts": 0, "next_at": now_ms, "delivered_at": None}
    connection.execute(sa.update(table).where(table.id == delivery).values(**values))
    before = {"state": row.state, "attempts": row.attempts}
    audit.append(connection, actor, "webhook_delivery.replay", "webhook_delivery", delivery, at=now_ms, before=before)


def replay_dead(connection: Connection, actor: Actor, webhook_id: int, *, now_ms: int) -> int:
    """Send all dead deliveries of a webhook again, and return how many."""
    table = WebhookDelivery
    values = {"state": WAITING, "attempts": 0, "next_at": now_ms}
    done = connection.execute(
        sa.update(table).where(table.webhook_id == webhook_id, table.state == DEAD).values(**values)
    )
    after = {"replayed": done.rowcount}
    audit.append(connection, actor, "webhook_delivery.replay_all", "webhook", webhook_id, at=now_ms, after=after)
    return int(done.rowcount)


def unfinished(connection: Connection) -> dict[str, int]:
    """Return how many deliveries wait and how many are dead."""
    table = WebhookDelivery
    wanted = sa.select(table.state, sa.func.count()).where(table.state.in_((WAITING, DEAD))).group_by(table.state)
    return {WAITING: 0, DEAD: 0, **{state: int(count) for state, count in connection.execute(wanted)}}


def sweep(connection: Connection, *, now_ms: int, keep_days: int) -> None:
    """Forget what was sent or told long ago."""
    oldest = now_ms - keep_days * _DAY_MS
    sent = WebhookDelivery
    connection.execute(sa.delete(sent).where(sent.state != WAITING, sent.created_at < oldest))
    connection.execute(sa.delete(Notification).where(Notification.state != WAITING, Notification.due_at < oldest))
    used = sa.select(Notification.event_id)
    connection.execute(sa.delete(OutboundEvent).where(OutboundEvent.at < oldest, OutboundEvent.id.not_in(used)))
