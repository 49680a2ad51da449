"""Which commands were begun and ended, on disk, so that none is ever carried out twice, whatever dies when.

A command is entered before anything is done for it, and crossed off after its result is committed to the outbox. What
stands there as begun after a start was cut off: nobody knows how far it got, and that is what is told. Entries are
kept until their deadline has passed for good; a copy that comes later is late anyway.

Everything here blocks for one small commit (synchronous=FULL); commands are rare.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metering.errors import OutboxError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS command(
    nonce TEXT PRIMARY KEY, name TEXT NOT NULL, forget_at INTEGER NOT NULL, ended INTEGER NOT NULL);
"""
MOST: Final = 100_000
"""Commands remembered at once; more are refused, not forgotten."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A command that was begun and never ended."""

    nonce: str
    name: str


class Nonces:
    """See the module. Raises: OutboxError from every method when the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None

    def open(self) -> list[Begun]:
        """Open or make the file; return what was cut off by the last end."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                self._file.execute(f"PRAGMA {pragma}").close()
            self._file.executescript(_SCHEMA)
            with closing(self._file.execute("SELECT nonce, name FROM command WHERE NOT ended")) as rows:
                return [Begun(*row) for row in rows]
        except sqlite3.Error as error:
            self.close()
            raise self._refusal(error) from error

    def begin(self, nonce: str, name: str, forget_at: int) -> bool:
        """Enter a command; False when it was entered before, ended or not. forget_at: [ms UTC]."""
        try:
            if self.count() >= MOST:
                raise OutboxError(f"{MOST} commands are remembered already")
            sql = "INSERT OR IGNORE INTO command VALUES (?, ?, ?, 0)"
            with closing(self._opened().execute(sql, (nonce, name, forget_at))) as done:
                return done.rowcount == 1
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def end(self, nonce: str) -> None:
        """Cross a command off: its result is safe."""
        self._do("UPDATE command SET ended = 1 WHERE nonce = ?", nonce)

    def forget(self, now_ms: int) -> None:
        """Let go of ended commands whose time is over."""
        self._do("DELETE FROM command WHERE ended AND forget_at < ?", now_ms)

    def count(self) -> int:
        """How many are remembered."""
        with closing(self._opened().execute("SELECT count(*) FROM command")) as rows:
            return int(rows.fetchone()[0])

    def close(self) -> None:
        """Harmless twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _do(self, sql: str, *values: object) -> None:
        try:
            self._opened().execute(sql, values).close()
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._file is None:
            raise OutboxError(f"{self._path.name} is not open")
        return self._file

    def _refusal(self, error: sqlite3.Error) -> OutboxError:
        return OutboxError(f"{self._path.name}: {error}")
