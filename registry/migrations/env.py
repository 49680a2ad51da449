"""Alembic runs this; the connection comes from `registry.database.Database.upgrade`."""

from __future__ import annotations

from alembic import context

from registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
