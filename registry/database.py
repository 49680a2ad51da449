"""One way to the registry's database: SQLite (one host) or PostgreSQL (by URL), same tables, same functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError

from metering.errors import RegistryError

_BUSY_TIMEOUT_S: Final = 30.0
_SQLITE_ARGUMENTS: Final = {"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}
_POSTGRESQL_ARGUMENTS: Final = {  # a server that vanished without a word is noticed within half a minute
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_UPGRADE_LOCK: Final = 0x4D475550  # one program at a time changes the tables; any number that nobody else takes
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Database:
    """The engine, and transactions on it.

    SQLite runs with a rollback journal and synchronous=FULL: several services of one host share the file, and a
    committed change survives a power cut. Writers take their lock at BEGIN, so that two of them queue instead of
    failing in the middle.
    """

    def __init__(self, url: str) -> None:
        """url: `sqlite:///path/registry.db` or `postgresql+psycopg://user@host/db`."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        connect_args = _SQLITE_ARGUMENTS if self.is_sqlite else _POSTGRESQL_ARGUMENTS
        self.engine: Engine = sa.create_engine(
            self.url, connect_args=dict(connect_args), pool_pre_ping=not self.is_sqlite
        )
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    def upgrade(self) -> None:
        """Bring the tables to this program's version. Raises: RegistryError."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        try:
            with self.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except DBAPIError as error:
            raise RegistryError(f"the registry cannot be brought up to date: {error.orig}") from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One writing transaction: committed at the end, rolled back on any error."""
        with self._connected() as connection:
            connection = connection.execution_options(metergate_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; sees one consistent state."""
        with self._connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            connection = self.engine.connect()
        except DBAPIError as error:
            raise RegistryError(f"the registry cannot be opened: {error.orig}") from error
        with connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections; harmless twice."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves, see _begin_sqlite
    cursor = connection.cursor()
    for pragma in ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("metergate_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
