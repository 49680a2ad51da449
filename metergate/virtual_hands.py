"""What the services of a virtual house hold of its disks, so that a disk can fill, a store go away, a process die.

A process that is killed writes nothing more. Here its hands are cut off first and its tasks end afterwards: what it
had in memory is gone, what it had committed is there, and it starts anew from its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from gateway.outbox_file import Chunk, OutboxFile
from gateway.spans import Span
from ingest.store_sqlite import SqliteStore
from metering.errors import RegistryError, StoreError
from metering.reading import Reading
from registry.database import Database


class Gate:
    """Lets work through, or says why not. why: "" while it is open."""

    def __init__(self) -> None:
        self.why = ""

    def shut(self, why: str) -> None:
        """Let nothing through."""
        self.why = why

    def open(self) -> None:
        """Let work through again."""
        self.why = ""


class GatedStore(SqliteStore):
    """The embedded store behind gates: its own, and that of the process that uses it."""

    def __init__(self, path: Path, *gates: Gate, mode: Literal["write", "read"]) -> None:
        self._gates = gates
        super().__init__(path, mode=mode)

    def write(self, readings: Sequence[Reading]) -> list[str | None]:
        """As the store's. Raises: StoreError."""
        self._pass()
        return super().write(readings)

    def _reader(self) -> Any:
        """Every way of reading begins here."""
        self._pass()
        return super()._reader()

    def _pass(self) -> None:
        for gate in self._gates:
            if gate.why:
                raise StoreError(gate.why)


class GatedDatabase(Database):
    """The registry behind the gate of the process that uses it."""

    def __init__(self, url: str, gate: Gate) -> None:
        self._gate = gate
        super().__init__(url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As the registry's. Raises: RegistryError; also when the gate shuts before the work is committed."""
        self._pass()
        with super().begin() as connection:
            yield connection
            self._pass()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As the registry's. Raises: RegistryError."""
        self._pass()
        with super().read() as connection:
            yield connection

    def _pass(self) -> None:
        if self._gate.why:
            raise RegistryError(self._gate.why)


def outbox_on(disk: Gate, process: Gate) -> Callable[..., OutboxFile]:
    """Return what opens a gateway's outbox on a disk that may fill up, for a process that may die."""

    class GatedOutboxFile(OutboxFile):
        """SQLite itself refuses, as it does when the disk takes nothing."""

        def commit(
            self, chunks: Sequence[Chunk], at: int, *, done: Sequence[Span] = (), acknowledged: int = 0
        ) -> int:
            if not disk.why and not process.why:
                return super().commit(chunks, at, done=done, acknowledged=acknowledged)
            self._db.execute("PRAGMA query_only = ON")
            try:
                return super().commit(chunks, at, done=done, acknowledged=acknowledged)
            finally:
                self._db.execute("PRAGMA query_only = OFF")

    return GatedOutboxFile
