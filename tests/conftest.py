"""What tests of several rooms share: one PostgreSQL cluster per run, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, settings

from registry.database import Database
from tests.databases import PostgresProcess, postgres

# the same seed and the same result, whatever else the machine does and whatever an earlier run left in the folder
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresProcess]:
    """A running PostgreSQL with a database `ready` that has all tables of the registry."""
    with postgres() as server:
        database = Database(server.create("ready"))
        database.upgrade()
        database.close()
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresProcess) -> Iterator[str]:
    """The URL of an empty registry of its own: all tables, no rows."""
    name = f"t{next(_numbers)}"
    yield postgres_server.create(name, template="ready")
    postgres_server.drop(name)
