"""A city for the benchmark of the pages: books, a year of daily closings, a year of hourly readings of some meters.

The rows of a year are made inside SQLite, in the order of their keys; what is small goes through the functions that
the services use.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.reading import Reading
from registry import findings, ledger
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from tests.api import findings_world
from tests.api.world import say_ready
from tests.browser.house import make_users

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
DISTRICTS = 20
PER_GATEWAY = 1000
ALARMS = 500
CLOCK = SystemClock()


def name(number: int) -> str:
    """Id of a meter."""
    return f"G-{number:07d}"


def _district(number: int) -> str:
    return f"district {number % DISTRICTS}"


def build(folder: Path, meters: int, hourly: int) -> None:
    """Fill `folder`: registry.db, readings.db. hourly: meters with a year of hourly readings."""
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    database.upgrade()
    make_users(database)
    now = CLOCK.now_ms() // HOUR_MS * HOUR_MS
    _books(database, meters)
    with database.begin() as connection:
        ledger.save_latest(connection, [_latest(number, now) for number in range(meters) if number % 50])
        status = [ledger.StatusRow(f"gw-{n:04d}", online=True, state_at=now, health_at=now + 7 * DAY_MS, health={})
                  for n in range(-(-meters // PER_GATEWAY))]  # fmt: skip
        ledger.save_gateway_status(connection, status)
        say_ready(connection, CLOCK.now_ms() + 7 * DAY_MS)
        leak = findings_world.leak(now)
        found = [
            replace(leak, key=f"b:{n}", usage_point=f"UP-{n:07d}", meter=name(n), district=_district(n))
            for n in range(ALARMS)
        ]
        findings.record(connection, found, now_ms=now)
    database.close()
    _closings(folder / "registry.db", meters, now)
    _readings(folder / "readings.db", hourly, now)


def _books(database: Database, meters: int) -> None:
    every = range(meters)
    with database.begin() as connection:
        gateways = [{"id": f"gw-{n:04d}", "district": _district(n)} for n in range(-(-meters // PER_GATEWAY))]
        connection.execute(sa.insert(Gateway), gateways)
        connection.execute(sa.insert(UsagePoint), [_place(n) for n in every])
        connection.execute(sa.insert(Meter), [_meter(n) for n in every])
        stays = [{"meter_id": name(n), "usage_point_id": f"UP-{n:07d}", "installed_at": 0} for n in every]
        connection.execute(sa.insert(Installation), stays)


def _place(n: int) -> dict[str, Any]:
    street = f"朝阳区幸福路{n % 977}号院{n % 31}号楼{n % 6}单元{n}室"
    return {
        "id": f"UP-{n:07d}", "medium": "gas", "customer_class": "residential", "district": _district(n),
        "tz": "Asia/Shanghai", "address": street, "account_number": f"A{n * 7919 % 10_000_019:08d}",
    }  # fmt: skip


def _meter(n: int) -> dict[str, Any]:
    return {
        "id": name(n), "serial": f"SN{n * 31_337 % 99_999_989:08d}", "medium": "gas", "profile": "example-gas",
        "quantity": "volume_standard", "index_digits": 8, "resolution": 1000, "qmax": 6_000_000,
        "gateway_id": f"gw-{n // PER_GATEWAY:04d}", "interval_s": 3600,
    }  # fmt: skip


def index(number: int, hours: int) -> int:
    """[micro m³] after so many hours."""
    return 100_000_000 + number * 1000 + hours * 60_000


def _latest(number: int, now: int) -> ledger.LatestRow:
    values = {"volume_standard": index(number, now // HOUR_MS)}
    return ledger.LatestRow(name(number), now, now + 900, None, "valid", "", "poll", 0, values)


def _closings(path: Path, meters: int, now: int) -> None:
    """A closing for each meter and day, made inside SQLite: 36 million rows through Python take half an hour."""
    _write(
        path,
        """
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :meters),
        d(at) AS (SELECT :first UNION ALL SELECT at + :day FROM d WHERE at + :day < :now)
        INSERT INTO closing (meter, day, quantity, read_at, "index", quality)
        SELECT printf('G-%07d', i), strftime('%Y-%m-%d', at / 1000, 'unixepoch'), 'volume_standard', at,
        100000000 + i * 1000 + at / 3600000 * 60000, 'valid' FROM n CROSS JOIN d
        """,
        {"meters": meters, "first": now - 365 * DAY_MS, "day": DAY_MS, "now": now},
    )


def _readings(path: Path, hourly: int, now: int) -> None:
    """A year of one meter through the store, and the same for the others inside SQLite."""
    store = SqliteStore(path, mode="write")
    store.write(list(_year(0, now)))
    store.write([Reading(name(n), now, {"volume_standard": index(n, now // HOUR_MS)}) for n in range(1, hourly)])
    store.close()
    _write(
        path,
        """
        INSERT INTO reading (m, t, received_at, quality, source, flags, volume_standard)
        SELECT meter.m, t, received_at, quality, source, flags, volume_standard
        FROM meter CROSS JOIN reading WHERE meter.m > 1 AND reading.m = 1 AND t < :now
        """,
        {"now": now},
    )


def _write(path: Path, statement: str, values: dict[str, int]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def _year(number: int, now: int) -> Iterator[Reading]:
    for age in range(8760, -1, -1):
        at = now - age * HOUR_MS
        yield Reading(name(number), at, {"volume_standard": index(number, at // HOUR_MS)}, received_at=at + 900)
