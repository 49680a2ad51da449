"""Users, sessions, keys, audit, credentials of gateways, commands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

GENESIS = "0" * 64


def upgrade() -> None:
    _people()
    _audit()
    _gateways()


def _big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _people() -> None:
    big = _big()
    op.create_table(
        "user_account",
        sa.Column("id", big, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("one_time", sa.Boolean(), nullable=False),
        sa.Column("one_time_until", big, nullable=True),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("ranks", sa.JSON(), nullable=False),
        sa.Column("areas", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("totp_secret", sa.String(64), nullable=False),
        sa.Column("totp_pending", sa.String(64), nullable=False),
        sa.Column("totp_step", big, nullable=False),
        sa.Column("failed", big, nullable=False),
        sa.Column("locked_until", big, nullable=False),
        sa.Column("last_login_at", big, nullable=True),
        sa.Column("created_at", big, nullable=False),
        sa.Column("changed_at", big, nullable=False),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "unknown_login",
        sa.Column("bucket", big, autoincrement=False, nullable=False),
        sa.Column("failed", big, nullable=False),
        sa.Column("locked_until", big, nullable=False),
        sa.PrimaryKeyConstraint("bucket"),
    )
    op.create_table(
        "user_session",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", big, nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("seen_at", big, nullable=False),
        sa.Column("expires_at", big, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_user_session_user_id", "user_session", ["user_id"])
    op.create_index("ix_user_session_expires_at", "user_session", ["expires_at"])
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("areas", sa.JSON(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("expires_at", big, nullable=False),
        sa.Column("revoked_at", big, nullable=True),
        sa.Column("used_at", big, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def _audit() -> None:
    big = _big()
    op.create_table(
        "audit",
        sa.Column("number", big, autoincrement=False, nullable=False),
        sa.Column("at", big, nullable=False),
        sa.Column("actor", sa.String(80), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("object_kind", sa.String(32), nullable=False),
        sa.Column("object_id", sa.String(128), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    for column in ("at", "actor", "action", "object_id"):
        op.create_index(f"ix_audit_{column}", "audit", [column])
    head = op.create_table(
        "audit_head",
        sa.Column("id", big, autoincrement=False, nullable=False),
        sa.Column("number", big, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(head, [{"id": 1, "number": 0, "hash": GENESIS}])


def _gateways() -> None:
    big = _big()
    op.create_table(
        "gateway_credential",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("gateway_id", sa.String(48), nullable=False),
        sa.Column("line", sa.String(300), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.Column("retired_at", big, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_gateway_credential_gateway_id", "gateway_credential", ["gateway_id"])
    op.create_table(
        "command",
        sa.Column("nonce", sa.String(32), nullable=False),
        sa.Column("gateway_id", sa.String(48), nullable=False),
        sa.Column("meter", sa.String(64), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("issued_by", sa.String(80), nullable=False),
        sa.Column("issued_at", big, nullable=False),
        sa.Column("deadline", big, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("finished_at", big, nullable=True),
        sa.Column("result", sa.String(500), nullable=False),
        sa.PrimaryKeyConstraint("nonce"),
    )
    for column in ("gateway_id", "meter", "issued_at", "state"):
        op.create_index(f"ix_command_{column}", "command", [column])


def downgrade() -> None:
    people = ("user_session", "unknown_login", "user_account")
    for table in ("command", "gateway_credential", "audit_head", "audit", "api_key", *people):
        op.drop_table(table)
