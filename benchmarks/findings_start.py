"""What a start of the anomaly service costs: seconds and memory for a city and its history.

    python -m benchmarks.findings_start [--meters 100000] [--days 60] [--per-day 24] [--no-store]

Fills the embedded store with hourly readings (once: the files stay in --folder when it is named), then starts a
service in this process and says where the time went. --no-store makes the rows in memory instead, so that only the
engine is measured; a city of 100,000 with 60 days is 144 M rows, 11 GB as a store.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from anomaly.city import City
from anomaly.settings import AnomalySettings
from benchmarks.findings_latency import books
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.quantities import Quantity
from metering.reading import QUALITIES, SOURCES, Reading
from metering.store import Columns
from registry.database import Database

CLOCK = SystemClock()
HOUR_MS = 3_600_000
_AT_ONCE = 2000  # meters in one transaction


class MadeUp(SqliteStore):
    """A store whose columns are made when they are asked for: what is left is the engine's own time."""

    spent_s = 0.0

    def columns(self, meters: Sequence[str], quantity: Quantity, t0: int, t1: int) -> Columns:
        began = cpu_s()
        hours = np.arange(-(-t0 // HOUR_MS), -(-t1 // HOUR_MS), dtype=np.int64)
        hours = hours[hours * HOUR_MS <= CLOCK.now_ms()]
        meter = np.repeat(np.arange(len(meters), dtype=np.int64), hours.size)
        at = np.tile(hours * HOUR_MS, len(meters))
        zeros, no = np.zeros(at.size, np.int64), np.zeros(at.size, bool)
        micro = at // HOUR_MS * 10_000 + (at // HOUR_MS % 24 > 12) * 5_000
        self.spent_s += cpu_s() - began
        return Columns(meter, at, at + 30_000, micro % 10**12, zeros, no, no)


def cpu_s() -> float:
    """[s] of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Timed(SqliteStore):
    """The embedded store, with the CPU that its columns take."""

    spent_s = 0.0

    def columns(self, meters: Sequence[str], quantity: Quantity, t0: int, t1: int) -> Columns:
        began = cpu_s()
        try:
            return super().columns(meters, quantity, t0, t1)
        finally:
            self.spent_s += cpu_s() - began


def fill(path: Path, names: list[str], days: int, per_day: int) -> None:
    """Make the history within SQLite itself, in the order of its key: over a million rows a second of CPU."""
    step, now = 86_400_000 // per_day, CLOCK.now_ms()
    first = (now // step - days * per_day) * step
    store = SqliteStore(path, mode="write")
    store.write([Reading(name, first, {"volume": 0}, received_at=first) for name in names])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TEMP TABLE at (t INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO at VALUES (?)", [(t,) for t in range(first + step, now, step)])
        statement = (
            "INSERT INTO reading (m, t, received_at, quality, source, flags, volume) "
            "SELECT m, t, t + 30000, ?, ?, 0, t / 3600000 * 10000 + (t / 3600000 % 24 > 12) * 5000 "
            "FROM meter CROSS JOIN at WHERE m BETWEEN ? AND ? ORDER BY m, t"
        )
        codes = QUALITIES.index("valid"), SOURCES.index("poll")
        for start in range(0, len(names) + 1, _AT_ONCE):
            connection.execute(statement, (*codes, start, start + _AT_ONCE - 1))
            connection.commit()


def main() -> None:
    """Print seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--per-day", type=int, default=24)
    parser.add_argument("--no-store", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = not (folder / "registry.db").exists()
        database = Database(f"sqlite:///{folder}/registry.db")
        database.upgrade()
        made = CLOCK.monotonic()
        if fresh:
            names = books(database, options.meters, 86_400 // options.per_day)
            if options.no_store:
                SqliteStore(folder / "readings.db", mode="write").close()
            else:
                fill(folder / "readings.db", names, options.days, options.per_day)
                print(f"history made: {CLOCK.monotonic() - made:.0f} s", flush=True)
        kind = MadeUp if options.no_store else Timed
        store = kind(folder / "readings.db", mode="read")
        settings = AnomalySettings(history_days=max(50, options.days), lease_s=600)
        city = City(settings, database=database, store=store, clock=CLOCK)
        began, used = CLOCK.monotonic(), cpu_s()
        city.start()
        took, used = CLOCK.monotonic() - began, cpu_s() - used
        read = city.counters["rows_read_total"]
        print(
            f"{options.meters:,} meters, {read:,} rows: {took:.1f} s, {used:.1f} s of CPU, "
            f"of it {store.spent_s:.1f} s in the store ({read / max(store.spent_s, 1e-9):,.0f} rows/s of CPU); "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
        )


if __name__ == "__main__":
    main()
