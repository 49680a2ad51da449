"""The outbox on disk: one SQLite file in WAL mode, `synchronous=FULL`, one connection, one owner.

Rows are kept in chunks of at most `CHUNK_ROWS` rows and `CHUNK_BYTES`, one or more for each group commit: JSON lines
with a CRC. The number (seq) of each row follows from its chunk's first; the next number, the acknowledged
position and the epoch are in the same file and change in the same transaction, so that numbers are without gaps and
never start again: an emptied queue goes on where it was.

Everything here blocks; only the outbox's own thread calls it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from gateway.spans import Span, SpanSet
from metering.errors import OutboxError

CHUNK_ROWS: Final = 500
CHUNK_BYTES: Final = 60_000
"""What one chunk holds at most, so that a whole one fits into a message."""
Chunk = tuple[int, bytes]
"""Number of rows, and the rows: JSON without line breaks inside, joined by line breaks."""
_FORMAT: Final = 1
_CHECK_BYTES: Final = 512 * 1024 * 1024
"""Larger files are not checked whole at the start; the CRC of each chunk still is when it is read."""

_SCHEMA: Final = """
CREATE TABLE chunk(
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, at INTEGER NOT NULL, crc INTEGER NOT NULL, rows BLOB NOT NULL);
CREATE TABLE position(
    id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL,
    next INTEGER NOT NULL, acknowledged INTEGER NOT NULL);
CREATE TABLE past_epoch(epoch TEXT PRIMARY KEY, ended_at INTEGER NOT NULL);
"""

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}


class OutboxTaken(OutboxError):  # noqa: N818 (as below)
    """Not ours to use: another process or another gateway owns it, or a newer version wrote it."""


class OutboxDamaged(OutboxError):  # noqa: N818 (says what the file is, as its siblings say what happened)
    """The file is not what we wrote: cut, overwritten, replaced or taken away."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the numbering stands. next: the seq of the next row. acknowledged: all up to here is gone."""

    epoch: str
    next: int
    acknowledged: int


