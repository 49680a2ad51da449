"""Registries on SQLite for the tests: the migrations run once in a process, each test gets a copy of their file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from registry.database import Database


def empty_registry(path: Path) -> Database:
    """Return a registry in a new file: all tables, no rows. The caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_migrated())
    return Database(f"sqlite:///{path}")


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "registry.db"
        database = Database(f"sqlite:///{path}")
        database.upgrade()
        database.close()
        return path.read_bytes()
