"""Leases of the city's parts among several ingest workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PARTS = 64
FLOOR_KEY = "ingest.recovery_floor"


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    lease = op.create_table(
        "part_lease",
        sa.Column("part", big, autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=48), nullable=False),
        sa.Column("token", big, nullable=False),
        sa.Column("expires_at", big, nullable=False),
        sa.Column("floor", big, nullable=False),
        sa.PrimaryKeyConstraint("part"),
    )
    op.create_table(
        "lease_worker",
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("expires_at", big, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    # the recovery floor moves here from `state`: every part has its own
    states = sa.table("state", sa.column("key"), sa.column("value"))
    known = op.get_bind().execute(sa.select(states.c.value).where(states.c.key == FLOOR_KEY)).scalar()
    rows = [
        {"part": part, "holder": "", "token": 0, "expires_at": 0, "floor": int(known or 0)} for part in range(PARTS)
    ]
    op.bulk_insert(lease, rows)
    op.get_bind().execute(sa.delete(states).where(states.c.key == FLOOR_KEY))


def downgrade() -> None:
    op.drop_table("lease_worker")
    op.drop_table("part_lease")
