"""Tables of billing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _rules()
    _results()
    _people()
    _outages()


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _rules() -> None:
    big = _big()
    op.create_table(
        "billing_calendar",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("customer_class", sa.String(32), nullable=False),
        sa.Column("medium", sa.String(16), nullable=False),
        sa.Column("first_day", big, nullable=False),
        sa.Column("last_day", big, nullable=False),
        sa.Column("every", big, nullable=False),
        sa.Column("month", big, nullable=False),
        sa.Column("from_period", sa.String(7), nullable=False),
        sa.Column("to_period", sa.String(7), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "billing_extra_day",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("customer_class", sa.String(32), nullable=False),
        sa.Column("medium", sa.String(16), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("customer_class", "medium", "day"),
    )
    op.create_table(
        "calorific_value",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("from_day", sa.String(10), nullable=False),
        sa.Column("value", big, nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("district", "from_day"),
    )


def _results() -> None:
    big = _big()
    op.create_table(
        "billing_close",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("customer_class", sa.String(32), nullable=False),
        sa.Column("medium", sa.String(16), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("closed_at", big, nullable=False),
        sa.Column("closed_by", sa.String(80), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("totals", big, nullable=False),
        sa.Column("open_missing", big, nullable=False),
        sa.Column("open_doubtful", big, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_billing_close_period", "billing_close", ["period"])
    op.create_table(
        "billing_total",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("account_number", sa.String(64), nullable=False),
        sa.Column("customer_class", sa.String(32), nullable=False),
        sa.Column("medium", sa.String(16), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("start_at", big, nullable=False),
        sa.Column("end_at", big, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(48), nullable=False),
        sa.Column("detail", sa.String(500), nullable=False),
        sa.Column("shown", sa.String(48), nullable=False),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("consumption", big, nullable=True),
        sa.Column("forward", big, nullable=True),
        sa.Column("reverse", big, nullable=True),
        sa.Column("volume_actual", big, nullable=True),
        sa.Column("volume_standard", big, nullable=True),
        sa.Column("energy", big, nullable=True),
        sa.Column("year_to_date", big, nullable=True),
        sa.Column("opening_index", big, nullable=True),
        sa.Column("opening_at", big, nullable=True),
        sa.Column("opening_quality", sa.String(16), nullable=False),
        sa.Column("closing_index", big, nullable=True),
        sa.Column("closing_at", big, nullable=True),
        sa.Column("closing_quality", sa.String(16), nullable=False),
        sa.Column("edited", sa.Boolean(), nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("computed_at", big, nullable=False),
        sa.Column("version", big, nullable=False),
        sa.Column("close_id", big, nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["close_id"], ["billing_close.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("usage_point_id", "period"),
    )
    op.create_index("ix_billing_total_close_id", "billing_total", ["close_id"])
    op.create_index("ix_billing_total_district", "billing_total", ["district"])
    op.create_index("ix_billing_total_version", "billing_total", ["version"])
    op.create_index("ix_billing_total_worklist", "billing_total", ["period", "state", "usage_point_id"])
    op.create_table(
        "billing_line",
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("number", big, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("meter_id", sa.String(64), nullable=False),
        sa.Column("customer", sa.String(64), nullable=False),
        sa.Column("opening_index", big, nullable=False),
        sa.Column("opening_at", big, nullable=False),
        sa.Column("opening_quality", sa.String(16), nullable=False),
        sa.Column("closing_index", big, nullable=False),
        sa.Column("closing_at", big, nullable=False),
        sa.Column("closing_quality", sa.String(16), nullable=False),
        sa.Column("rollovers", big, nullable=False),
        sa.Column("consumption", big, nullable=False),
        sa.Column("reverse", big, nullable=False),
        sa.Column("energy", big, nullable=True),
        sa.PrimaryKeyConstraint("usage_point_id", "period", "number"),
    )


def _people() -> None:
    big = _big()
    op.create_table(
        "billing_decision",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("consumption", big, nullable=True),
        sa.Column("cause", sa.String(48), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("actor", sa.String(80), nullable=False),
        sa.Column("at", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_billing_decision_place", "billing_decision", ["usage_point_id", "period"])
    op.create_table(
        "billing_delta",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("in_period", sa.String(7), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("before", big, nullable=True),
        sa.Column("after", big, nullable=True),
        sa.Column("amount", big, nullable=False),
        sa.Column("cause", sa.String(48), nullable=False),
        sa.Column("account", sa.String(2000), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("proposed_by", sa.String(80), nullable=False),
        sa.Column("proposed_at", big, nullable=False),
        sa.Column("needs", sa.String(200), nullable=False),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_billing_delta_in_period", "billing_delta", ["in_period"])
    op.create_index("ix_billing_delta_place", "billing_delta", ["usage_point_id", "period"])
    op.create_index("ix_billing_delta_state", "billing_delta", ["state"])
    op.create_table(
        "billing_approval",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("delta_id", big, nullable=False),
        sa.Column("capacity", sa.String(32), nullable=False),
        sa.Column("word", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(80), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("at", big, nullable=False),
        sa.ForeignKeyConstraint(["delta_id"], ["billing_delta.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("delta_id", "capacity"),
    )
    op.create_table(
        "reading_correction",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("meter_id", sa.String(64), nullable=False),
        sa.Column("read_at", big, nullable=False),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("was", big, nullable=False),
        sa.Column("becomes", big, nullable=True),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("actor", sa.String(80), nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("withdrawn_at", big, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_reading_correction_key", "reading_correction", ["meter_id", "read_at"])
    op.create_table(
        "billing_key",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("body", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("at", big, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def _outages() -> None:
    big = _big()
    op.create_table(
        "gateway_outage",
        sa.Column("gateway", sa.String(48), nullable=False),
        sa.Column("from_at", big, autoincrement=False, nullable=False),
        sa.Column("to_at", big, nullable=True),
        sa.PrimaryKeyConstraint("gateway", "from_at"),
    )


def downgrade() -> None:
    for table in (
        "gateway_outage",
        "billing_key",
        "reading_correction",
        "billing_approval",
        "billing_delta",
        "billing_decision",
        "billing_line",
        "billing_total",
        "billing_close",
        "calorific_value",
        "billing_extra_day",
        "billing_calendar",
    ):
        op.drop_table(table)
