"""Work orders with their steps, receipts and photos; teams, follow-up calls, inspections; webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for make in (
        _absence,
        _team,
        _webhook,
        _outbound_event,
        _webhook_delivery,
        _notification_rule,
        _notification,
        _work_order,
        _follow_up,
        _inspection_plan,
        _photo,
        _receipt,
        _work_order_finding,
        _work_order_key,
        _work_order_step,
    ):
        make()


def downgrade() -> None:
    for table in (
        "work_order_step",
        "work_order_key",
        "work_order_finding",
        "receipt",
        "photo",
        "inspection_plan",
        "follow_up",
        "work_order",
        "notification",
        "notification_rule",
        "webhook_delivery",
        "outbound_event",
        "webhook",
        "team",
        "absence",
    ):
        op.drop_table(table)


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _absence() -> None:
    op.create_table(
        "absence",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("assignee", sa.String(64), nullable=False),
        sa.Column("begins_at", _big(), nullable=False),
        sa.Column("ends_at", _big(), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_absence_assignee", "absence", ["assignee"])


def _team() -> None:
    op.create_table(
        "team",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.Column("districts", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _webhook() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("url", sa.String(1000), nullable=False),
        sa.Column("secret", sa.String(120), nullable=False),
        sa.Column("previous_secret", sa.String(120), nullable=False),
        sa.Column("previous_until", _big(), nullable=True),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("districts", sa.JSON(), nullable=False),
        sa.Column("template", sa.String(32), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_why", sa.String(300), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", _big(), nullable=False),
        sa.Column("version", _big(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _outbound_event() -> None:
    op.create_table(
        "outbound_event",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("source", sa.String(160), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", _big(), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(8), nullable=False),
        sa.Column("subject", sa.String(48), nullable=False),
        sa.Column("object_kind", sa.String(16), nullable=False),
        sa.Column("object_id", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source"),
    )
    op.create_index("ix_outbound_event_at", "outbound_event", ["at"])


def _webhook_delivery() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("webhook_id", _big(), nullable=True),
        sa.Column("target", sa.String(254), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", _big(), nullable=False),
        sa.Column("place", _big(), nullable=False),
        sa.Column("attempts", _big(), nullable=False),
        sa.Column("next_at", _big(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("delivered_at", _big(), nullable=True),
        sa.Column("answer", sa.String(300), nullable=False),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhook.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_webhook_delivery_created_at", "webhook_delivery", ["created_at"])
    op.create_index("ix_webhook_delivery_state_next_at", "webhook_delivery", ["state", "next_at"])
    op.create_index("ix_webhook_delivery_webhook_id", "webhook_delivery", ["webhook_id"])


def _notification_rule() -> None:
    op.create_table(
        "notification_rule",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("order_types", sa.JSON(), nullable=False),
        sa.Column("districts", sa.JSON(), nullable=False),
        sa.Column("min_priority", sa.String(8), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("quiet", sa.String(16), nullable=False),
        sa.Column("tz", sa.String(64), nullable=False),
        sa.Column("bundle_s", _big(), nullable=False),
        sa.Column("digest_above", _big(), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", _big(), nullable=False),
        sa.Column("version", _big(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _notification() -> None:
    op.create_table(
        "notification",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("rule_id", _big(), nullable=False),
        sa.Column("event_id", _big(), nullable=False),
        sa.Column("step", _big(), nullable=False),
        sa.Column("object_kind", sa.String(16), nullable=False),
        sa.Column("object_id", sa.String(64), nullable=False),
        sa.Column("due_at", _big(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("why", sa.String(120), nullable=False),
        sa.Column("told_at", _big(), nullable=True),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["outbound_event.id"]),
        sa.ForeignKeyConstraint(["rule_id"], ["notification_rule.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rule_id", "event_id", "step"),
    )
    op.create_index("ix_notification_event_id", "notification", ["event_id"])
    op.create_index("ix_notification_object_id", "notification", ["object_kind", "object_id"])
    op.create_index("ix_notification_state_due_at", "notification", ["state", "due_at"])


def _work_order() -> None:
    op.create_table(
        "work_order",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("place", sa.String(96), nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=True),
        sa.Column("meter", sa.String(64), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("open_key", sa.String(140), nullable=True),
        sa.Column("opened_at", _big(), nullable=False),
        sa.Column("opened_by", sa.String(80), nullable=False),
        sa.Column("reason_en", sa.String(500), nullable=False),
        sa.Column("reason_zh", sa.String(500), nullable=False),
        sa.Column("policy", sa.String(96), nullable=False),
        sa.Column("accepted_at", _big(), nullable=True),
        sa.Column("respond_by", _big(), nullable=True),
        sa.Column("respond_rule", sa.String(32), nullable=False),
        sa.Column("due_at", _big(), nullable=False),
        sa.Column("due_rule", sa.String(32), nullable=False),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("appointment_at", _big(), nullable=True),
        sa.Column("assignee", sa.String(64), nullable=False),
        sa.Column("visits", _big(), nullable=False),
        sa.Column("escalated", _big(), nullable=False),
        sa.Column("finished_at", _big(), nullable=True),
        sa.Column("label", sa.String(32), nullable=False),
        sa.Column("parent_id", _big(), nullable=True),
        sa.Column("external_id", sa.String(128), nullable=True),
        sa.Column("version", _big(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["work_order.id"]),
        sa.ForeignKeyConstraint(["usage_point_id"], ["usage_point.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("external_id"),
        sa.UniqueConstraint("open_key"),
    )
    op.create_index("ix_work_order_assignee", "work_order", ["assignee"])
    op.create_index("ix_work_order_district", "work_order", ["district"])
    op.create_index("ix_work_order_due_at", "work_order", ["due_at"])
    op.create_index("ix_work_order_finished_at", "work_order", ["finished_at"])
    op.create_index("ix_work_order_opened_at", "work_order", ["opened_at"])
    op.create_index("ix_work_order_place", "work_order", ["place"])
    op.create_index("ix_work_order_state_due_at_district", "work_order", ["state", "due_at", "district"])
    op.create_index("ix_work_order_type", "work_order", ["type"])
    op.create_index("ix_work_order_usage_point_id", "work_order", ["usage_point_id"])


def _follow_up() -> None:
    op.create_table(
        "follow_up",
        sa.Column("order_id", _big(), nullable=False),
        sa.Column("stratum", sa.String(120), nullable=False),
        sa.Column("begins_at", _big(), nullable=False),
        sa.Column("ends_at", _big(), nullable=False),
        sa.Column("asked_at", _big(), nullable=True),
        sa.Column("asked_by", sa.String(80), nullable=False),
        sa.Column("satisfied", sa.Boolean(), nullable=True),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.PrimaryKeyConstraint("order_id"),
    )
    op.create_index("ix_follow_up_begins_at", "follow_up", ["begins_at"])


def _inspection_plan() -> None:
    op.create_table(
        "inspection_plan",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("year", _big(), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("order_id", _big(), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.ForeignKeyConstraint(["usage_point_id"], ["usage_point.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("usage_point_id", "year"),
    )
    op.create_index("ix_inspection_plan_day", "inspection_plan", ["day"])


def _photo() -> None:
    op.create_table(
        "photo",
        sa.Column("id", _big(), autoincrement=True, nullable=False),
        sa.Column("order_id", _big(), nullable=False),
        sa.Column("visit", _big(), nullable=False),
        sa.Column("media_type", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", _big(), nullable=False),
        sa.Column("taken_by", sa.String(80), nullable=False),
        sa.Column("at", _big(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_photo_order_id", "photo", ["order_id"])


def _receipt() -> None:
    op.create_table(
        "receipt",
        sa.Column("order_id", _big(), nullable=False),
        sa.Column("visit", _big(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("arrived_at", _big(), nullable=False),
        sa.Column("started_at", _big(), nullable=True),
        sa.Column("finished_at", _big(), nullable=True),
        sa.Column("left_at", _big(), nullable=True),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("index_seen", sa.JSON(), nullable=False),
        sa.Column("materials", sa.JSON(), nullable=False),
        sa.Column("amount", sa.String(24), nullable=False),
        sa.Column("label", sa.String(32), nullable=False),
        sa.Column("filed_by", sa.String(80), nullable=False),
        sa.Column("filed_at", _big(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.PrimaryKeyConstraint("order_id", "visit"),
    )
    op.create_index("ix_receipt_worker", "receipt", ["worker"])


def _work_order_key() -> None:
    op.create_table(
        "work_order_key",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("body", sa.String(64), nullable=False),
        sa.Column("order_id", _big(), nullable=False),
        sa.Column("at", _big(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.PrimaryKeyConstraint("key"),
    )


def _work_order_finding() -> None:
    op.create_table(
        "work_order_finding",
        sa.Column("order_id", _big(), nullable=False),
        sa.Column("finding_id", _big(), autoincrement=False, nullable=False),
        sa.Column("joined_at", _big(), nullable=False),
        sa.Column("repeats", _big(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("withdrawn_at", _big(), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.PrimaryKeyConstraint("order_id", "finding_id"),
    )
    op.create_index("ix_work_order_finding_finding_id", "work_order_finding", ["finding_id"])


def _work_order_step() -> None:
    op.create_table(
        "work_order_step",
        sa.Column("order_id", _big(), nullable=False),
        sa.Column("number", _big(), autoincrement=False, nullable=False),
        sa.Column("at", _big(), nullable=False),
        sa.Column("actor", sa.String(80), nullable=False),
        sa.Column("deed", sa.String(32), nullable=False),
        sa.Column("before", sa.String(16), nullable=False),
        sa.Column("after", sa.String(16), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"]),
        sa.PrimaryKeyConstraint("order_id", "number"),
    )
    op.create_index("ix_work_order_step_at", "work_order_step", ["at"])
