"""Writes like ingest, as a process of its own: the store first, then the ledger and the audit, then "acknowledged".

    python -m tests.metergate.commands.backup_writer REGISTRY_URL STORE ACKNOWLEDGED_FILE

Each line of the file is one row: a reading of M1 whose time is its number, once the registry has committed it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ingest.store_sqlite import SqliteStore
from metering.messages import part_of
from metering.reading import Reading
from registry import audit
from registry.database import Database
from registry.ledger import Position, save_positions
from registry.roles import service

BATCH = 20


def main() -> None:
    database, path = Database(sys.argv[1]), Path(sys.argv[3])
    store = SqliteStore(Path(sys.argv[2]), mode="write")
    with path.open("a") as acknowledged:
        for first in range(1, 10**9, BATCH):
            numbers = range(first, first + BATCH)
            assert not any(store.write([Reading("M1", n, {"volume": n * 1000}, source="poll") for n in numbers]))
            position = Position("gw-1", "abcdef01", part_of("gw-1"))
            position.spans = [(1, numbers[-1])]
            position.produced = position.stored = numbers[-1]
            with database.begin() as connection:
                save_positions(connection, [position])
                audit.append(connection, service("writer"), "batch.write", "batch", first, at=first)
            acknowledged.write(f"{numbers[-1]}\n")
            acknowledged.flush()


if __name__ == "__main__":
    main()
