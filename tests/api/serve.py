"""Run the real API as a process of its own: `python -m tests.api.serve FOLDER SETTINGS_AS_JSON [jobs]`.

The address goes into FOLDER/address, so that nothing of ours stands on standard output.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from api.jobs.settings import JobSettings
from api.jobs.words import Materials
from api.jobs.workshop import Workshop
from api.service import run_api
from api.settings import ApiSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.ending import leave
from registry.database import Database


def main() -> None:
    folder = Path(sys.argv[1])
    settings = ApiSettings.model_validate_json(sys.argv[2])
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    store = SqliteStore(folder / "readings.db", mode="read")

    def ready(address: str) -> None:
        (folder / "address.new").write_text(address)
        (folder / "address.new").rename(folder / "address")

    workshop = make_workshop(folder) if "jobs" in sys.argv[3:] else None
    asyncio.run(
        run_api(settings, database=database, store=store, clock=SystemClock(), on_ready=ready, workshop=workshop)
    )
    leave()  # as `metergate api` does


def make_workshop(folder: Path) -> Workshop:
    """A room for background jobs over the same tables."""
    store = partial(SqliteStore, folder / "readings.db", mode="read")
    materials = Materials(f"sqlite:///{folder / 'registry.db'}", store)
    return Workshop(JobSettings(folder=folder / "jobs", poll_s=0.1), materials)


if __name__ == "__main__":
    main()
