"""What the totals of a period cost, from the daily closing table and with hourly readings behind it.

    python -m benchmarks.billing_totals [--points 10000 100000] [--hourly 10000] [--influx]

Each size runs in a process of its own. Closings lie in the table day by day, as ingest writes them; every usage point
has an earlier period. Of every hundred points two are large customers and three have a boundary step that only the
readings beside it confirm. Without --hourly no reading is stored and those five are not billed: the closing table
alone. With --hourly N, N points have their hourly readings in the embedded store (and with --influx in an InfluxDB).

One JSON object per run: seconds to compute, to compute and keep, the bare queries (folded as billing asks, and as
plain rows), the share of the first, peak memory, and by which way the points were billed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from api.billing.compute import Tally, compute
from api.billing.keep import refresh
from api.billing.settings import BillingSettings
from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.reading import Reading
from metering.store import ReadingStore
from registry import billing as books
from registry.database import Database
from registry.models import Closing, Installation, Meter, UsagePoint
from registry.models_billing import BillingTotal
from tests.databases import influxd, serving

HOUR: Final = 3_600_000
FIRST: Final = datetime(2026, 2, 15, tzinfo=UTC)
DAYS: Final = 38
START: Final = round(FIRST.timestamp() * 1000)
PERIOD: Final = "2026-03"
SETTINGS: Final = BillingSettings()


def rate(number: int) -> int:
    """[10⁻⁶ m³/h] of a usage point: households, and in a hundred three that heat and two large ones."""
    place = number % 100
    return 2_000_000 if place < 2 else 100_000 if place < 5 else 20_000 + number % 7 * 1000


def index(number: int, at: int) -> int:
    return 1_000_000_000 + number * 1000 + rate(number) * ((at - START) // HOUR + 24)


def build(url: str, points: int) -> None:
    """Fill the books and the closing table; readings are hourly on the hour, in UTC."""
    database = Database(url)
    database.upgrade()
    names = [f"G-{number:07d}" for number in range(points)]
    with database.begin() as connection:
        connection.exec_driver_sql("PRAGMA cache_size=-400000")
        _insert(
            connection,
            UsagePoint,
            ({"id": n, "medium": "gas", "customer_class": "residential", "tz": "UTC"} for n in names),
        )
        facts = {"medium": "gas", "quantity": "volume", "index_digits": 6, "resolution": 1000, "state": "in_service"}
        meters = ({"id": n, "qmax": 6_000_000, "interval_s": 3600, **facts} for n in names)
        _insert(connection, Meter, meters)
        _insert(connection, Installation, ({"meter_id": n, "usage_point_id": n, "installed_at": 0} for n in names))
        for day in range(DAYS):
            text, at = (FIRST + timedelta(days=day)).date().isoformat(), START + (day + 1) * 24 * HOUR
            rows = (
                {
                    "meter": n,
                    "day": text,
                    "quantity": "volume",
                    "read_at": at,
                    "index": index(i, at),
                    "quality": "valid",
                }
                for i, n in enumerate(names)
            )
            _insert(connection, Closing, rows)
        _insert(connection, BillingTotal, (_former(n) for n in names))
    database.close()


def _insert(connection: Any, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    while part := list(islice(rows, 20_000)):
        connection.execute(sa.insert(table), part)


def _former(name: str) -> dict[str, Any]:
    texts = (
        "account_number",
        "district",
        "cause",
        "detail",
        "shown",
        "opening_quality",
        "closing_quality",
        "method",
        "digest",
    )
    row: dict[str, Any] = dict.fromkeys(texts, "")
    row |= {"usage_point_id": name, "period": "2026-02", "customer_class": "residential", "medium": "gas"}
    row |= {
        "start_at": START - 26 * 24 * HOUR,
        "end_at": START + 5 * 24 * HOUR,
        "state": "billed",
        "quantity": "volume",
    }
    return row | {"consumption": 15_000_000, "edited": False, "computed_at": 0, "version": 0}


def fill(store: ReadingStore, points: int) -> float:
    """Store hourly readings of the first points; return seconds."""
    began = time.perf_counter()
    for first in range(0, points, 10):
        rows = [
            Reading(f"G-{i:07d}", at, {"volume": index(i, at)}, received_at=at)
            for i in range(first, min(first + 10, points))
            for at in range(START, START + DAYS * 24 * HOUR + 1, HOUR)
        ]
        store.write(rows)
    return time.perf_counter() - began


def measure(database: Database, store: ReadingStore, points: int) -> dict[str, Any]:
    tally, began, cpu = Tally(), time.perf_counter(), time.process_time()
    for _ in compute(database, store, SETTINGS, PERIOD, tally=tally):
        pass
    computed, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    folded, plain = bare(database, points)
    began = time.perf_counter()
    refresh(database, store, SETTINGS, PERIOD, now=1)
    kept = time.perf_counter() - began
    return {
        "compute_s": round(computed, 2),
        "compute_cpu_s": round(cpu, 2),
        "compute_and_keep_s": round(kept, 2),
        "bare_folded_s": round(folded, 2),
        "bare_rows_s": round(plain, 2),
        "share_of_bare_rows": round(plain / computed, 2),
        "peak_mb": round(peak),
        "ways": dict(tally.ways),
        "states": dict(tally.states),
    }


def bare(database: Database, points: int) -> tuple[float, float]:
    """Seconds of the query alone: folded as billing asks, and as rows, nothing done with them."""
    names = [f"G-{number:07d}" for number in range(points)]
    seconds = []
    with database.read() as connection:
        began = time.perf_counter()
        for start in range(0, points, 500):
            books.closings(connection, names[start : start + 500], "2026-02-17", "2026-03-23")
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        for start in range(0, points, 500):
            table = Closing.__table__
            connection.execute(
                sa.select(table.c.meter, table.c.read_at, table.c.index).where(
                    table.c.meter.in_(names[start : start + 500]), table.c.day.between("2026-02-17", "2026-03-23")
                )
            ).all()
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def run(points: int, hourly: int, *, influx: bool) -> None:
    """One size in this process."""
    with tempfile.TemporaryDirectory(prefix="metergate-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        url, began = f"sqlite:///{folder / 'registry.db'}", time.perf_counter()
        builder = get_context("spawn").Process(target=build, args=(url, points))  # its memory is not ours
        builder.start()
        builder.join()
        database, built = Database(url), time.perf_counter() - began
        store: ReadingStore = SqliteStore(folder / "readings.db", mode="write")
        if influx:
            server = stack.enter_context(serving(influxd(folder / "influxd")))
            link = {"url": server.url, "database": "bench", "read_back_rows": 0}
            store = InfluxStore(InfluxSettings.model_validate(link), mode="write", clock=SystemClock())
        filled = fill(store, hourly)
        result = {"points": points, "hourly": hourly, "store": "influxdb" if influx else "sqlite"}
        result |= measure(database, store, points)
        print(json.dumps(result | {"built_s": round(built), "filled_s": round(filled)}), flush=True)
        store.close()
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--hourly", type=int, default=0)
    parser.add_argument("--influx", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for points in options.points:
        if options.here:
            run(points, min(options.hourly, points), influx=options.influx)
            continue
        command = [sys.executable, "-m", "benchmarks.billing_totals", "--here", "--points", str(points)]
        command += ["--hourly", str(options.hourly), *(["--influx"] if options.influx else [])]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
