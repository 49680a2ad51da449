"""Every test of the registry runs on both databases that it may live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import Database
from tests.registries import empty_registry


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty registry."""
    if request.param == "sqlite":
        database = empty_registry(tmp_path / "registry.db")
    else:
        database = Database(request.getfixturevalue("postgres_url"))
    yield database
    database.close()
