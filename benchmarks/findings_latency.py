"""How long from the commit in the store to the finding in the registry, at 1,000 readings/s?

    python -m benchmarks.findings_latency [--meters 60000] [--seconds 60]

60,000 meters that are read each minute, with six days of history. Ingest's commits are played by a writer in another
process, each second one of 1,000 readings; now and then a meter begins to run backwards. The service (`City`) works
here as in `metergate anomaly`, look by look. Latency: from the end of ingest's transaction to the end of the
transaction that holds the finding. Rows of the history stand an hour apart.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import tempfile
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from anomaly.city import City
from anomaly.settings import AnomalySettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.reading import Reading
from registry import watch
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from registry.models_findings import FindingRecord

CLOCK = SystemClock()
RATE = 1000
HISTORY_D = 6


def books(database: Database, meters: int, interval_s: int = 60) -> list[str]:
    """Enter the meters; return their ids."""
    names = [f"M{number:06}" for number in range(meters)]
    with database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": "gw-1"}])
        places = [
            {"id": f"U{name}", "medium": "water", "customer_class": "residential", "tz": "UTC"} for name in names
        ]
        connection.execute(sa.insert(UsagePoint), places)
        facts = {
            "medium": "water",
            "quantity": "volume",
            "gateway_id": "gw-1",
            "interval_s": interval_s,
            "commissioned_at": 0,
        }
        connection.execute(sa.insert(Meter), [facts | {"id": name} for name in names])
        stays = [{"meter_id": name, "usage_point_id": f"U{name}", "installed_at": 0} for name in names]
        connection.execute(sa.insert(Installation), stays)
    return names


def index(number: int, at_ms: int) -> int:
    """A household's index [10⁻⁶ m³]: 0.01 m³ an hour."""
    return 100_000_000 + number * 1000 + at_ms // 360_000 * 1000


def fill(store: SqliteStore, names: list[str], now_ms: int) -> None:
    for back in range(HISTORY_D * 24, 0, -1):
        at = (now_ms // 3_600_000 - back) * 3_600_000
        store.write([Reading(n, at, {"volume": index(i, at)}, received_at=at) for i, n in enumerate(names)])


def produce(folder: str, names: list[str], seconds: int, told: mp.SimpleQueue) -> None:
    """Be ingest: each second one commit of the next 1,000 meters; 5 of them have begun to run backwards."""
    store, database = (
        SqliteStore(Path(folder) / "readings.db", mode="write"),
        Database(f"sqlite:///{folder}/registry.db"),
    )
    began = CLOCK.monotonic()
    for turn in range(seconds):
        CLOCK.pause(began + turn - CLOCK.monotonic())
        now, first = CLOCK.now_ms(), turn * RATE % len(names)
        part = range(first, first + RATE)
        rows = [
            Reading(names[i], now, {"volume": index(i, now) - (300_000 if i % 200 == 7 else 0)}, received_at=now)
            for i in part
        ]
        store.write(rows)
        with database.begin() as connection:
            watch.note_touched(connection, rows, now)
        told.put((turn, CLOCK.now_ms(), [names[i] for i in part if i % 200 == 7]))
    told.put(None)


def main() -> None:
    """Print the latencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=60_000)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        database = Database(f"sqlite:///{name}/registry.db")
        database.upgrade()
        names = books(database, options.meters)
        store = SqliteStore(Path(name) / "readings.db", mode="write")
        fill(store, names, CLOCK.now_ms())
        store.close()
        settings = AnomalySettings()
        reader = SqliteStore(Path(name) / "readings.db", mode="read")
        city = City(settings, database=database, store=reader, clock=CLOCK)
        began = CLOCK.monotonic()
        city.start()
        print(f"start: {CLOCK.monotonic() - began:.1f} s, {city.counters['rows_read_total']:,} rows")
        told: mp.SimpleQueue = mp.get_context("spawn").SimpleQueue()
        writer = mp.get_context("spawn").Process(target=produce, args=(name, names, options.seconds, told))
        writer.start()
        measure(city, told, database)
        writer.join()


def measure(city: City, told: mp.SimpleQueue, database: Database) -> None:
    committed: dict[str, int] = {}
    recorded: dict[str, int] = {}
    looks, over, quiet = [], False, 0
    while quiet < 10:
        began = CLOCK.monotonic()
        if city.look():
            looks.append(CLOCK.monotonic() - began)
        now = CLOCK.now_ms()
        for change in city.changes:
            if change.kind == "reverse_flow":
                recorded.setdefault(change.meter, now)
        city.changes = []
        while not told.empty():
            line = told.get()
            over = over or line is None
            for meter in () if line is None else line[2]:
                committed.setdefault(meter, line[1])
        quiet += over
        CLOCK.pause(city.settings.look_s)
    delays = np.array([recorded[meter] - at for meter, at in committed.items() if meter in recorded])
    print(f"{len(committed)} began to run backwards, {delays.size} were found")
    print(f"look: median {np.median(looks) * 1e3:.0f} ms, p95 {np.quantile(looks, 0.95) * 1e3:.0f} ms")
    print(
        f"store commit to finding: median {np.median(delays):.0f} ms, p95 {np.quantile(delays, 0.95):.0f} ms, "
        f"slowest {delays.max()} ms"
    )
    with database.read() as connection:
        print(
            connection.execute(sa.select(sa.func.count()).select_from(FindingRecord)).scalar_one(), "findings in all"
        )


if __name__ == "__main__":
    main()
