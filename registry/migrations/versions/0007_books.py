"""Kinds of installations, book entries, occupancies, office rows, imports, quarantine decisions, reconciliation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("kind", sa.String(16), nullable=False, server_default="normal"))
    _entries()
    _occupancy()
    _classification()
    _validation()
    _office()
    _imports()
    _decisions()
    _reconciliation()


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _entries() -> None:
    big = _big()
    op.create_table(
        "book_entry",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("meter_id", sa.String(64), nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("recorded_at", big, nullable=False),
        sa.Column("recorded_by", sa.String(80), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("effects", sa.Text(), nullable=False),
        sa.Column("batch_id", big, nullable=True),
        sa.Column("undoes", big, nullable=True),
        sa.ForeignKeyConstraint(["undoes"], ["book_entry.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("undoes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_book_entry_usage_point_id_id", "book_entry", ["usage_point_id", "id"])
    op.create_index("ix_book_entry_meter_id", "book_entry", ["meter_id"])
    op.create_index("ix_book_entry_batch_id", "book_entry", ["batch_id"])


def _occupancy() -> None:
    big = _big()
    op.create_table(
        "occupancy",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("account_number", sa.String(64), nullable=False),
        sa.Column("from_at", big, nullable=False),
        sa.Column("to_at", big, nullable=True),
        sa.Column("start_indexes", sa.JSON(), nullable=False),
        sa.Column("final_indexes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["usage_point_id"], ["usage_point.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_occupancy_usage_point_id_from_at", "occupancy", ["usage_point_id", "from_at"])


def _classification() -> None:
    big = _big()
    op.create_table(
        "classification",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("customer_class", sa.String(32), nullable=False),
        sa.Column("from_at", big, nullable=False),
        sa.Column("to_at", big, nullable=True),
        sa.ForeignKeyConstraint(["usage_point_id"], ["usage_point.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_classification_usage_point_id_from_at", "classification", ["usage_point_id", "from_at"])


def _validation() -> None:
    big = _big()
    op.create_table(
        "validation_rule",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("rule", sa.String(32), nullable=False),
        sa.Column("version", big, nullable=False),
        sa.Column("valid_from", big, nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("author", sa.String(80), nullable=False),
        sa.Column("made_at", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rule", "version"),
    )


def _office() -> None:
    big = _big()
    op.create_table(
        "office_row",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("meter", sa.String(64), nullable=False),
        sa.Column("read_at", big, nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("quality", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("person", sa.String(80), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("batch_id", big, nullable=True),
        sa.Column("quarantine_id", big, nullable=True),
        sa.Column("posted_at", big, nullable=False),
        sa.Column("posted_by", sa.String(80), nullable=False),
        sa.Column("state", big, nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("seq", big, nullable=True),
        sa.Column("acknowledged_at", big, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_office_row_state_id", "office_row", ["state", "id"])
    op.create_index("ix_office_row_meter", "office_row", ["meter"])
    op.create_index("ix_office_row_batch_id", "office_row", ["batch_id"])


def _imports() -> None:
    big = _big()
    op.create_table(
        "import_batch",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("file", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("made_at", big, nullable=False),
        sa.Column("made_by", sa.String(80), nullable=False),
        sa.Column("decided_at", big, nullable=True),
        sa.Column("decided_by", sa.String(80), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_import_batch_digest", "import_batch", ["digest"])
    op.create_table(
        "import_row",
        sa.Column("batch_id", big, nullable=False),
        sa.Column("line", big, autoincrement=False, nullable=False),
        sa.Column("usage_point", sa.String(64), nullable=False),
        sa.Column("meter", sa.String(64), nullable=False),
        sa.Column("at", big, nullable=True),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("person", sa.String(80), nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("reason", sa.String(48), nullable=False),
        sa.Column("detail", sa.String(500), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["import_batch.id"]),
        sa.PrimaryKeyConstraint("batch_id", "line"),
    )
    op.create_index("ix_import_row_batch_id_meter_at", "import_row", ["batch_id", "meter", "at"])


def _decisions() -> None:
    big = _big()
    op.create_table(
        "quarantine_decision",
        sa.Column("quarantine_id", big, autoincrement=False, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("decided_at", big, nullable=False),
        sa.Column("decided_by", sa.String(80), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("office_row_id", big, nullable=True),
        sa.ForeignKeyConstraint(["quarantine_id"], ["quarantine.id"]),
        sa.PrimaryKeyConstraint("quarantine_id"),
    )


def _reconciliation() -> None:
    big = _big()
    op.create_table(
        "purchase",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("volume", big, nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("batch_id", big, nullable=False),
        sa.Column("line", big, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["import_batch.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_purchase_usage_point_id_at", "purchase", ["usage_point_id", "at"])
    op.create_index("ix_purchase_batch_id", "purchase", ["batch_id"])
    op.create_table(
        "scada_total",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("from_at", big, nullable=False),
        sa.Column("to_at", big, nullable=False),
        sa.Column("volume", big, nullable=False),
        sa.Column("batch_id", big, nullable=False),
        sa.Column("line", big, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["import_batch.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_scada_total_usage_point_id_from_at", "scada_total", ["usage_point_id", "from_at"])
    op.create_index("ix_scada_total_batch_id", "scada_total", ["batch_id"])
    op.create_table(
        "supply_link",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("parent_id", sa.String(64), nullable=False),
        sa.Column("child_id", sa.String(64), nullable=False),
        sa.Column("from_at", big, nullable=False),
        sa.Column("parent_class", sa.String(8), nullable=False),
        sa.Column("child_class", sa.String(8), nullable=False),
        sa.Column("batch_id", big, nullable=False),
        sa.Column("line", big, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["import_batch.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    for name in ("parent_id", "child_id", "batch_id"):
        op.create_index(f"ix_supply_link_{name}", "supply_link", [name])
    op.create_table(
        "reconciliation",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("usage_point_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(48), nullable=False),
        sa.Column("difference", big, nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("computed_at", big, nullable=False),
        sa.Column("order_id", big, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "usage_point_id", "period"),
    )
    op.create_index("ix_reconciliation_period", "reconciliation", ["period"])
    op.create_index("ix_usage_point_account_number", "usage_point", ["account_number"])
    op.create_index("ix_occupancy_account_number", "occupancy", ["account_number"])


def downgrade() -> None:
    op.drop_index("ix_usage_point_account_number", "usage_point")
    for name in (
        "reconciliation",
        "supply_link",
        "scada_total",
        "purchase",
        "quarantine_decision",
        "import_row",
        "import_batch",
        "office_row",
        "validation_rule",
        "classification",
        "occupancy",
        "book_entry",
    ):
        op.drop_table(name)
    with op.batch_alter_table("installation") as table:
        table.drop_column("kind")
