"""Webhooks, deliveries and rules as the API shows them, within the caller's areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api import paging
from api.outbound import book
from api.paging import Page
from api.problems import not_found
from api.schemas_outbound import DeliveryDetail, DeliveryOut, RuleOut, WebhookOut
from metering.clock import rfc3339
from registry.models_outbound import NotificationRule, Webhook, WebhookDelivery
from registry.roles import Actor


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of deliveries is narrowed to; None narrows nothing."""

    webhook: int | None = None
    state: str | None = None
    channel: str | None = None
    kind: str | None = None


def webhooks(connection: Connection, actor: Actor) -> list[WebhookOut]:
    """Return all that the actor may see."""
    return [_webhook(connection, row) for row in book.seen(connection, actor, Webhook)]


def webhook(connection: Connection, actor: Actor, number: int) -> WebhookOut:
    """Return one. Raises: book.UnknownError."""
    return _webhook(connection, book.one(connection, actor, Webhook, number))


def _webhook(connection: Connection, row: Row[Any]) -> WebhookOut:
    states = sa.select(WebhookDelivery.state, sa.func.count()).where(WebhookDelivery.webhook_id == row.id)
    counts = {found[0]: found[1] for found in connection.execute(states.group_by(WebhookDelivery.state))}
    return WebhookOut(
        id=row.id,
        name=row.name,
        url=book.shown_url(row.url),
        kinds=row.kinds,
        districts=row.districts,
        template=row.template,
        enabled=row.enabled,
        disabled_why=row.disabled_why,
        waiting=counts.get("waiting", 0),
        dead=counts.get("dead", 0),
        created_by=row.created_by,
        created_at=rfc3339(row.created_at),
        version=row.version,
    )


def rules(connection: Connection, actor: Actor) -> list[RuleOut]:
    """Return all that the actor may see."""
    return [_rule(row) for row in book.seen(connection, actor, NotificationRule)]


def rule(connection: Connection, actor: Actor, number: int) -> RuleOut:
    """Return one. Raises: book.UnknownError."""
    return _rule(book.one(connection, actor, NotificationRule, number))


def _rule(row: Row[Any]) -> RuleOut:
    facts = {name: getattr(row, name) for name in RuleOut.model_fields if name != "created_at"}
    return RuleOut(**facts, created_at=rfc3339(row.created_at))


def deliveries(
    connection: Connection, actor: Actor, filters: Filters, *, limit: int, cursor: str | None
) -> Page[DeliveryOut]:
    """Return one page, the newest first."""
    table = WebhookDelivery
    statement = sa.select(table).where(_seen(connection, actor))
    for name in ("state", "channel", "kind"):
        if (value := getattr(filters, name)) is not None:
            statement = statement.where(getattr(table, name) == value)
    if filters.webhook is not None:
        statement = statement.where(table.webhook_id == filters.webhook)
    if (key := paging.text_key("deliveries", cursor)) is not None:
        at, _, name = key.partition(" ")
        if not at.isdecimal() or len(at) > 18:
            at = "0"
        statement = statement.where(
            (table.created_at < int(at)) | ((table.created_at == int(at)) & (table.id < name))
        )
    rows = connection.execute(statement.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)).all()
    page = paging.page_of(rows, limit, "deliveries", lambda row: f"{row.created_at} {row.id}")
    return Page([DeliveryOut(**_facts(row)) for row in page.items], page.next_cursor)


def delivery(connection: Connection, actor: Actor, name: str) -> DeliveryDetail:
    """Return one with its content. Raises: ProblemError 404."""
    table = WebhookDelivery
    row = connection.execute(sa.select(table).where(table.id == name, _seen(connection, actor))).one_or_none()
    if row is None:
        raise not_found("delivery", name)
    return DeliveryDetail(**_facts(row), payload=row.payload)


def _seen(connection: Connection, actor: Actor) -> sa.ColumnElement[bool]:
    if actor.areas is None:
        return sa.true()
    hooks = [row.id for row in book.seen(connection, actor, Webhook)]
    mine = WebhookDelivery.district.in_(sorted(actor.areas))
    return mine & (WebhookDelivery.webhook_id.is_(None) | WebhookDelivery.webhook_id.in_(hooks))


def _facts(row: Row[Any]) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in ("id", "channel", "target", "kind", "subject", "state", "attempts")},
        "webhook": row.webhook_id,
        "answer": row.answer,
        "created_at": rfc3339(row.created_at),
        "next_at": rfc3339(row.next_at) if row.state == "waiting" else None,
        "delivered_at": None if row.delivered_at is None else rfc3339(row.delivered_at),
    }
