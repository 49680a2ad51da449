"""A registry and an embedded store for tests of billing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.store_sqlite import SqliteStore
from registry.database import Database
from tests.registries import empty_registry


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = empty_registry(tmp_path / "registry.db")
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "readings.db", mode="write")
    yield store
    store.close()