class OutboxLock:
    """Lets one process own an outbox; held until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Harmless twice. Raises: OutboxTaken when another process has it, OutboxError when the disk forbids."""
        if self._file is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise OutboxTaken(f"{self._path} is locked: another gateway process owns this outbox") from None
        except OSError as error:
            self.release()
            raise OutboxError(f"{self._path} cannot be locked: {error.strerror}") from error

    def release(self) -> None:
        """Harmless twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


class OutboxFile:
    """See the module. Raises OutboxError when the disk does not let us, OutboxDamaged when the file is broken."""

    def __init__(self, path: Path, *, gateway: str, new_epoch: str) -> None:
        """Open the file, or make it with the epoch `new_epoch`."""
        self.path = path
        self.gateway = gateway
        self._db = self._connect()
        try:
            with _told("cannot be opened"):
                self._prepare(new_epoch)
                self.position = self._read_position()
                self._check()
            self._identity = self._stat()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Checkpoint and close; harmless twice."""
        with suppress(sqlite3.Error):
            self._db.close()

    def held(self) -> SpanSet:
        """Return the seqs whose rows are in the file and above the acknowledged position."""
        with _told("cannot be read"):
            spans = SpanSet(self._db.execute("SELECT first, last FROM chunk ORDER BY first"))
        spans.remove(0, self.position.acknowledged)
        return spans

    def oldest_at(self) -> int | None:
        """Return the commit time [ms UTC] of the oldest chunk, None when there is none."""
        with _told("cannot be read"):
            row = self._db.execute("SELECT at FROM chunk ORDER BY first LIMIT 1").fetchone()
        return row[0] if row else None

    def past_epochs(self) -> set[str]:
        """Return the epochs that this outbox once had."""
        with _told("cannot be read"):
            return {epoch for (epoch,) in self._db.execute("SELECT epoch FROM past_epoch")}

    def commit(self, chunks: Sequence[Chunk], at: int, *, done: Sequence[Span] = (), acknowledged: int = 0) -> int:
        """Append chunks, drop those that lie wholly in `done`, move the position; return the first row's seq.

        at: [ms UTC]. On an error nothing of it has happened.
        """
        first = self.position.next
        goal = Position(
            self.position.epoch,
            first + sum(count for count, _ in chunks),
            max(acknowledged, self.position.acknowledged),
        )
        with _told("cannot be written"):
            self._watch()
            self._begin()
            try:
                for low, high in done:
                    drop = "DELETE FROM chunk WHERE first >= ? AND first <= ? AND last <= ?"
                    self._db.execute(drop, (low, high, high))
                self._insert(first, chunks, at)
                self._db.execute("UPDATE position SET next = ?, acknowledged = ?", (goal.next, goal.acknowledged))
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        self.position = goal
        return first

    def read(self, low: int, high: int, max_bytes: int) -> list[bytes]:
        """Return rows from `low` on: those there without a gap, up to `high` and `max_bytes`, but at least one."""
        found: list[bytes] = []
        size = 0
        with _told("cannot be read"):
            start = self._db.execute("SELECT max(first) FROM chunk WHERE first <= ?", (low,)).fetchone()[0]
            chunks = self._db.execute(
                "SELECT first, last, crc, rows FROM chunk WHERE first >= ? AND first <= ? ORDER BY first",
                (start, high),
            )
            for first, last, crc, blob in chunks:
                if first > low + len(found) or (found and size > max_bytes):
                    break
                lines = self._lines(first, last, crc, blob)
                for line in lines[low + len(found) - first : high - first + 1]:
                    if found and size + len(line) + 1 > max_bytes:
                        return found
                    found.append(line)
                    size += len(line) + 1
        return found

    def start_epoch(self, epoch: str, at: int) -> None:
        """Rename the numbering: the rows and their numbers stay, nothing counts as acknowledged any more."""
        with _told("cannot be written"):
            self._begin()
            try:
                self._db.execute("INSERT OR IGNORE INTO past_epoch VALUES (?, ?)", (self.position.epoch, at))
                self._db.execute("UPDATE position SET epoch = ?", (epoch,))
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        self.position = Position(epoch, self.position.next, self.position.acknowledged)

    def rows_one_by_one(self) -> Iterator[bytes]:
        """Yield every row that can still be read above the acknowledged position, whatever is broken around it."""
        after = -1
        while True:
            try:
                row = self._db.execute(
                    "SELECT first, last, crc, rows FROM chunk WHERE first > ? ORDER BY first LIMIT 1", (after,)
                ).fetchone()
            except sqlite3.Error:
                return
            if row is None:
                return
            after = row[0]
            with suppress(OutboxDamaged):
                lines = self._lines(*row)
                yield from lines[max(0, self.position.acknowledged + 1 - row[0]) :]

    def _connect(self) -> sqlite3.Connection:
        with _told("cannot be opened"):
            return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1.0)

    def _prepare(self, new_epoch: str) -> None:
        run = self._db.execute
        run("PRAGMA mmap_size = 0")
        run("PRAGMA cache_size = -256")  # [KiB] rows are written once and read once
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA journal_size_limit = 16777216")
        if run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            self._begin()
            try:
                for statement in _SCHEMA.split(";"):
                    run(statement)
                run("INSERT INTO position VALUES (1, ?, ?, ?, 1, 0)", (_FORMAT, self.gateway, new_epoch))
                run("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _read_position(self) -> Position:
        row = self._db.execute("SELECT format, gateway, epoch, next, acknowledged FROM position").fetchone()
        if row is None or not all(isinstance(number, int) for number in (row[0], row[3], row[4])):
            raise OutboxDamaged(f"{self.path}: the position is missing")
        if row[0] != _FORMAT:
            raise OutboxTaken(f"{self.path}: written by a newer version (format {row[0]}; {_FORMAT} is known)")
        if row[1] != self.gateway:
            raise OutboxTaken(f"{self.path} belongs to gateway {row[1]}, not to {self.gateway}")
        return Position(row[2], row[3], row[4])

    def _check(self) -> None:
        if self.path.stat().st_size <= _CHECK_BYTES:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise OutboxDamaged(f"{self.path}: {verdict}")

    def _insert(self, first: int, chunks: Sequence[Chunk], at: int) -> None:
        for count, blob in chunks:
            row = (first, first + count - 1, at, zlib.crc32(blob), blob)
            self._db.execute("INSERT INTO chunk VALUES (?, ?, ?, ?, ?)", row)
            first += count

    def _lines(self, first: int, last: int, crc: int, blob: bytes) -> list[bytes]:
        if not isinstance(blob, bytes) or zlib.crc32(blob) != crc:
            raise OutboxDamaged(f"{self.path}: rows {first} … {last} are not what was written")
        return blob.split(b"\n")

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        with suppress(sqlite3.Error):  # a full disk: give the log's pages back to the file, so that deleting works
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _watch(self) -> None:
        """Notice when somebody takes the file away, replaces it or cuts it while we run."""
        try:
            now = self._stat()
        except FileNotFoundError:
            raise OutboxDamaged(f"{self.path} was taken away while in use") from None
        if now[0] != self._identity[0] or now[1] < self._identity[1]:
            raise OutboxDamaged(f"{self.path} was replaced or cut while in use")
        self._identity = now

    def _stat(self) -> tuple[tuple[int, int], int]:
        found = os.stat(self.path)
        return (found.st_dev, found.st_ino), found.st_size


def waiting_rows(path: Path) -> Iterator[bytes]:
    """Yield the JSON rows that an outbox file still waits to hand on, oldest first; for tools beside its owner.

    Raises: OutboxError.
    """
    if not path.exists():
        return
    with _told("cannot be read"), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        (acknowledged,) = db.execute("SELECT acknowledged FROM position").fetchone()
        chunks = db.execute("SELECT first, rows FROM chunk WHERE last > ? ORDER BY first", (acknowledged,))
        for first, rows in chunks:
            yield from rows.split(b"\n")[max(0, acknowledged + 1 - first) :]


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn SQLite's and the system's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        name = getattr(error, "sqlite_errorname", "")
        kind = OutboxDamaged if code & 0xFF in _DAMAGE else OutboxError
        raise kind(f"outbox {what}: {error}{f' ({name})' if name else ''}") from error
    except OSError as error:
        raise OutboxError(f"outbox {what}: {error.strerror}") from error
