"""Fixtures: an empty registry with all tables, and certificates for loopback."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.database import Database
from tests.api.outbound.certificates import make_certificate


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with all tables and no rows, made once."""
    path = tmp_path_factory.mktemp("empty") / "registry.db"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.close()
    return path


@pytest.fixture
def database(tmp_path: Path, empty: Path) -> Iterator[Database]:
    shutil.copy(empty, tmp_path / "registry.db")
    made = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    yield made
    made.close()


@dataclass(frozen=True)
class Trust:
    """ca: file for those who must trust. server: context for 127.0.0.1."""

    ca: Path
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return Trust(certificate, context)
