"""Findings with their alarms and history, maintenance windows, changes of thresholds, jobs, shifts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _findings()
    _history()
    _windows()
    _thresholds()
    _watch()
    _jobs()
    _shifts()


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _findings() -> None:
    big = _big()
    op.create_table(
        "finding",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(160), nullable=False),
        sa.Column("usage_point", sa.String(64), nullable=False),
        sa.Column("meter", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(48), nullable=False),
        sa.Column("rule", sa.String(48), nullable=False),
        sa.Column("rule_version", sa.String(32), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(8), nullable=False),
        sa.Column("started_at", big, nullable=False),
        sa.Column("detected_at", big, nullable=False),
        sa.Column("updated_at", big, nullable=False),
        sa.Column("cleared_at", big, nullable=True),
        sa.Column("withdrawn_at", big, nullable=True),
        sa.Column("withdrawn_why", sa.String(500), nullable=False),
        sa.Column("repeats", big, nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("thresholds_version", sa.String(64), nullable=False),
        sa.Column("gateway", sa.String(48), nullable=False),
        sa.Column("bus", sa.String(48), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("parent_key", sa.String(160), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("alarm", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("acked", sa.Boolean(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("suppressed", sa.Boolean(), nullable=False),
        sa.Column("shelved_until", big, nullable=True),
        sa.Column("out_until", big, nullable=True),
        sa.Column("window_id", big, nullable=True),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    for column in ("usage_point", "meter", "detected_at", "gateway", "district", "state", "active"):
        op.create_index(f"ix_finding_{column}", "finding", [column])
    known = {name: f"{name} IS NOT NULL" for name in ("shelved_until", "out_until", "window_id")}
    for column, condition in {**known, "parent_key": "parent_key <> ''"}.items():
        where = sa.text(condition)
        op.create_index(f"ix_finding_{column}", "finding", [column], sqlite_where=where, postgresql_where=where)


def _history() -> None:
    big = _big()
    op.create_table(
        "finding_history",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("finding_id", big, nullable=False),
        sa.Column("number", big, nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("who", sa.String(80), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("from_state", sa.String(8), nullable=False),
        sa.Column("to_state", sa.String(8), nullable=False),
        sa.Column("until", big, nullable=True),
        sa.Column("note", sa.String(1000), nullable=False),
        sa.ForeignKeyConstraint(["finding_id"], ["finding.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("finding_id", "number"),
    )
    op.create_index("ix_finding_history_to_state_at", "finding_history", ["to_state", "at"])


def _windows() -> None:
    big = _big()
    op.create_table(
        "maintenance_window",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("target", sa.String(100), nullable=False),
        sa.Column("district", sa.String(64), nullable=False),
        sa.Column("from_at", big, nullable=False),
        sa.Column("to_at", big, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("ended_by", sa.String(80), nullable=False),
        sa.Column("ended_at", big, nullable=True),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("target", "district", "to_at"):
        op.create_index(f"ix_maintenance_window_{column}", "maintenance_window", [column])


def _thresholds() -> None:
    big = _big()
    op.create_table(
        "threshold_change",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("effective_at", big, nullable=False),
        sa.Column("author", sa.String(80), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("backtest", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.String(80), nullable=False),
        sa.Column("decided_at", big, nullable=True),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("accepted", big, nullable=True),
        sa.Column("job_id", big, nullable=True),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("effective_at", "state"):
        op.create_index(f"ix_threshold_change_{column}", "threshold_change", [column])


def _watch() -> None:
    big = _big()
    op.create_table(
        "touched",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("t0", big, nullable=False),
        sa.Column("t1", big, nullable=False),
        sa.Column("meters", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_touched_at", "touched", ["at"])
    op.create_table(
        "watch_part",
        sa.Column("part", big, autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(48), nullable=False),
        sa.Column("token", big, nullable=False),
        sa.Column("expires_at", big, nullable=False),
        sa.Column("judged_at", big, nullable=False),
        sa.Column("log", big, nullable=False),
        sa.PrimaryKeyConstraint("part"),
    )
    op.create_table(
        "watch_finding",
        sa.Column("key", sa.String(160), nullable=False),
        sa.Column("part", big, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_watch_finding_part", "watch_finding", ["part"])


def _jobs() -> None:
    big = _big()
    op.create_table(
        "job",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(48), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("actor", sa.JSON(), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("started_at", big, nullable=True),
        sa.Column("finished_at", big, nullable=True),
        sa.Column("holder", sa.String(48), nullable=False),
        sa.Column("beat_at", big, nullable=True),
        sa.Column("progress", big, nullable=False),
        sa.Column("progress_text", sa.String(200), nullable=False),
        sa.Column("cancel", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("problem", sa.String(1000), nullable=False),
        sa.Column("result_name", sa.String(200), nullable=False),
        sa.Column("result_type", sa.String(80), nullable=False),
        sa.Column("result_bytes", big, nullable=True),
        sa.Column("result_sha256", sa.String(64), nullable=False),
        sa.Column("expires_at", big, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("state", "by", "expires_at"):
        op.create_index(f"ix_job_{column}", "job", [column])


def _shifts() -> None:
    big = _big()
    op.create_table(
        "shift",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("desk", sa.String(48), nullable=False),
        sa.Column("open_key", sa.String(48), nullable=True),
        sa.Column("districts", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("on_duty", sa.String(80), nullable=False),
        sa.Column("started_at", big, nullable=False),
        sa.Column("previous_id", big, nullable=True),
        sa.Column("handed_at", big, nullable=True),
        sa.Column("handed_note", sa.String(2000), nullable=False),
        sa.Column("taken_at", big, nullable=True),
        sa.Column("taken_by", sa.String(80), nullable=False),
        sa.Column("taken_note", sa.String(2000), nullable=False),
        sa.Column("content", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("open_key"),
    )
    for column in ("desk", "state"):
        op.create_index(f"ix_shift_{column}", "shift", [column])
    op.create_table(
        "shift_note",
        sa.Column("shift_id", big, nullable=False),
        sa.Column("number", big, autoincrement=False, nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("who", sa.String(80), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.ForeignKeyConstraint(["shift_id"], ["shift.id"]),
        sa.PrimaryKeyConstraint("shift_id", "number"),
    )


def downgrade() -> None:
    for table in ("shift_note", "shift", "job"):
        op.drop_table(table)
    for table in ("watch_finding", "watch_part", "touched"):
        op.drop_table(table)
    for table in ("threshold_change", "maintenance_window", "finding_history", "finding"):
        op.drop_table(table)
