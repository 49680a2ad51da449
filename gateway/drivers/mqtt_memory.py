"""What the MQTT driver must still know after a restart, in one SQLite file beside the outbox.

stamp     which `read_at` a row got that has no plausible time of its own, by (meter, hash of the message, row). It is
          committed before the row goes to the outbox: a message that the broker delivers again gets the same
          `read_at`, and the key (meter, read_at) makes one reading of both.
counter   the last counter of each device. It is committed after its rows: a kill in between reports a gap once too
          often rather than never.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from metering.clock import Clock
from metering.errors import OutboxError

StampKey = tuple[str, bytes, int]
"""Meter, hash of topic and payload, number of the row in the message."""

KEEP_MS: Final = 86_400_000
"""Stamps are kept until there are others that are one day younger, however long we were away in between."""
_SWEEP_EVERY: Final = 10_000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS stamp(
    meter TEXT NOT NULL, digest BLOB NOT NULL, part INTEGER NOT NULL, read_at INTEGER NOT NULL,
    PRIMARY KEY (meter, digest, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter(device TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_log = structlog.get_logger(__name__)


class MqttMemory:
    """See the module. `open` first; reading is from memory, writing returns after the commit."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.stamps: dict[StampKey, int] = {}
        self.counters: dict[str, int] = {}
        self._clock = clock
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mqtt-memory")
        self._since_sweep = 0

    async def open(self) -> None:
        """Open or make the file; one that is damaged is moved aside. Raises: OutboxError when the disk forbids."""
        await self._run(self._open)

    async def close(self) -> None:
        """Harmless twice."""
        if self._db is not None:
            await self._run(self._db.close)
            self._db = None
        self._thread.shutdown()

    async def keep_stamps(self, stamps: Mapping[StampKey, int]) -> None:
        """Remember which `read_at` [ms UTC] these rows got. Raises: OutboxError, and nothing is remembered."""
        if not stamps:
            return
        rows = [(*key, at) for key, at in stamps.items()]
        await self._run(self._write, "INSERT OR REPLACE INTO stamp VALUES (?, ?, ?, ?)", rows)
        self.stamps.update(stamps)
        self._since_sweep += len(rows)
        if self._since_sweep >= _SWEEP_EVERY:
            await self._sweep()

    async def keep_counters(self, counters: Mapping[str, int]) -> None:
        """Remember the last counter of devices. Raises: OutboxError."""
        if counters:
            await self._run(self._write, "INSERT OR REPLACE INTO counter VALUES (?, ?)", list(counters.items()))
            self.counters.update(counters)

    async def _sweep(self) -> None:
        self._since_sweep = 0
        floor = max(self.stamps.values()) - KEEP_MS
        self.stamps = {key: at for key, at in self.stamps.items() if at >= floor}
        await self._run(self._write, "DELETE FROM stamp WHERE read_at < ?", [(floor,)])

    async def _run(self, call: Callable[..., Any], *args: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _open(self) -> None:
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutboxError(f"{self.path} cannot be opened: {error}") from error
            self._move_aside(error)
            self._connect()

    def _connect(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{self.path.parent} cannot be made: {error.strerror}") from error
        self._db = db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        self.stamps = {(meter, digest, part): at for meter, digest, part, at in db.execute("SELECT * FROM stamp")}
        self.counters = dict(db.execute("SELECT device, value FROM counter"))

    def _move_aside(self, why: Exception) -> None:
        """Without it a redelivery may be stored under a second time; to stop reading would lose more."""
        if self._db is not None:
            self._db.close()
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                Path(f"{self.path}{suffix}").unlink()
        aside = self.path.with_name(f"{self.path.name}.damaged-{self._clock.now_ms()}")
        os.replace(self.path, aside)
        _log.error("memory of MQTT messages is damaged; a new one is begun", aside=aside.name, why=str(why))

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        if self._db is None:
            raise OutboxError(f"{self.path} is not open")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(statement, rows)
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise OutboxError(f"{self.path} cannot be written: {error}") from error
