"""Alembic revisions; head is what `registry.models` says (a test compares)."""
