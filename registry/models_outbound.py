"""The tables of what leaves the house: webhooks, e-mails, and who is told of what. Times are [ms UTC].

outbound_event ──> webhook_delivery (signed events)
              └──> notification ──> webhook_delivery (a message for people, by e-mail or webhook)
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class Webhook(Base):
    """Where events are sent, signed. kinds: event names or ["*"], [] for messages of rules only.

    template: of `api.outbound.templates`. districts: [] for all. secret: in the form "whsec_…", needed in clear to
    sign, never shown again; previous_secret signs as well until previous_until.
    disabled_why: why it was switched off.
    """

    __tablename__ = "webhook"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(sa.String(120), unique=True)
    url: Mapped[str] = mapped_column(sa.String(1000))
    secret: Mapped[str] = mapped_column(sa.String(120))
    previous_secret: Mapped[str] = mapped_column(sa.String(120), default="")
    previous_until: Mapped[int | None]
    kinds: Mapped[list[Any]] = mapped_column(sa.JSON())
    districts: Mapped[list[Any]] = mapped_column(sa.JSON())
    template: Mapped[str] = mapped_column(sa.String(32), default="metergate")
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_why: Mapped[str] = mapped_column(sa.String(300), default="")
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)


class OutboundEvent(Base):
    """Something that happened and may be told. source: where it was found, so that it is taken once.

    subject: kind of the finding, type of the order, name of the service. data: the facts as they were then.
    """

    __tablename__ = "outbound_event"
    __table_args__ = (sa.UniqueConstraint("source"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(sa.String(160))
    kind: Mapped[str] = mapped_column(sa.String(64))
    at: Mapped[int] = mapped_column(index=True)
    district: Mapped[str] = mapped_column(sa.String(64), default="")
    priority: Mapped[str] = mapped_column(sa.String(8))
    subject: Mapped[str] = mapped_column(sa.String(48), default="")
    object_kind: Mapped[str] = mapped_column(sa.String(16))
    object_id: Mapped[str] = mapped_column(sa.String(64))
    data: Mapped[dict[str, Any]]


class WebhookDelivery(Base):
    """The outbox. id: "msg_…", the receiver's key against doubles. channel: webhook or email.

    state: waiting, delivered, dead. target: the address of an e-mail. answer: what came back last.
    place: among those that were put in at the same moment.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (sa.Index("ix_webhook_delivery_state_next_at", "state", "next_at"),)
    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    channel: Mapped[str] = mapped_column(sa.String(16))
    webhook_id: Mapped[int | None] = mapped_column(sa.ForeignKey("webhook.id"), index=True)
    target: Mapped[str] = mapped_column(sa.String(254), default="")
    kind: Mapped[str] = mapped_column(sa.String(64))
    district: Mapped[str] = mapped_column(sa.String(64), default="")
    subject: Mapped[str] = mapped_column(sa.String(200), default="")
    payload: Mapped[str] = mapped_column(sa.Text())
    created_at: Mapped[int] = mapped_column(index=True)
    place: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16))
    delivered_at: Mapped[int | None]
    answer: Mapped[str] = mapped_column(sa.String(300), default="")


class NotificationRule(Base):
    """Who is told of what. events, kinds, order_types, districts: [] for all. steps: [{"after_min", "to": [...]}].

    quiet: "22:00-07:00" in local time of tz, "" for none. bundle_s: messages are gathered that long [s].
    digest_above: more than that many become one digest.
    """

    __tablename__ = "notification_rule"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(sa.String(120), unique=True)
    enabled: Mapped[bool] = mapped_column(default=True)
    events: Mapped[list[Any]] = mapped_column(sa.JSON())
    kinds: Mapped[list[Any]] = mapped_column(sa.JSON())
    order_types: Mapped[list[Any]] = mapped_column(sa.JSON())
    districts: Mapped[list[Any]] = mapped_column(sa.JSON())
    min_priority: Mapped[str] = mapped_column(sa.String(8))
    steps: Mapped[list[Any]] = mapped_column(sa.JSON())
    quiet: Mapped[str] = mapped_column(sa.String(16), default="")
    tz: Mapped[str] = mapped_column(sa.String(64))
    bundle_s: Mapped[int]
    digest_above: Mapped[int]
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)


class Notification(Base):
    """One event that one rule tells in one step. state: waiting, told, dropped (why says it)."""

    __tablename__ = "notification"
    __table_args__ = (
        sa.UniqueConstraint("rule_id", "event_id", "step"),
        sa.Index("ix_notification_state_due_at", "state", "due_at"),
        sa.Index("ix_notification_object_id", "object_kind", "object_id"),
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    rule_id: Mapped[int] = mapped_column(sa.ForeignKey("notification_rule.id"))
    event_id: Mapped[int] = mapped_column(sa.ForeignKey("outbound_event.id"), index=True)
    step: Mapped[int]
    object_kind: Mapped[str] = mapped_column(sa.String(16))
    object_id: Mapped[str] = mapped_column(sa.String(64))
    due_at: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(8))
    why: Mapped[str] = mapped_column(sa.String(120), default="")
    told_at: Mapped[int | None]
    targets: Mapped[list[Any]] = mapped_column(sa.JSON())
